"""Training members side by side."""

import threading
from collections.abc import Sequence
from typing import Literal

import pytest
import torch
from helpers import copy_task, engine_of, new_member, supervised_mixture

from easy2hard.engines import reference
from easy2hard.engines import threads as threads_module
from easy2hard.engines.engine import Group
from easy2hard.engines.reference import split
from easy2hard.learning.batches import Mixture
from easy2hard.learning.learning_rate import learning_rate
from easy2hard.learning.trainer import NonFiniteLossError, Step, fit
from easy2hard.models.transformer import Transformer
from easy2hard.settings.training import OptimiserSettings, PhaseSettings
from easy2hard.vocabulary import EOS

PHASE = PhaseSettings(steps=8, warmup=2, decay=3)
LONG = PhaseSettings(steps=1000)
"""So many steps that a member cannot do them all before another one has done three."""


def members_of(count: int) -> list[Transformer]:
    return [new_member(seed) for seed in range(count)]


def mixtures_of(count: int) -> list[Mixture]:
    return [supervised_mixture(copy_task()[0], member) for member in range(count)]


def train(
    members: Sequence[Transformer],
    mixtures: Sequence[Mixture],
    optimiser: OptimiserSettings | None = None,
    phase: PhaseSettings = PHASE,
    precision: Literal["float32", "bfloat16"] = "float32",
    scale: float = 1.0,
) -> list[Step]:
    steps: list[Step] = []
    fit(engine_of(members, precision), mixtures, phase, optimiser or OptimiserSettings(), scale, steps.append)
    return steps


def same_weights(one: Transformer, other: Transformer) -> bool:
    return all(map(torch.equal, one.state_dict().values(), other.state_dict().values()))


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_members_trained_together_end_as_each_does_alone(name: Literal["adamw", "muon"]) -> None:
    optimiser = OptimiserSettings(name=name)
    together = members_of(3)
    train(together, mixtures_of(3), optimiser)
    for index, alone in enumerate(members_of(3)):
        assert not same_weights(alone, together[index])
        train([alone], mixtures_of(3)[index : index + 1], optimiser)
        assert same_weights(alone, together[index])


@pytest.mark.parametrize("threads", [2, 5])
def test_the_number_of_threads_changes_no_weight(threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reference, "PIECE_TOKENS", 40)
    alone, helped = members_of(1), members_of(1)
    train(alone, mixtures_of(1))
    # Every piece is still computed by one thread: the test's process has no more than one for an operation.
    monkeypatch.setattr(reference, "Workers", lambda count, always=False: threads_module.Workers(threads, always))
    train(helped, mixtures_of(1))
    assert same_weights(alone[0], helped[0])


def test_pieces_are_the_batch_and_small() -> None:
    batch = mixtures_of(1)[0].batch(0, 0.0)
    for limit in (10, 40, 10**6):
        pieces = [piece for group in batch for piece in split([group], torch.device("cpu"), limit)]
        rows = [row.tolist() for group in batch for row in group.tokens]
        assert [row.tolist() for piece in pieces for row in piece.tokens] == rows
        assert all(len(piece.tokens) == 1 or piece.tokens.size <= limit for piece in pieces)


def test_gradients_do_not_depend_on_the_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    whole, pieced = members_of(1), members_of(1)
    optimiser, one = OptimiserSettings(name="adamw", eps=1e-3), PhaseSettings(steps=1)
    train(whole, mixtures_of(1), optimiser, one)
    monkeypatch.setattr(reference, "PIECE_TOKENS", 20)
    train(pieced, mixtures_of(1), optimiser, one)
    for weight, other in zip(whole[0].parameters(), pieced[0].parameters(), strict=True):
        torch.testing.assert_close(weight, other, rtol=1e-4, atol=1e-6)


def test_every_step_is_reported_once_and_in_order() -> None:
    steps = train(members_of(2), mixtures_of(2), scale=0.5)
    assert [step.step for step in steps] == list(range(PHASE.steps))
    floor = OptimiserSettings().floor
    for step in steps:
        rate = learning_rate(step.step, PHASE.steps, PHASE.warmup, PHASE.decay, floor)
        assert step.learning_rate == 0.5 * rate
        batches = [mixture.batch(step.step, step.step / PHASE.steps) for mixture in mixtures_of(2)]
        assert step.tokens == sum(group.tokens.size for batch in batches for group in batch)


def plain_loss(model: Transformer, batch: Sequence[Group]) -> float:
    """Return the mean cross-entropy of the answer tokens of a batch, one example at a time."""
    losses = []
    for group in batch:
        for row in group.tokens.tolist():
            text = row[: row.index(EOS) + 1]
            log_probabilities = model(torch.tensor([text]))[0].log_softmax(dim=-1)
            losses += [-float(log_probabilities[at - 1, text[at]]) for at in range(group.prompt_length, len(text))]
    return sum(losses) / len(losses)


def test_the_loss_is_the_mean_over_the_answer_tokens() -> None:
    with torch.no_grad():
        expected = [
            plain_loss(model, mixture.batch(0, 0.0))
            for model, mixture in zip(members_of(2), mixtures_of(2), strict=True)
        ]
    assert train(members_of(2), mixtures_of(2))[0].loss == pytest.approx(sum(expected) / 2, rel=1e-5)


def test_bfloat16_gives_nearly_the_same_losses() -> None:
    full = train(members_of(1), mixtures_of(1))
    half = train(members_of(1), mixtures_of(1), precision="bfloat16")
    assert [step.loss for step in half] == pytest.approx([step.loss for step in full], rel=0.02)
    assert [step.loss for step in half] != [step.loss for step in full]


def test_the_scale_scales_every_update() -> None:
    trained, start = members_of(1), new_member(0)
    train(trained, mixtures_of(1), scale=1e-6)
    for weight, before in zip(trained[0].parameters(), start.parameters(), strict=True):
        torch.testing.assert_close(weight, before, rtol=0, atol=1e-5)


class Counted(Mixture):
    """Counts the batches that were asked for."""

    drawn = 0

    def batch(self, step: int, progress: float) -> list[Group]:
        self.drawn += 1
        return super().batch(step, progress)


def counted_mixtures(count: int) -> list[Counted]:
    mixtures = []
    for plain in mixtures_of(count):
        counted = Counted.__new__(Counted)
        vars(counted).update(vars(plain))
        mixtures.append(counted)
    return mixtures


def assert_all_stop(mixtures: Sequence[Counted], threads: set[threading.Thread]) -> None:
    for thread in threads:
        thread.join()
    assert all(mixture.drawn < LONG.steps for mixture in mixtures)


@pytest.mark.parametrize("members", [1, 3])
def test_a_loss_that_is_not_a_number_ends_training(members: int) -> None:
    models, mixtures = members_of(members), counted_mixtures(members)
    with torch.no_grad():
        models[-1].lm_head.weight.fill_(float("nan"))
    before = set(threading.enumerate())
    with pytest.raises(NonFiniteLossError, match=rf"member {members - 1}, step 0.*learning_rate"):
        train(models, mixtures, phase=LONG)
    assert_all_stop(mixtures, set(threading.enumerate()) - before)


@pytest.mark.parametrize("kind", [ZeroDivisionError, KeyboardInterrupt])
@pytest.mark.parametrize("members", [1, 3])
def test_an_exception_in_the_report_stops_every_member(members: int, kind: type[BaseException]) -> None:
    models, mixtures = members_of(members), counted_mixtures(members)
    before = set(threading.enumerate())
    reported: list[int] = []

    def on_step(step: Step) -> None:
        reported.append(step.step)
        if step.step == 2:
            raise kind

    with pytest.raises(kind):
        fit(engine_of(models), mixtures, LONG, OptimiserSettings(), 1.0, on_step)
    assert_all_stop(mixtures, set(threading.enumerate()) - before)
    assert reported == [0, 1, 2]

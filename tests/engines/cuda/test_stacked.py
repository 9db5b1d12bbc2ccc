"""The engine for GPUs, uncaptured on a processor, against the reference and against itself."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from helpers import HARDEST, Interrupting, Silent, copy_task, new_member, prompts_of

from easy2hard.engines import choice
from easy2hard.engines.cuda import batches as batches_module
from easy2hard.engines.cuda import decoding as cuda_decoding
from easy2hard.engines.cuda import engine
from easy2hard.engines.cuda import stack as stack_module
from easy2hard.engines.cuda.engine import CudaEngine
from easy2hard.engines.cuda.stack import SlicedProduct
from easy2hard.engines.cuda.training import StackedCrew
from easy2hard.engines.decoding import Sampling, decode
from easy2hard.engines.engine import Group
from easy2hard.engines.reference import ReferenceEngine, Runner
from easy2hard.learning.batches import LabelledSource, Mixture, SupervisedSource
from easy2hard.learning.trainer import fit
from easy2hard.models.transformer import SecondTarget, Transformer, product
from easy2hard.runs import rounds
from easy2hard.runs.store import Store
from easy2hard.seeding import numpy_generator
from easy2hard.settings.model import Loops
from easy2hard.settings.recipes import load_recipe
from easy2hard.settings.training import OptimiserSettings, PhaseSettings
from easy2hard.tasks.prompts import Reserved
from easy2hard.tasks.registry import load_oracle, load_task
from easy2hard.vocabulary import PAD

ADDITION = load_task("reverse-addition")
CPU = torch.device("cpu")


def members_of(count: int) -> list[Transformer]:
    """Members of an addition, their norms' gains not all one."""
    members = [new_member(seed, len(ADDITION.vocabulary)) for seed in range(count)]
    with torch.no_grad():
        for member in members:
            for weight in member.parameters():
                if weight.dim() == 1:
                    weight.add_(torch.linspace(-0.3, 0.3, len(weight)))
    return members


@cache
def taught() -> list[Transformer]:
    """Two members that know some of copying; they learned here, since nothing of this file needs compiled loops."""
    members = [new_member(seed, len(copy_task()[0].vocabulary)) for seed in range(2)]
    task, oracle = copy_task()
    source = SupervisedSource(Reserved(task, 0, 100), oracle, HARDEST)
    mixtures = [Mixture(0, ("b", number), (source, 1.0), [], None, 64, 2, stock=3000) for number in range(2)]
    phase = PhaseSettings(steps=150, warmup=5, decay=60)
    fit(CudaEngine(members), mixtures, phase, OptimiserSettings(), 1.0, lambda step: None)
    return members


def mixture(member: int, number: int = 0, labelled: bool = True) -> Mixture:
    """Batches of an addition: newest labels, those of an older round, and D0 with a curriculum."""
    source = SupervisedSource(Reserved(ADDITION, 0, 50), load_oracle(ADDITION), 4, 0.5)
    groups = []
    for digits in (5, 6):
        prompts = ADDITION.sample(numpy_generator(0, "labels", digits), (digits, digits), 40)
        groups.append(Group.join(prompts, load_oracle(ADDITION).solve(prompts)))
    new, old = LabelledSource(groups[1:]), LabelledSource(groups[:1])
    older = [(old, 1.0)] if labelled else []
    newest = new if labelled else None
    return Mixture(0, ("batches", number, member), (source, 4.0), older, newest, 64, 4, stock=2000)


class Drawn:
    """The examples that a stacked crew drew, for others to train on."""

    def __init__(self) -> None:
        self.groups: list[list[Group]] = []

    def batch(self, step: int, progress: float) -> list[Group]:
        return self.groups[step]


def stacked(members: Sequence[Transformer], optimiser: OptimiserSettings, precision: str = "float32") -> StackedCrew:
    (crew,) = CudaEngine(members, precision).crews([mixture(number) for number in range(len(members))], optimiser)
    assert isinstance(crew, StackedCrew)
    return crew


def steps_of(crew: StackedCrew, count: int) -> list[Drawn]:
    """Take steps; return each member's batches."""
    drawn = [Drawn() for _ in crew.members]
    for step in range(count):
        crew.step(step, step / count, 0.5)
        for number, own in enumerate(drawn):
            own.groups.append(groups_in(crew, number))
    return drawn


def groups_in(crew: StackedCrew, number: int) -> list[Group]:
    """The batch that a crew has drawn for one member."""
    return [
        Group(row[None].copy(), int(length))
        for tokens, prompts in zip(crew.gradients.tokens, crew.gradients.prompts, strict=True)
        for row, length in zip(tokens[number].numpy(), prompts[number].numpy(), strict=True)
    ]


@pytest.mark.parametrize(("precision", "close"), [("float32", 1e-4), ("bfloat16", 0.05)])
def test_losses_and_gradients_are_those_of_the_reference(precision: str, close: float) -> None:
    crew = stacked(members_of(3), OptimiserSettings(), precision)
    crew.step(0, 0.0, 0.0)
    sums = crew.update.sums
    # The update scales the gradients in place: again, without it.
    crew.gradients.compute()
    for number, member in enumerate(members_of(3)):
        gradients = Runner(member).gradients("float32")
        pieces = [gradients.of(group, 1.0) for group in groups_in(crew, number)]
        assert float(sums[0, number]) == pytest.approx(sum(loss for loss, _ in pieces), rel=close)
        expected = gradients.summed([found for _, found in pieces])
        ours = crew.stack.of_member(crew.update.gradients, number)
        for (name, _), right in zip(member.named_parameters(), expected, strict=True):
            assert (ours[name] - right).norm() <= close * right.norm(), name


@pytest.mark.parametrize(("members", "rows"), [(1, 7), (3, 64), (2, 97), (1, 2048)])
def test_gradients_in_slices_are_those_of_one_product(members: int, rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the rows cannot be cut evenly."""
    monkeypatch.setattr(stack_module, "FEWEST_SUMMED", 8)
    generator = torch.Generator().manual_seed(rows)
    pair = [torch.randn(members, count, 12, generator=generator, requires_grad=True) for count in (rows, 20)]
    given = torch.randn(members, rows, 20, generator=generator)
    for precision in (torch.float32, torch.float64):
        both = [each.to(precision) for each in pair]
        sliced, whole = (times(*both) for times in (SlicedProduct.apply, product))
        assert torch.equal(sliced, whole)
        found, expected = (torch.autograd.grad(each, pair, given.to(precision)) for each in (sliced, whole))
        for one, two in zip(found, expected, strict=True):
            torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_attention_of_one_token_sees_the_places_so_far(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    query, keys, values = (torch.randn(5, 2, time, 8, generator=generator) for time in (1, 9, 9))
    for length in (1, 4, 9):
        seen = (torch.arange(9) < length)[None, None, None]
        found = cuda_decoding.see(query.to(dtype), keys.to(dtype), values.to(dtype), seen)
        expected = (query @ keys[:, :, :length].mT / 8**0.5).softmax(dim=-1) @ values[:, :, :length]
        torch.testing.assert_close(found.float(), expected, rtol=0, atol=1e-5 if dtype == torch.float32 else 0.05)


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_steps_are_those_of_the_reference(name: Literal["adamw", "muon"]) -> None:
    optimiser = OptimiserSettings(name=name, eps=1e-4, clip=0.5)
    ours, theirs = members_of(3), members_of(3)
    crew = stacked(ours, optimiser)
    drawn = steps_of(crew, 5)
    taken = crew.taken(True)
    crews = ReferenceEngine(theirs).crews(drawn, optimiser)  # type: ignore[arg-type]
    for number, alone in enumerate(crews):
        with alone:
            for step in range(5):
                alone.step(step, step / 5, 0.5)
        expected = [each for (each,) in alone.taken(True)]
        assert [step[number].loss for step in taken] == pytest.approx([each.loss for each in expected], rel=1e-4)
        assert [step[number].norm for step in taken] == pytest.approx([each.norm for each in expected], rel=1e-3)
    for one, two, first in zip(ours, theirs, members_of(3), strict=True):
        moved = torch.cat([(a - b).flatten() for a, b in zip(two.parameters(), first.parameters(), strict=True)])
        apart = torch.cat([(a - b).flatten() for a, b in zip(one.parameters(), two.parameters(), strict=True)])
        assert apart.norm() <= 1e-2 * moved.norm()


def test_members_together_are_each_alone() -> None:
    optimiser = OptimiserSettings()
    together = members_of(3)
    steps_of(stacked(together, optimiser), 4)
    for number, alone in enumerate(members_of(3)):
        (crew,) = CudaEngine([alone]).crews([mixture(number)], optimiser)
        assert isinstance(crew, StackedCrew)
        steps_of(crew, 4)
        for one, two in zip(alone.parameters(), together[number].parameters(), strict=True):
            torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-5)


def near_ties(ours: np.ndarray, theirs: np.ndarray, member: Transformer, prompts: np.ndarray) -> int:
    """Rows whose answers differ, each of them where two tokens are as good as equal."""
    rows = np.flatnonzero((ours != theirs).any(axis=1))
    for row in rows:
        at = int(np.flatnonzero(ours[row] != theirs[row])[0])
        tokens = torch.from_numpy(np.concatenate([prompts[row], theirs[row, :at]])).long()[None]
        with torch.no_grad():
            logits = member(tokens)[0, -1]
        assert abs(float(logits[ours[row, at]] - logits[theirs[row, at]])) < 1e-4
    return len(rows)


@pytest.mark.parametrize("rows", [1, 40, 10_000])
def test_answers_are_those_of_the_reference(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """In one portion or several, within bounds of their own."""
    monkeypatch.setattr(cuda_decoding, "MOST_ROWS", rows)
    monkeypatch.setattr(cuda_decoding, "LOOKS", 2)
    members = [*taught(), new_member(5)]
    prompts = prompts_of(4, 9 if rows == 1 else 90)
    bounds = np.random.default_rng(0).integers(1, 7, len(prompts))
    done: list[int] = []
    ours = CudaEngine(copies(members)).answer(prompts, bounds, done.append)
    assert sum(done) == len(prompts)
    ties = 0
    for member, answers in zip(members, ours, strict=True):
        expected = decode(Runner(member), prompts, bounds)
        ties += near_ties(answers.tokens, expected.tokens, member, prompts)
        same = (answers.tokens == expected.tokens).all(axis=1)
        np.testing.assert_array_equal(answers.finished[same], expected.finished[same])
        np.testing.assert_allclose(answers.confidence[same], expected.confidence[same], rtol=1e-3)
        np.testing.assert_allclose(
            answers.mean_log_probability[same], expected.mean_log_probability[same], rtol=1e-3, atol=1e-5
        )
    assert ties <= 1


def copies(members: Sequence[Transformer]) -> list[Transformer]:
    """Members with the same weights, which an engine may make its own."""
    found = []
    for member in members:
        copied = new_member(0, len(member.lm_head.weight))
        copied.load_state_dict(member.state_dict())
        found.append(copied)
    return found


def test_an_engine_answers_again_with_other_weights_prompts_and_none() -> None:
    members = copies(taught())
    ours = CudaEngine(members)
    prompts = prompts_of(3, 50)
    bounds = np.full(50, 5)
    first = ours.answer(prompts, bounds)
    members[0].load_state_dict(taught()[1].state_dict())
    second = ours.answer(prompts, bounds)
    np.testing.assert_array_equal(second[0].tokens, first[1].tokens)
    np.testing.assert_array_equal(second[1].tokens, first[1].tokens)
    np.testing.assert_array_equal(ours.answer(prompts[:20], bounds[:20])[1].tokens, first[1].tokens[:20])
    assert [len(each.tokens) for each in ours.answer(prompts[:0], bounds[:0])] == [0, 0]


def test_sampled_answers_are_those_of_the_reference() -> None:
    members, prompts = taught(), prompts_of(4, 60)
    bounds = np.full(60, 6)
    samplings = [[Sampling(1.0, 7), Sampling(0.5, 8)], [Sampling(2.0, 9), Sampling(1.0, 10)]]
    ours = CudaEngine(copies(members)).sample(prompts, bounds, samplings)
    for member, own, found in zip(members, samplings, ours, strict=True):
        for sampling, answers in zip(own, found, strict=True):
            expected = decode(Runner(member), prompts, bounds, sampling=sampling)
            assert (answers.tokens == expected.tokens).all(axis=1).mean() > 0.98


@pytest.mark.parametrize("room", [1, 70, 10_000])
def test_matches_are_those_of_the_reference(room: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "passed_rows", lambda stack, tokens: room)
    members = taught()
    sets = []
    for difficulty in (1, 3, 8):
        prompts = prompts_of(difficulty, 20 if room == 1 else 100)
        sets.append((prompts, copy_task()[1].solve(prompts)))
    done: list[int] = []
    found = CudaEngine(copies(members)).matches(sets, done.append)
    assert sum(done) == 2 * sum(len(prompts) for prompts, _ in sets)
    for ours, theirs in zip(found, ReferenceEngine(members, runner=Runner).matches(sets), strict=True):
        assert (ours == theirs).mean() > 0.99
        np.testing.assert_array_equal(ours.shape, theirs.shape)


def test_the_members_of_these_tests_know_a_part() -> None:
    prompts = prompts_of(HARDEST, 200)
    for matches in CudaEngine(copies(taught())).matches([(prompts, copy_task()[1].solve(prompts))])[0]:
        assert 0.02 < matches.mean() < 1


def test_answers_in_bfloat16_are_nearly_those_in_float32() -> None:
    prompts, bounds = prompts_of(2, 100), np.full(100, 4)
    full, half = (CudaEngine(copies(taught()), each).answer(prompts, bounds) for each in ("float32", "bfloat16"))
    for one, two in zip(full, half, strict=True):
        same = (one.tokens == two.tokens).all(axis=1)
        assert same.mean() > 0.9
        np.testing.assert_allclose(one.confidence[same], two.confidence[same], rtol=0.2)


# Batches


def test_rows_come_from_their_strata_by_their_shares() -> None:
    crew = stacked(members_of(2), OptimiserSettings())
    counts: dict[tuple[int, int], int] = {}
    for step in range(30):
        crew.step(step, 0.9, 0.0)
        for number in range(2):
            groups = groups_in(crew, number)
            assert len(groups) == 64
            for group in groups:
                (text,) = ADDITION.vocabulary.decode_prompts(group.tokens[:, : group.prompt_length])
                a, b = text.rstrip("=").split("+")
                counts[len(a), len(b)] = counts.get((len(a), len(b)), 0) + 1
                answer = load_oracle(ADDITION).solve(group.tokens[:, : group.prompt_length].astype(np.int32))[0]
                row = group.tokens[0, group.prompt_length :]
                assert row[: len(answer)].tolist() == answer.tolist()
                assert (row[len(answer) :] == PAD).all()
    crew.taken(True)
    assert counts[6, 6] == 30 * 2 * 32  # half of each batch
    older, easy = counts[5, 5], {pair: n for pair, n in counts.items() if max(pair) <= 4}
    assert older == pytest.approx(30 * 2 * 32 / 5, rel=0.1)
    assert len(easy) == 16
    assert min(easy.values()) > 0.7 * np.mean(list(easy.values()))


def test_a_curriculum_begins_with_the_easiest() -> None:
    crew = StackedCrew.__new__(StackedCrew)
    (crew,) = CudaEngine(members_of(1)).crews([mixture(0, labelled=False)], OptimiserSettings())  # type: ignore[assignment]
    for progress, hardest in ((0.0, 1), (0.25, 2), (0.5, 4)):
        crew.step(0, progress, 0.0)
        widths = [(group.tokens[0] != PAD).sum() for group in groups_in(crew, 0)]
        longest = 3 * hardest + 5
        assert max(widths) == longest


def test_processes_draw_the_rows_of_one() -> None:
    (whole,) = batches_module.parts_of([mixture(0, labelled=False)], batches_module.Arena(CPU, 16), [0.0, 1.0])
    whole.at(1.0)
    arena = batches_module.Arena(CPU, 16)
    (part,) = batches_module.parts_of([mixture(0, labelled=False)], arena, [0.0, 1.0])
    part.at(1.0)
    keys = torch.tensor([12345])
    shares = [part.draw(keys, arena.memory, rank, 3) for rank in range(3)]
    for number, (tokens, prompts) in enumerate(part.draw(keys, arena.memory, 0, 1)):
        together = torch.zeros_like(tokens)
        lengths = torch.zeros_like(prompts)
        for rank, drawn in enumerate(shares):
            together[:, rank::3], lengths[:, rank::3] = drawn[number]
        assert torch.equal(together, tokens)
        assert torch.equal(lengths, prompts)


def test_examples_are_brought_to_the_device_once_and_forgotten_when_others_take_their_place() -> None:
    arena = batches_module.Arena(CPU, 16)
    some = [np.full((50, 10), value, dtype=np.int32) for value in (3, 4, 5)]
    starts = [arena.place(each) for each in some]
    assert starts == [0, 500, 1000]
    assert [arena.place(each) for each in some] == starts
    arena.forget(some)
    assert arena.used == 1500
    arena.forget(some[1:])
    assert arena.place(some[2]) == 0
    assert (arena.memory[:500] == 5).all()
    large = np.full((1 << 18, 8), 7, dtype=np.int32)
    assert arena.place(large) == 500
    assert (arena.memory[500 : 500 + large.size] == 7).all()
    assert (arena.memory[:500] == 5).all()


# States


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_a_state_is_the_same_whichever_engine_keeps_it(name: Literal["adamw", "muon"]) -> None:
    optimiser = OptimiserSettings(name=name)
    crew = stacked(members_of(2), optimiser)
    drawn = steps_of(crew, 3)
    other = members_of(2)
    crews = ReferenceEngine(other).crews(drawn, optimiser)  # type: ignore[arg-type]
    for number, alone in enumerate(crews):
        with alone:
            for step in range(3):
                alone.step(step, step / 3, 0.5)
        ours, theirs = dict(crew.state(number)), dict(alone.state(number))
        assert ours.keys() == theirs.keys()
        for key, tensor in theirs.items():
            assert ours[key].shape == tensor.shape, key
            assert (ours[key] - tensor).norm() <= 0.02 * tensor.norm() + 1e-6, key
        alone.load(number, ours)
        assert all(torch.equal(a, b) for a, b in zip(dict(alone.state(number)).values(), ours.values(), strict=True))


def test_a_crew_goes_on_from_its_state_with_the_same_bits() -> None:
    whole, stopped, again = (stacked(members_of(2), OptimiserSettings()) for _ in range(3))
    for crew, steps in ((whole, range(6)), (stopped, range(3))):
        for step in steps:
            crew.step(step, step / 6, 1.0)
        crew.taken(True)
    for number in range(2):
        again.load(number, dict(stopped.state(number)))
    for step in range(3, 6):
        again.step(step, step / 6, 1.0)
    for number in range(2):
        for one, two in zip(whole.state(number), again.state(number), strict=True):
            assert one[0] == two[0]
            assert torch.equal(one[1], two[1]), one[0]


def test_a_run_is_made_of_it_and_resumed_to_the_same_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "build_engine", CudaEngine)
    settings = load_recipe(
        "smoke", ["supervised.steps=60", "supervised.decay=30", "storage.checkpoint_minutes=0", "training.stock=5000"]
    )
    whole = rounds.start(settings, tmp_path / "whole", Silent(), device="cpu")
    assert whole.manifest.status == "finished"
    assert [record.steps for record in whole.manifest.rounds] == [60, 20, 20]
    assert whole.manifest.rounds[0].accuracy["1"] > 0.2
    for at in ((0, 25), (1, 7)):
        out = tmp_path / f"at-{at}"
        with pytest.raises(KeyboardInterrupt):
            rounds.start(settings, out, Interrupting(*at), device="cpu")
        store = Store(out)
        rounds.resume(store, Silent(), device="cpu")
        digests = [record.weights_sha256 for record in store.manifest.rounds]
        assert digests == [record.weights_sha256 for record in whole.manifest.rounds]


def test_what_it_does_not_know_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    looped = Transformer(new_member(0).size, 14, torch.Generator(), loops=Loops(2))
    assert engine.why_not(new_member(0)) is None
    assert engine.why_not(looped) == "a member with loops"
    twice = Transformer(new_member(0).size, 14, torch.Generator(), second=SecondTarget(32, 14, 0.3, 2))
    assert engine.why_not(twice) == "a member with a second target"

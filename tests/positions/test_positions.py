"""Position schemes and loops: against their papers, and against what holds for every member."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import Interrupting, Silent, build_runner, decode, engine_of, plain_block
from torch import Tensor

from easy2hard.engines import decoding, reference
from easy2hard.engines.cpu.runner import CpuRunner, FoldedGradients
from easy2hard.engines.engine import Group
from easy2hard.engines.reference import Gradients, Runner
from easy2hard.errors import UserError
from easy2hard.huggingface.export import export_transformer
from easy2hard.learning.batches import Mixture, SupervisedSource
from easy2hard.learning.trainer import Step, fit
from easy2hard.models.transformer import (
    Transformer,
    build_transformer,
)
from easy2hard.positions import Positions, build_positions
from easy2hard.positions.biases import Fire, alibi_slopes
from easy2hard.positions.rotary import Rope
from easy2hard.positions.tables import Abacus, Randomized, Sinusoidal
from easy2hard.runs import rounds
from easy2hard.runs.experiment import Experiment
from easy2hard.runs.export import export_model
from easy2hard.runs.store import Store
from easy2hard.seeding import numpy_generator, torch_generator
from easy2hard.settings.model import ModelSettings
from easy2hard.settings.recipes import load_recipe
from easy2hard.settings.scaling import laptop
from easy2hard.settings.training import OptimiserSettings, PhaseSettings
from easy2hard.tasks.base import Task
from easy2hard.tasks.prompts import Reserved
from easy2hard.tasks.registry import load_oracle, load_task
from easy2hard.tasks.trees import neighbours_of
from easy2hard.vocabulary import EOS, PAD, SPECIAL, Tokens

SIZE: dict[str, Any] = {"width": 32, "layers": 2, "heads": 2, "feed_forward": 64}
CASES: dict[str, dict[str, Any]] = {
    **{name: {"positions": name} for name in ("rope", "coupled-bias", "alibi", "fire")},
    **{name: {"positions": name} for name in ("randomized", "abacus", "coupled", "learned")},
    "randomized, learned": {"positions": "randomized", "randomized_table": "learned", "position_capacity": 60},
    "loops": {"loops": 3},
    "loops that grow": {"positions": "rope", "loops": 1, "loops_per": 5},
    "loops that grow, coupled": {"positions": "coupled", "loops": 2, "loops_per": 5},
}
DRAWN = ("randomized", "randomized, learned", "abacus", "coupled")
every_case = pytest.mark.parametrize("case", CASES)


def member(case: dict[str, Any], task: Task, seed: int = 0) -> Transformer:
    return build_transformer(ModelSettings(**SIZE, **case), task, torch_generator(seed, "weights"))


def mixture(model: Transformer, task: Task, number: int = 0) -> Mixture:
    source = SupervisedSource(Reserved(task, 0, 100), load_oracle(task), 3)
    return Mixture(0, ("batches", number, 0), (source, 3.0), [], None, 32, 2, place=model.place)


def train(model: Transformer, task: Task, steps: int, precision: Any = "float32") -> list[float]:
    losses: list[Step] = []
    phase = PhaseSettings(steps=steps, warmup=2)
    fit(engine_of([model], precision), [mixture(model, task)], phase, OptimiserSettings(), 1.0, losses.append)
    return [step.loss for step in losses]


# What holds for every member


@torch.inference_mode()
def answer_plainly(model: Transformer, prompt: Sequence[int], bound: int) -> list[int]:
    """The greedy answer to one prompt: no cache, no batch."""
    tokens = list(prompt)
    while len(tokens) < len(prompt) + bound and EOS not in tokens[len(prompt) :]:
        logits = model(torch.tensor([tokens]), first=len(prompt) - 1)[0, -1]
        tokens.append(max(range(EOS, len(logits)), key=lambda token: float(logits[token])))
    answer = tokens[len(prompt) :]
    return answer + [PAD] * (bound - len(answer))


@every_case
def test_decoding_with_a_cache_is_decoding_without_and_one_pass(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prompts of one length, operands of several; some answers end and leave the batch before others."""
    task = load_task("reverse-addition")
    model = member(CASES[case], task)
    train(model, task, 30)
    prompts = np.concatenate([task.sample(numpy_generator(0, "test", a), (a, 6 - a), 8) for a in range(1, 6)])
    bounds = task.answer_bounds(prompts)
    answers = decode(model, prompts, bounds)
    plain = [
        answer_plainly(model, prompt, bound) for prompt, bound in zip(prompts.tolist(), bounds.tolist(), strict=True)
    ]
    width = int(bounds.max())
    assert answers.tokens.tolist() == [row + [PAD] * (width - len(row)) for row in plain]
    lengths = (answers.tokens != PAD).sum(axis=1)
    assert len(set(lengths)) > 1
    monkeypatch.setattr(decoding, "_decode_rows", None)  # every answer is confirmed by one pass
    drafted = decode(model, prompts, bounds, answers.tokens)
    np.testing.assert_array_equal(drafted.tokens, answers.tokens)
    np.testing.assert_allclose(drafted.confidence, answers.confidence, rtol=1e-3)


@every_case
def test_a_cache_fed_piece_by_piece_gives_the_same_logits(case: str) -> None:
    """The prompt whole, then an answer in pieces; half of the rows leave on the way."""
    task = load_task("reverse-addition")
    model = member(CASES[case], task)
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(1.5)  # sharp attention
    prompts = np.concatenate([task.sample(numpy_generator(0, "test", a), (a, 12 - a), 2) for a in range(4, 9)])
    answers = numpy_generator(0, "answers").integers(SPECIAL, SPECIAL + 10, (10, 7))
    tokens = torch.from_numpy(np.concatenate([prompts, answers], axis=1)).long()
    prompt, first = prompts.shape[1], prompts.shape[1] - 1
    keep = torch.arange(10) % 2 == 0
    with torch.no_grad():
        whole = model(tokens, first=first)
        cache = model.make_cache(tokens.shape[1])
        parts = [model(tokens[:, :prompt], first=first, cache=cache)]
        parts += [model(tokens[:, prompt + at : prompt + at + 1], cache=cache) for at in range(2)]
        torch.testing.assert_close(torch.cat(parts, dim=1), whole[:, :3], rtol=1e-4, atol=1e-4)
        cache.keep(keep)
        piece = model(tokens[keep, prompt + 2 :], first=2, cache=cache)
        torch.testing.assert_close(piece, whole[keep, 5:], rtol=1e-4, atol=1e-4)


@every_case
def test_logits_from_first_on_are_the_last_of_all(case: str) -> None:
    task = load_task("copy")
    model = member({**CASES[case], "loops_per": None}, task)  # whose number of loops depends on where the prompt ends
    tokens = torch.from_numpy(task.sample(numpy_generator(0, "test"), 9, 5)).long()
    places = None
    if model.positions is not None:
        places = torch.from_numpy(model.positions.ids(tokens.numpy(), tokens.shape[1]))
    with torch.no_grad():
        whole = model(tokens, positions=places)
        torch.testing.assert_close(model(tokens, first=7, positions=places), whole[:, 7:], rtol=1e-5, atol=1e-5)


@every_case
@pytest.mark.parametrize("name", ["copy", "reverse-addition"])
def test_every_scheme_learns(case: str, name: str) -> None:
    task = load_task(name)
    losses = train(member(CASES[case], task), task, 40)
    assert np.mean(losses[-5:]) < 0.75 * losses[0]


@every_case
def test_every_scheme_trains_in_bfloat16(case: str) -> None:
    task = load_task("copy")
    full, half = (train(member(CASES[case], task), task, 3, precision) for precision in ("float32", "bfloat16"))
    assert half == pytest.approx(full, rel=0.05)
    assert half != full


def test_without_a_scheme_nothing_changes() -> None:
    task = load_task("copy")
    settings = ModelSettings()
    plain = Transformer(settings.size, len(task.vocabulary), torch_generator(0, "weights"))
    built = build_transformer(settings, task, torch_generator(0, "weights"))
    assert plain.state_dict().keys() == built.state_dict().keys()
    assert all(map(torch.equal, plain.state_dict().values(), built.state_dict().values()))
    assert build_runner(built).whole() is not None
    assert built.place is None


@every_case
def test_the_other_weights_begin_as_without_a_scheme(case: str) -> None:
    task = load_task("copy")
    model, plain = member(CASES[case], task), member({}, task)
    assert build_runner(model).whole() is None
    weights = model.state_dict()
    assert all(torch.equal(weight, weights[name]) for name, weight in plain.state_dict().items())


def test_the_plain_blocks_are_the_compiled_ones() -> None:
    """A scheme that makes no use of its numbers changes nothing but the way of computing."""
    task = load_task("copy")
    ours = member({}, task)
    plain = Transformer(ours.size, len(task.vocabulary), torch_generator(0, "weights"), Positions())
    tokens = torch.from_numpy(task.sample(numpy_generator(0, "test"), 9, 5)).long()
    with torch.no_grad():
        torch.testing.assert_close(plain(tokens, first=4), ours(tokens, first=4), rtol=1e-4, atol=1e-5)
    group = Group(tokens.numpy(), 4)
    compiled = CpuRunner(ours).gradients("float32")
    loss, gradients = compiled.of(group, 0.1)
    other, expected = Runner(plain).gradients("float32").of(group, 0.1)
    assert loss == pytest.approx(other, rel=1e-5)
    for one, two in zip(compiled.of_parameters(gradients), expected, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize(
    "case", [*DRAWN, "learned", "alibi", "fire", "coupled-bias", "loops", "loops that grow, coupled"]
)
def test_schemes_that_turn_nothing_and_loops_train_compiled_as_they_do_plain(case: str, precision: str) -> None:
    task = load_task("copy")
    model, plain = member(CASES[case], task), member(CASES[case], task)
    prompts = task.sample(numpy_generator(0, "test"), 4, 5)
    tokens = np.concatenate([prompts, prompts[:, 1:5], np.full((5, 1), EOS)], axis=1)
    places = None
    if model.place is not None:
        places = model.place(tokens[:, :-1], prompts.shape[1], numpy_generator(0, "places"))
    losses, gradients = [], []
    for runner in (build_runner(model), Runner(plain)):
        passes = runner.gradients(precision)
        loss, found = passes.of(Group(tokens, prompts.shape[1], places), 0.1)
        losses.append(loss)
        gradients.append(passes.of_parameters(found))
    assert isinstance(build_runner(model).gradients(precision), FoldedGradients)
    assert type(Runner(plain).gradients(precision)) is Gradients
    rough = {"float32": {"rtol": 1e-3, "atol": 1e-5}, "bfloat16": {"rtol": 0.2, "atol": 0.02}}[precision]
    assert losses[0] == pytest.approx(losses[1], rel=rough["rtol"])
    assert len(gradients[0]) == len(gradients[1]) == len(list(model.parameters()))
    for one, two in zip(*gradients, strict=True):
        torch.testing.assert_close(one, two, **rough)


# Batches


@pytest.mark.parametrize("case", DRAWN)
def test_drawn_places_depend_on_stream_and_step_alone_and_leave_the_examples_alone(case: str) -> None:
    task = load_task("copy")
    model = member(CASES[case], task)
    batch, again = mixture(model, task).batch(3, 0.5), mixture(model, task).batch(3, 0.5)
    without = mixture(member({}, task), task).batch(3, 0.5)
    for group, same, plain in zip(batch, again, without, strict=True):
        np.testing.assert_array_equal(group.tokens, plain.tokens)
        assert plain.positions is None
        assert group.positions is not None
        assert same.positions is not None
        assert group.positions.shape == (len(group.tokens), group.tokens.shape[1] - 1)
        np.testing.assert_array_equal(group.positions, same.positions)
    drawn = [each.positions for each in batch]
    for other in (mixture(model, task).batch(4, 0.5), mixture(model, task, 1).batch(3, 0.5)):
        assert [str(each.positions) for each in other] != [str(each) for each in drawn]


def test_examples_keep_their_places_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    task = load_task("copy")
    whole, pieced = (member(CASES["abacus"], task) for _ in range(2))
    batch = mixture(whole, task).batch(0, 0.0)
    pieces = reference.split(batch, torch.device("cpu"), 40)
    assert len(pieces) > len(batch)
    for each in ("tokens", "positions"):
        rows = [row.tolist() for piece in pieces for row in getattr(piece, each)]
        assert rows == [row.tolist() for group in batch for row in getattr(group, each)]
    (first,) = reference.rows_of(batch[:1], 1, 3)
    assert first.positions is not None
    assert batch[0].positions is not None
    np.testing.assert_array_equal(first.positions, batch[0].positions[1::3])
    optimiser, one = OptimiserSettings(name="adamw", eps=1e-3), PhaseSettings(steps=1)
    for model, limit in ((whole, 1000), (pieced, 40)):
        monkeypatch.setattr(reference, "PIECE_TOKENS", limit)
        fit(engine_of([model]), [mixture(model, task)], one, optimiser, 1.0, lambda step: None)
    for weight, other in zip(whole.parameters(), pieced.parameters(), strict=True):
        torch.testing.assert_close(weight, other, rtol=1e-4, atol=1e-6)


QUICK = ["supervised.steps=8", "supervised.decay=0", "rounds.steps=6", "rounds.decay=0", "labels.count=40",
         "rounds.count=1", "model.members=2", "watch.enabled=false", "labels.filters=[{name='none'}]"]  # fmt: skip


@pytest.mark.parametrize("case", ["randomized", "abacus", "coupled"])
def test_an_interrupted_run_ends_with_the_same_bits(case: str, tmp_path: Path) -> None:
    settings = load_recipe("smoke", [*QUICK, f"model.positions={case}"])
    whole = rounds.start(settings, tmp_path / "whole", Silent())
    for at in ((0, 3), (1, 2)):
        out = tmp_path / f"at-{at}"
        with pytest.raises(KeyboardInterrupt):
            rounds.start(settings, out, Interrupting(*at))
        store = Store(out)
        rounds.resume(store, Silent())
        assert [r.weights_sha256 for r in store.manifest.rounds] == [r.weights_sha256 for r in whole.manifest.rounds]
    loaded = Experiment(whole.settings).load(whole).members
    assert "positions.table.weight" in loaded[0].state_dict() or case == "randomized"
    with pytest.raises(UserError, match=f"model.positions = '{case}'.*none, rope"):
        export_model(whole, tmp_path / "exported")
    assert not (tmp_path / "exported").exists()


def test_a_run_trains_on_drawn_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = load_recipe("smoke", [*QUICK, "rounds.count=0", "model.positions=abacus"])
    drawn = rounds.start(settings, tmp_path / "drawn", Silent())
    monkeypatch.setattr(Transformer, "place", None)
    fixed = rounds.start(settings, tmp_path / "fixed", Silent())
    assert drawn.manifest.rounds[0].weights_sha256 != fixed.manifest.rounds[0].weights_sha256


# RoPE


def test_rope_turns_as_transformers_does() -> None:
    from transformers import LlamaConfig
    from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding, apply_rotary_pos_emb

    config = LlamaConfig(hidden_size=64, num_attention_heads=4, max_position_embeddings=4096)
    generator = torch_generator(0, "heads")
    queries, keys = torch.randn(2, 3, 4, 50, 16, generator=generator)
    ids = torch.arange(0, 500, 10)[None]
    cos, sin = LlamaRotaryEmbedding(config)(queries, ids)
    expected = apply_rotary_pos_emb(queries, keys, cos, sin)
    rope = Rope(16)
    for ours, theirs in zip((rope.turn(queries, ids), rope.turn(keys, ids)), expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)  # angles of float32


def test_a_member_with_rope_is_exported_as_it_is(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    task = load_task("reverse-addition")
    model = member(CASES["rope"], task)
    export_transformer(model, task.vocabulary, tmp_path, 9)
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path)
    tokens = torch.from_numpy(task.sample(numpy_generator(0, "test"), 12, 5)).long()
    with torch.no_grad():
        torch.testing.assert_close(model(tokens), theirs(input_ids=tokens).logits, rtol=1e-4, atol=1e-4)


# ALiBi


def test_alibi_slopes_are_the_published_ones() -> None:
    assert alibi_slopes(8) == [1 / 2, 1 / 4, 1 / 8, 1 / 16, 1 / 32, 1 / 64, 1 / 128, 1 / 256]
    assert alibi_slopes(16) == pytest.approx([2 ** (-(i + 1) / 2) for i in range(16)])
    assert alibi_slopes(12) == pytest.approx([2.0**-i for i in range(1, 9)] + [2**-0.5, 2**-1.5, 2**-2.5, 2**-3.5])


@pytest.mark.parametrize("heads", range(1, 21))
def test_alibi_slopes_are_those_of_bloom(heads: int) -> None:
    from transformers.models.bloom.modeling_bloom import build_alibi_tensor

    theirs = build_alibi_tensor(torch.ones(1, 3), heads, torch.float32)  # slope times place, for each head
    torch.testing.assert_close(torch.tensor(alibi_slopes(heads)), theirs[:, 0, 1])


def test_alibi_lowers_the_score_by_the_distance() -> None:
    scheme = build_positions(ModelSettings(width=64, heads=8, positions="alibi"), load_task("copy"))
    assert scheme is not None
    bias = scheme.bias(0, torch.tensor([[2, 3]]), torch.tensor([[0, 1, 2, 3]]))
    assert bias is not None
    assert bias.shape == (1, 8, 2, 4)
    assert bias[0, 0].tolist() == [[-1.0, -0.5, 0.0, 0.5], [-1.5, -1.0, -0.5, 0.0]]
    assert bias[0, 7, 1].tolist() == [-3 / 256, -2 / 256, -1 / 256, 0.0]


# FIRE


def test_fire_is_the_formula_of_its_paper() -> None:
    """c = 1, L = 2; the network of the first head is the identity, that of the second three times it, plus one."""
    fire = Fire(layers=2, heads=2)
    block: Any = fire.blocks[1]
    with torch.no_grad():
        for weight in fire.parameters():
            weight.zero_()
        block.c.fill_(1.0)
        block.threshold_share.fill_(2 / 512)
        block.inner.weight[0] = 1.0
        block.outer.weight[:, 0] = torch.tensor([1.0, 3.0])
        block.outer.bias[1] = 1.0
    ids = torch.arange(4)[None]
    bias = fire.bias(1, ids, ids)[0]
    psi = [math.log(x + 1) for x in range(4)]
    expected = [
        [0.0, 0.0, 0.0, 0.0],
        [psi[1] / psi[2], 0.0, 0.0, 0.0],
        [psi[2] / psi[2], psi[1] / psi[2], 0.0, 0.0],
        [psi[3] / psi[3], psi[2] / psi[3], psi[1] / psi[3], 0.0],
    ]
    torch.testing.assert_close(bias[0], torch.tensor(expected), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(bias[1], 3 * torch.tensor(expected) + 1, rtol=1e-5, atol=1e-6)
    assert not fire.bias(0, ids, ids).any()


# Randomised


def randomized(capacity: int) -> Randomized:
    return Randomized(capacity, Sinusoidal(8), load_task("copy"))


def test_randomized_places_are_sorted_and_every_subset_is_as_likely() -> None:
    """Chi-square over the ten pairs of five places; 27.9 is passed by chance once in a thousand times."""
    rows = 20_000
    drawn = randomized(5).ids(np.zeros((rows, 2), dtype=np.int64), 1, numpy_generator(0, "places"))
    assert (drawn[:, 0] < drawn[:, 1]).all()
    pairs, counts = np.unique(drawn, axis=0, return_counts=True)
    assert pairs.min() == 0
    assert pairs.max() == 4
    assert len(pairs) == 10
    assert ((counts - rows / 10) ** 2 / (rows / 10)).sum() < 27.9


@pytest.mark.parametrize("digits", [1, 3, 9])
def test_randomized_places_of_answers_are_where_the_draw_puts_them_on_average(digits: int) -> None:
    scheme = randomized(40)
    prompts = load_task("copy").sample(numpy_generator(0, "test"), digits, 4)
    time = prompts.shape[1] + digits  # as many tokens as can be read: all but EOS
    tokens = np.pad(prompts, ((0, 0), (0, digits)))
    fixed = scheme.ids(tokens, prompts.shape[1])
    drawn = scheme.ids(np.zeros((4000, time), dtype=np.int64), 1, numpy_generator(0, "places"))
    average = np.arange(1, time + 1) * 41 / (time + 1) - 1  # of the order statistics
    assert np.abs(drawn.mean(axis=0) - average).max() < 0.8  # four errors of the mean
    np.testing.assert_array_equal(fixed, [np.floor(average)] * 4)
    np.testing.assert_array_equal(scheme.ids(tokens[:, :-1], prompts.shape[1]), fixed[:, :-1])


def test_a_table_of_exactly_the_length_is_every_place() -> None:
    drawn = randomized(6).ids(np.zeros((3, 6), dtype=np.int64), 1, numpy_generator(0, "places"))
    assert drawn.tolist() == [list(range(6))] * 3


def test_sinusoids_are_those_of_attention_is_all_you_need() -> None:
    vectors = Sinusoidal(4)(torch.tensor([[0, 1, 7]]))[0]
    rates = [1.0, 0.01]
    expected = [[math.sin(t * r) for r in rates] + [math.cos(t * r) for r in rates] for t in (0, 1, 7)]
    torch.testing.assert_close(vectors, torch.tensor(expected))


# Abacus


def abacus(capacity: int) -> tuple[Abacus, Task]:
    task = load_task("reverse-addition")
    return Abacus(capacity, 8, task.vocabulary), task


def test_abacus_numbers_the_digits_of_each_number() -> None:
    scheme, task = abacus(9)
    tokens = np.concatenate(
        [task.vocabulary.encode_prompts(["136+9=", "1+369="]), [[SPECIAL, EOS], [EOS, PAD]]], axis=1
    )
    expected = [[0, 1, 2, 3, 0, 1, 0, 1, 0], [0, 1, 0, 1, 2, 3, 0, 0, 0]]
    assert scheme.ids(tokens, 7).tolist() == expected
    drawn = scheme.ids(np.repeat(tokens, 2000, axis=0), 7, numpy_generator(0, "places"))
    offsets = drawn[:, 1] - 1
    assert set(offsets) == set(range(7))  # up to where the number of three digits ends with the table
    assert np.bincount(offsets).min() > 450
    plain = np.repeat(expected, 2000, axis=0)
    np.testing.assert_array_equal(drawn, np.where(plain > 0, plain + offsets[:, None], 0))


# Coupling


def ids_of(name: str, prompt: str, answer: str) -> list[int]:
    task = load_task(name)
    task.check_prompt(prompt)
    length = 1 + len(prompt) + len(answer)
    return task.coupled_ids(task.vocabulary.encode_prompts([prompt]), length)[0].tolist()  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("name", "prompt", "answer", "expected"),
    [
        # Addition: units 4, tens 3, hundreds 2, the carry's place 1; the signs have the number after the units'.
        ("forward-addition-padded", "653+149=", "0802", [0, 2, 3, 4, 5, 2, 3, 4, 5, 1, 2, 3, 4]),
        ("forward-addition-padded", "653+49=", "0702", [0, 2, 3, 4, 5, 3, 4, 5, 1, 2, 3, 4]),
        ("reverse-addition", "356+941=", "2080", [0, 4, 3, 2, 5, 4, 3, 2, 5, 4, 3, 2, 1]),
        ("reverse-addition", "94+356=", "2070", [0, 4, 3, 5, 4, 3, 2, 5, 4, 3, 2, 1]),
        # Copy and reverse: a digit and its copy; the sign comes right before the answer's first.
        ("copy", "947=", "947", [0, 2, 3, 4, 1, 2, 3, 4]),
        ("reverse", "947=", "749", [0, 1, 2, 3, 4, 3, 2, 1]),
        # N x 2 multiplication, all backwards: units 5 to ten thousands 1, in operands, product and the work.
        ("multiplication", "356*21=", "6530+06530=63870",
         [0, 5, 4, 3, 6, 5, 4, 6, 5, 4, 3, 2, 6, 5, 4, 3, 2, 1, 6, 5, 4, 3, 2, 1]),
    ],
)  # fmt: skip
def test_coupled_ids_are_those_of_the_paper(name: str, prompt: str, answer: str, expected: list[int]) -> None:
    assert ids_of(name, prompt, answer) == expected
    assert ids_of(name, prompt, answer + "0") == [*expected, 0]


def numbers_by_place(tokens: Tokens, ids: np.ndarray, digits: np.ndarray, most: int) -> list[int]:
    """The numbers of a row, each digit worth what its place says."""
    found, current = [], None
    for token, place in zip(tokens.tolist(), ids.tolist(), strict=True):
        if digits[token]:
            current = (current or 0) + (token - SPECIAL) * 10 ** (most - place)
        elif current is not None:
            found.append(current)
            current = None
    return found if current is None else [*found, current]


@pytest.mark.parametrize("name", ["reverse-addition", "forward-addition-padded", "multiplication"])
@pytest.mark.parametrize("pair", [(1, 1), (3, 3), (5, 2), (2, 5)])
def test_a_coupled_digit_is_worth_what_its_place_says(name: str, pair: tuple[int, int]) -> None:
    """Read by their places alone, and not by their order, operands and answer are right."""
    task = load_task(name)
    prompts = task.sample(numpy_generator(0, "test"), pair, 20)
    answers = load_oracle(task).solve(prompts)
    tokens = np.concatenate([prompts, answers], axis=1)
    ids = task.coupled_ids(prompts, tokens.shape[1])
    digits = np.array([False] * SPECIAL + [symbol.isdecimal() for symbol in task.vocabulary.symbols])
    for row, places in zip(tokens, ids, strict=True):
        a, b, *_, answer = numbers_by_place(row, places, digits, int(places[prompts.shape[1] - 1]) - 1)
        assert (len(str(a)), len(str(b))) == pair
        assert answer == (a * b if name == "multiplication" else a + b)


def test_coupled_places_move_together_and_stay_within_the_table() -> None:
    task = load_task("copy")
    scheme = build_positions(ModelSettings(positions="coupled", position_capacity=9), task)
    assert scheme is not None
    prompts = np.repeat(task.vocabulary.encode_prompts(["947="]), 3000, axis=0)
    fixed = scheme.ids(prompts, 5)
    offsets = (drawn := scheme.ids(prompts, 5, numpy_generator(0, "places")))[:, 4] - 1
    assert set(offsets) == set(range(6))
    np.testing.assert_array_equal(drawn, np.where(fixed > 0, fixed + offsets[:, None], 0))


@pytest.mark.parametrize("name", ["maze-hops", "maze-nodes"])
def test_a_neighbour_in_a_maze_is_coupled_to_the_node_that_it_is_a_neighbour_of(name: str) -> None:
    task = load_task(name)
    prompts = task.sample(numpy_generator(0, "test"), 12, 20)
    tokens = np.concatenate([prompts, load_oracle(task).solve(prompts)], axis=1)
    scheme = build_positions(ModelSettings(positions="coupled"), task)
    assert scheme is not None
    ids = scheme.ids(tokens, prompts.shape[1], numpy_generator(0, "places"))  # in training, too, a name is what it is
    for row, prompt, numbers in zip(tokens, task.vocabulary.decode_prompts(prompts), ids.tolist(), strict=True):
        assert numbers[1] != numbers[3]
        assert {numbers[1], numbers[3]}.isdisjoint(numbers[4:])
        said = [(number, int(row[at]) - SPECIAL + 1) for at, number in enumerate(numbers) if number and at > 4]
        assert said == [(int(node), int(other)) for node, others in neighbours_of(prompt) for other in others]


@pytest.mark.parametrize("name", ["copy", "reverse", "reverse-addition", "forward-addition-padded", "multiplication"])
def test_the_answer_begins_from_the_prompts_last_token(name: str) -> None:
    """By coupled places, the step from that token to the answer is the step to the digit after it."""
    task = load_task(name)
    prompts = task.sample(numpy_generator(0, "test"), (4, 3) if name == "multiplication" else 4, 5)
    tokens = np.concatenate([prompts, load_oracle(task).solve(prompts)], axis=1)
    scheme = build_positions(ModelSettings(positions="coupled-bias"), task)
    assert scheme is not None
    length = prompts.shape[1]
    ids = scheme.ids(tokens, length)
    np.testing.assert_array_equal(np.diff(ids[:, length - 1 : length + 1]), np.diff(ids[:, length : length + 2]))
    elsewhere = np.arange(tokens.shape[1]) != length - 1
    np.testing.assert_array_equal(ids[:, elsewhere], task.coupled_ids(prompts, tokens.shape[1])[:, elsewhere])
    np.testing.assert_array_equal(scheme.ids(prompts, length), ids[:, :length])


# Loops


def test_a_loop_applies_the_blocks_again_to_what_they_gave_and_the_input() -> None:
    task = load_task("copy")
    model = member({"loops": 3}, task)
    tokens = torch.from_numpy(task.sample(numpy_generator(0, "test"), 5, 4)).long()

    def blocks(x: Tensor) -> Tensor:
        for block in model.blocks:
            x = plain_block(x, 0, block.heads, list(block.parameters()))
        return x

    with torch.no_grad():
        embedded = model.embed_tokens(tokens)
        expected = blocks(blocks(blocks(embedded) + embedded) + embedded)
        torch.testing.assert_close(model(tokens), model.lm_head(model.norm(expected)))


@pytest.mark.parametrize(("digits", "loops"), [(1, 2), (3, 3), (8, 4), (12, 4), (13, 5)])
def test_loops_grow_with_the_prompt_and_not_with_the_answer(
    digits: int, loops: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two loops, and one more for each five tokens of BOS, the digits and the sign."""
    task = load_task("copy")
    model = member({"loops": 2, "loops_per": 5}, task)
    calls: list[int] = []
    plain = Transformer._attention
    monkeypatch.setattr(Transformer, "_attention", lambda self, *given: calls.append(given[1]) or plain(self, *given))
    prompts = task.sample(numpy_generator(0, "test"), digits, 2)
    decode(model, prompts, np.array([1, 4]))
    slots = list(range(2 * loops))
    assert len(calls) > len(slots)
    assert calls == slots * (len(calls) // len(slots))


# Settings


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["model.positions=spiral"], "model.positions = 'spiral'"),
        (["model.positions=rope", "model.width=6", "model.heads=2"], "positions = 'rope'.* = 3 must be even"),
        (["model.positions=rope", "model.position_capacity=50"], "position_capacity = 50: positions = 'rope'"),
        (["model.randomized_table=learned"], "randomized_table = 'learned' needs positions = 'randomized'"),
        (["model.loops=0"], "model.loops = 0"),
        (["model.positions=learned", "model.position_capacity=15"], "position_capacity = 15: .* needs 20 places"),
        (["model.positions=randomized", "model.position_capacity=15"], "position_capacity = 15: .* needs 20 places"),
        (["model.positions=abacus", "model.position_capacity=5"], "position_capacity = 5: .* needs 9 places"),
        (["model.positions=coupled", "model.position_capacity=5"], "position_capacity = 5: .* needs 10 places"),
        (["model.positions=coupled", "task.name=forward-addition"], "forward-addition-padded has them"),
        (["model.positions=coupled-bias", "task.name=forward-addition"], "forward-addition-padded has them"),
        (
            ["model.positions=coupled-bias", "task.name=maze-hops", "task.options.nodes=8"],
            "names, which have no distance",
        ),
        (["model.positions=abacus", "task.name=maze-hops", "task.options.nodes=8"], "'abacus'.* has none"),
    ],
)
def test_what_does_not_fit_is_refused_in_a_line(overrides: list[str], message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message) as refused:
        rounds.start(load_recipe("smoke", ["evaluation.beyond=4", *overrides]), tmp_path / "run", Silent())
    assert len(str(refused.value).splitlines()) == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("given", [{"positions": "alibi"}, {"loops": 2}, {"loops_per": 9}])
def test_a_pretrained_model_has_its_own_positions_and_depth(given: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"(positions = 'alibi'|loops) and pretrained"):
        ModelSettings(pretrained="somewhere", **given)


@pytest.mark.parametrize("case", ["learned", "randomized", "abacus", "coupled"])
def test_a_prompt_beyond_the_table_is_refused_in_a_line(case: str) -> None:
    task = load_task("copy")
    model = member({"positions": case, "position_capacity": 12}, task)
    for digits, fits in ((5, True), (20, False)):
        prompts = task.sample(numpy_generator(0, "test"), digits, 2)
        if fits:
            decode(model, prompts, task.answer_bounds(prompts))
        else:
            with pytest.raises(UserError, match=r"model.position_capacity = 12: \d+ places are needed"):
                decode(model, prompts, task.answer_bounds(prompts))


def test_scaled_recipes_and_estimates_know_the_scheme() -> None:
    overrides = ["model.positions=abacus", "model.position_capacity=300", "model.loops=2"]
    values = load_recipe("copy-paper", overrides).model_dump(exclude_none=True)
    scaled = laptop(values)["model"]
    assert (scaled["positions"], scaled["position_capacity"], scaled["loops"]) == ("abacus", 300, 2)
    plain = load_recipe("smoke")
    scheme = load_recipe("smoke", overrides)
    more, less = Experiment(scheme), Experiment(plain)
    assert more.parameters - less.parameters == 301 * scheme.model.size.width
    assert rounds._space_needed(more) > rounds._space_needed(less)

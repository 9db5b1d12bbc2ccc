"""What a batch is made of."""

import resource
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from helpers import properties
from hypothesis import given
from hypothesis import strategies as st

from easy2hard.engines.engine import Group
from easy2hard.learning import batches
from easy2hard.learning.batches import LabelledSource, Mixture, SupervisedSource
from easy2hard.runs.training_phase import build_mixture
from easy2hard.seeding import numpy_generator
from easy2hard.settings.recipes import load_recipe
from easy2hard.tasks.prompts import Reserved
from easy2hard.tasks.registry import load_oracle, load_task
from easy2hard.vocabulary import EOS, PAD, Tokens


@dataclass
class Marked:
    """A source whose examples carry nothing but its mark."""

    mark: int

    def draw(self, generator: np.random.Generator, rows: int, points: Sequence[float], progress: float) -> list[Group]:
        assert all(0 <= point <= 1 for point in points)
        return [Group(np.full((rows, 2), self.mark, dtype=np.int32), 1)]


def marked_labels(mark: int, rows: int) -> Group:
    return Group(np.full((rows, 2), mark, dtype=np.int32), 1)


def marks_of(batches: Sequence[list[Group]]) -> Counter[int]:
    return Counter(int(mark) for batch in batches for group in batch for mark in group.tokens[:, 0])


def supervised(task_name: str, hardest: int, curriculum: float = 0.0) -> SupervisedSource:
    task = load_task(task_name)
    return SupervisedSource(Reserved(task, 0, 1000), load_oracle(task), hardest, curriculum)


def mixture(
    stream: tuple[str | int, ...] = ("batches", 1, 0),
    source: SupervisedSource | None = None,
    batch: int = 32,
    groups: int = 4,
) -> Mixture:
    return Mixture(0, stream, (source or supervised("copy", 5), 5.0), [], None, batch, groups)


def content(batch: list[Group]) -> list[tuple[int, list[list[int]]]]:
    return [(group.prompt_length, group.tokens.tolist()) for group in batch]


@properties
@given(
    batch=st.integers(1, 60),
    groups=st.integers(1, 9),
    older=st.integers(0, 4),
    labels=st.none() | st.lists(st.integers(0, 5), min_size=1, max_size=6).filter(any),
    share=st.floats(0.01, 0.99),
    step=st.integers(0, 10_000),
)
def test_a_batch_has_exactly_its_size_and_its_share_of_the_newest_labels(
    batch: int, groups: int, older: int, labels: list[int] | None, share: float, step: int
) -> None:
    newest = LabelledSource([marked_labels(100, rows) for rows in labels]) if labels else None
    olds = [(Marked(mark), 1.0) for mark in range(1, older + 1)]
    mixed = Mixture(0, ("batches", 1, 0), (supervised("copy", 5), 5.0), olds, newest, batch, groups, share)
    found = mixed.batch(step, 0.5)
    assert sum(len(group.tokens) for group in found) == batch
    assert marks_of([found])[100] == (min(round(batch * share), sum(labels)) if labels else 0)


@pytest.mark.parametrize(
    ("batch", "groups"),
    [(64, 4), (16, 8), (10, 4), (14, 5)],
    ids=["32 rows in 4 groups", "8 in 8", "5 in 4: groups of unequal size", "7 in 5: groups of unequal size"],
)
def test_d0_and_older_rounds_have_their_weights_in_expectation(batch: int, groups: int) -> None:
    weights = {1: 5.0, 2: 1.0, 3: 2.0, 4: 1.0}
    newest = LabelledSource([marked_labels(9, 50)])
    older = [(Marked(mark), weight) for mark, weight in weights.items() if mark > 1]
    mixed = Mixture(0, ("batches", 1, 0), (Marked(1), weights[1]), older, newest, batch, groups)
    steps = 4000
    counts = marks_of([mixed.batch(step, 0.0) for step in range(steps)])
    assert counts[9] == steps * batch // 2
    rest = steps * batch - counts[9]
    for mark, weight in weights.items():
        # About three standard errors of 4,000 independent batches, each of which spreads its points evenly.
        assert counts[mark] / rest == pytest.approx(weight / sum(weights.values()), abs=0.012)


@pytest.mark.parametrize("older", [0, 5], ids=["alone", "beside as many older labels"])
@pytest.mark.parametrize("batch", [40, 22], ids=["groups of equal size", "groups of unequal size"])
def test_every_supervised_difficulty_is_equally_likely(batch: int, older: int) -> None:
    steps, hardest = 2000, 5
    olds = [(Marked(0), float(older))] if older else []
    mixed = Mixture(0, ("batches", 1, 0), (supervised("copy", hardest), 5.0), olds, None, batch, 4)
    counts: Counter[int] = Counter()
    for step in range(steps):
        for group in mixed.batch(step, 0.0):
            counts[group.prompt_length - 2] += len(group.tokens)
    del counts[-1]  # the older labels
    assert sorted(counts) == list(range(1, hardest + 1))
    for count in counts.values():
        assert count / counts.total() == pytest.approx(1 / hardest, abs=0.012)


@pytest.mark.parametrize("batch", [32, 14], ids=["parts of equal size", "parts of unequal size"])
def test_every_label_of_the_newest_round_is_equally_likely(batch: int) -> None:
    sizes = {1: 10, 2: 30, 3: 20, 4: 40}
    newest = LabelledSource([marked_labels(mark, rows) for mark, rows in sizes.items()])
    mixed = Mixture(0, ("batches", 1, 0), (Marked(0), 1.0), [], newest, batch, 4)
    steps = 4000
    counts = marks_of([mixed.batch(step, 0.0) for step in range(steps)])
    for mark, size in sizes.items():
        assert counts[mark] / (steps * batch // 2) == pytest.approx(size / 100, abs=0.012)


@properties
@given(step=st.integers(0, 10_000), progress=st.floats(0, 0.999))
def test_the_same_step_gives_the_same_batch(step: int, progress: float) -> None:
    used = mixture()
    used.batch(step + 1, progress)
    assert content(used.batch(step, progress)) == content(mixture().batch(step, progress))


@properties
@given(
    streams=st.lists(
        st.tuples(st.just("batches"), st.integers(0, 50), st.integers(0, 9)), min_size=2, max_size=2, unique=True
    )
)
def test_other_members_and_rounds_get_other_batches(streams: list[tuple[str, int, int]]) -> None:
    one, other = (mixture(stream).batch(0, 0.0) for stream in streams)
    assert content(one) != content(other)


@properties
@given(step=st.integers(0, 10_000))
def test_other_steps_get_other_batches(step: int) -> None:
    assert content(mixture().batch(step, 0.0)) != content(mixture().batch(step + 1, 0.0))


@properties
@given(
    hardest=st.integers(1, 12),
    curriculum=st.floats(0.05, 1),
    progress=st.floats(0, 0.999),
    step=st.integers(0, 1000),
)
def test_a_curriculum_never_goes_past_its_hardest_difficulty(
    hardest: int, curriculum: float, progress: float, step: int
) -> None:
    drawn = mixture(source=supervised("copy", hardest, curriculum), batch=40, groups=8).batch(step, progress)
    longest = max(group.prompt_length - 2 for group in drawn)
    assert longest <= hardest
    assert longest <= 1 + hardest * progress / curriculum


def test_stages_open_one_difficulty_after_another_and_the_last_one_all_the_rest() -> None:
    task = load_task("copy")
    source = SupervisedSource(Reserved(task, 0, 1000), load_oracle(task), 6, stages=[0.1, 0.5, 0.7])
    drawn = mixture(source=source, batch=48, groups=12)
    hardest = [max(group.prompt_length - 2 for group in drawn.batch(0, step / 100)) for step in range(100)]
    assert hardest == [1] * 10 + [2] * 40 + [3] * 20 + [6] * 30


def test_rounds_go_on_with_the_whole_easy_range() -> None:
    settings = load_recipe("smoke", ["supervised.difficulty=6", "supervised.curriculum=0.9", "training.groups=24"])
    source = supervised("copy", 6, 0.9)
    longest = [
        max(group.prompt_length - 2 for group in build_mixture(settings, source, [], None, number, 0).batch(0, 0.0))
        for number in (0, 1)
    ]
    assert longest == [1, 6]


@pytest.mark.parametrize(("share", "expected"), [(None, 6 / 36), (0.75, 0.75)], ids=["by difficulties", "set"])
def test_many_rounds_need_not_crowd_out_the_easy_range(share: float | None, expected: float) -> None:
    sets = ["supervised.difficulty=6", "rounds.newest_share=0.5", "training.groups=8"]
    settings = load_recipe("smoke", sets if share is None else [*sets, f"rounds.supervised_share={share}"])
    labels = [LabelledSource([marked_labels(100, 500)]) for _ in range(30)]
    mixed = build_mixture(settings, supervised("copy", 6), labels, labels[0], 1, 0)
    counts = marks_of([mixed.batch(step, 0.0) for step in range(500)])
    easy = counts.total() - counts[100]
    assert easy / (counts.total() / 2) == pytest.approx(expected, abs=0.02)


def test_a_curriculum_begins_with_the_easiest_and_ends_with_everything() -> None:
    drawn = mixture(source=supervised("copy", 6, 0.5), batch=48, groups=12)
    hardest = [max(group.prompt_length - 2 for group in drawn.batch(0, step / 100)) for step in range(100)]
    assert hardest[0] == 1
    assert hardest == sorted(hardest)
    assert hardest[50:] == [6] * 50
    assert set(hardest) == set(range(1, 7))


@properties
@given(
    name=st.sampled_from(["copy", "reverse", "reverse-addition"]),
    hardest=st.integers(1, 5),
    rows=st.integers(1, 30),
    points=st.lists(st.floats(0, 1, exclude_max=True), min_size=1, max_size=5),
    seed=st.integers(0, 1000),
)
def test_supervised_examples_are_prompts_with_their_true_answers(
    name: str, hardest: int, rows: int, points: list[float], seed: int
) -> None:
    source = supervised(name, hardest)
    vocabulary, rows = source.task.vocabulary, max(rows, len(points))
    groups = source.draw(numpy_generator(seed, "test"), rows, points, 0.0)
    assert sum(len(group.tokens) for group in groups) == rows
    for group in groups:
        prompts = vocabulary.decode_prompts(group.tokens[:, : group.prompt_length])
        answers = vocabulary.decode_answers(group.tokens[:, group.prompt_length :])
        assert all(source.task.grammar.fullmatch(prompt) for prompt in prompts)
        assert answers == source.oracle.solve_texts(prompts)
        assert ((group.tokens == EOS).sum(axis=1) == 1).all()
        assert (group.tokens[:, -1] != PAD).any()  # cut at the longest answer


def test_labels_are_drawn_whole() -> None:
    """A drawn example is a kept one: prompts never meet another prompt's answer."""
    generator = np.random.default_rng(0)
    prompts = [generator.integers(3, 13, (20, length)).astype(np.int32) for length in (4, 5)]
    groups = [Group.join(each, np.concatenate([each[:, 1:], np.full((20, 1), EOS)], axis=1)) for each in prompts]
    source = LabelledSource([*groups, Group(np.zeros((0, 9), dtype=np.int32), 4)])
    assert len(source) == 40
    known = {tuple(row) for group in groups for row in group.tokens.tolist()}
    for group in source.draw(generator, 50, [0.1, 0.4, 0.6, 0.9], 0.0):
        assert {tuple(row) for row in group.tokens.tolist()} <= known


@properties
@given(lengths=st.lists(st.integers(1, 6), min_size=1, max_size=8), extra=st.integers(0, 3))
def test_joining_cuts_at_the_longest_answer(lengths: list[int], extra: int) -> None:
    answers: Tokens = np.zeros((len(lengths), 6 + extra), dtype=np.int32)
    for row, length in enumerate(lengths):
        answers[row, :length] = EOS
    group = Group.join(np.full((len(lengths), 3), 5, dtype=np.int32), answers)
    assert group.prompt_length == 3
    assert group.tokens.shape == (len(lengths), 3 + max(lengths))


@pytest.mark.parametrize("released", [1, 10**9])
def test_labels_on_disk_are_the_labels_in_memory(
    tmp_path: Path, released: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches, "RELEASED_ROWS", released)
    groups = [marked_labels(mark, rows) for mark, rows in {4: 30, 9: 7, 300: 12}.items()]
    memory, disk = LabelledSource(groups), LabelledSource(groups, tmp_path)
    assert not list(tmp_path.iterdir())  # the files have no names
    for step in range(5):
        one, other = (source.draw(numpy_generator(0, step), 20, [0.1, 0.5, 0.9], 0.0) for source in (memory, disk))
        for a, b in zip(one, other, strict=True):
            np.testing.assert_array_equal(a.tokens, b.tokens)
            assert b.tokens.dtype == np.int32
    assert {group.tokens.dtype.itemsize for group in disk.labels} == {1, 2}


def test_labels_that_do_not_fit_on_the_disk_are_an_error_of_the_disk(tmp_path: Path) -> None:
    """A limit on the size of files stands for a full disk: a write comes back short, or not at all."""
    tokens = np.arange(1000, dtype=np.int32).reshape(10, 100) % 10
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            LabelledSource([Group(tokens, 50)], tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    np.testing.assert_array_equal(LabelledSource([Group(tokens, 50)], tmp_path).labels[0].tokens, tokens)


@pytest.mark.parametrize("progress", [0.9, 0.3], ids=["the whole range", "half of it"])
def test_supervised_pairs_come_as_often_as_their_task_says(progress: float) -> None:
    task = load_task("multiplication", {"first": 2, "second": 4, "second_power": 2})
    source = SupervisedSource(Reserved(task, 0, 1000), load_oracle(task), 4, 0.6)
    counts: Counter[tuple[int, int]] = Counter()
    for draw in range(150):
        points = ((np.arange(8) + draw / 150) / 8).tolist()
        for group in source.draw(numpy_generator(draw, "train"), 80, points, progress):
            first = (group.tokens == task.vocabulary.id("*")).argmax(axis=1) - 1
            counts.update((int(a), group.prompt_length - 3 - int(a)) for a in first)
    wide = {(a, b): b**2 for a in (1, 2) for b in range(1, 5 if progress > 0.6 else 3)}
    assert set(counts) == set(wide)
    for pair, weight in wide.items():
        assert counts[pair] / counts.total() == pytest.approx(weight / sum(wide.values()), abs=0.03)

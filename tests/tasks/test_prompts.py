"""Which prompts a run uses for what."""

import numpy as np
import pytest
from helpers import copy_task, prompts_of, properties
from hypothesis import given
from hypothesis import strategies as st

from easy2hard.learning.batches import SupervisedSource
from easy2hard.seeding import numpy_generator
from easy2hard.tasks.base import Difficulty
from easy2hard.tasks.prompts import Reserved, evaluation_prompts, fresh_prompts
from easy2hard.tasks.registry import load_oracle, load_task


@properties
@given(
    name=st.sampled_from(["copy", "reverse", "reverse-addition"]),
    difficulty=st.integers(1, 4),
    count=st.integers(0, 300),
    reserved=st.integers(0, 60),
    seed=st.integers(0, 1000),
)
def test_fresh_prompts_are_distinct_and_not_reserved(
    name: str, difficulty: int, count: int, reserved: int, seed: int
) -> None:
    task = load_task(name)
    kept_back = task.sample(numpy_generator(seed, "evaluation"), difficulty, reserved)
    prompts = fresh_prompts(task, numpy_generator(seed, "labels"), difficulty, count, kept_back)
    assert prompts.shape[1] == kept_back.shape[1]
    rows = [tuple(row) for row in prompts.tolist()]
    assert len(set(rows)) == len(rows) <= count
    assert not set(rows) & {tuple(row) for row in kept_back.tolist()}


@pytest.mark.parametrize("difficulty", [4, 15], ids=["9,000 prompts", "many prompts"])
def test_a_space_with_room_gives_as_many_prompts_as_asked_for(difficulty: int) -> None:
    task, _ = copy_task()
    reserved = prompts_of(difficulty, 1000)
    assert len(fresh_prompts(task, np.random.default_rng(0), difficulty, 500, reserved)) == 500


@properties
@given(
    counts=st.lists(st.integers(1, 450), min_size=2, max_size=2).map(sorted),
    difficulty=st.integers(1, 30),
    seed=st.integers(0, 9),
)
def test_fewer_evaluation_prompts_are_the_first_of_more(counts: list[int], difficulty: int, seed: int) -> None:
    few, many = (evaluation_prompts(copy_task()[0], seed, difficulty, count) for count in counts)
    assert (len(few), len(many)) == tuple(counts)
    np.testing.assert_array_equal(few, many[: counts[0]])


@properties
@given(
    name=st.sampled_from(["copy", "reverse", "reverse-addition"]),
    difficulty=st.integers(15, 40),
    number=st.integers(0, 50),
    seed=st.integers(0, 1000),
)
def test_evaluation_and_labels_do_not_share_a_stream(name: str, difficulty: int, number: int, seed: int) -> None:
    task = load_task(name)
    evaluated = evaluation_prompts(task, seed, difficulty, 300)
    labelled = task.sample(numpy_generator(seed, "labels", number, str(difficulty)), difficulty, 300)
    # So many digits that two streams never meet by chance.
    assert len(np.unique(np.concatenate([evaluated, labelled]), axis=0)) == 600


def test_where_there_are_few_prompts_they_are_counted() -> None:
    task = load_task("copy")
    reserved = Reserved(task, 0, 1000)
    drawn = {d: set(map(tuple, evaluation_prompts(task, 0, d, 1000).tolist())) for d in (1, 2, 3)}
    assert {d: reserved.few(d) for d in drawn} == {d: (9 * 10 ** (d - 1), len(own)) for d, own in drawn.items()}
    assert reserved.few(4) is None


@pytest.mark.parametrize(
    ("name", "hardest", "small"),
    [
        ("copy", 6, {1, 2, 3}),
        ("reverse-addition", 3, {(1, 1), (1, 2), (2, 1)}),
        ("multiplication", 3, {(1, 1), (1, 2), (2, 1)}),
        ("maze-hops", 2, set()),
        ("maze-nodes", 11, set()),
    ],
)
def test_no_supervised_prompt_is_an_evaluation_prompt_where_there_is_room(
    name: str, hardest: int, small: set[Difficulty]
) -> None:
    task = load_task(name)
    reserved = Reserved(task, 0, 1000)
    source = SupervisedSource(reserved, load_oracle(task), hardest)
    assert set(source.overlap) == small
    assert all(0.5 < share <= 1 for share in source.overlap.values())
    for difficulty in task.supervised_difficulties(hardest)[-12:]:
        kept = set(map(tuple, evaluation_prompts(task, 0, difficulty, 1000).tolist()))
        drawn = reserved.sample(numpy_generator(1, "train"), difficulty, 2000)
        shared = np.mean([tuple(row) in kept for row in drawn.tolist()])
        assert shared == pytest.approx(source.overlap.get(difficulty, 0), abs=0.05)
        if difficulty not in small:
            assert shared == 0
    points = [point / 20 for point in range(20)]
    for group in source.draw(numpy_generator(2, "train"), 1000, points, 0.5):
        rows = group.tokens[:, : group.prompt_length]
        for difficulty in set(task.supervised_difficulties(hardest)) - small:
            taken = evaluation_prompts(task, 0, difficulty, 1000)
            if taken.shape[1] == rows.shape[1]:
                assert not {tuple(row) for row in taken.tolist()} & {tuple(row) for row in rows.tolist()}


def test_a_pair_of_equal_numbers_has_the_evaluation_prompts_of_the_number() -> None:
    task = load_task("forward-addition")
    np.testing.assert_array_equal(evaluation_prompts(task, 0, (4, 4), 150), evaluation_prompts(task, 0, 4, 150))

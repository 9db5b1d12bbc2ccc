"""Which difficulties come next."""

from typing import Any

import pytest
from helpers import properties
from hypothesis import given
from hypothesis import strategies as st

from easy2hard.errors import UserError
from easy2hard.improvement.schedules import next_difficulties
from easy2hard.settings.rounds import ScheduleSettings
from easy2hard.tasks.base import Difficulty
from easy2hard.tasks.registry import load_task

COPY, MULTIPLICATION = load_task("copy"), load_task("multiplication")


@properties
@given(easy=st.integers(1, 20), stride=st.integers(1, 5), count=st.integers(1, 8))
def test_the_standard_schedule_climbs_without_gaps(easy: int, stride: int, count: int) -> None:
    settings = ScheduleSettings(stride=stride)
    history: list[list[Difficulty]] = [list(range(1, easy + 1))]
    for _ in range(count):
        history.append(next_difficulties(settings, COPY, history))
        assert len(history[-1]) == stride
    covered = [difficulty for difficulties in history for difficulty in difficulties]
    assert covered == list(range(1, easy + count * stride + 1))


@properties
@given(history=st.lists(st.lists(st.integers(1, 9), min_size=1), min_size=1, max_size=5))
def test_the_schedule_changes_nothing_it_was_given(history: list[list[Difficulty]]) -> None:
    settings = ScheduleSettings()
    before = [list(difficulties) for difficulties in history]
    assert next_difficulties(settings, COPY, history) == next_difficulties(settings, COPY, history)
    assert history == before


def test_a_round_that_was_held_is_followed_by_the_next_difficulty() -> None:
    history: list[list[Difficulty]] = [[1, 2, 3], [4], [4], [5], [5]]
    assert next_difficulties(ScheduleSettings(), COPY, history) == [6]


def test_what_a_round_put_off_comes_next_and_holds_nothing_else_back() -> None:
    two = ScheduleSettings(stride=2)
    assert next_difficulties(two, COPY, [[1, 2, 3], [5]]) == [4, 6]
    square = MULTIPLICATION.supervised_difficulties(2)
    steps = MULTIPLICATION.labelled_difficulties(3)
    assert next_difficulties(two, MULTIPLICATION, [square, steps[0][:1]]) == [*steps[0][1:], *steps[1]]


def test_pairs_come_in_the_order_of_the_paper() -> None:
    settings = ScheduleSettings()
    history: list[list[Difficulty]] = [[(a, b) for a in range(1, 6) for b in range(1, 6)]]
    for _ in range(8):
        history.append(next_difficulties(settings, MULTIPLICATION, history))
    assert history[1:] == [
        [(1, 6), (6, 1)],
        [(2, 6), (6, 2)],
        [(3, 6), (6, 3)],
        [(4, 6), (6, 4)],
        [(5, 6), (6, 5)],
        [(6, 6)],
        [(1, 7), (7, 1)],
        [(2, 7), (7, 2)],
    ]


@properties
@given(easy=st.integers(1, 6), count=st.integers(1, 30))
def test_every_pair_comes_once(easy: int, count: int) -> None:
    settings = ScheduleSettings()
    history: list[list[Difficulty]] = [list(MULTIPLICATION.evaluated_difficulties(easy))]
    for _ in range(count):
        history.append(next_difficulties(settings, MULTIPLICATION, history))
    covered = [difficulty for difficulties in history for difficulty in difficulties]
    assert len(set(covered)) == len(covered)


def climb(schedule: str, history: list[list[Difficulty]], rounds: int, **settings: int) -> list[list[Difficulty]]:
    chosen = ScheduleSettings(name=schedule, **settings)  # type: ignore[arg-type]
    climbed = list(history)
    for _ in range(rounds):
        climbed.append(next_difficulties(chosen, MULTIPLICATION, climbed))
    return climbed[len(history) :]


@properties
@given(easy=st.integers(1, 9), reach=st.integers(0, 12), most=st.integers(1, 6))
def test_the_accelerated_schedule_takes_all_that_is_ready(easy: int, reach: int, most: int) -> None:
    settings = ScheduleSettings(name="accelerated", most=most)
    asked: list[Difficulty] = []

    def ready(difficulty: Difficulty) -> bool:
        asked.append(difficulty)
        return isinstance(difficulty, int) and difficulty <= easy + reach

    found = next_difficulties(settings, COPY, [list(range(1, easy + 1))], ready)
    # One step in any case, as the standard schedule; and no more than ``most``.
    assert found == list(range(easy + 1, easy + 1 + max(1, min(reach, most))))
    assert asked == sorted(set(asked))


def test_the_accelerated_schedule_takes_both_of_a_pair_and_its_mirror_image_or_none() -> None:
    settings = ScheduleSettings(name="accelerated")
    easy: list[Difficulty] = [(a, b) for a in range(1, 3) for b in range(1, 3)]
    found = next_difficulties(settings, MULTIPLICATION, [easy], lambda d: d in [(1, 3), (3, 1), (2, 3)])
    assert found == [(1, 3), (3, 1)]


def test_the_accelerated_schedule_ends_with_the_task() -> None:
    settings = ScheduleSettings(name="accelerated")
    maze = load_task("maze-hops", {"nodes": 4})
    assert next_difficulties(settings, maze, [[1]], lambda d: True) == [2, 3]
    assert next_difficulties(settings, maze, [[1], [2, 3]], lambda d: True) == []


def test_the_accelerated_grid_is_that_of_the_paper() -> None:
    """method.md, "Schedules"; each pair with its mirror image."""
    table = "1,6 2-3,6 4-5,6 6,6 1,7 2-4,7 5-6,7 7,7 1-2,8 3-5,8 6-7,8 8,8 1-5,9 6-8,9 9,9 1-6,10 7-9,10 10,10"
    expected = []
    for entry in table.split():
        small, greater = entry.split(",")
        low, high = (small.split("-") * 2)[:2] if "-" not in small else small.split("-")
        pairs = [(number, int(greater)) for number in range(int(low), int(high) + 1)]
        expected.append(set(pairs) | {(b, a) for a, b in pairs})
    easy: list[list[Difficulty]] = [[(a, b) for a in range(1, 6) for b in range(1, 6)]]
    found = climb("grid-accelerated", easy, len(expected))
    assert [set(each) for each in found] == expected
    assert all(len(set(each)) == len(each) for each in found)


@properties
@given(schedule=st.sampled_from(["grid", "grid-accelerated", "standard"]), easy=st.integers(1, 12))
def test_grids_cover_every_pair_once(schedule: str, easy: int) -> None:
    history: list[list[Difficulty]] = [[(a, b) for a in range(1, easy + 1) for b in range(1, easy + 1)]]
    covered = [pair for each in climb(schedule, history, 40) for pair in each]
    assert len(set(covered)) == len(covered)
    reached = max(max(pair) for pair in covered if isinstance(pair, tuple)) - 1
    wanted = {(a, b) for a in range(1, reached + 1) for b in range(1, reached + 1) if max(a, b) > easy}
    assert wanted <= set(covered)


@pytest.mark.parametrize("schedule", ["grid", "grid-accelerated"])
def test_a_grid_is_for_pairs(schedule: Any) -> None:
    settings = ScheduleSettings(name=schedule)
    with pytest.raises(UserError, match="for difficulties that are pairs; those of task copy are numbers"):
        next_difficulties(settings, COPY, [[1, 2]])

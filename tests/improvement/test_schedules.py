"""Which difficulties come next."""

from helpers import properties
from hypothesis import given
from hypothesis import strategies as st

from easy2hard.config import RoundsSettings
from easy2hard.improvement.schedules import next_difficulties
from easy2hard.tasks.base import Difficulty
from easy2hard.tasks.registry import load_task

COPY, MULTIPLICATION = load_task("copy"), load_task("multiplication")


@properties
@given(easy=st.integers(1, 20), step=st.integers(1, 5), count=st.integers(1, 8))
def test_the_standard_schedule_climbs_without_gaps(easy: int, step: int, count: int) -> None:
    settings = RoundsSettings(count=count, steps=1, labels=1, step=step)
    history: list[list[Difficulty]] = [list(range(1, easy + 1))]
    for _ in range(count):
        history.append(next_difficulties(settings, COPY, history))
        assert len(history[-1]) == step
    covered = [difficulty for difficulties in history for difficulty in difficulties]
    assert covered == list(range(1, easy + count * step + 1))


@properties
@given(history=st.lists(st.lists(st.integers(1, 9), min_size=1), min_size=1, max_size=5))
def test_the_schedule_changes_nothing_it_was_given(history: list[list[Difficulty]]) -> None:
    settings = RoundsSettings(count=1, steps=1, labels=1)
    before = [list(difficulties) for difficulties in history]
    assert next_difficulties(settings, COPY, history) == next_difficulties(settings, COPY, history)
    assert history == before


def test_a_round_that_was_held_is_followed_by_the_next_difficulty() -> None:
    history: list[list[Difficulty]] = [[1, 2, 3], [4], [4], [5], [5]]
    assert next_difficulties(RoundsSettings(count=1, steps=1, labels=1), COPY, history) == [6]


def test_pairs_come_in_the_order_of_the_paper() -> None:
    settings = RoundsSettings(count=1, steps=1, labels=1)
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
    settings = RoundsSettings(count=1, steps=1, labels=1)
    history: list[list[Difficulty]] = [list(MULTIPLICATION.evaluated_difficulties(easy))]
    for _ in range(count):
        history.append(next_difficulties(settings, MULTIPLICATION, history))
    covered = [difficulty for difficulties in history for difficulty in difficulties]
    assert len(set(covered)) == len(covered)

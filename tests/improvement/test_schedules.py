"""Which difficulties come next."""

from helpers import properties
from hypothesis import given
from hypothesis import strategies as st

from easy2hard.config import RoundsSettings
from easy2hard.improvement.schedules import next_difficulties


@properties
@given(easy=st.integers(1, 20), step=st.integers(1, 5), count=st.integers(1, 8))
def test_the_standard_schedule_climbs_without_gaps(easy: int, step: int, count: int) -> None:
    settings = RoundsSettings(count=count, steps=1, labels=1, step=step)
    history = [list(range(1, easy + 1))]
    for _ in range(count):
        history.append(next_difficulties(settings, history))
        assert len(history[-1]) == step
    covered = [difficulty for difficulties in history for difficulty in difficulties]
    assert covered == list(range(1, easy + count * step + 1))


@properties
@given(history=st.lists(st.lists(st.integers(1, 9), min_size=1), min_size=1, max_size=5))
def test_the_schedule_changes_nothing_it_was_given(history: list[list[int]]) -> None:
    settings = RoundsSettings(count=1, steps=1, labels=1)
    before = [list(difficulties) for difficulties in history]
    assert next_difficulties(settings, history) == next_difficulties(settings, history)
    assert history == before


def test_a_pair_counts_by_its_greater_number() -> None:
    assert next_difficulties(RoundsSettings(count=1, steps=1, labels=1), [[(1, 4), (5, 2)]]) == [6]

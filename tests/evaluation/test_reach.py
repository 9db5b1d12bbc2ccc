"""Reach: what ends it is more than bad luck on the prompts that were asked."""

from fractions import Fraction
from math import comb

import pytest
from helpers import properties
from hypothesis import given
from hypothesis import strategies as st

from easy2hard.evaluation.reach import is_missed, reach_of

PERCENT = st.integers(1, 100)
PROMPTS = st.integers(1, 300)


def tail(right: int, asked: int, bar: Fraction) -> Fraction:
    """The probability of at most so many right answers at the bar, as a fraction."""
    return sum(
        (comb(asked, k) * bar**k * (1 - bar) ** (asked - k) for k in range(right + 1)),
        Fraction(0),
    )


@properties
@given(PERCENT, PROMPTS, st.data())
def test_it_is_the_exact_binomial_test(percent: int, asked: int, data: st.DataObject) -> None:
    right = data.draw(st.integers(max(0, asked - 2 * (100 - percent) * asked // 100 - 8), asked))
    chance = tail(right, asked, Fraction(percent, 100))
    assert is_missed(right / asked, asked, percent / 100) == (chance <= Fraction(1, 20))


@properties
@given(PERCENT, PROMPTS, st.data())
def test_one_more_right_answer_misses_nothing(percent: int, asked: int, data: st.DataObject) -> None:
    right = data.draw(st.integers(0, asked - 1))
    assert is_missed(right / asked, asked, percent / 100) >= is_missed((right + 1) / asked, asked, percent / 100)


@properties
@given(PERCENT, PROMPTS, st.integers(2, 20), st.data())
def test_more_prompts_with_the_same_share_end_it_only_sooner(
    percent: int, asked: int, times: int, data: st.DataObject
) -> None:
    right = data.draw(st.integers(0, asked))
    few = is_missed(right / asked, asked, percent / 100)
    many = is_missed(right / asked, asked * times, percent / 100)
    assert many >= few
    assert many <= (100 * right < percent * asked)  # nothing that is at the bar is missed
    assert is_missed(right / asked, 0, percent / 100) >= many  # a share that is taken at its word


@pytest.mark.parametrize(
    ("wrong", "asked", "missed"),
    [(2, 200, False), (5, 200, False), (6, 200, True), (10, 1000, False), (16, 1000, True), (200, 10**6, False)],
)
def test_two_wrong_of_two_hundred_are_no_miss_and_many_are(wrong: int, asked: int, missed: bool) -> None:
    assert is_missed(1 - wrong / asked, asked) == missed


def test_of_a_million_prompts_hardly_more_than_one_in_a_hundred_may_be_wrong() -> None:
    assert not is_missed(0.99 - 0.0001, 10**6)
    assert is_missed(0.99 - 0.0002, 10**6)


def test_reach_has_no_gaps() -> None:
    scores = {"1": 1.0, "2": 0.985, "3": 0.99, "4": 0.5, "5": 1.0}
    assert (reach_of(scores, 200), reach_of(scores, 10_000), reach_of(scores, 0)) == (3, 1, 1)
    assert reach_of(scores, 10_000, bar=0.5) == 5
    assert reach_of({"1": 0.0}, 200) == 0
    assert reach_of({"3": 1.0, "9": 1.0}, 200) == 9  # what was not asked does not count
    assert reach_of({"1x1": 1.0, "1x2": 1.0, "2x1": 0.9, "2x2": 1.0}, 200) == 1

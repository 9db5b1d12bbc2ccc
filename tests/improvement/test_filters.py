"""Filters see the labels only, and their counts add up."""

from dataclasses import fields, replace
from fractions import Fraction
from itertools import pairwise
from math import ceil, floor
from typing import Any

import numpy as np
import pytest
from helpers import properties
from hypothesis import given
from hypothesis import strategies as st

from easy2hard.improvement.filters import KEPT, UNFINISHED, Filtered, add_counts, apply_filters
from easy2hard.improvement.filters.confidence import ConfidenceFilter
from easy2hard.improvement.filters.length import LengthFilter
from easy2hard.improvement.filters.none import NoFilter
from easy2hard.improvement.filters.vote import VoteFilter
from easy2hard.improvement.proposals import Proposals
from easy2hard.settings.filters import Filter
from easy2hard.vocabulary import EOS, PAD


def proposals_of(rows: list[tuple[bool, int, int, float]], members: int, lengths: list[int] | None = None) -> Proposals:
    """Return proposals from (finished, votes, runner-up, confidence) of each prompt; prompts are distinct.

    Answers have ``lengths`` tokens, one where none are given.
    """
    tokens = np.array(lengths if lengths is not None else [1] * len(rows), dtype=np.int32)[:, None]
    finished, votes, runner_up, confidence = (list(column) for column in zip(*rows, strict=True)) if rows else [[]] * 4
    scattered = [7 * row % 64 for row in range(len(rows))]  # prompts are distinct and in no order
    return Proposals(
        difficulty=4,
        prompts=np.array([[1, row // 8, row % 8] for row in scattered], dtype=np.int32).reshape(-1, 3),
        answers=np.where(np.arange(12) < tokens, EOS, PAD).astype(np.int32),
        finished=np.array(finished, dtype=np.bool_),
        votes=np.array(votes, dtype=np.int64),
        runner_up=np.array(runner_up, dtype=np.int64),
        members=members,
        confidence=np.array(confidence, dtype=np.float32),
        mean_log_probability=np.zeros(len(rows), dtype=np.float32),
    )


@st.composite
def some_proposals(draw: st.DrawFn) -> Proposals:
    members = draw(st.integers(1, 10))

    def row() -> tuple[bool, int, int, float]:
        votes = draw(st.integers(0, members))
        runner_up = draw(st.integers(0, min(votes, members - votes)))
        return votes > 0, votes, runner_up, draw(st.integers(0, 8)) / 8  # few values: many ties

    rows = [row() for _ in range(draw(st.integers(0, 30)))]
    return proposals_of(rows, members, [draw(st.integers(1, 12)) for _ in rows])


votes = st.integers(1, 20).map(lambda n: VoteFilter(name="vote", threshold=n / 20))
keeps = st.integers(1, 100).map(lambda n: ConfidenceFilter(name="confidence", keep=n / 100))
thresholds = st.integers(0, 8).map(lambda n: ConfidenceFilter(name="confidence", threshold=n / 8))
lengths = st.integers(1, 4).map(lambda n: LengthFilter(name="length", threshold=n))
filters: st.SearchStrategy[Filter] = st.one_of(st.just(NoFilter(name="none")), votes, keeps, thresholds, lengths)


def rows_of(proposals: Proposals, order: list[int]) -> Proposals:
    arrays = {
        each.name: getattr(proposals, each.name)[order]
        for each in fields(proposals)
        if each.name != "seconds" and isinstance(getattr(proposals, each.name), np.ndarray)
    }
    return replace(proposals, **arrays)


@properties
@given(proposals=some_proposals(), settings=st.lists(filters, max_size=3), data=st.data())
def test_the_order_of_the_rows_does_not_matter(
    proposals: Proposals, settings: list[Filter], data: st.DataObject
) -> None:
    order = data.draw(st.permutations(range(len(proposals.prompts))))
    filtered, shuffled = apply_filters(settings, proposals), apply_filters(settings, rows_of(proposals, order))
    assert filtered.why[order].tolist() == shuffled.why.tolist()
    assert filtered.counts == shuffled.counts


@properties
@given(count=st.integers(2, 40), share=st.integers(1, 99), values=st.integers(1, 3), seed=st.integers(0, 99))
def test_ties_of_confidence_are_broken_by_the_prompt(count: int, share: int, values: int, seed: int) -> None:
    proposals = proposals_of([(True, 1, 0, row % values / 4) for row in range(count)], 1)
    settings = [ConfidenceFilter(name="confidence", keep=share / 100)]
    order = np.random.default_rng(seed).permutation(count).tolist()
    shuffled = apply_filters(settings, rows_of(proposals, order))
    assert shuffled.kept.tolist() == apply_filters(settings, proposals).kept[order].tolist()


@properties
@given(proposals=some_proposals(), settings=st.lists(filters, max_size=4))
def test_counts_add_up(proposals: Proposals, settings: list[Filter]) -> None:
    filtered = apply_filters(settings, proposals)
    counts = filtered.counts
    assert [count["name"] for count in counts] == [UNFINISHED, *(each.name for each in settings)]
    assert counts[0]["in"] == len(proposals.prompts)
    for before, after in pairwise(counts):
        assert before["kept"] == after["in"] >= after["kept"]
    assert counts[-1]["kept"] == filtered.kept.sum() == (filtered.why == KEPT).sum()
    for name in {count["name"] for count in counts}:
        dropped = sum(count["in"] - count["kept"] for count in counts if count["name"] == name)
        assert (filtered.why == name).sum() == dropped


@properties
@given(proposals=some_proposals(), settings=st.lists(filters, min_size=1, max_size=3))
def test_a_filter_only_drops_and_its_settings_are_recorded(proposals: Proposals, settings: list[Filter]) -> None:
    before, after = apply_filters(settings[:-1], proposals), apply_filters(settings, proposals)
    assert not (after.kept & ~before.kept).any()
    assert (after.why[~before.kept] == before.why[~before.kept]).all()
    recorded = {key: value for key, value in after.counts[-1].items() if key not in ("in", "kept")}
    assert recorded == settings[-1].model_dump(exclude_none=True)


@properties
@given(proposals=some_proposals(), settings=keeps)
def test_confidence_keeps_its_share_and_those_with_the_most(proposals: Proposals, settings: ConfidenceFilter) -> None:
    kept = apply_filters([settings], proposals).kept
    finished = proposals.finished
    assert kept.sum() == floor(Fraction(str(settings.keep)) * int(finished.sum()))
    least = proposals.confidence[kept].min(initial=1)
    assert (proposals.confidence[finished & ~kept] <= least).all()


@properties
@given(proposals=some_proposals(), settings=thresholds)
def test_confidence_at_the_threshold_is_enough(proposals: Proposals, settings: ConfidenceFilter) -> None:
    kept = apply_filters([settings], proposals).kept
    assert kept.tolist() == (proposals.finished & (proposals.confidence >= settings.threshold)).tolist()


@pytest.mark.parametrize("members", [1, 2, 3, 5, 7, 10, 20, 25, 50, 100])
def test_a_vote_compares_whole_votes_with_the_exact_threshold(members: int) -> None:
    for hundredths in range(1, 101):
        needed = ceil(Fraction(hundredths, 100) * members)
        proposals = proposals_of([(True, votes, 0, 1.0) for votes in (needed, needed - 1)], members)
        kept = apply_filters([VoteFilter(name="vote", threshold=hundredths / 100)], proposals).kept
        assert kept.tolist() == [True, False]


@pytest.mark.parametrize("count", [1, 2, 3, 10, 50])
def test_a_share_is_counted_exactly(count: int) -> None:
    proposals = proposals_of([(True, 1, 0, row / count) for row in range(count)], 1)
    for hundredths in range(1, 101):
        kept = apply_filters([ConfidenceFilter(name="confidence", keep=hundredths / 100)], proposals).kept
        assert kept.sum() == hundredths * count // 100


@pytest.mark.parametrize("threshold", [1, 2, 3])
def test_length_compares_with_the_other_answers(threshold: int) -> None:
    # Most answers lost a token or more and one ran on: what is expected is still the length of the complete ones.
    tokens = [8] * 30 + [9] * 20 + [10] * 49 + [12]
    proposals = proposals_of([(True, 1, 0, 1.0)] * len(tokens), 1, tokens)
    kept = apply_filters([LengthFilter(name="length", threshold=threshold)], proposals).kept
    assert kept.tolist() == [length > 10 - threshold for length in tokens]


def test_an_answer_without_end_says_nothing_about_length() -> None:
    proposals = proposals_of([(False, 0, 0, 1.0)] * 50 + [(True, 1, 0, 1.0)] * 50, 1, [12] * 50 + [6] * 50)
    assert apply_filters([LengthFilter(name="length")], proposals).kept.sum() == 50


def test_seven_of_ten_reach_seven_tenths() -> None:
    proposals = proposals_of([(True, votes, 0, 1.0) for votes in (6, 7, 8)], members=10)
    assert apply_filters([VoteFilter(name="vote", threshold=0.7)], proposals).kept.tolist() == [False, True, True]


@properties
@given(proposals=some_proposals(), rest=st.lists(filters, max_size=2))
def test_everything_may_be_dropped(proposals: Proposals, rest: list[Filter]) -> None:
    nothing = replace(proposals, confidence=proposals.confidence / np.float32(2))  # all below one
    filtered = apply_filters([ConfidenceFilter(name="confidence", threshold=1.0), *rest], nothing)
    assert not filtered.kept.any()
    assert filtered.counts[-1]["kept"] == 0


@properties
@given(parts=st.lists(some_proposals(), min_size=1, max_size=4), settings=st.lists(filters, max_size=3))
def test_the_counts_of_a_round_are_those_of_its_difficulties_together(
    parts: list[Proposals], settings: list[Filter]
) -> None:
    filtered: list[Filtered] = [apply_filters(settings, part) for part in parts]
    total: list[dict[str, Any]] = add_counts(filtered)
    assert [count["name"] for count in total] == [UNFINISHED, *(each.name for each in settings)]
    assert total[0]["in"] == sum(len(part.prompts) for part in parts)
    assert total[-1]["kept"] == sum(each.kept.sum() for each in filtered)
    for before, after in pairwise(total):
        assert before["kept"] == after["in"]

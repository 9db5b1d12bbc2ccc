"""What the collapse watch makes of a round."""

import numpy as np
import pytest
from helpers import copy_task, engine_of, half_trained, half_trained_engine, new_member, prompts_of, properties
from hypothesis import given
from hypothesis import strategies as st

from easy2hard.improvement.filters import apply_filters
from easy2hard.improvement.filters.confidence import ConfidenceFilter
from easy2hard.improvement.filters.none import NoFilter
from easy2hard.improvement.filters.parts import PartsFilter
from easy2hard.improvement.filters.vote import VoteFilter
from easy2hard.improvement.proposals import propose
from easy2hard.improvement.watch import (
    Past,
    Signals,
    decide,
    good_before,
    signals_of,
    stricter,
    too_early,
    trouble,
    unreliable,
)
from easy2hard.settings.rounds import LabelsSettings, WatchSettings

WELL = Signals(1.0, 1.0, 0.0, 1.0)


def past_of(held: list[bool]) -> list[Past]:
    """Return the supervised phase and rounds after it; a round that held repeats the difficulty before it."""
    past = [Past(0, [1, 2, 3], 0.0, held=False, labelled=False)]
    for number, again in enumerate(held, start=1):
        difficulties = past[-1].difficulties if again else [4 + sum(not h for h in held[: number - 1])]
        past.append(Past(number, difficulties, 0.9, again))
    return past


histories = st.lists(st.booleans(), max_size=8).map(lambda held: past_of([False, *held] if held else []))


def test_signals_are_plain_shares() -> None:
    task, _ = copy_task()
    filters = [VoteFilter(name="vote", threshold=1.0), ConfidenceFilter(name="confidence", keep=0.5)]
    labels = [
        apply_filters(filters, propose(half_trained_engine(), task, d, prompts_of(d, 100 * d))) for d in (2, 3, 9)
    ]
    found = signals_of(labels)
    joined = [each.proposals for each in labels]
    votes = np.concatenate([each.votes for each in joined])
    assert found.agreement == pytest.approx((votes == 2).mean())
    assert found.acceptance == pytest.approx(sum(each.kept.sum() for each in labels) / 1400)
    assert found.unfinished == pytest.approx(np.concatenate([~each.finished for each in joined]).mean())
    assert 0 < found.confidence < 1


def test_the_confidence_of_a_round_is_that_of_whole_answers() -> None:
    """The product of the probabilities of all tokens; nothing where there is no end."""
    task, _ = copy_task()
    proposals = propose(engine_of(half_trained()[:1]), task, 3, prompts_of(3, 200))
    lengths = (proposals.answers != 0).sum(axis=1)
    expected = np.where(proposals.finished, np.exp(proposals.mean_log_probability) ** lengths, 0)
    assert signals_of([apply_filters([], proposals)]).confidence == pytest.approx(expected.mean(), rel=1e-4)
    assert (proposals.probability <= proposals.confidence + 1e-6).all()


def test_a_single_member_always_agrees_with_itself() -> None:
    labels = [
        apply_filters(
            [NoFilter(name="none")], propose(engine_of([new_member(3)]), copy_task()[0], 4, prompts_of(4, 50))
        )
    ]
    assert signals_of(labels).agreement == 1.0
    assert signals_of([]) == WELL


@pytest.mark.parametrize(
    ("signals", "named"),
    [
        (WELL, None),
        (Signals(0.1, 1.0, 0.0, 1.0), "agreement 0.10"),
        (Signals(1.0, 0.01, 0.0, 1.0), "the share kept, 0.01"),
        (Signals(1.0, 1.0, 0.9, 1.0), "answers without an end, 0.90"),
        (Signals(1.0, 1.0, 0.0, 0.4), "confidence 0.40"),
        (Signals(1.0, 1.0, 0.0, 1.0, 0.7), "the agreement with parts, 0.70"),
    ],
)
def test_each_signal_is_named_with_its_setting(signals: Signals, named: str | None) -> None:
    problem = trouble(WatchSettings(), signals, past_of([False]))
    assert (problem is None) == (named is None)
    if named:
        assert problem is not None
        assert named in problem
        assert "watch." in problem
    assert trouble(WatchSettings(enabled=False), signals, past_of([False])) is None


def test_confidence_is_compared_with_the_best_labelled_round_alone() -> None:
    assert trouble(WatchSettings(), Signals(1.0, 1.0, 0.0, 0.01), past_of([])) is None


def test_parts_that_do_not_agree_with_their_own_parts_judge_nothing() -> None:
    judged = LabelsSettings(count=1, filters=[PartsFilter(name="parts", reliable=0.9)])
    assert "0.890" in (unreliable(judged, 0.89) or "")
    assert unreliable(judged, 0.9) is None
    assert unreliable(judged, None) is None  # nothing was asked
    assert unreliable(LabelsSettings(count=1), 0.1) is None


def test_it_is_too_early_for_a_difficulty_that_keeps_little_or_has_unreliable_parts() -> None:
    task, _ = copy_task()
    rounds = LabelsSettings(count=1, filters=[PartsFilter(name="parts", reliable=0.9)])
    labels = apply_filters([NoFilter(name="none")], propose(half_trained_engine(), task, 9, prompts_of(9, 50)))
    kept = float(labels.kept.mean())
    assert 0 < kept < 1
    assert too_early(rounds, WatchSettings(acceptance=kept), labels, 0.9) is None
    assert "watch.acceptance" in (too_early(rounds, WatchSettings(acceptance=kept + 0.01), labels, 0.9) or "")
    assert "reliable" in (too_early(rounds, WatchSettings(acceptance=kept), labels, 0.89) or "")
    assert too_early(rounds, WatchSettings(enabled=False, acceptance=1.0), labels, None) is None


@properties
@given(past=histories, rollbacks=st.integers(0, 3), holds=st.integers(0, 3), may_hold=st.booleans())
def test_it_holds_then_rolls_back_then_stops(past: list[Past], rollbacks: int, holds: int, may_hold: bool) -> None:
    settings = WatchSettings(holds=holds, rollbacks=2)
    held = 0
    for each in reversed(past):
        held += each.held
        if not each.held:
            break
    action = decide(settings, past, rollbacks, may_hold)
    if len(past) == 1:
        assert action == "go on"
    elif may_hold and held < holds:
        assert action == "hold"
    else:
        assert action == ("roll back" if rollbacks < 2 else "stop")


@properties
@given(past=histories.filter(lambda past: len(past) > 1))
def test_it_goes_back_before_the_last_difficulty_that_was_added(past: list[Past]) -> None:
    good = good_before(past)
    assert good == past[: len(good)]
    assert good[0].number == 0
    left = past[len(good) :]
    assert not left[0].held
    assert all(each.held for each in left[1:])


def test_nothing_is_worse_than_it_was_while_rounds_hold_the_easy_range() -> None:
    past = [*past_of([]), Past(1, [1, 2, 3], 0.4, held=True, labelled=False)]
    assert decide(WatchSettings(holds=0), past, rollbacks=0) == "go on"
    assert decide(WatchSettings(holds=0), [*past, Past(2, [4], 0.4, held=False)], rollbacks=0) == "roll back"


@properties
@given(rollbacks=st.integers(0, 4))
def test_filters_grow_stricter_with_every_roll_back(rollbacks: int) -> None:
    before = [VoteFilter(name="vote", threshold=1.0)]
    filters = stricter(WatchSettings(stricter=0.5), before, rollbacks)
    assert filters[:1] == before
    assert len(filters) == (2 if rollbacks else 1)
    if rollbacks:
        assert isinstance(filters[-1], ConfidenceFilter)
        assert filters[-1].keep == 0.5**rollbacks

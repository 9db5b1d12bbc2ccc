"""The collapse watch: what a round's labels say about the members, and what to do about it. No truth is involved.

A round in trouble is answered in this order: hold (the last difficulty is labelled afresh), roll back (to the weights
before the round that the trouble came from, with a stricter filter from then on), stop.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict, with_config

from easy2hard.improvement.filters.confidence import ConfidenceFilter
from easy2hard.settings.filters import Filter
from easy2hard.settings.rounds import LabelsSettings, WatchSettings
from easy2hard.tasks.base import Difficulty

if TYPE_CHECKING:  # what reads a run's signals does without torch
    from easy2hard.improvement.filters import Filtered


@with_config(ConfigDict(extra="forbid", allow_inf_nan=False))
@dataclass(frozen=True)
class Signals:
    """What the labels of a round show without a true answer."""

    agreement: float
    """Share of prompts that all members answer alike, or of samples that are the label; 1 where there is one answer."""
    acceptance: float
    """Share of the labels that the filters keep."""
    unfinished: float
    """Share of answers without an end."""
    confidence: float
    """Mean probability of a whole answer, as the members see it."""
    parts: float | None = None
    """Share of a sample of kept labels that contain the answers to their parts. Where the filter ``parts`` judged them,
    the same of those parts. None where there was nothing to ask."""

    @property
    def known(self) -> dict[str, float]:
        """Those there are, by name."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    def rounded(self) -> "Signals":
        """Return the signals for the manifest."""
        return Signals(**{name: round(value, 4) for name, value in self.known.items()})


@dataclass(frozen=True)
class Past:
    """What the watch remembers of a round that still counts."""

    number: int
    difficulties: Sequence[Difficulty]
    confidence: float
    held: bool
    """It labelled the difficulties of the round before afresh."""
    labelled: bool = True
    """It labelled anything; a round that holds the easy range does not."""


Action = Literal["go on", "hold", "roll back", "stop"]


def signals_of(labels: "Sequence[Filtered]", parts: float | None = None) -> Signals:
    """Return the signals of a round's labels; all is well where there are none.

    Args:
        labels: of each difficulty.
        parts: how many of them, or of their parts, contain the answers to their own parts.
    """
    if not sum(len(each.kept) for each in labels):
        return Signals(1.0, 1.0, 0.0, 1.0)

    def mean(shares: Sequence[NDArray[Any]]) -> float:
        return float(np.concatenate(shares).mean())

    return Signals(
        mean([each.proposals.agreement if each.proposals.members > 1 else each.kept | True for each in labels]),
        mean([each.kept for each in labels]),
        mean([~each.proposals.finished for each in labels]),
        mean([each.proposals.probability for each in labels]),
        parts,
    )


def unreliable(settings: LabelsSettings, parts: float | None) -> str | None:
    """Return why the parts of labels cannot judge them yet, in words, or None; ``parts`` is the signal of that name."""
    judge = settings.judged_by_parts
    if judge is None or parts is None or parts >= judge.parts_needed:
        return None
    return f"the parts' own agreement, {parts:.3f}, is below the filter's reliable = {judge.parts_needed}"


def too_early(settings: LabelsSettings, watch: WatchSettings, labels: "Filtered", parts: float | None) -> str | None:
    """Return why a difficulty is put off where a round has others, in words, or None.

    Args:
        settings: the filters.
        watch: the share of its labels that a difficulty must keep, like a round.
        labels: of the difficulty.
        parts: how many of them, or of their parts, contain the answers to their own parts.
    """
    kept = float(labels.kept.mean()) if len(labels.kept) else 1.0
    if watch.enabled and kept < watch.acceptance:
        return f"the share kept, {kept:.2f}, is below watch.acceptance = {watch.acceptance}"
    return unreliable(settings, parts)


def trouble(settings: WatchSettings, signals: Signals, past: Sequence[Past]) -> str | None:
    """Return what is wrong with a round, in words, or None."""
    if not settings.enabled:
        return None
    best = max((each.confidence for each in past if each.number), default=0.0)
    if signals.agreement < settings.agreement:
        return f"agreement {signals.agreement:.2f} is below watch.agreement = {settings.agreement}"
    if signals.acceptance < settings.acceptance:
        return f"the share kept, {signals.acceptance:.2f}, is below watch.acceptance = {settings.acceptance}"
    if signals.unfinished > settings.unfinished:
        return f"answers without an end, {signals.unfinished:.2f}, are above watch.unfinished = {settings.unfinished}"
    if signals.confidence < settings.confidence * best:
        return (
            f"confidence {signals.confidence:.2f} is below watch.confidence = {settings.confidence} of the best "
            f"round's {best:.2f}"
        )
    if signals.parts is not None and signals.parts < settings.parts:
        return f"the agreement with parts, {signals.parts:.2f}, is below watch.parts = {settings.parts}"
    return None


def decide(settings: WatchSettings, past: Sequence[Past], rollbacks: int, may_hold: bool = True) -> Action:
    """Return what to do about labels in trouble.

    Args:
        settings: how often each is tried.
        past: the rounds that still count, the supervised phase first.
        rollbacks: roll-backs so far.
        may_hold: False where it is the labels of a held difficulty that are in trouble.
    """
    if not any(each.labelled for each in past):
        return "go on"  # nothing was labelled yet, so nothing is worse than it was
    held = 0
    while past[len(past) - 1 - held].held:
        held += 1
    if held < settings.holds and may_hold:
        return "hold"
    return "roll back" if rollbacks < settings.rollbacks else "stop"


def good_before(past: Sequence[Past]) -> list[Past]:
    """Return the rounds before the one that the trouble came from: the last that went on, and its repetitions."""
    good = list(past)
    while good[-1].held:
        good.pop()
    return good[:-1]


def stricter(settings: WatchSettings, filters: Sequence[Filter], rollbacks: int) -> list[Filter]:
    """Return the filters after so many roll-backs: of what they keep, only the most confident."""
    if not rollbacks:
        return list(filters)
    return [*filters, ConfidenceFilter(name="confidence", keep=settings.stricter**rollbacks)]

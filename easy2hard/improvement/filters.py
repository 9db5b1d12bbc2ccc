"""Filters: each says which proposals to keep, and records its name, settings and counts.

``twin`` and ``parts`` use a relation that the task declares: its author's knowledge, and no true answer. All are
label-free but the one named ``verifier``, which is supervised and marked so wherever it appears, and
``learned-verifier``, whose scores were learned from true answers of the supervised range.
A filter is one function of its settings, the proposals of one difficulty and the mask of what is still kept. They are
applied in order; a label names the first filter that dropped it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from easy2hard.improvement.jury import accepted, agreement, as_bits, students
from easy2hard.improvement.proposals import Proposals, Relations
from easy2hard.settings.filters import (
    ConfidenceFilter,
    FilterSettings,
    LearnedVerifierFilter,
    LengthFilter,
    NoFilter,
    PartsFilter,
    TwinFilter,
    VerifierFilter,
    VoteFilter,
)
from easy2hard.vocabulary import PAD

Mask = NDArray[np.bool_]
RELATION = "declared by the task"
"""How the manifest marks a filter that uses a relation between questions."""
KEPT = "kept"
UNFINISHED = "unfinished"
LENGTH_QUANTILE = 0.9
STUDENTS = "students"
"""Column of the ledger: bit m says that member m may train on the label. Without it all members may."""


@dataclass(frozen=True)
class Filtered:
    """Proposals of one difficulty with the filters' verdict."""

    proposals: Proposals
    why: NDArray[np.object_]
    """(count,) ``kept``, ``unfinished`` or the name of the filter that dropped the label."""
    counts: list[dict[str, Any]]
    """For each filter, in order: its name and settings, labels that came ``in`` and labels ``kept``; for ``parts`` also
    the ``questions`` that were asked."""

    columns: dict[str, NDArray[Any]] = field(default_factory=dict)
    """(count,) what the filters add to the ledger, by column."""

    @property
    def kept(self) -> Mask:
        """(count,) labels to train on."""
        kept: Mask = self.why == KEPT
        return kept


def relations_of(settings: Sequence[FilterSettings]) -> Relations:
    """Return the relations between questions that filters use."""
    return frozenset(each.name for each in settings if isinstance(each, TwinFilter | PartsFilter))


def apply_filters(
    settings: Sequence[FilterSettings], proposals: Proposals, verify: Callable[[Proposals], Mask] | None = None
) -> Filtered:
    """Apply filters in order; an answer that did not end within its bound never gets as far.

    Args:
        settings: the filters.
        proposals: all labels of one difficulty in this round.
        verify: says which proposals are right; only the filter ``verifier``, which is supervised, calls it.
    """
    kept = proposals.finished.copy()
    why = np.where(kept, KEPT, UNFINISHED).astype(object)
    counts: list[dict[str, Any]] = [{"name": UNFINISHED, "in": len(kept), "kept": int(kept.sum())}]
    columns: dict[str, NDArray[Any]] = {}
    for each in settings:
        named = each.model_dump(exclude_none=True)
        if isinstance(each, VerifierFilter):
            assert verify is not None
            passed = kept & verify(proposals)
            named["supervised"] = True
        else:
            passed = kept & _FILTERS[each.name](each, proposals, kept)
        if isinstance(each, TwinFilter | PartsFilter):
            named["relation"] = RELATION
        if isinstance(each, PartsFilter) and proposals.questions is not None:
            named["questions"] = int(proposals.questions.sum())
        if isinstance(each, VoteFilter) and each.voters:
            columns[STUDENTS] = as_bits(_students(each, proposals))
        why[kept & ~passed] = each.name
        counts.append({**named, "in": int(kept.sum()), "kept": int(passed.sum())})
        kept = passed
    return Filtered(proposals, why, counts, columns)


def add_counts(rounds: Sequence[Filtered]) -> list[dict[str, Any]]:
    """Return the filters' counts summed over the difficulties of a round."""
    return [
        {
            **column[0],
            **{key: sum(count[key] for count in column) for key in ("in", "kept", "questions") if key in column[0]},
        }
        for column in zip(*(each.counts for each in rounds), strict=True)
    ]


def _none(settings: NoFilter, proposals: Proposals, kept: Mask) -> Mask:
    return kept


def _weights(settings: VoteFilter, proposals: Proposals) -> NDArray[np.float64]:
    return agreement(proposals) if settings.weights else np.ones(proposals.members)


def _students(settings: VoteFilter, proposals: Proposals) -> Mask:
    return students(proposals, _weights(settings, proposals), settings.threshold)


def _vote(settings: VoteFilter, proposals: Proposals, kept: Mask) -> Mask:
    if settings.voters:
        taught: Mask = as_bits(_students(settings, proposals)) > 0
        return taught
    if settings.weights:
        return accepted(proposals, _weights(settings, proposals), settings.threshold)
    # Whole votes are compared, not shares: 7 of 10 must reach a threshold of 0.7 whatever 0.7 * 10 rounds to.
    needed = np.ceil(settings.threshold * proposals.members - 1e-9)
    passed: Mask = (proposals.votes >= needed) & (proposals.votes > proposals.runner_up)
    return passed


def _confidence(settings: ConfidenceFilter, proposals: Proposals, kept: Mask) -> Mask:
    if settings.threshold is not None:
        return proposals.confidence >= settings.threshold
    assert settings.keep is not None
    count = int(np.floor(settings.keep * kept.sum() + 1e-9))
    # Ties are broken by the prompt, not by its place in the batch, so that order does not matter.
    order = np.lexsort((*proposals.prompts.T[::-1], -proposals.confidence, ~kept))
    passed = np.zeros(len(kept), dtype=np.bool_)
    passed[order[:count]] = True
    return passed


def _length(settings: LengthFilter, proposals: Proposals, kept: Mask) -> Mask:
    """Compare with the other answers of the same difficulty, never with a true length (method.md, "Filters").

    What is expected is the 90 % quantile of all answers' lengths: most answers may be too short, as they are when a
    model drops a token, and a few may run on, without moving it.
    """
    lengths = (proposals.answers != PAD).sum(axis=1)
    expected = np.quantile(lengths[proposals.finished], LENGTH_QUANTILE, method="higher") if kept.any() else 0
    passed: Mask = lengths > expected - settings.threshold
    return passed


def _twin(settings: TwinFilter, proposals: Proposals, kept: Mask) -> Mask:
    assert proposals.twin is not None
    return proposals.twin


def _parts(settings: PartsFilter, proposals: Proposals, kept: Mask) -> Mask:
    assert proposals.parts is not None
    return proposals.parts


def _learned(settings: LearnedVerifierFilter, proposals: Proposals, kept: Mask) -> Mask:
    assert proposals.score is not None
    passed: Mask = proposals.score >= settings.threshold
    return passed


_FILTERS: dict[str, Callable[[Any, Proposals, Mask], Mask]] = {
    "none": _none,
    "vote": _vote,
    "confidence": _confidence,
    "length": _length,
    "twin": _twin,
    "parts": _parts,
    "learned-verifier": _learned,
}

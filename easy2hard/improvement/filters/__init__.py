"""Filters, one file each: every module here defines those that are built in (settings/filters.py says what one is).

All are label-free but ``verifier``, which is supervised and marked so wherever it appears, and ``learned-verifier``,
whose scores were learned from true answers of the supervised range. ``twin`` and ``parts`` use a relation that the task
declares: its author's knowledge, and no true answer. Filters are applied in order; a label names the first filter that
dropped it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from easy2hard.errors import UserError
from easy2hard.settings.filters import RELATIONS, Filter
from easy2hard.settings.filters import Mask as Mask

if TYPE_CHECKING:  # reports load filters, and never torch
    from easy2hard.improvement.proposals import Proposals, Relations

RELATION = "declared by the task"
"""How the manifest marks a filter that uses a relation between questions."""
KEPT = "kept"
UNFINISHED = "unfinished"
STUDENTS = "students"
"""Column of the ledger: bit m says that member m may train on the label. Without it all members may."""


@dataclass(frozen=True)
class Filtered:
    """Proposals of one difficulty with the filters' verdict."""

    proposals: "Proposals"
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


def relations_of(filters: Sequence[Filter]) -> "Relations":
    """Return the relations between questions that filters use."""
    return frozenset(relation for relation in RELATIONS if any(relation in each.needs for each in filters))


def apply_filters(
    filters: Sequence[Filter], proposals: "Proposals", verify: "Callable[[Proposals], Mask] | None" = None
) -> Filtered:
    """Apply filters in order; an answer that did not end within its bound never gets as far.

    Args:
        filters: the filters.
        proposals: all labels of one difficulty in this round.
        verify: says which proposals are right; only the filter ``verifier``, which is supervised, calls it.

    Raises:
        UserError: a filter returned something else than (count,) truth values.
    """
    kept = proposals.finished.copy()
    why = np.where(kept, KEPT, UNFINISHED).astype(object)
    counts: list[dict[str, Any]] = [{"name": UNFINISHED, "in": len(kept), "kept": int(kept.sum())}]
    columns: dict[str, NDArray[Any]] = {}
    for each in filters:
        named = each.model_dump(exclude_none=True)
        if "truth" in each.needs:
            assert verify is not None
            passed = kept & verify(proposals)
            named["supervised"] = True
        else:
            passed = kept & _of_labels(each, "judge", each.judge(proposals, kept.copy()), len(kept), True)
        if each.needs & RELATIONS:
            named["relation"] = RELATION
        if "parts" in each.needs and proposals.questions is not None:
            named["questions"] = int(proposals.questions.sum())
        for column, values in each.columns(proposals).items():
            columns[column] = _of_labels(each, f"columns, {column!r}", values, len(kept), False)
        why[kept & ~passed] = each.name
        counts.append({**named, "in": int(kept.sum()), "kept": int(passed.sum())})
        kept = passed
    return Filtered(proposals, why, counts, columns)


def _of_labels(each: Filter, what: str, values: Any, count: int, truth: bool) -> NDArray[Any]:
    right = (
        isinstance(values, np.ndarray) and values.shape == (count,) and values.dtype.kind in ("b" if truth else "biuf")
    )
    if not right:
        got = f"{values.dtype} of shape {values.shape}" if isinstance(values, np.ndarray) else type(values).__name__
        wanted = "truth values" if truth else "numbers or truth values"
        raise UserError(f"filter {each.name}: {what}: must be a (count,) array of {wanted}, count = {count}, got {got}")
    found: NDArray[Any] = values
    return found


def add_counts(rounds: Sequence[Filtered]) -> list[dict[str, Any]]:
    """Return the filters' counts summed over the difficulties of a round."""
    return [
        {
            **column[0],
            **{key: sum(count[key] for count in column) for key in ("in", "kept", "questions") if key in column[0]},
        }
        for column in zip(*(each.counts for each in rounds), strict=True)
    ]

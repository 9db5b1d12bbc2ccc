"""Examples of labels: right ones, wrong ones with their first wrong token, and dropped ones with the reason."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from easy2hard.tasks.base import Task
from easy2hard.tasks.oracle import Checker, Oracle

Kind = Literal["right", "wrong", "kept", "dropped"]
PER_ROUND = {"right": 2, "wrong": 3, "kept": 2, "dropped": 2}
"""Picked of each kind in a round; of dropped labels, for each reason."""
SHOWN = {"right": 6, "wrong": 12, "kept": 6, "dropped": 4}
"""Shown of each kind, from the newest rounds; of dropped labels, for each reason."""


@dataclass(frozen=True)
class Example:
    """One label of a ledger."""

    kind: Kind
    round: int
    difficulty: str
    prompt: str
    answer: list[str]
    """The answer's tokens."""
    wrong_at: int | None
    """Index of the first wrong token, the number of tokens where the answer ends too early; None where none is."""
    truth: str | None
    """The true answer, of wrong answers alone."""
    verdict: str | None
    """``right``, or what is wrong; None where no oracle is known."""
    why: str
    votes: str
    confidence: float

    @property
    def right(self) -> bool:
        """Whether the oracle found it right."""
        return self.verdict == "right"


def pick(
    number: int, table: pa.Table, right: NDArray[np.bool_] | None, task: Task | None, oracle: Oracle | None
) -> list[Example]:
    """Return a few labels of each kind from a round's ledger, the last rows of it: those are the hardest.

    Args:
        number: the round.
        table: rows of the ledger.
        right: (rows,) which answers are right; None where nobody knows.
        task: splits answers into tokens; they are split into characters without it.
        oracle: says what is wrong; None where ``right`` is.
    """
    kept = table["kept"].to_numpy()
    why = np.array(table["why"].to_pylist(), dtype=object)
    masks: list[tuple[Kind, NDArray[np.bool_]]] = (
        [("kept", kept)] if right is None else [("right", kept & right), ("wrong", kept & ~right)]
    )
    masks += [("dropped", ~kept & (why == reason)) for reason in dict.fromkeys(why[~kept].tolist())]
    chosen = [(kind, int(row)) for kind, mask in masks for row in np.flatnonzero(mask)[-PER_ROUND[kind] :][::-1]]
    rows = table.take(np.array([row for _, row in chosen], dtype=np.int64)).to_pylist()
    truths = [None] * len(rows) if oracle is None else oracle.solve_texts([row["prompt"] for row in rows])
    return [
        _example(kind, number, row, truth, task, oracle)
        for (kind, _), row, truth in zip(chosen, rows, truths, strict=True)
    ]


def _example(
    kind: Kind, number: int, row: dict[str, Any], truth: str | None, task: Task | None, oracle: Oracle | None
) -> Example:
    def split(text: str) -> list[str]:
        return list(task.vocabulary.split(text)) if task else list(text)

    answer = split(row["answer"])
    verdict, wrong_at = None, None
    if oracle is not None and truth is not None:
        reasons = Checker(oracle).check([row["prompt"]], [row["answer"]], [row["finished"]])
        verdict = reasons[0] or "right"
        if reasons[0]:
            same = [given == true for given, true in zip(answer, split(truth), strict=False)]
            wrong_at = same.index(False) if False in same else len(same)
    return Example(
        kind=kind,
        round=number,
        difficulty=str(row["difficulty"]),
        prompt=row["prompt"],
        answer=answer,
        wrong_at=wrong_at,
        truth=truth if wrong_at is not None else None,
        verdict=verdict,
        why=row["why"],
        votes=f"{row['votes']} of {row['members']}",
        confidence=row["confidence"],
    )


def newest(picked: list[Example], kind: Kind) -> list[Example]:
    """Return the examples of a kind to show, newest rounds first; of dropped labels so many for each reason."""
    counts: dict[str, int] = {}
    shown = []
    for example in sorted(picked, key=lambda each: -each.round):
        group = example.why if kind == "dropped" else kind
        if example.kind == kind and counts.get(group, 0) < SHOWN[kind]:
            counts[group] = counts.get(group, 0) + 1
            shown.append(example)
    return sorted(shown, key=lambda each: each.why) if kind == "dropped" else shown

"""Label quality, measured against the oracle after the fact."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from easy2hard.errors import UserError
from easy2hard.evaluation.baseline import baseline_right
from easy2hard.files import read_table
from easy2hard.tasks.oracle import Checker, Oracle

BINS = 10
"""Bins of equal width that answers are sorted into by their confidence."""
FALLEN = 0.99
"""Label precision below which it has fallen."""

COLUMNS = ["difficulty", "prompt", "answer", "finished", "kept", "why", "confidence"]
"""Columns of a ledger that an audit reads."""

Flags = NDArray[np.bool_]


def audit_ledger(path: Path, oracle: Oracle, filters: Sequence[str] = (), rows: int | None = None) -> dict[str, Any]:
    """Return how good the labels of one round's ledger are.

    Args:
        path: the ledger, in the folder ``ledger`` of a run.
        oracle: knows the true answers.
        filters: names of the round's filters, in order.
        rows: labels that it must have, as the manifest says.

    Returns:
        ``precision`` is the share of kept labels that are right, each counted once however many members train on it,
        ``proposed_precision`` the share of all proposals that are, ``recall`` the share of right proposals that were
        kept; None where there is nothing to count.
        ``by_filter`` has the same after each filter, ``by_difficulty`` for each difficulty after each filter;
        ``baseline`` is the share of the proposals' prompts that the task's baseline answers rightly, None without one;
        ``errors`` counts the kinds of mistakes among kept labels, ``calibration`` compares confidence with the share
        that is right.

    Raises:
        UserError: it is no ledger that can be read (``files.read_table``).
    """
    table = read_table(path, path.parents[1], COLUMNS, rows)
    if missing := sorted(set(COLUMNS) - set(table.column_names)):
        raise UserError(f"{path}: damaged: has no column {', '.join(missing)}")
    return audit_labels(table, oracle, judge(table, oracle), filters)


def judge(table: pa.Table, oracle: Oracle) -> Flags:
    """Return (rows,) whether each answer of a ledger is right and has an end."""
    prompts, answers, finished = (table[name].to_pylist() for name in ("prompt", "answer", "finished"))
    rows = zip(prompts, oracle.solve_texts(prompts), answers, finished, strict=True)
    return np.array([ended and oracle.right(*row) for *row, ended in rows], dtype=np.bool_)


def audit_labels(table: pa.Table, oracle: Oracle, right: Flags, filters: Sequence[str] = ()) -> dict[str, Any]:
    """Return what :func:`audit_ledger` does of rows of a ledger that are judged already."""
    prompts, answers = table["prompt"].to_pylist(), table["answer"].to_pylist()
    kept: Flags = table["kept"].to_numpy()
    wrong = np.flatnonzero(kept & ~right)
    reasons = Checker(oracle).check([prompts[i] for i in wrong], [answers[i] for i in wrong])
    why = np.array(table["why"].to_pylist(), dtype=object)
    of = np.array(table["difficulty"].to_pylist(), dtype=object)
    return {
        "proposed": len(right),
        "kept": int(kept.sum()),
        "precision": _share(right[kept]),
        "proposed_precision": _share(right),
        "recall": _share(kept[right]),
        "baseline": _baseline(prompts, oracle),
        "by_filter": _stages(filters, why, right),
        "by_difficulty": {
            str(difficulty): _stages(filters, why[of == difficulty], right[of == difficulty])
            for difficulty in dict.fromkeys(of.tolist())
        },
        "errors": dict(Counter(map(_kind, filter(None, reasons))).most_common()),
        "calibration": _calibration(table["confidence"].to_numpy(), right),
    }


def first_fall(audits: Sequence[Mapping[str, Any]]) -> int | None:
    """Return the index of the first round whose label precision is below ``FALLEN``, or None."""
    fallen = (i for i, audit in enumerate(audits) if audit["precision"] is not None and audit["precision"] < FALLEN)
    return next(fallen, None)


def readiness_compared(asked: Sequence[Mapping[str, Mapping[str, float]]], ready: float) -> dict[str, dict[str, int]]:
    """Return how often readiness judged without labels decides as the oracle would have decided.

    Args:
        asked: for each round, the readiness of each difficulty that the schedule asked about, in each way there is.
        ready: readiness from which a difficulty is taken.

    Returns:
        For each way without labels: ``asked``, and among those ``daring`` where it alone says ready, ``careful`` where
        the oracle alone does. Difficulties of a blindfolded run have no oracle and do not count.
    """
    found: dict[str, dict[str, int]] = {}
    for values in (each for of_round in asked for each in of_round.values() if "oracle" in each):
        truth = values["oracle"] >= ready
        for way in values.keys() - {"oracle"}:
            counts = found.setdefault(way, {"asked": 0, "daring": 0, "careful": 0})
            says = values[way] >= ready
            counts["asked"] += 1
            counts["daring"] += says and not truth
            counts["careful"] += truth and not says
    return dict(sorted(found.items()))


def _baseline(prompts: Sequence[str], oracle: Oracle) -> float | None:
    if oracle.task.baseline is None:
        return None
    generator = np.random.default_rng(0)
    right = [baseline_right(oracle, tokens, generator) for _, tokens in oracle.task.encode(prompts)]
    return _share(np.concatenate(right)) if right else None


def _stages(filters: Sequence[str], why: NDArray[np.object_], right: Flags) -> list[dict[str, Any]]:
    """Return precision and recall of what is left after each filter; an answer without an end is dropped first."""
    stages = []
    left = np.ones(len(why), dtype=np.bool_)
    for name in dict.fromkeys(["unfinished", *filters]):
        before, left = left, left & (why != name)
        stages.append(
            {
                "filter": name,
                "in": int(before.sum()),
                "kept": int(left.sum()),
                "precision": _share(right[left]),
                "recall": _share(left[right]),
            }
        )
    return stages


def _kind(reason: str) -> str:
    """Return a reason without what is particular to one answer: ``wrong digit at position 3: …`` -> ``wrong digit``."""
    return re.sub(r" at position \d+| \d+(?=\))", "", reason.split(":")[0])


def _calibration(confidence: NDArray[np.float32], right: Flags) -> list[dict[str, Any]]:
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
    return [
        {
            "from": index / BINS,
            "count": int((bins == index).sum()),
            "confidence": float(confidence[bins == index].mean()),
            "right": float(right[bins == index].mean()),
        }
        for index in range(BINS)
        if (bins == index).any()
    ]


def _share(flags: np.ndarray[Any, Any]) -> float | None:
    return float(flags.mean()) if len(flags) else None

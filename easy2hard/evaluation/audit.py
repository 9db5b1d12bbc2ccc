"""Label quality, measured against the oracle after the fact."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from easy2hard.tasks.oracle import Oracle


def audit_ledger(path: Path, oracle: Oracle) -> dict[str, Any]:
    """Return how good the labels of one round's ledger are.

    ``precision`` is the share of kept labels that are right, ``proposed_precision`` the share of all proposals that
    are, ``recall`` the share of right proposals that were kept; None where there is nothing to count.
    """
    table = pq.read_table(path, columns=["prompt", "answer", "finished", "kept"])
    truth = np.array(oracle.solve_texts(table["prompt"].to_pylist()), dtype=object)
    right = (truth == np.array(table["answer"].to_pylist(), dtype=object)) & table["finished"].to_numpy()
    kept = table["kept"].to_numpy()
    return {
        "proposed": len(right),
        "kept": int(kept.sum()),
        "precision": _share(right[kept]),
        "proposed_precision": _share(right),
        "recall": _share(kept[right]),
    }


def _share(flags: np.ndarray[Any, Any]) -> float | None:
    return float(flags.mean()) if len(flags) else None

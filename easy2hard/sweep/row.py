"""A run of a sweep in one row, as ``results.parquet`` has it."""

import io
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

import pyarrow as pa
import pyarrow.parquet as pq


@dataclass(frozen=True)
class Row:
    """One run. Without a result, what depends on one is None or empty."""

    run: str
    variant: str
    axes: dict[str, str]
    seed: int
    task: str
    """With its options."""
    recipe: str
    overrides: list[str]
    status: str
    """As ``execute.State`` has it."""
    reason: str
    """Why it failed, or was stopped."""
    supervised_signals: list[str]
    """Settings that use true answers beyond the supervised range: with any of them this is not self-improvement."""
    oracle: str | None = None
    """The variant that is as this one, but that the oracle judges its labels."""
    reference: bool = False
    """It is there for others to be compared with, and has no place among them."""
    rests_on: str | None = None
    """The supervised phase that it goes on from, if it shares one."""
    reach: int | None = None
    examples: int | None = None
    """Evaluation prompts of each difficulty."""
    frontier: int | None = None
    """The hardest difficulty trained on."""
    at_frontier: float | None = None
    """Exact match there."""
    compared_at: int | None = None
    """The hardest difficulty that any run of the sweep on this task sets out for."""
    at_compared: float | None = None
    """Exact match there."""
    baseline: float | None = None
    """That of the task's baseline there."""
    gap_reach: float | None = None
    """What the run of this seed whose labels the oracle judged reaches more."""
    gap_exact_match: float | None = None
    """What that one has more where all are compared."""
    lowest_precision: float | None = None
    precision: list[float | None] = field(default_factory=list)
    """Of each round's labels."""
    kept: list[int] = field(default_factory=list)
    difficulties: list[str] = field(default_factory=list)
    """What each round labelled."""
    evaluated: list[str] = field(default_factory=list)
    """Difficulties of ``exact_match``."""
    exact_match: list[float] = field(default_factory=list)
    rounds: int | None = None
    steps: int | None = None
    """Of a member."""
    tokens: int | None = None
    """Read in training, by all members."""
    seconds: float | None = None
    """Of all rounds, as the manifest has them."""


_NUMBERS = ("at_frontier", "at_compared", "baseline", "gap_reach", "gap_exact_match", "lowest_precision", "seconds")
_TYPES = {
    **dict.fromkeys(("overrides", "supervised_signals", "difficulties", "evaluated"), pa.list_(pa.string())),
    **dict.fromkeys(("precision", "exact_match"), pa.list_(pa.float64())),
    "reference": pa.bool_(),
    **dict.fromkeys(("seed", "reach", "examples", "frontier", "compared_at", "rounds", "steps", "tokens"), pa.int64()),
    **dict.fromkeys(_NUMBERS, pa.float64()),
    "kept": pa.list_(pa.int64()),
}
"""Columns of the Parquet file that are not texts."""


def results_table(rows: Sequence[Row]) -> pa.Table:
    """Return the rows as a table; each axis is a column of its own, ``axis_NAME``."""
    flat = [{**asdict(row), **{f"axis_{axis}": variant for axis, variant in row.axes.items()}} for row in rows]
    schema = pa.schema([(name, _TYPES.get(name, pa.string())) for name in flat[0] if name != "axes"])
    return pa.Table.from_pylist(flat, schema)


def parquet(rows: Sequence[Row]) -> bytes:
    """Return the rows as a Parquet file."""
    content = io.BytesIO()
    pq.write_table(results_table(rows), content)
    return content.getvalue()

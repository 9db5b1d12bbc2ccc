"""Runs as tidy tables: a row for each round and difficulty of any number of runs, or a row for each of their labels."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as csv
import pyarrow.parquet as pq

from easy2hard.errors import UserError
from easy2hard.evaluation.audit import COLUMNS as JUDGED
from easy2hard.evaluation.audit import judge
from easy2hard.files import read_table, write_file, writing
from easy2hard.improvement.ledger import COLUMNS as LEDGER
from easy2hard.runs.evaluations import measured
from easy2hard.runs.experiment import Experiment
from easy2hard.runs.manifest import Manifest, RunDirectory, refuse_twice
from easy2hard.tasks.base import difficulty_text, hardest, parse_difficulty
from easy2hard.tasks.oracle import Oracle

if TYPE_CHECKING:
    import pandas as pd

WHOSE = [("run", pa.string()), ("task", pa.string()), ("seed", pa.int64())]
SCORES = [
    ("round", pa.int64()),
    ("difficulty", pa.string()),
    ("hardest", pa.int64()),
    ("trained", pa.bool_()),
    ("exact_match", pa.float64()),
    ("examples", pa.int64()),
]
ROUNDS = [
    *WHOSE,
    *SCORES,
    ("baseline", pa.float64()),
    ("proposed", pa.int64()),
    ("kept", pa.int64()),
    *((name, pa.float64()) for name in ("agreement", "acceptance", "unfinished", "confidence", "parts")),
    ("marks", pa.string()),
]
AUDIT = [(name, pa.float64()) for name in ("proposed_precision", "precision", "recall")]
LABELS = [*WHOSE, ("answered_in", pa.int64()), LEDGER[0], ("difficulty", pa.string()), *LEDGER[1:]]
FORMATS = (".parquet", ".csv")


def opened(paths: Sequence[Path]) -> list[RunDirectory]:
    """Return the runs of a table.

    Raises:
        UserError: a path is no run directory, or one is given twice.
    """
    refuse_twice(paths)
    return list(map(RunDirectory, paths))


def scores(manifest: Manifest) -> list[dict[str, Any]]:
    """Return a row for each round and difficulty that is evaluated or labelled there; columns as in ``SCORES``."""
    rows: list[dict[str, Any]] = []
    trained: set[str] = set()
    for record in manifest.rounds:
        labelled = [difficulty_text(difficulty) for difficulty in record.difficulties]
        trained.update(labelled)
        rows += [
            {
                "round": record.round,
                "difficulty": text,
                "hardest": hardest(parse_difficulty(text)),
                "trained": text in trained,
                "exact_match": record.accuracy.get(text),
                "examples": record.examples or None if text in record.accuracy else None,
            }
            for text in dict.fromkeys([*record.accuracy, *labelled])
        ]
    return rows


def summaries(manifest: Manifest) -> list[dict[str, Any]]:
    """Return what each round did, a row each."""
    return [
        {
            "round": record.round,
            "hardest": max(map(hardest, record.difficulties), default=0),
            **{name: getattr(record, name) for name in ("proposed", "kept", "steps", "tokens", "loss", "seconds")},
            **{f"{name}_seconds": record.phase_seconds.get(name, 0.0) for name in ("label", "train", "evaluate")},
        }
        for record in manifest.rounds
    ]


def rounds_table(runs: Sequence[RunDirectory], audit: bool = False) -> pa.Table:
    """Return a row for each run, round and difficulty.

    Args:
        runs: the runs; their order is the rows'.
        audit: compare the labels with the true answers, for the columns ``AUDIT``.

    Returns:
        ``ROUNDS``, and ``AUDIT`` where it is asked for. ``proposed`` and ``kept`` count the labels of this difficulty.
        ``exact_match`` is of ``examples`` prompts; after the last round, of the evaluation that all figures are of.
        The signals (``agreement`` to ``parts``) are the round's, the same in each of its rows. Nulls are not known.

    Raises:
        UserError: a ledger is missing or changed, or an audit is asked for of a task whose oracle is not there.
    """
    rows = [row for run in runs for row in _rows(run, _oracle(run) if audit else None)]
    return pa.Table.from_pylist(rows, pa.schema(ROUNDS + AUDIT * audit))


def _rows(run: RunDirectory, oracle: Oracle | None) -> Iterator[dict[str, Any]]:
    manifest = measured(run, run.manifest)
    records = {record.round: record for record in manifest.rounds}
    whose = {"run": str(run.path), "task": manifest.task, "seed": manifest.seed, "marks": "; ".join(manifest.marks)}
    counts = {number: _counts(run.intact(run.ledger_path(number)), oracle) for number in records if number}
    for row in scores(manifest):
        record = records[row["round"]]
        counted = counts.get(record.round, {}).get(row["difficulty"], {"proposed": 0, "kept": 0})
        signals = record.signals.known if record.signals else {}
        yield {**whose, **row, "baseline": record.baseline.get(row["difficulty"]), **counted, **signals}


def _counts(path: Path, oracle: Oracle | None) -> dict[str, dict[str, Any]]:
    """Return what became of a ledger's labels by difficulty, with the columns ``AUDIT`` where there is an oracle."""
    table = read_table(path, path.parents[1], JUDGED if oracle else ["difficulty", "kept"])
    of = np.array(table["difficulty"].to_pylist(), dtype=object)
    kept = table["kept"].to_numpy()
    right = judge(table, oracle) if oracle else None
    found: dict[str, dict[str, Any]] = {}
    for difficulty in dict.fromkeys(of.tolist()):
        rows = of == difficulty
        counted: dict[str, Any] = {"proposed": int(rows.sum()), "kept": int(kept[rows].sum())}
        if right is not None:
            shares = (right[rows], right[rows & kept], kept[rows & right])
            counted |= {name: float(s.mean()) if len(s) else None for (name, _), s in zip(AUDIT, shares, strict=True)}
        found[str(difficulty)] = counted
    return found


def labels_table(runs: Sequence[RunDirectory], audit: bool = False) -> pa.Table:
    """Return a row for each label of all committed rounds, kept or not.

    Args:
        runs: the runs; their order is the rows'.
        audit: add the column ``right``: the label is the true answer.

    Returns:
        ``LABELS`` and the columns that filters added. ``difficulty`` is a text. ``answered_in`` is the round that gave
        the answer; it is another one than ``round``, that of the prompt, where older rounds were labelled afresh.

    Raises:
        UserError: a ledger is missing or changed, the ledgers do not fit one table, or an audit is asked for of a task
            whose oracle is not there.
    """
    tables = [pa.schema(LABELS + [("right", pa.bool_())] * audit).empty_table()]
    for run in runs:
        manifest, oracle = run.manifest, _oracle(run) if audit else None
        for record in manifest.rounds[1:]:
            again = [run.relabelled_path(record.round)] if record.relabelled else []
            for path in [run.ledger_path(record.round), *again]:
                table = read_table(run.intact(path), run.path)
                place = table.column_names.index("difficulty")
                own = table.set_column(place, "difficulty", table["difficulty"].cast(pa.string()))
                whose = [str(run.path), manifest.task, manifest.seed, record.round]
                for (name, kind), value in zip(LABELS, whose, strict=False):
                    own = own.append_column(name, pa.repeat(pa.scalar(value, kind), len(table)))
                tables.append(own.append_column("right", pa.array(judge(table, oracle))) if oracle else own)
    try:
        return pa.concat_tables(tables, promote_options="permissive")
    except pa.ArrowException as error:  # two plug-ins' filters gave one name to columns of two kinds
        raise UserError(f"the labels of these runs do not fit one table: {error}") from error


def _oracle(run: RunDirectory) -> Oracle:
    return Experiment(run.settings, reading=True).oracle


def as_frame(table: pa.Table) -> "pd.DataFrame":
    """Return a table as a DataFrame."""
    frame: pd.DataFrame = table.to_pandas()
    return frame


def csv_text(table: pa.Table) -> str:
    """Return a table as CSV, with a line of names."""
    buffer = pa.BufferOutputStream()
    csv.write_csv(table, buffer)
    text: str = buffer.getvalue().to_pybytes().decode()
    return text


def writer(out: Path) -> Callable[[pa.Table], None]:
    """Return what writes a table into a file, in the format that the file's ending chooses.

    Raises:
        UserError: the ending is none of ``FORMATS``.
    """
    if out.suffix not in FORMATS:
        raise UserError(f"--out {out}: the file must end in one of {', '.join(FORMATS)}")

    def write(table: pa.Table) -> None:
        out.parent.mkdir(parents=True, exist_ok=True)
        if out.suffix == ".csv":
            write_file(out, csv_text(table).encode())
        else:
            with writing(out) as file:
                pq.write_table(table, file)

    return write

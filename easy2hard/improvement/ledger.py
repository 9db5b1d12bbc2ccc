"""The ledger: one Parquet file for each round with every label, kept or not, and why."""

from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from easy2hard.errors import UserError
from easy2hard.files import read_table
from easy2hard.improvement.filters import STUDENTS, Filtered, Mask
from easy2hard.tasks.base import Difficulty, difficulty_text, parse_difficulty
from easy2hard.vocabulary import Vocabulary

COLUMNS = [
    ("round", pa.int32()),
    ("prompt", pa.string()),
    ("answer", pa.string()),
    ("finished", pa.bool_()),
    ("kept", pa.bool_()),
    ("why", pa.string()),
    ("spoilt", pa.bool_()),
    ("votes", pa.int32()),
    ("runner_up", pa.int32()),
    ("members", pa.int32()),
    ("confidence", pa.float32()),
    ("mean_log_probability", pa.float32()),
    ("twin", pa.bool_()),
    ("parts", pa.bool_()),
    ("weights_sha256", pa.string()),
]
ROWS = 8192
"""Labels made into texts at a time: a round of any size is written in little memory."""


def _schema(pairs: bool) -> pa.Schema:
    """Return the columns; a difficulty is a number, or a text such as ``6x5`` where it is a pair."""
    first, *rest = COLUMNS
    return pa.schema([first, ("difficulty", pa.string() if pairs else pa.int32()), *rest])


def _with_columns(schema: pa.Schema, labels: Sequence[Filtered]) -> pa.Schema:
    """Return the columns with those that the filters add, the last.

    Raises:
        UserError: a filter calls its column as another one is called.
    """
    for name, values in (labels[0].columns if labels else {}).items():
        if name in schema.names:
            raise UserError(f"labels.filters: the ledger has a column {name!r} already, which a filter adds")
        schema = schema.append(pa.field(name, pa.from_numpy_dtype(values.dtype)))
    return schema


def write_ledger(
    file: Path | BinaryIO,
    labels: Sequence[Filtered],
    vocabulary: Vocabulary,
    number: int | Sequence[int],
    weights: str,
    spoilt: Sequence[Mask] | None = None,
    solved: bool = False,
) -> None:
    """Write the labels of a round.

    Args:
        file: to be written.
        labels: kept and dropped, of each difficulty.
        vocabulary: turns tokens into texts.
        number: the round whose prompts these are; of each difficulty its own where older rounds are labelled afresh.
        weights: digest of the weights that gave the answers.
        solved: what is kept are counter-examples, answered by the oracle (SUPERVISED); it stands for the digest.
        spoilt: for each difficulty, (count,) labels whose answer was spoilt on purpose.
    """
    pairs = any(isinstance(each.proposals.difficulty, tuple) for each in labels)
    schema = _with_columns(_schema(pairs), labels)
    with pq.ParquetWriter(file, schema, compression="zstd") as writer:
        for index, each in enumerate(labels):
            proposals = each.proposals
            of = number if isinstance(number, int) else number[index]
            difficulty = difficulty_text(proposals.difficulty) if pairs else proposals.difficulty
            for start in range(0, len(proposals.prompts), ROWS):
                rows = slice(start, start + ROWS)
                prompts = vocabulary.decode_prompts(proposals.prompts[rows])
                columns = {
                    "round": [of] * len(prompts),
                    "difficulty": [difficulty] * len(prompts),
                    "prompt": prompts,
                    "answer": vocabulary.decode_answers(proposals.answers[rows]),
                    "finished": proposals.finished[rows],
                    "kept": each.kept[rows],
                    "why": each.why[rows].tolist(),
                    "spoilt": spoilt[index][rows] if spoilt else [False] * len(prompts),
                    "votes": proposals.votes[rows],
                    "runner_up": proposals.runner_up[rows],
                    "members": [proposals.members] * len(prompts),
                    "confidence": proposals.confidence[rows],
                    "mean_log_probability": proposals.mean_log_probability[rows],
                    "twin": [None] * len(prompts) if proposals.twin is None else proposals.twin[rows],
                    "parts": [None] * len(prompts) if proposals.parts is None else proposals.parts[rows],
                    "weights_sha256": ["oracle" if solved and kept else weights for kept in each.kept[rows]],
                    **{name: values[rows] for name, values in each.columns.items()},
                }
                writer.write_table(pa.table(columns, schema=schema))


def read_kept(
    path: Path, number: int | None = None, member: int | None = None
) -> dict[int | str, tuple[list[str], list[str]]]:
    """Return the kept prompts and answers by difficulty, in the ledger's order.

    Args:
        path: the ledger, in the folder ``ledger`` of a run.
        number: of one round alone.
        member: of those that this member may train on alone.
    """
    columns = ["round", "difficulty", "prompt", "answer", "kept", *[STUDENTS] * (member is not None)]
    table = read_table(path, path.parents[1], columns, most=None)
    table = table.filter(table["kept"])
    if STUDENTS in table.column_names:
        bits = table[STUDENTS].to_numpy() >> np.int64(member or 0)
        table = table.filter(pa.array((bits & 1).astype(np.bool_)))
    if number is not None:
        table = table.filter(pa.compute.equal(table["round"], number))
    return {
        difficulty: (rows["prompt"].to_pylist(), rows["answer"].to_pylist())
        for difficulty, rows in _by_difficulty(table)
    }


def read_prompts(path: Path) -> list[tuple[Difficulty, list[str]]]:
    """Return all prompts of a round, their labels kept or not, by difficulty."""
    table = read_table(path, path.parents[1], ["difficulty", "prompt"], most=None)
    return [
        (parse_difficulty(str(difficulty)), rows["prompt"].to_pylist()) for difficulty, rows in _by_difficulty(table)
    ]


def _by_difficulty(table: pa.Table) -> list[tuple[int | str, pa.Table]]:
    found = table["difficulty"].unique().to_pylist()
    return [(each, table.filter(pa.compute.equal(table["difficulty"], each))) for each in found]

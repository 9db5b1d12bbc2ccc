"""The ledger: one Parquet file for each round with every label, kept or not, and why."""

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from easy2hard.improvement.filters import Filtered
from easy2hard.vocabulary import Vocabulary

SCHEMA = pa.schema(
    [
        ("round", pa.int32()),
        ("difficulty", pa.int32()),
        ("prompt", pa.string()),
        ("answer", pa.string()),
        ("finished", pa.bool_()),
        ("kept", pa.bool_()),
        ("why", pa.string()),
        ("votes", pa.int32()),
        ("runner_up", pa.int32()),
        ("members", pa.int32()),
        ("confidence", pa.float32()),
        ("mean_log_probability", pa.float32()),
        ("weights_sha256", pa.string()),
    ]
)


def write_ledger(path: Path, labels: Sequence[Filtered], vocabulary: Vocabulary, number: int, weights: str) -> None:
    """Write the labels of round ``number``; ``weights`` is the digest of the weights that gave the answers."""
    with pq.ParquetWriter(path, SCHEMA, compression="zstd") as writer:
        for each in labels:
            proposals = each.proposals
            count = len(proposals.prompts)
            columns = {
                "round": [number] * count,
                "difficulty": [proposals.difficulty] * count,
                "prompt": vocabulary.decode_prompts(proposals.prompts),
                "answer": vocabulary.decode_answers(proposals.answers),
                "finished": proposals.finished,
                "kept": each.kept,
                "why": each.why.tolist(),
                "votes": proposals.votes,
                "runner_up": proposals.runner_up,
                "members": [proposals.members] * count,
                "confidence": proposals.confidence,
                "mean_log_probability": proposals.mean_log_probability,
                "weights_sha256": [weights] * count,
            }
            writer.write_table(pa.table(columns, schema=SCHEMA))


def read_kept(path: Path) -> dict[int, tuple[list[str], list[str]]]:
    """Return the kept prompts and answers of a round by difficulty, in the ledger's order."""
    table = pq.read_table(path, columns=["difficulty", "prompt", "answer", "kept"])
    table = table.filter(table["kept"])
    kept: dict[int, tuple[list[str], list[str]]] = {}
    for difficulty in table["difficulty"].unique().to_pylist():
        rows = table.filter(pa.compute.equal(table["difficulty"], difficulty))
        kept[difficulty] = (rows["prompt"].to_pylist(), rows["answer"].to_pylist())
    return kept

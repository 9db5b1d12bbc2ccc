"""What is written to the ledger comes back."""

import tempfile
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from helpers import copy_task, engine_of, half_trained_engine, new_member, prompts_of, properties
from hypothesis import given
from hypothesis import strategies as st

from easy2hard.improvement.filters import Filtered, apply_filters
from easy2hard.improvement.filters.confidence import ConfidenceFilter
from easy2hard.improvement.filters.none import NoFilter
from easy2hard.improvement.filters.vote import VoteFilter
from easy2hard.improvement.ledger import read_kept, write_ledger
from easy2hard.improvement.proposals import propose
from easy2hard.settings.filters import Filter

COLUMNS = [
    "round",
    "difficulty",
    "prompt",
    "answer",
    "finished",
    "kept",
    "why",
    "spoilt",
    "votes",
    "runner_up",
    "members",
    "confidence",
    "mean_log_probability",
    "twin",
    "parts",
    "weights_sha256",
]

FILTERS: list[list[Filter]] = [
    [],
    [NoFilter(name="none")],
    [VoteFilter(name="vote", threshold=1.0), ConfidenceFilter(name="confidence", keep=0.6)],
    [ConfidenceFilter(name="confidence", threshold=1.0)],
]


def labels_of(sizes: dict[int, int], filters: list[Filter]) -> list[Filtered]:
    task, _ = copy_task()
    return [
        apply_filters(filters, propose(half_trained_engine(), task, difficulty, prompts_of(difficulty, count)))
        for difficulty, count in sizes.items()
    ]


@properties
@given(
    sizes=st.dictionaries(st.integers(1, 6), st.integers(0, 20), max_size=4),
    filters=st.sampled_from(FILTERS),
    number=st.integers(1, 99),
)
def test_a_ledger_holds_every_label_and_gives_back_the_kept(
    sizes: dict[int, int], filters: list[Filter], number: int
) -> None:
    vocabulary, labels = copy_task()[0].vocabulary, labels_of(sizes, filters)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "ledger.parquet"
        write_ledger(path, labels, vocabulary, number, "digest")
        table, kept = pq.read_table(path), read_kept(path)
    assert table.column_names == COLUMNS
    assert len(table) == sum(sizes.values())
    assert set(table["round"].to_pylist()) <= {number}
    assert set(table["weights_sha256"].to_pylist()) <= {"digest"}
    begin = 0
    for each in labels:
        proposals, count = each.proposals, len(each.kept)
        rows = table.slice(begin, count).to_pydict()
        assert rows["difficulty"] == [proposals.difficulty] * count
        assert rows["prompt"] == vocabulary.decode_prompts(proposals.prompts)
        assert rows["answer"] == vocabulary.decode_answers(proposals.answers)
        assert rows["members"] == [2] * count
        assert (rows["kept"], rows["why"]) == (each.kept.tolist(), each.why.tolist())
        for name in ("finished", "votes", "runner_up", "confidence", "mean_log_probability"):
            np.testing.assert_array_equal(rows[name], getattr(proposals, name))
        texts = [text for text, keep in zip(rows["prompt"], rows["kept"], strict=True) if keep]
        answers = [text for text, keep in zip(rows["answer"], rows["kept"], strict=True) if keep]
        assert kept.get(proposals.difficulty, ([], [])) == (texts, answers)
        begin += count


def test_only_finished_answers_are_given_back(tmp_path: Path) -> None:
    (task, _), path = copy_task(), tmp_path / "ledger.parquet"
    # Of an untrained member's answers some end within their bound and some do not.
    proposals = propose(engine_of([new_member(5)]), task, 3, prompts_of(3, 100))
    write_ledger(path, [apply_filters([NoFilter(name="none")], proposals)], task.vocabulary, 1, "digest")
    finished = int(proposals.finished.sum())
    assert 0 < finished < 100
    assert len(read_kept(path)[3][0]) == finished

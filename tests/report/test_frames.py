"""Tables of several runs: every score and every label of them, once, as the runs' own files have them."""

import io
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from whole_runs import copy_labels, full_run

import easy2hard
from easy2hard import plugins
from easy2hard.evaluation.audit import audit_ledger
from easy2hard.runs.manifest import Manifest, RunDirectory, manifest_text
from easy2hard.runs.records import RelabelledRecord
from easy2hard.tasks.registry import load_oracle, load_task

CommandLine = Callable[..., CompletedProcess[str]]
KEY = ["run", "round", "difficulty"]


@pytest.fixture
def two(tmp_path: Path) -> list[RunDirectory]:
    return [full_run(tmp_path / "first", rounds=3), full_run(tmp_path / "second", rounds=4, seed=1)]


def rewrite(run: RunDirectory, manifest: Manifest) -> None:
    (run.path / "manifest.json").write_text(manifest_text(manifest))


def test_every_score_is_there_once(two: list[RunDirectory]) -> None:
    frame = easy2hard.frame([run.path for run in two])
    assert not frame.duplicated(KEY).any()
    for run in two:
        own = frame[frame["run"] == str(run.path)]
        trained: set[str] = set()
        for record in run.manifest.rounds:
            rows = own[own["round"] == record.round]
            assert dict(zip(rows["difficulty"], rows["exact_match"], strict=True)) == record.accuracy
            assert (rows["proposed"].sum(), rows["kept"].sum()) == (record.proposed, record.kept)
            trained |= set(map(str, record.difficulties))
            assert set(rows[rows["trained"]]["difficulty"]) == trained
            labelled = set(map(str, record.difficulties)) if record.round else set()
            assert set(rows[rows["proposed"] > 0]["difficulty"]) == labelled
            signals = record.signals.known if record.signals else {}
            for name in ("agreement", "acceptance", "unfinished", "confidence", "parts"):
                assert all(pd.isna(value) or value == signals[name] for value in rows[name])
                assert rows[name].isna().all() == (name not in signals)
        assert set(own["seed"]) == {run.manifest.seed}
    assert set(frame["task"]) == {"copy"}
    assert set(frame["marks"]) == {""}


def test_one_run_is_its_part_of_several(two: list[RunDirectory]) -> None:
    together = easy2hard.frame(two_paths := [run.path for run in two], audit=True)
    apart = pd.concat([easy2hard.Run(path).frame(audit=True) for path in two_paths], ignore_index=True)
    pd.testing.assert_frame_equal(together, apart)
    metrics = easy2hard.Run(two_paths[1]).metrics
    own = together[together["run"] == str(two_paths[1])].reset_index(drop=True)
    pd.testing.assert_frame_equal(own[metrics.columns], metrics)
    with pytest.raises(easy2hard.UserError, match="is given 2 times"):
        easy2hard.frame([two_paths[0], two_paths[0].parent / "x" / ".." / "first"])


def test_an_audit_by_difficulty_adds_up_to_the_round(two: list[RunDirectory]) -> None:
    plain, frame = (easy2hard.frame(two[1].path, audit=audit) for audit in (False, True))
    assert list(frame.columns) == [*plain.columns, "proposed_precision", "precision", "recall"]
    for record in easy2hard.Run(two[1].path).audit():
        row = frame[(frame["round"] == record["round"]) & (frame["proposed"] > 0)].iloc[0]
        assert [row[name] for name in ("proposed_precision", "precision", "recall")] == pytest.approx(
            [record[name] for name in ("proposed_precision", "precision", "recall")]
        )
    assert frame[frame["proposed"] == 0]["precision"].isna().all()


def test_difficulties_are_kept_apart(tmp_path: Path) -> None:
    """Two difficulties a round: what each has is what a ledger of it alone would have."""

    def both(number: int, difficulty: int) -> list[dict[str, object]]:
        easier = copy_labels(number, difficulty - 1)[:5]  # all right and kept
        return [*copy_labels(number, difficulty), *easier]

    mixed = easy2hard.frame(full_run(tmp_path / "mixed", labels=both).path, audit=True)
    alone = easy2hard.frame(full_run(tmp_path / "alone").path, audit=True)
    columns = ["round", "difficulty", "proposed", "kept", "proposed_precision", "precision", "recall"]
    wanted = alone[alone["proposed"] > 0][columns].reset_index(drop=True)
    found = mixed[mixed["proposed"] == 10][columns].reset_index(drop=True)
    pd.testing.assert_frame_equal(found, wanted)
    assert mixed["proposed"].sum() == alone["proposed"].sum() + 2 * 5


def test_what_was_labelled_and_not_evaluated_has_a_row(tmp_path: Path) -> None:
    run = full_run(tmp_path / "run", accuracy=lambda number: {"1": 0.5, "2": 0.25, "3": 0.125})
    frame = easy2hard.frame(run.path)
    beyond = frame[frame["hardest"] > 3]
    assert beyond["difficulty"].tolist() == ["4", "5"]
    assert beyond["exact_match"].isna().all()
    assert beyond["proposed"].tolist() == [10, 10]
    assert len(easy2hard.Run(run.path).metrics) == len(frame) - 2


def test_marks_and_the_baseline_are_beside_the_scores(tmp_path: Path) -> None:
    run = full_run(tmp_path / "run", baseline={"1": 0.75})
    rewrite(run, run.manifest.model_copy(update={"supervised_signals": ["labels.filters: verifier"]}))
    frame = easy2hard.frame(run.path)
    assert frame["marks"].str.startswith("NOT self-improvement: labels.filters: verifier").all()
    assert frame[frame["difficulty"] == "1"]["baseline"].tolist() == [0.75] * 3
    assert frame[frame["difficulty"] != "1"]["baseline"].isna().all()


def test_every_label_is_there_once(two: list[RunDirectory]) -> None:
    labels = easy2hard.labels([run.path for run in two], audit=True)
    for run in two:
        for record in run.manifest.rounds[1:]:
            rows = labels[(labels["run"] == str(run.path)) & (labels["round"] == record.round)].reset_index(drop=True)
            ledger = easy2hard.Run(run.path).ledger(record.round)
            for name in ledger.columns.drop("difficulty"):
                pd.testing.assert_series_equal(rows[name], ledger[name], check_dtype=False)
            assert rows["difficulty"].tolist() == [str(each) for each in ledger["difficulty"]]
            copied = ledger["answer"] == ledger["prompt"].str.removesuffix("=")
            assert rows["right"].tolist() == (copied & ledger["finished"]).tolist()
            assert (rows["answered_in"] == record.round).all()
    assert len(labels) == 10 * (2 + 3)
    assert "right" not in easy2hard.labels(two[0].path)


def test_labels_given_afresh_say_which_round_gave_them(tmp_path: Path) -> None:
    run = full_run(tmp_path / "run")
    again = run.relabelled_path(2)
    pq.write_table(pa.Table.from_pylist([{**each, "twin": True} for each in copy_labels(1, 4)]), again)
    first, second, third = run.manifest.rounds
    third = third.model_copy(update={"relabelled": [RelabelledRecord(round=1, proposed=10, kept=7)]})
    rewrite(run, run.manifest.model_copy(update={"rounds": [first, second, third]}))
    labels = easy2hard.labels(run.path)
    counted = labels.groupby(["round", "answered_in"]).size()
    assert counted.to_dict() == {(1, 1): 10, (1, 2): 10, (2, 2): 10}
    assert labels[labels["answered_in"] > labels["round"]]["twin"].tolist() == [True] * 10


def test_pairs_and_numbers_and_columns_of_filters_fit_one_table(tmp_path: Path) -> None:
    def pairs(number: int, difficulty: int) -> list[dict[str, object]]:
        return [{**each, "difficulty": f"{difficulty}x2", "score": 0.5} for each in copy_labels(number, difficulty)]

    runs = [full_run(tmp_path / "numbers"), full_run(tmp_path / "pairs", labels=pairs)]
    labels = easy2hard.labels([run.path for run in runs])
    assert set(labels["difficulty"]) == {"4", "5", "4x2", "5x2"}
    assert labels.groupby("run")["score"].count().tolist() == [0, 20]
    assert set(easy2hard.frame(runs[1].path).query("proposed > 0")["difficulty"]) == {"4x2", "5x2"}

    def texts(number: int, difficulty: int) -> list[dict[str, object]]:
        return [{**each, "score": "high"} for each in copy_labels(number, difficulty)]

    other = full_run(tmp_path / "texts", labels=texts)
    with pytest.raises(easy2hard.UserError, match=r"do not fit one table.*score"):
        easy2hard.labels([runs[1].path, other.path])


def test_a_run_without_rounds_has_the_columns_and_no_rows(tmp_path: Path, two: list[RunDirectory]) -> None:
    begun = full_run(tmp_path / "begun", rounds=0)
    for table in (easy2hard.frame, easy2hard.labels):
        assert len(table(begun.path)) == 0
        assert list(table(begun.path).columns) == list(table([begun.path, two[0].path]).columns)


@pytest.mark.parametrize("options", [[], ["--audit"], ["--labels"], ["--labels", "--audit"]], ids=" ".join)
def test_the_command_writes_what_python_returns(
    options: list[str], two: list[RunDirectory], cli: CommandLine, tmp_path: Path
) -> None:
    paths = [str(run.path) for run in two]
    wanted = (easy2hard.labels if "--labels" in options else easy2hard.frame)(paths, audit="--audit" in options)
    printed = cli("frame", *paths, *options)
    assert (printed.returncode, printed.stderr) == (0, "")
    for ending, read in ((".parquet", pd.read_parquet), (".csv", pd.read_csv)):
        out = tmp_path / f"new/table{ending}"
        assert cli("frame", *paths, *options, "--out", str(out)).stdout == f"{out}: {len(wanted):,} rows\n"
        found = read(out)
        assert list(found.columns) == list(wanted.columns)
        if ending == ".parquet":
            pd.testing.assert_frame_equal(found, wanted)
        else:
            assert out.read_text() == printed.stdout
            assert np.isclose(found["confidence"], wanted["confidence"], equal_nan=True).all()
            assert found["difficulty"].astype(str).tolist() == wanted["difficulty"].tolist()
    assert list(pd.read_csv(io.StringIO(printed.stdout)).columns) == list(wanted.columns)


def test_a_changed_ledger_is_refused(two: list[RunDirectory]) -> None:
    path = two[0].ledger_path(1)
    pq.write_table(pq.read_table(path).slice(1), path)
    for table in (easy2hard.frame, easy2hard.labels):
        with pytest.raises(easy2hard.UserError, match=r"round-001\.parquet: damaged"):
            table(two[0].path)


def test_reading_runs_no_code_of_a_third_party(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plugins, "_loaded", {})
    example = Path(__file__).parents[2] / "examples" / "sort_digits.py"
    run = full_run(tmp_path / "run", task="sort-digits")
    for table in (easy2hard.frame, easy2hard.labels):
        assert len(table(run.path))
        with pytest.raises(easy2hard.UserError, match="sort-digits"):
            table(run.path, audit=True)
    assert not easy2hard.labels(run.path, audit=True, plugins=example)["right"].all()
    oracle = load_oracle(load_task("sort-digits"))
    whole = audit_ledger(run.ledger_path(1), oracle)["precision"]
    frame = easy2hard.frame(run.path, audit=True)
    assert frame.query("round == 1 and proposed > 0")["precision"].tolist() == [whole]

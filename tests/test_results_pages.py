"""The pages of results are what the records of runs make of them; a record says what its run does."""

import json
import re
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import easy2hard
from easy2hard.errors import UserError
from easy2hard.evaluation.reach import reach_of
from easy2hard.runs.evaluations import Evaluation
from easy2hard.runs.manifest import RunDirectory
from studies import record, tables
from studies.record import DATA, Study, json_text, studied

OLD = Path(__file__).parent / "data" / "run-0.1"


@pytest.mark.parametrize("page", tables.PAGES, ids=lambda page: page.name)
def test_make_results_would_change_nothing(page: Path) -> None:
    text = page.read_text()
    assert tables.rewritten(text) == text, "stale: make results"


@pytest.mark.parametrize("path", sorted(DATA.glob("*.json")), ids=lambda path: path.stem)
def test_a_record_is_as_it_was_written(path: Path) -> None:
    assert json_text(Study.model_validate_json(path.read_bytes())) == path.read_text()


def test_a_run_in_pieces_is_recorded_as_one(
    smoke: easy2hard.Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = smoke.branch(tmp_path / "whole", 1, ["rounds.count=2", "labels.count=40"], progress=False)
    whole.evaluate(examples=60)
    pieces = ["--commit", "abc", "def", "--machine", "a machine", "--name", "pieces", "--out", str(tmp_path / "data")]
    monkeypatch.setattr(sys, "argv", ["record", str(smoke.path), str(whole.path), *pieces])
    record.main()
    path = tmp_path / "data" / "pieces.json"
    assert f"{path}: 3 rounds, reach {whole.reach}" in capsys.readouterr().out

    study, manifest = Study.model_validate_json(path.read_bytes()), whole.manifest
    assert (study.recipe, study.task, study.seed, study.reach) == ("smoke", "copy", 0, whole.reach)
    # Both had a round 2, and that of the first was left behind.
    assert [(each.first, each.last, each.commit) for each in study.pieces] == [(0, 1, "abc"), (2, 2, "def")]
    assert [each.settings for each in study.pieces] == [{}, {"labels.count": 40}]
    audits = whole.audit()
    for ours, its, audit in zip(study.rounds[1:], manifest.rounds[1:], audits, strict=True):
        assert (ours.proposed, ours.kept, ours.seconds) == (its.proposed, its.kept, round(its.seconds, 1))
        assert ours.precision == pytest.approx(audit["precision"])
        assert ours.recall == pytest.approx(audit["recall"])
    first, second = study.rounds[0], study.rounds[1]
    assert first.difficulties == ["1", "2", "3"]
    assert list(first.exact_match) == ["1", "2", "3", "4", "5"]
    assert list(second.exact_match) == ["4", "5", "6"]
    easy = [score for text, score in manifest.rounds[1].accuracy.items() if int(text) <= 4]
    assert second.lowest == min(easy)
    assert study.phase_seconds["train"] == pytest.approx(
        sum(each.phase_seconds["train"] for each in manifest.rounds), abs=0.06
    )
    kept, own = study.evaluations
    assert (kept.examples, own.examples, own.round) == (60, 50, 2)
    assert own.accuracy == pytest.approx(manifest.rounds[2].accuracy)
    assert kept.accuracy.keys() == kept.voted.keys() > own.accuracy.keys()

    with pytest.raises(UserError, match=r"run-0.1: made no round of .*whole, so it is no piece of it"):
        studied([RunDirectory(OLD), RunDirectory(whole.path)], None, "")
    with pytest.raises(UserError, match="is given 2 times"):
        studied([RunDirectory(smoke.path)] * 2, None, "")
    monkeypatch.setattr(sys, "argv", ["record", str(whole.path), *pieces])
    with pytest.raises(SystemExit):
        record.main()
    assert "2 of them for 1 runs" in capsys.readouterr().err


def test_a_run_of_0_1_is_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    run = RunDirectory(OLD)
    study = studied([run], None, "a machine")
    assert study.recipe == "smoke"
    assert [each.kept for each in study.rounds] == [each.kept for each in run.manifest.rounds]
    assert study.pieces[0].easy2hard == "0.1.0"
    settings = study.pieces[0].settings
    assert (settings["labels.count"], settings["labels.top_up"], settings["model.width"]) == (30, 10, 16)
    assert study.evaluations[0].examples == run.settings.evaluation.examples
    assert tables.settings_text({"labels.filters": [{"name": "parts", "reliable": 0.9}], "rounds.batch": None}) == (
        '`labels.filters=[{name="parts",reliable=0.9}]`, no `rounds.batch`'
    )
    monkeypatch.setattr(record, "recipe_names", lambda: ["copy-cpu"])
    with pytest.raises(UserError, match="--recipe RECIPE"):
        studied([run], None, "a machine")


@pytest.fixture(scope="module")
def study() -> Study:
    return Study.model_validate_json((DATA / "copy-parts.json").read_bytes())


def with_scores(study: Study, examples: int, scores: dict[str, float]) -> Study:
    found = Evaluation(round=1, weights_sha256="0" * 64, seed=0, examples=examples, accuracy=scores)
    return study.model_copy(update={"evaluations": [found]})


@given(st.data())
def test_how_far_a_run_climbs_is_its_reach(study: Study, data: st.DataObject) -> None:
    examples = data.draw(st.sampled_from([50, 100, 1000]))
    right = data.draw(st.lists(st.integers(int(examples * 0.9), examples), min_size=12, max_size=30))
    scores = {str(index): count / examples for index, count in enumerate(right, start=1)}
    said, reach = tables.climbs(with_scores(study, examples, scores)), reach_of(scores, examples)
    if reach <= 10:  # taught
        assert said.startswith("does not climb: ")
        assert f" at {reach + 1}" in said
    else:
        least = min(scores[str(each)] for each in range(1, reach + 1))
        assert said.startswith(f"{reach} digits, each at {tables.share(least)}")
    assert ("prompts each" in said) == (examples != 1000)


def test_pairs_are_named_by_those_that_no_other_one_goes_beyond(study: Study) -> None:
    taught = study.rounds[0].model_copy(update={"difficulties": ["1x1", "2x1"]})
    study = study.model_copy(update={"rounds": [taught, *study.rounds[1:]]})
    scores = {"1x1": 1.0, "2x1": 1.0, "1x2": 1.0, "2x2": 0.5, "3x1": 0.999, "3x2": 1.0}
    assert tables.climbs(with_scores(study, 1000, scores)) == "1x2, 3x1, each pair at 0.999 or more"
    beyond = {"1x1": 1.0, "2x1": 1.0, "1x2": 0.3}
    assert tables.climbs(with_scores(study, 1000, beyond)) == "does not climb: 0.30 at 1x2"
    assert tables.corners(["1x1", "3x1", "2x2", "1x2"]) == ["3x1", "2x2"]


@pytest.mark.parametrize(
    ("value", "text"), [(None, "-"), (1.0, "1.00"), (0.99999, "0.9999"), (0.5, "0.50"), (0.995, "0.995"), (0.0, "0.00")]
)
def test_a_share_below_one_is_never_shown_as_one(value: float | None, text: str) -> None:
    assert tables.share(value) == text


def test_scores_without_a_gap_that_share_a_value_are_named_together(study: Study) -> None:
    scores = {"1": 1.0, "2": 1.0, "4": 1.0, "5": 0.5, "10": 0.5}
    _, row = tables.evaluations_table([with_scores(study, 100, scores)], 1)
    assert row == ["1", "100", "1-2: 1.00, 4: 1.00, 5: 0.50, 10: 0.50", "-"]
    _, row = tables.evaluations_table([with_scores(study, 100, {"1x1": 1.0, "1x2": 1.0, "2x1": 1.0})], 1)
    assert row[2] == "1x1-1x2: 1.00, 2x1: 1.00"


def test_tables_and_rows_are_made_anew_and_nothing_else(study: Study) -> None:
    tail = "| [parts](parts.md) <!--row:copy-parts--> |"
    page = "\n".join(
        [
            "Before.\n\n| a | b |\n|---|---|\n| by hand | 1 |",
            f"| stale | 0.5 {tail}",
            "\n<!-- table: copy-parts rounds 5 -->\nstale\n<!-- end -->\n\nBetween.\n",
            *(f"<!-- table: copy-parts,copy-without-length {kind} -->\n<!-- end -->" for kind in tables.TABLES),
            "\nAfter.\n",
        ]
    )
    found = tables.rewritten(page)
    assert tables.rewritten(found) == found
    assert "stale" not in found
    assert found.startswith("Before.\n\n| a | b |\n|---|---|\n| by hand | 1 |\n| `copy-cpu` | 1-10 digits | ")
    assert f" s | - {tail}\n" in found
    assert found.endswith("\n\nAfter.\n")
    first = found[: found.index("Between.")]
    assert re.findall(r"^\| (\d+) \|", first, flags=re.MULTILINE) == ["0", "1", "5", "7"]
    # The rows of two runs follow each other.
    assert found.count("| `copy-cpu` |") == 3
    assert found.count("[copy-without-length.json](data/copy-without-length.json)") == len(tables.TABLES)


@pytest.mark.parametrize(
    ("page", "message"),
    [
        ("<!-- table: copy-parts rounds -->\n", "not between"),
        ("<!-- table: copy-parts -->\n<!-- end -->", "not between"),
        ("<!-- table: copy-parts rounds -->\n<!-- table: copy-parts runs -->\n<!-- end -->", "not between"),
        ("<!-- table: copy-parts charts -->\n<!-- end -->", "'charts' is no kind of table .allowed: runs, "),
        ("<!-- table: nobody runs -->\n<!-- end -->", "nobody.json: missing; `python -m studies.record"),
        ("| a | b <!--row:nobody--> |", "nobody.json: missing"),
    ],
)
def test_a_mark_that_nothing_can_be_made_of_is_refused(page: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        tables.rewritten(page)


def test_a_damaged_record_is_refused(tmp_path: Path) -> None:
    content = json.loads((DATA / "copy-parts.json").read_text())
    content["rounds"][3]["precision"] = 1.5
    (tmp_path / "bad.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"bad.json: no record of a run: rounds\.3\.precision"):
        tables.load("bad", tmp_path)

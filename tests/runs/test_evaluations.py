"""Evaluations kept in a run: one of them is what every figure is of, and what is damaged is named."""

import errno
import json
import os
import re
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from io import BufferedRandom
from pathlib import Path
from subprocess import CompletedProcess
from threading import Barrier

import pytest
from pydantic import ValidationError

import easy2hard
from easy2hard import files
from easy2hard.report import charts
from easy2hard.report.compare import groups_of
from easy2hard.report.rundata import read_run
from easy2hard.report.terminal import listed
from easy2hard.runs import evaluations
from easy2hard.runs.evaluations import EVALUATION_BYTES, Evaluation, chosen, evaluation_paths, keep, kept
from easy2hard.runs.final_evaluation import outcome
from easy2hard.runs.integrity import problems
from easy2hard.runs.manifest import RunDirectory, manifest_digest

CommandLine = Callable[..., CompletedProcess[str]]


def evaluation(run: RunDirectory, examples: int = 1000, **changes: object) -> Evaluation:
    """An evaluation of the last round at all that it evaluated itself."""
    own = run.manifest.rounds[-1]
    values = {"round": own.round, "weights_sha256": own.weights_sha256, "seed": run.manifest.seed}
    return Evaluation.model_validate(values | {"examples": examples, "accuracy": own.accuracy} | changes)


@pytest.fixture
def run(fake_run: Callable[..., RunDirectory], tmp_path: Path) -> RunDirectory:
    return fake_run(tmp_path / "run")  # trained to 5 digits, evaluated to 7


def said(path: Path, cli: CommandLine) -> set[tuple[int, str]]:
    """What list, watch, report, plot and Python say of the reach of a run, and of the prompts that it is of."""
    (row,) = json.loads(cli("list", str(path), "--json").stdout)
    watched = " ".join(cli("watch", str(path), "--once").stdout.split())
    assert cli("report", str(path)).returncode == cli("plot", str(path), "--figure", "reach").returncode == 0
    page = (path / "report.html").read_text().replace("&#39;", "'")
    run = easy2hard.Run(path)
    last = run.metrics.query("round == round.max()")
    line = charts.reach_chart(groups_of([read_run(path)])).lines[0].points
    found = {(row["reach"], f"{row['prompts']:,}"), (int(line[-1][1]), f"{int(last['examples'].max()):,}")}
    for text, before in ((watched, r"reach at 0\.99:"), (page, "It reaches")):
        words = re.search(before + r" (no\w+|\d+)[^(]*\(([\d,]+) prompts each, members' mean, round 2\)", text)
        assert words
        found.add((0 if words[1].startswith("no") else int(words[1]), words[2]))
    return found | {(run.reach, f"{int(last['examples'].max()):,}")}


def test_a_run_that_is_measured_again_has_one_reach(smoke: easy2hard.Run, tmp_path: Path, cli: CommandLine) -> None:
    """Run, measure on more prompts, draw: as `make demo` does."""
    shutil.copytree(smoke.path, path := tmp_path / "run")
    shutil.rmtree(path / "evaluations", ignore_errors=True)  # of other tests
    assert {prompts for _, prompts in said(path, cli)} == {"50"}
    lines = cli("eval", "run", "--examples", "300").stdout.splitlines()
    ((reach, prompts),) = said(path, cli)
    assert prompts == "300"
    assert f"reach at 0.99: {reach or 'none'} (300 prompts each, members' mean, round 2)" in lines
    # The last round has these scores, and the rounds before their own.
    run, (found,) = easy2hard.Run(path), kept(RunDirectory(path))
    scores = {(row.round, row.difficulty): row.exact_match for row in run.frame().itertuples()}
    own = {(each.round, d): share for each in run.manifest.rounds[:-1] for d, share in each.accuracy.items()}
    assert scores == own | {(2, d): share for d, share in found.accuracy.items()}
    assert found.accuracy != run.manifest.rounds[-1].accuracy
    # A sweep that asks for as many takes them from there.
    assert outcome(RunDirectory(path), 300).exact_match == found.accuracy
    assert run.verify() == []
    assert run.du()["evaluations"] > 0


def test_the_reach_is_that_of_the_most_prompts(
    fake_run: Callable[..., RunDirectory], tmp_path: Path, cli: CommandLine
) -> None:
    run = fake_run(tmp_path / "run")
    own = run.manifest.rounds[-1].accuracy
    assert easy2hard.Run(run.path).reach == 6  # as far as every answer is right
    keep(run, evaluation(run, 200, accuracy=own | {"4": 0.98}))
    (run.path / "ledger").mkdir()
    assert said(run.path, cli) == {(6, "200")}
    keep(run, evaluation(run, 1000, accuracy=own | {"4": 0.98}))
    assert said(run.path, cli) == {(3, "1,000")}
    keep(run, evaluation(run, 300))
    assert said(run.path, cli) == {(3, "1,000")}


def test_only_what_measured_the_newest_round_as_far_as_the_round_did_is_chosen(run: RunDirectory) -> None:
    manifest, fits = run.manifest, evaluation(run)
    own = manifest.rounds[-1]
    others = [
        evaluation(run, 2000, round=1),
        evaluation(run, 2000, weights_sha256="1" * 64),
        evaluation(run, 2000, seed=1),
        evaluation(run, 2000, accuracy={"1": 1.0, "7": 1.0}),
    ]
    assert chosen(manifest, others) is None
    assert chosen(manifest, [*others, fits]) == fits
    assert chosen(manifest, [evaluation(run, 500), fits], 500) == evaluation(run, 500)
    assert chosen(manifest, [fits], 500) is None
    rounds = [*manifest.rounds[:-1], own.model_copy(update={"examples": 1001})]
    assert chosen(manifest.model_copy(update={"rounds": rounds}), [fits]) is None
    assert chosen(manifest.model_copy(update={"rounds": []}), [fits]) is None


def test_the_same_question_is_answered_by_the_newest(run: RunDirectory) -> None:
    keep(run, evaluation(run, accuracy={"10": 0.5, "2": 0.25}, voted={"2": 1.0}))
    newer = keep(run, evaluation(run, accuracy={"2": 0.75, "1": 1.0}, voted={"1": 1.0}))
    assert list(newer.accuracy.items()) == [("1", 1.0), ("2", 0.75), ("10", 0.5)]
    assert kept(run) == [newer]
    assert newer.voted == {"1": 1.0, "2": 1.0}
    after = keep(run, evaluation(run, weights_sha256="1" * 64, accuracy={"3": 0.5}))
    assert kept(run) == [after]
    assert list(after.accuracy) == ["3"]
    keep(run, evaluation(run, 200))
    assert len(kept(run)) == 2


@pytest.mark.parametrize(
    ("spoil", "named"),
    [
        (lambda text: text.replace("0.5", "0.6"), "changed after it was written"),
        (lambda text: text[:40], "damaged"),
        (lambda text: "[]", "changed after it was written"),
        (lambda text: "[" * 100_000, "damaged"),
        (lambda text: " " * (EVALUATION_BYTES + 1), "no such file has more"),
    ],
)
def test_what_is_not_as_it_was_written_is_named_and_replaced(
    run: RunDirectory, cli: CommandLine, spoil: Callable[[str], str], named: str
) -> None:
    keep(run, evaluation(run, accuracy=run.manifest.rounds[-1].accuracy | {"7": 0.5}))
    (path,) = evaluation_paths(run)
    path.write_text(spoil(path.read_text()))
    name = str(path.relative_to(run.path))
    (line,) = (each for each in problems(run, run.manifest)[-1] if each.startswith(name))
    assert named in line
    assert [each for each in read_run(run.path).problems if each.startswith(name)] == [line]
    assert read_run(run.path).reach == 6  # by the round's own
    assert listed(run.path).state.startswith(f"damaged: {name}")
    result = cli("frame", str(run.path))
    assert (result.returncode, result.stdout) == (2, "")
    assert named in result.stderr
    assert keep(run, evaluation(run)) == kept(run)[0]


def test_two_at_once_keep_what_both_measured(run: RunDirectory) -> None:
    together = Barrier(2, timeout=60)  # where one fails, the other does not wait for ever

    def evaluated(first: int) -> None:
        for number in range(first, first + 20):
            together.wait()
            keep(run, evaluation(run, accuracy={str(number): 0.5}))

    with ThreadPoolExecutor() as threads:
        list(threads.map(evaluated, (1, 101)))  # raises what they raised
    (found,) = kept(run)
    assert set(map(int, found.accuracy)) == {*range(1, 21), *range(101, 121)}


def test_what_another_program_wrote_is_named_and_hides_nothing_that_was_measured(
    smoke: easy2hard.Run, tmp_path: Path, cli: CommandLine
) -> None:
    shutil.copytree(smoke.path, tmp_path / "run")
    run = RunDirectory(tmp_path / "run")
    content = evaluation(run).model_dump(mode="json") | {"examples": -1}
    (run.path / "evaluations").mkdir(exist_ok=True)
    forged = {**content, "sha256": manifest_digest(content)}
    (run.path / "evaluations/other.json").write_text(json.dumps(forged))
    result = cli("eval", "run", "--examples", "20", "--difficulties", "2")
    assert (result.returncode, result.stdout.splitlines()[1].split()[0]) == (2, "2")
    assert result.stderr.startswith("error: run/evaluations/other.json: damaged: examples = -1: ")


def test_a_record_that_cannot_be_is_refused(run: RunDirectory) -> None:
    for changes in ({"accuracy": {"1": 1.5}}, {"accuracy": {"x": 1.0}}, {"weights_sha256": ""}, {"more": 1}):
        with pytest.raises(ValidationError):
            evaluation(run, **changes)


def test_there_is_an_end_to_what_a_run_keeps(run: RunDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluations, "MOST", 2)
    for examples in (1, 2, 2):
        keep(run, evaluation(run, examples))
    with pytest.raises(easy2hard.UserError, match="keeps 2 evaluations already"):
        keep(run, evaluation(run, 3))
    (run.path / "evaluations/stranger.json").write_text("{}")
    with pytest.raises(easy2hard.UserError, match="has 3 files, and no run keeps more than 2"):
        kept(run)
    assert listed(run.path).state.startswith("damaged: evaluations: damaged: has 3 files")
    assert any("has 3 files" in line for line in problems(run, run.manifest)[-1])


def test_what_cannot_be_kept_is_measured_all_the_same(
    smoke: easy2hard.Run, tmp_path: Path, cli: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(smoke.path, path := tmp_path / "run")
    shutil.rmtree(path / "evaluations", ignore_errors=True)
    begun = files._begun

    def refused(path: Path, folder: int) -> BufferedRandom:
        if path.parent.name == "evaluations":
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        return begun(path, folder)

    monkeypatch.setattr(files, "_begun", refused)
    result = cli("eval", "run", "--examples", "20", "--difficulties", "2")
    assert result.returncode == 0
    assert result.stdout.splitlines()[1].split()[0] == "2"
    assert result.stderr.splitlines() == ["not kept in the run: run/evaluations/20-seed-0.json: Read-only file system"]
    assert kept(RunDirectory(path)) == []


def test_a_run_of_an_older_version_is_not_written_to(run: RunDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    found, older = evaluation(run), run.manifest.model_copy(update={"format": 2})
    monkeypatch.setattr(RunDirectory, "manifest", property(lambda self: older))
    with pytest.raises(easy2hard.UserError, match="it is read, and not written"):
        keep(run, found)
    assert not (run.path / "evaluations").exists()

"""The Python API: the same as the command line, from Python."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from subprocess import CompletedProcess

import numpy as np
import pandas as pd
import pytest

import easy2hard
from easy2hard.api.written import Written
from easy2hard.evaluation.audit import audit_ledger
from easy2hard.runs.manifest import RunDirectory
from easy2hard.runs.request import settings_of
from easy2hard.settings.recipes import load_recipe
from easy2hard.tasks.registry import load_oracle, load_task

CommandLine = Callable[..., CompletedProcess[str]]
PROMPTS = ["24=", "318=", "7=", "86="]


def test_importing_the_package_imports_nothing_heavy() -> None:
    loaded = "import easy2hard, sys; print(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", loaded], capture_output=True, text=True, check=True).stdout.split()
    assert not {"torch", "numpy", "pandas", "pydantic", "rich", "typer"} & set(modules)


def test_the_api_itself_waits_with_torch_until_a_run_begins() -> None:
    loaded = "import easy2hard, sys; easy2hard.run, easy2hard.Run; print(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", loaded], capture_output=True, text=True, check=True).stdout.split()
    assert not {"torch", "pandas", "transformers"} & set(modules)


def test_the_names_a_newcomer_needs_are_at_the_top() -> None:
    from easy2hard import Filter, Oracle, Run, Task, load_recipe

    assert [each.__name__ for each in (Filter, Oracle, Run, Task)] == ["Filter", "Oracle", "Run", "Task"]
    assert load_recipe("smoke", ["rounds.count=7"]).rounds.count == 7


def test_all_names_can_be_had_and_no_others() -> None:
    assert {name for name in dir(easy2hard) if getattr(easy2hard, name) is not None} == set(easy2hard.__all__)
    with pytest.raises(AttributeError, match="no attribute 'sovle'"):
        easy2hard.sovle  # noqa: B018


def test_two_underscores_are_the_dot_of_a_setting() -> None:
    values = {"seed": 1, "rounds__count": 1, "labels__filters": [{"name": "none"}], "task__name": "reverse"}
    texts = ["seed=1", "rounds.count=1", 'labels.filters=[{name="none"}]', "task.name=reverse"]
    assert settings_of("smoke", values=values) == load_recipe("smoke", texts)


@pytest.mark.parametrize(
    ("overrides", "named"),
    [
        ({"rounds__cuont": 2}, "rounds.cuont: unknown setting"),
        ({"rounds__count": "two"}, "rounds.count = 'two'"),
        ({"seed__count": 2}, "seed.count = 2: seed is a value"),
    ],
)
def test_a_wrong_override_is_named(tmp_path: Path, overrides: dict[str, object], named: str) -> None:
    if "seed__count" in overrides:
        overrides = {"seed": 1, **overrides}
    with pytest.raises(easy2hard.UserError, match=named):
        easy2hard.run("smoke", tmp_path / "run", progress=False, **overrides)
    assert not (tmp_path / "run").exists()


def test_metrics_are_what_the_manifest_says(smoke: easy2hard.Run) -> None:
    metrics = smoke.metrics
    for record in smoke.manifest.rounds:
        rows = metrics[metrics["round"] == record.round]
        assert dict(zip(rows["difficulty"], rows["exact_match"], strict=True)) == record.accuracy
    assert metrics.groupby("round")["hardest"].max().tolist() == [5, 6, 7]
    assert metrics[metrics["trained"]].groupby("round")["hardest"].max().tolist() == [3, 4, 5]
    assert smoke.rounds["kept"].tolist() == [record.kept for record in smoke.manifest.rounds]
    assert np.isclose(smoke.rounds.filter(like="_seconds").sum(axis=1), smoke.rounds["seconds"], atol=0.005).all()


def test_a_ledger_has_every_label(smoke: easy2hard.Run) -> None:
    ledger = smoke.ledger(1)
    record = smoke.manifest.rounds[1]
    assert (len(ledger), int(ledger["kept"].sum())) == (record.proposed, record.kept)
    task = load_task("copy")
    right = ledger["answer"] == load_oracle(task).solve_texts(ledger["prompt"].tolist())
    audited = audit_ledger(RunDirectory(smoke.path).ledger_path(1), load_oracle(task))
    assert np.isclose(float((right & ledger["finished"]).mean()), audited["proposed_precision"], atol=1e-4)
    assert smoke.training(1)["step"].tolist() == list(range(smoke.settings.rounds.steps))


@pytest.mark.parametrize("number", [0, 3, -1])
def test_a_round_without_labels_is_refused(smoke: easy2hard.Run, number: int) -> None:
    with pytest.raises(easy2hard.UserError, match=f"round {number}"):
        smoke.ledger(number)


def test_solve_is_the_command_line_solve(smoke: easy2hard.Run, cli: CommandLine) -> None:
    for member, option in [(None, []), (1, ["--member", "1"])]:
        printed = cli("solve", str(smoke.path), *PROMPTS, *option).stdout.splitlines()
        answers = smoke.solve(PROMPTS, member=member)
        assert printed == [f"{each.prompt}\t{each.answer}\t{each.confidence:.4f}" for each in answers]
        assert [each.prompt for each in answers] == PROMPTS
        assert all(set(asdict(each)) == {"prompt", "answer", "confidence", "votes"} for each in answers)


def test_evaluate_with_the_prompts_of_the_run_measures_what_the_run_measured(smoke: easy2hard.Run) -> None:
    newest = smoke.metrics[smoke.metrics["round"] == 2]
    measured = smoke.evaluate(newest["hardest"], smoke.settings.evaluation.examples)
    assert list(measured.columns) == ["difficulty", "exact_match", "voted"]
    assert dict(zip(measured["difficulty"], measured["exact_match"], strict=True)) == pytest.approx(
        dict(zip(newest["difficulty"], newest["exact_match"], strict=True)), abs=1e-4
    )


def test_evaluate_is_the_command_eval(smoke: easy2hard.Run, cli: CommandLine) -> None:
    options = ("--difficulties", "2-4", "--examples", "20")
    measured = smoke.evaluate(range(2, 5), 20)
    for same in ("2-4", measured["difficulty"]):
        pd.testing.assert_frame_equal(smoke.evaluate(same, 20), measured)
    printed = json.loads(cli("eval", str(smoke.path), *options, "--json").stdout)
    assert list(printed) == ["exact_match", "voted"]
    for name, scores in printed.items():
        assert scores == dict(zip(measured["difficulty"], measured[name].round(6), strict=True))
    lines = cli("eval", str(smoke.path), *options).stdout.splitlines()
    assert lines[:4] == [
        "difficulty  exact match   voted",
        *(f"{row.difficulty:>10}  {row.exact_match:>11.4f}  {row.voted:>6.4f}" for row in measured.itertuples()),
    ]
    for wrong, named in (({"examples": 0}, "--examples 0"), ({"difficulties": [(2, 3)]}, "--difficulties '2x3'")):
        with pytest.raises(easy2hard.UserError, match=named):
            smoke.evaluate(**wrong)


def test_the_baseline_and_the_hard_split_are_columns_of_evaluate(tmp_path: Path) -> None:
    short = {"rounds__count": 0, "supervised__steps": 4, "supervised__warmup": 0, "supervised__decay": 0}
    for task, column in (("forward-addition", "hard_split"), ("maze-hops", "baseline")):
        easy = {"task__name": task, "supervised__difficulty": 2, **short}
        run = easy2hard.run("smoke", tmp_path / task, progress=False, **easy)
        assert list(run.evaluate([2], 10).columns) == ["difficulty", "exact_match", "voted", column]


def test_audit_verify_and_du_are_the_commands(smoke: easy2hard.Run, cli: CommandLine, tmp_path: Path) -> None:
    assert json.loads(cli("audit", str(smoke.path), "--json").stdout) == json.loads(json.dumps(smoke.audit()))
    assert [row["kept"] for row in smoke.audit()] == smoke.rounds["kept"].tolist()[1:]
    assert json.loads(cli("du", str(smoke.path), "--json").stdout) == smoke.du()
    assert smoke.verify() == []
    copied = easy2hard.Run(shutil.copytree(smoke.path, tmp_path / "copied"))
    (copied.path / "ledger" / "round-001.parquet").unlink()
    assert copied.verify() == cli("verify", str(copied.path)).stdout.splitlines() != []


def test_pages_and_charts_of_one_run_or_of_several(smoke: easy2hard.Run, cli: CommandLine, tmp_path: Path) -> None:
    run, other = (easy2hard.Run(shutil.copytree(smoke.path, tmp_path / name)) for name in ("run", "other"))
    page = run.report()
    assert page == run.path / "report.html"
    text = page.read_text()
    assert cli("report", str(run.path)).stdout == f"{page}\n"
    assert page.read_text() == text
    both = run.report(tmp_path / "both.html", beside=other).read_text()
    assert '<th scope="row">other</th>' in both
    assert '<th scope="row">other</th>' not in text
    assert run.plot() == Written(run.path / "overview.pdf")
    run.plot("reach", tmp_path / "narrow.svg", width=3, font="serif", font_size=7, title=False)
    assert 'width="216pt"' in (tmp_path / "narrow.svg").read_text()
    assert run.plot("reach", beside=[other]).path == Path("reach.pdf")
    (other.path / "training" / "round-001.csv").unlink()
    drawn = run.plot("accuracy", tmp_path / "chart.svg", beside=[str(other.path)])
    assert drawn == Written(tmp_path / "chart.svg", (f"{other.path}: training/round-001.csv: missing",))
    assert drawn.path.is_file()


def test_export_is_the_command_export(smoke: easy2hard.Run, cli: CommandLine, tmp_path: Path) -> None:
    written = smoke.export(tmp_path / "labels", labels=True)
    assert written == Written(tmp_path / "labels", labels=len(smoke.labels()))
    printed = cli("export", str(smoke.path), str(tmp_path / "again"), "--labels").stdout
    assert printed == f"{tmp_path / 'again'}: {written.labels:,} labels\n"
    names = [{path.relative_to(each) for path in each.rglob("*")} for each in (tmp_path / "labels", tmp_path / "again")]
    assert names[0] == names[1]
    with pytest.raises(easy2hard.UserError, match="--labels: takes neither"):
        smoke.export(tmp_path / "third", member=1, labels=True)
    with pytest.raises(easy2hard.UserError, match="--member 2"):
        smoke.export(tmp_path / "third", member=2)
    assert smoke.export(tmp_path / "member", member=1) == Written(tmp_path / "member")
    assert (tmp_path / "member" / "model.safetensors").is_file()


def test_one_text_is_not_a_list_of_prompts(smoke: easy2hard.Run) -> None:
    with pytest.raises(easy2hard.UserError, match="a list of prompts"):
        smoke.solve("24=")


def test_a_run_goes_on_and_its_new_weights_answer(smoke: easy2hard.Run, tmp_path: Path) -> None:
    from easy2hard.runs.store import Store

    Store(smoke.path).branch(tmp_path / "run", 0, smoke.settings)
    run = easy2hard.Run(tmp_path / "run")
    early = run.solve(PROMPTS)
    assert len(run.manifest.rounds) == 1
    run.resume(progress=False)
    assert run.manifest.status == "finished"
    assert run.manifest.rounds[-1].weights_sha256 == smoke.manifest.rounds[-1].weights_sha256
    assert run.solve(PROMPTS) == smoke.solve(PROMPTS) != early
    assert run.resume(progress=False) is run
    again = run.branch(tmp_path / "again", 1, progress=False)
    assert (again.path, again.manifest.status) == (tmp_path / "again", "finished")
    assert again.manifest.rounds[-1].weights_sha256 == run.manifest.rounds[-1].weights_sha256
    run.resume(progress=False, overrides=["rounds.count=3"])
    assert (run.settings.rounds.count, len(run.metrics["round"].unique())) == (3, 4)


def test_what_the_command_line_cannot_ask_for_is_refused(smoke: easy2hard.Run, tmp_path: Path) -> None:
    with pytest.raises(easy2hard.UserError, match=r"--member -1: the run has members 0 to 1"):
        smoke.export(tmp_path / "out", member=-1)
    with pytest.raises(easy2hard.UserError, match=r"round -1 is not committed \(the last one is 2\)"):
        smoke.branch(tmp_path / "out", -1)
    with pytest.raises(easy2hard.UserError, match=r"processes = 0: at least 1"):
        easy2hard.Run.sweep("seeds-copy", tmp_path / "out", processes=0)
    assert not list(tmp_path.iterdir())


def test_a_sweep_is_not_written_into_a_run(smoke: easy2hard.Run) -> None:
    with pytest.raises(easy2hard.UserError, match="a run is there; a sweep needs a directory of its own"):
        easy2hard.Run.sweep("seeds-copy", smoke.path, progress=False)
    assert not (smoke.path / "logs").exists()


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(easy2hard.UserError, match="not a run directory"):
        easy2hard.Run(tmp_path)


def test_a_plug_in_with_one_task_names_it(tmp_path: Path) -> None:
    settings = settings_of("smoke", plugins=Path(__file__).parents[1] / "examples" / "sort_digits.py")
    assert settings.task.name == "sort-digits"

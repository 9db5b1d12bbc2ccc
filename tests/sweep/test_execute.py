"""A sweep killed anywhere and begun again ends with the same table; what fails stops nothing else."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pandas as pd
import pyarrow.parquet as pq
import pytest

import easy2hard
from easy2hard import plugins
from easy2hard.errors import UserError
from easy2hard.runs.manifest import RunDirectory, manifest_text
from easy2hard.settings.recipes import load_recipe
from easy2hard.sweep.execute import Laboratory
from easy2hard.sweep.plan import load_sweep, planned
from easy2hard.sweep.results import collect
from studies.soak import descendants

CommandLine = Callable[..., CompletedProcess[str]]

BROKE = "error: task brittle: ArithmeticError: the oracle broke (brittle.py, line "
SWEEP = """
recipe = "smoke"
seeds = [0]
set = ["supervised.steps=20", "supervised.warmup=0", "supervised.decay=0", "rounds.steps=4", "rounds.decay=0"]
examples = 20
budget = { steps = 25 }

[variants]
whole = []
less = ["labels.count=50"]
broken = ["task.options.breaks=1"]
"""
TASK = """
import re

import numpy as np

from easy2hard.tasks.base import Task
from easy2hard.tasks.oracle import Oracle
from easy2hard.vocabulary import EOS, Vocabulary


class Brittle(Task):
    name, summary, example = "brittle", "copies; its oracle can break in an evaluation", "3120="
    vocabulary, grammar = Vocabulary("0123456789="), re.compile("[0-9]+=")

    def __init__(self, breaks: int = 0):
        self.breaks = breaks

    def sample(self, generator, difficulty, count):
        return self.frame(generator.integers(0, 10, (count, difficulty)) + self.vocabulary.id("0"), "=")

    def answer_bounds(self, prompts):
        return np.full(len(prompts), prompts.shape[1] - 1)


class BrittleOracle(Oracle):
    task_class = Brittle

    def solve(self, prompts):
        if self.task.breaks and len(prompts) == 50:
            raise ArithmeticError("the oracle broke")
        return np.concatenate([prompts[:, 1:-1], np.full((len(prompts), 1), EOS)], axis=1)
"""
TIMES = ["seconds", "rests_on"]
"""What may be another: the time, and whether the supervised phase was shared."""


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The sweep, and the file of its task."""
    folder = tmp_path_factory.mktemp("sweep")
    (folder / "it.toml").write_text(SWEEP)
    (folder / "shared.toml").write_text('share = "supervised"\n' + SWEEP)
    (folder / "brittle.py").write_text(TASK)
    return folder / "it.toml", folder / "brittle.py"


@pytest.fixture
def sharing(files: tuple[Path, Path]) -> tuple[Path, Path]:
    """The sweep whose variants share a supervised phase, but for the broken one, and the file of its task."""
    return files[0].with_name("shared.toml"), files[1]


def laboratory(files: tuple[Path, Path], out: Path) -> Laboratory:
    sweep, task = files
    asked = load_sweep(str(sweep))
    return Laboratory(asked, planned(asked, [], [task]), out, [task])


@pytest.fixture(scope="module")
def undisturbed(files: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Laboratory:
    """The sweep brought to its end in one go; do not change it."""
    before = dict(plugins._loaded)
    made = laboratory(files, tmp_path_factory.mktemp("undisturbed") / "out")
    made.check()
    said: list[str] = []
    made.bring_to_end(2, said.append)
    assert [line.partition(":")[0] for line in said if "begins" in line] == [run.name for run in made.runs]
    (last,) = [line for line in said if "3 of 3" in line]
    assert re.fullmatch(r"broken-seed0: begins, 3 of 3, about \d+\.\d s left", last)
    collect(made)
    plugins._loaded = before
    return made


def test_what_fails_stops_nothing_else(undisturbed: Laboratory) -> None:
    table = pq.read_table(undisturbed.out / "results.parquet").to_pylist()
    assert [row["run"] for row in table] == ["whole-seed0", "less-seed0", "broken-seed0"]
    assert [row["status"] for row in table] == ["finished", "finished", "failed"]
    for row in table[:2]:
        # 20 supervised steps and one round of 4; a second one would be beyond the budget.
        assert (row["rounds"], row["steps"], row["difficulties"]) == (1, 24, ["4"])
        assert row["evaluated"][:6] == ["1", "2", "3", "4", "5", "6"]
        assert row["at_compared"] == row["exact_match"][row["evaluated"].index(str(row["compared_at"]))]
        assert len(row["exact_match"]) == len(row["evaluated"])
        assert row["lowest_precision"] == min(each for each in row["precision"] if each is not None)
    assert re.fullmatch(rf"{re.escape(BROKE)}\d+\)", table[2]["reason"])
    assert table[2]["reach"] is None
    assert table[2]["exact_match"] == []


def test_the_page_compares_variants(undisturbed: Laboratory) -> None:
    page = (undisturbed.out / "report.html").read_text()
    assert "<td>0 of 1</td>" in page
    assert f"broken-seed0: failed: {BROKE}" in page


def call(files: tuple[Path, Path], out: Path) -> "subprocess.Popen[str]":
    sweep, task = files
    words = [sys.executable, "-m", "easy2hard", "sweep", str(sweep), "--out", str(out), "--processes", "2"]
    pipe = subprocess.PIPE
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    return subprocess.Popen([*words, "--plugin", str(task)], stdout=pipe, stderr=pipe, text=True, env=environment)


def disturb(process: "subprocess.Popen[str]", at: str, how: signal.Signals) -> tuple[int, str]:
    """Read on until a line has ``at`` in it, send a signal, and return exit code and standard error.

    SIGKILL is for the runs as well: that is what the end of a machine looks like.
    """
    assert process.stdout is not None
    assert any(at in line for line in process.stdout)
    if how == signal.SIGKILL:
        os.kill(process.pid, signal.SIGSTOP)  # so that it begins no run that is not in the list
    family = [process.pid, *(descendants(process.pid) if how == signal.SIGKILL else [])]
    for pid in family:
        os.kill(pid, how)
    _, errors = process.communicate()
    return process.returncode, errors


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_killed_three_times_a_sweep_that_shares_ends_with_the_table_of_one_that_does_not(
    sharing: tuple[Path, Path], undisturbed: Laboratory, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    assert disturb(call(sharing, out), "whole-seed0-supervised: begins", signal.SIGKILL)[0] == -signal.SIGKILL
    assert disturb(call(sharing, out), "whole-seed0-supervised: finished", signal.SIGKILL)[0] == -signal.SIGKILL
    code, errors = disturb(call(sharing, out), "less-seed0: begins", signal.SIGTERM)
    assert (code, errors) == (130, "stopped and kept: the same command goes on from here\n")
    process = call(sharing, out)
    _, errors = process.communicate()
    assert process.returncode == 1, errors  # a run failed, and that is not hidden
    one, other = (pq.read_table(folder / "results.parquet") for folder in (undisturbed.out, out))
    assert other["rests_on"].to_pylist() == ["whole-seed0-supervised"] * 2 + [None]
    assert one.drop_columns(TIMES).to_pylist() == other.drop_columns(TIMES).to_pylist()
    again = laboratory(sharing, out)
    for run in again.runs[:2]:
        digests = [each.path(run) / "manifest.json" for each in (undisturbed, again)]
        first, second = (json.loads(path.read_text())["rounds"] for path in digests)
        assert [record["weights_sha256"] for record in first] == [record["weights_sha256"] for record in second]
    whole, less, base = (RunDirectory(again.path(work)).manifest for work in (*again.runs[:2], *again.bases))
    assert whole.rounds[0] == less.rounds[0] == base.rounds[0]  # seconds and all: trained once
    assert "whole-seed0" not in [run.name for run in again.left()]


def test_job_files_are_command_lines(cli: CommandLine, files: tuple[Path, Path], tmp_path: Path) -> None:
    sweep, task = map(str, files)
    command = ("sweep", sweep, "--out", "out", "--plugin", task, "--jobs", "jobs.txt")
    assert cli(*command).returncode == 0
    lines = (tmp_path / "jobs.txt").read_text().splitlines()
    names = [shlex.split(line)[4] for line in lines]
    assert names == ["out/runs/whole-seed0", "out/runs/less-seed0", "out/runs/broken-seed0"]
    program, *arguments = shlex.split(lines[1])
    assert program == "easy2hard"
    assert cli(*arguments).returncode == 0  # as a cluster would
    done = cli(*command)
    assert "jobs.txt: 2 command lines" in done.stdout
    table = pq.read_table(tmp_path / "out" / "results.parquet").to_pylist()
    assert [row["status"] for row in table] == ["open", "finished", "open"]
    results = easy2hard.Run.sweep(sweep, "out", plugins=task, jobs="again.txt", progress=False)
    assert (tmp_path / "again.txt").read_bytes() == (tmp_path / "jobs.txt").read_bytes()
    assert results.frame.equals(pd.read_parquet("out/results.parquet"))
    assert (results.left, results.failed, results.paths) == (2, 0, [Path("out/runs/less-seed0")])
    assert results.written == [Path("out/results.parquet"), Path("out/results.json"), Path("out/report.html")]
    assert json.loads(Path("out/results.json").read_text())["runs"][1]["status"] == "finished"
    assert set(easy2hard.frame(results.paths)["run"]) == {"out/runs/less-seed0"}


def test_job_files_have_supervised_phases_first(
    fake_run: Callable[..., RunDirectory], sharing: tuple[Path, Path], tmp_path: Path
) -> None:
    made, jobs = laboratory(sharing, tmp_path / "out"), tmp_path / "jobs.txt"
    assert made.write_jobs(jobs) == (2, 2)
    first, second = map(shlex.split, jobs.read_text().splitlines())
    (base,) = made.bases
    assert first[:3] == ["easy2hard", "run", f"{made.path(base)}.toml"]
    assert load_recipe(first[2]) == base.settings
    assert second[:3] == ["easy2hard", "run", "smoke"]
    begun = fake_run(made.path(base))
    (begun.path / "manifest.json").write_text(manifest_text(begun.manifest.model_copy(update={"status": "finished"})))
    assert made.write_jobs(jobs) == (3, 0)
    whole, less, _ = map(shlex.split, jobs.read_text().splitlines())
    copied = ["easy2hard", "branch", str(made.path(base)), "--from-round", "0", "--out"]
    assert [whole[:7], less[:7]] == [[*copied, str(made.path(run))] for run in made.runs[:2]]


def test_without_its_supervised_phase_a_run_fails_and_is_tried_again(
    sharing: tuple[Path, Path], tmp_path: Path
) -> None:
    made = laboratory(sharing, tmp_path)
    (base,) = made.bases
    made.log(base).parent.mkdir()
    made.log(base).write_text("error: no room\n")
    states = [made.state(run) for run in made.runs]
    assert [state.status for state in states] == ["failed", "failed", "open"]
    assert states[0].reason == "its supervised phase failed: error: no room"
    assert [work.name for work in made.left()] == [base.name, *(run.name for run in made.runs)]
    assert [made.ready(work) for work in made.left()] == [True, False, False, True]


def test_what_was_begun_with_other_settings_is_refused(
    cli: CommandLine, files: tuple[Path, Path], undisturbed: Laboratory, tmp_path: Path
) -> None:
    more = ("--plugin", str(files[1]), "--set", "rounds.steps=5", "--jobs", "jobs.txt")
    done = cli("sweep", str(files[0]), "--out", str(undisturbed.out), *more)
    assert done.returncode == 2
    assert "whole-seed0: was begun with other settings" in done.stderr
    assert not (tmp_path / "jobs.txt").exists()


def test_two_processes_are_not_at_one_sweep(files: tuple[Path, Path], tmp_path: Path) -> None:
    made = laboratory(files, tmp_path)
    with made._alone(), pytest.raises(UserError, match="another process is at this sweep"):
        made.bring_to_end(1, print)


@pytest.mark.parametrize(
    ("manifest", "log", "status", "reason"),
    [
        (None, None, "open", ""),
        (None, "stopped and kept: …\n", "open", ""),
        (None, "Traceback\nMemoryError: no room\n\n", "failed", "MemoryError: no room"),
        ("finished", None, "finished", ""),
        ("stopped: CollapseError: agreement is low", "stopped by the collapse watch: …", "stopped", "agreement is low"),
        ("stopped: interrupted", "stopped and kept: …", "open", ""),
        ("stopped: interrupted", "error: out: damaged", "failed", "error: out: damaged"),
        ("stopped: ValueError: x", None, "failed", "stopped: ValueError: x"),
        ("stopped: ValueError: x", "Traceback\nValueError: x", "failed", "ValueError: x"),
        ("running", "round 1", "failed", "killed"),
    ],
)
def test_the_state_of_a_run_is_what_is_on_the_disk(
    fake_run: Callable[..., RunDirectory],
    files: tuple[Path, Path],
    tmp_path: Path,
    manifest: str | None,
    log: str | None,
    status: str,
    reason: str,
) -> None:
    made = laboratory(files, tmp_path)
    run = made.runs[0]
    if manifest is not None:
        begun = fake_run(made.path(run))
        text = manifest_text(begun.manifest.model_copy(update={"status": manifest}))
        (begun.path / "manifest.json").write_text(text)
    if log is not None:
        made.log(run).parent.mkdir(parents=True)
        made.log(run).write_text(log)
    state = made.state(run)
    assert (state.status, state.reason) == (status, reason)
    assert (run in made.left()) == (status in ("open", "failed"))


def test_a_damaged_run_has_failed(
    fake_run: Callable[..., RunDirectory], files: tuple[Path, Path], tmp_path: Path
) -> None:
    made = laboratory(files, tmp_path)
    (fake_run(made.path(made.runs[0])).path / "manifest.json").write_text("{")
    assert made.state(made.runs[0]).status == "failed"

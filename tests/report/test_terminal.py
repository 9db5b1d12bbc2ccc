"""Runs on a terminal: the list, and the live view."""

import fcntl
import io
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest
from rich.console import Console
from whole_runs import full_run

from easy2hard.report import terminal
from easy2hard.report.terminal import listed, runs_in, view, watch
from easy2hard.runs.manifest import RunDirectory
from easy2hard.runs.progress_file import RunProgress

CommandLine = Callable[..., CompletedProcess[str]]


def shown(run: RunDirectory) -> str:
    out = io.StringIO()
    Console(file=out, width=100, highlight=False).print(view(run, run.settings, 100))
    return out.getvalue()


def hold(run: RunDirectory) -> io.TextIOWrapper:
    """Take the lock as a running process does."""
    file = (run.path / "lock").open("w")
    fcntl.flock(file, fcntl.LOCK_EX)
    return file


def report_progress(run: RunDirectory, **changes: object) -> None:
    now = time.time()
    values = {"round": 3, "rounds": 9, "phase": "train", "done": 30, "total": 120, "written": now}
    (run.path / "progress.json").write_text(RunProgress.model_validate({**values, **changes}).model_dump_json())


def test_a_run_is_listed_with_what_it_reached(tmp_path: Path) -> None:
    run = listed(full_run(tmp_path / "run", rounds=4, seed=2).path)
    assert (run.task, run.seed, run.state, run.round, run.rounds) == ("copy", 2, "finished", 3, 3)
    assert (run.reach, run.frontier) == (8, 6)
    assert 0 <= run.age_seconds < 3600


def test_a_run_that_says_running_is_running_only_while_its_lock_is_held(tmp_path: Path) -> None:
    run = full_run(tmp_path / "run", status="running")
    assert listed(run.path).state == "killed"
    with hold(run):
        assert listed(run.path).state == "running"
    assert listed(run.path).state == "killed"


@pytest.mark.parametrize("name", ["manifest.json", "settings.toml"])
def test_a_damaged_run_is_listed_as_such(tmp_path: Path, name: str) -> None:
    run = full_run(tmp_path / "run")
    (run.path / name).write_text("{")
    assert listed(run.path).state.startswith("damaged: ")


def test_all_folders_below_are_searched_but_hidden_ones_and_runs(tmp_path: Path) -> None:
    for path in ("b", "a/deep/run", ".begun", "b/inner"):
        full_run(tmp_path / path)
    assert list(runs_in(tmp_path)) == [tmp_path / "a/deep/run", tmp_path / "b"]
    assert list(runs_in(tmp_path / "b")) == [tmp_path / "b"]


def test_the_list_is_a_line_a_run_or_json(cli: CommandLine) -> None:
    full_run(Path("runs/one"))
    full_run(Path("runs/[bold]two[/bold]"), task="[red]x")
    head, *lines = cli("list").stdout.splitlines()
    assert head.split() == ["run", "task", "state", "round", "reach", "prompts", "trained", "to", "age"]
    assert [line.split()[:7] for line in lines] == [
        ["runs/[bold]two[/bold]", "[red]x", "finished", "2/2", "5", "1,000", "5"],
        ["runs/one", "copy", "finished", "2/2", "5", "1,000", "5"],
    ]
    found = json.loads(cli("list", "runs", "--json").stdout)
    assert [(each["run"], each["reach"]) for each in found] == [("runs/[bold]two[/bold]", 5), ("runs/one", 5)]


def test_an_empty_folder_has_no_runs(cli: CommandLine) -> None:
    Path("runs").mkdir()
    assert (cli("list").stdout, json.loads(cli("list", "--json").stdout)) == ("runs: no runs\n", [])


def test_the_view_shows_rounds_and_where_the_run_is(tmp_path: Path) -> None:
    run = full_run(tmp_path / "run", status="running")
    with hold(run):
        report_progress(run, loss=0.25, tokens=5000, rate=500.0, left=30.0, run_left=4000.0, note="look out")
        text = shown(run)
    assert "run  copy, seed 0  running" in text
    assert "supervised to 3, trained to 5, reach at 0.99: 5 (1,000 prompts each, members' mean, round 2)" in text
    assert "round 3/9 train 30/120  loss 0.2500  500 tokens/s  30 s left  whole run: 1 h 7 min left" in text
    assert "look out" in text
    assert "7/10" in text
    after = shown(run)
    assert "killed" in after
    assert "train 30/120" not in after
    assert f"easy2hard resume {run.path}" in " ".join(after.split())


def test_the_view_of_a_run_that_has_only_begun(tmp_path: Path) -> None:
    assert "no round is committed yet" in shown(full_run(tmp_path / "run", rounds=0))


def test_watching_ends_with_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = full_run(tmp_path / "run", status="running")
    lock = hold(run)
    looks = []

    def sleep(seconds: float) -> None:
        looks.append(seconds)
        if len(looks) == 3:
            lock.close()

    monkeypatch.setattr(terminal.time, "sleep", sleep)
    out = io.StringIO()
    watch(run.path, Console(file=out, force_terminal=True, width=100), 0.5, once=False)
    assert looks == [0.5] * 3
    assert "running" in out.getvalue()


def test_without_a_terminal_a_run_is_shown_once(cli: CommandLine) -> None:
    with hold(full_run(Path("run"), status="running")):
        assert "seed 0  running" in cli("watch", "run").stdout


def test_neither_loads_torch(tmp_path: Path) -> None:
    program = "import sys, easy2hard.report.terminal; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0

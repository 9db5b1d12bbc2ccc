"""A sweep on a cluster that loses a machine half-way ends with the bits of one that nothing happened to."""

import fcntl
import os
import re
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any, BinaryIO

import pytest

import easy2hard
from easy2hard.errors import UserError
from easy2hard.runs.manifest import RunDirectory
from easy2hard.sweep import cluster
from easy2hard.sweep.cluster import Task, bring_to_end, device_on, threads_on
from easy2hard.sweep.execute import Laboratory
from easy2hard.sweep.plan import load_sweep, planned
from studies.soak import descendants

CommandLine = Callable[..., CompletedProcess[str]]

SWEEP = """
recipe = "smoke"
seeds = [0, 1]
set = [
    "task.name=gated",
    "supervised.steps=20", "supervised.warmup=0", "supervised.decay=0",
    "rounds.count=2", "rounds.steps=4", "rounds.decay=0",
]
examples = 20
"""
TASK = '''
"""Copies; the evaluation of the second round only ends once the gate is open: a file beside this one."""

import re
import time
from pathlib import Path

import numpy as np

from easy2hard import Oracle, Task
from easy2hard.vocabulary import EOS, Vocabulary

GATE = Path(__file__).with_name("gate")


class Gated(Task):
    name, summary, example = "gated", "copies once the gate is open", "3120="
    vocabulary, grammar = Vocabulary("0123456789="), re.compile("[0-9]+=")

    def sample(self, generator, difficulty, count):
        return self.frame(generator.integers(0, 10, (count, difficulty)) + self.vocabulary.id("0"), "=")

    def answer_bounds(self, prompts):
        return np.full(len(prompts), prompts.shape[1] - 1)


class GatedOracle(Oracle):
    task_class = Gated

    def solve(self, prompts):
        deadline = time.monotonic() + 600
        while len(prompts) == 50 and prompts.shape[1] == 9 and not GATE.exists():
            assert time.monotonic() < deadline, "nobody opened the gate"
            time.sleep(0.05)
        return np.concatenate([prompts[:, 1:-1], np.full((len(prompts), 1), EOS)], axis=1)
'''


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    """The sweep, and the file of its task."""
    (tmp_path / "it.toml").write_text(SWEEP)
    (tmp_path / "gated.py").write_text(TASK)
    return tmp_path / "it.toml", tmp_path / "gated.py"


PORTS = ("metrics_agent_port", "metrics_export_port", "runtime_env_agent_port", "dashboard_agent_listen_port")


def small() -> dict[str, Any]:
    """Return what a node of a core is made with; it waits for no helper that is yet to choose its port."""
    with ExitStack() as taken:
        sockets = [taken.enter_context(socket.socket()) for _ in PORTS]
        for each in sockets:
            each.bind(("", 0))
        ports = {name: each.getsockname()[1] for name, each in zip(PORTS, sockets, strict=True)}
    return {"num_cpus": 1, "object_store_memory": 80 << 20, **ports}


@pytest.fixture
def machines(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A cluster of two nodes with a core each; what it writes has a short path, for its sockets."""
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("RAY_worker_niceness", "0")  # else a busy machine leaves nothing for them
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    from ray.cluster_utils import Cluster

    with tempfile.TemporaryDirectory(prefix="ray", dir="/tmp", ignore_cleanup_errors=True) as folder:
        made = Cluster(True, head_node_args={**small(), "include_dashboard": False, "temp_dir": folder})
        try:
            made.add_node(**small())
            yield made
        finally:
            made.shutdown()


def wait_until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 300
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def weights(path: Path) -> list[str]:
    return [record.weights_sha256 for record in RunDirectory(path).manifest.rounds]


def lose(node: Any, paths: list[Path]) -> str:
    """End a machine once all runs go on, and return which of them was there."""
    wait_until(lambda: all(RunDirectory(path).manifest.status == "running" for path in paths), "a run does not go on")
    (raylet,) = node.all_processes["raylet"]
    titles = [Path(f"/proc/{pid}/cmdline").read_bytes() for pid in descendants(raylet.process.pid)]
    (lost,) = [path.name for path in paths if any(f"ray::{path.name}".encode() in title for title in titles)]
    node.kill_all_processes(check_alive=False, allow_graceful=False, wait=True)
    return lost


def in_second_round(path: Path) -> bool:
    return path.exists() and len(RunDirectory(path).manifest.rounds) == 2


def interrupt(made: Laboratory, address: str) -> None:
    """Begin a sweep, and press Ctrl-C once all of its runs are in their second round."""
    said: list[str] = []

    def say(line: str) -> None:
        said.append(line)
        if f"begins, {len(made.runs)} of" in line:
            wait_until(lambda: all(map(in_second_round, map(made.path, made.runs))), "round 1 is never committed")
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        made.bring_to_end(1, say, address)
    assert said[0] == "machines: 2; cores for each run: 1; device: cpu"
    for run in made.runs:
        assert not RunDirectory(made.path(run)).held  # nothing goes on behind the user's back
        assert made.state(run).status == "open"
        assert made.log(run).read_text().splitlines()[-1].startswith("stopped and kept: ")


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_interrupted_and_then_short_of_a_machine_it_ends_with_the_same_bits(
    machines: Any, files: tuple[Path, Path], tmp_path: Path
) -> None:
    sweep, task = files
    gate, out = tmp_path / "gate", tmp_path / "lost"
    gate.touch()
    whole = easy2hard.Run.sweep(sweep, tmp_path / "whole", processes=1000, plugins=task, progress=False)
    gate.unlink()
    asked = load_sweep(str(sweep))
    made = Laboratory(asked, planned(asked, [], [task]), out, [task])
    paths = [made.path(run) for run in made.runs]
    interrupt(made, machines.address)
    (node,) = machines.worker_nodes
    with ThreadPoolExecutor() as beside:
        lost = beside.submit(lose, node, paths)
        lost.add_done_callback(lambda _: gate.touch())
        found = easy2hard.Run.sweep(sweep, out, ray=machines.address, plugins=task, progress=False)
    assert found.frame.drop(columns="seconds").equals(whole.frame.drop(columns="seconds"))
    assert [weights(path) for path in found.paths] == [weights(path) for path in whole.paths]
    assert (out / "logs" / f"{lost.result()}.log").read_text().count("begins on ") > 1


@pytest.fixture
def task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Task:
    """A task whose run is a line on the screen; what it changes in its process is put back."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.setattr(sys, "argv", sys.argv)
    for name in ("lock", "log"):
        (tmp_path / name).touch()
    return Task(str(tmp_path), ".", "run", "log", begin=["--version"], resume=["recipes", "smoke"], threads=1)


@contextmanager
def locked(path: Path) -> Iterator[BinaryIO]:
    with path.open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield file


def test_a_task_is_the_command_line_and_goes_on_where_it_was(task: Task) -> None:
    with locked(Path("lock")):
        assert bring_to_end(task) == 0
        first = Path("log").read_text()
        assert re.fullmatch(r"begins on .+\neasy2hard .+\n", first)
        Path("run").mkdir()
        assert bring_to_end(task) == 0
        assert bring_to_end(replace(task, resume=["resume", "nowhere"])) == 2
    assert os.environ["OMP_NUM_THREADS"] == "1"
    text = Path("log").read_text()
    assert text.startswith(first)  # the log of the attempt before is kept
    assert 'name = "copy"' in text
    assert text.splitlines()[-1].startswith("error: ")


def test_two_tasks_are_never_at_one_run(task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    with locked(Path("lock")), locked(Path("log")) as file:
        monkeypatch.setattr(cluster, "PATIENCE", 0)
        assert bring_to_end(task) == 2
        assert Path("log").read_text() == "error: run: after 0 s another machine is still at this run\n"
        monkeypatch.setattr(cluster, "PATIENCE", 300)
        monkeypatch.setattr(cluster.time, "sleep", lambda _: file.close())  # the one before ends
        assert bring_to_end(task) == 0
    assert "begins on" in Path("log").read_text()


def test_a_machine_that_does_not_share_the_folder_runs_nothing(task: Task) -> None:
    with pytest.raises(
        UserError, match=r"does not see .* \(the lock of .* is free there\); all need one shared folder"
    ):
        bring_to_end(task)
    with pytest.raises(UserError, match=r"elsewhere: No such file"):
        bring_to_end(replace(task, folder="elsewhere"))
    Path("lock").unlink()
    with pytest.raises(UserError, match=r"lock: No such file"):
        bring_to_end(task)
    with pytest.raises(UserError, match=r"has easy2hard .*, and 0\.1 started the sweep"):
        bring_to_end(replace(task, version="0.1"))
    assert Path("log").read_bytes() == b""


def test_every_run_fits_on_the_smallest_machine() -> None:
    small, large, head = {"CPU": 4.0}, {"CPU": 64.0, "GPU": 8.0}, {"CPU": 0.0}
    assert threads_on([small, large, head], 1, "cpu") == 4
    assert threads_on([small, large], 3, "cpu") == 1
    assert threads_on([small, large], 1, "cuda") == 8  # beside each GPU
    assert threads_on([small], 9, "cpu") == 1
    assert [device_on([small, large], name) for name in ("auto", "cuda", "cpu")] == ["cuda", "cuda", "cpu"]
    assert device_on([small], "auto") == "cpu"
    with pytest.raises(UserError, match="no machine of the cluster has a core"):
        threads_on([head], 1, "cpu")
    with pytest.raises(UserError, match="--device cuda: no machine of the cluster has a GPU"):
        device_on([small], "cuda")
    with pytest.raises(UserError, match="--device cuda:1: on a cluster Ray gives"):
        device_on([large], "cuda:1")


@pytest.mark.parametrize(
    ("words", "ray"),
    [
        ((), False),
        (("--ray",), True),
        (("--ray", "--device", "cpu"), True),
        (("--ray", "10.0.0.1:6379"), "10.0.0.1:6379"),
        (("--ray=auto",), "auto"),
    ],
)
def test_the_address_may_be_left_out(
    cli: CommandLine, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], ray: bool | str
) -> None:
    asked: list[bool | str] = []

    def sweep(file: str, out: Path | None, **more: Any) -> None:
        asked.append(more["ray"])
        raise KeyboardInterrupt

    monkeypatch.setattr(easy2hard.Run, "sweep", sweep)
    assert cli("sweep", "filters-copy", *words).returncode == 130
    assert asked == [ray]


def test_what_cannot_be_is_one_line(
    cli: CommandLine, files: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "Missing argument 'NAME'" in cli("sweep").stderr
    command = ("sweep", str(files[0]), "--plugin", str(files[1]), "--ray")
    done = cli(*command, "--jobs", "jobs.txt")
    assert done.returncode == 2
    assert done.stderr.startswith("error: --jobs, --ray: choose one")
    monkeypatch.setitem(sys.modules, "ray", None)
    done = cli(*command)
    assert done.returncode == 2
    assert done.stderr.startswith("error: --ray needs the package ray: pip install '.[cluster]' (")

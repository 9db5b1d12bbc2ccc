"""What several test files share: exact prompts and answers, the command line, a run without training."""

import io
import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import hypothesis
import pytest
from compiled import CACHE, compile_once

import easy2hard
from easy2hard import plugins
from easy2hard.cli import main
from easy2hard.runs.manifest import Manifest, RoundRecord, RunDirectory, manifest_text
from easy2hard.settings.recipes import load_recipe

os.environ["NUMBA_CACHE_DIR"] = str(CACHE)

hypothesis.settings.register_profile(
    "repeatable",
    derandomize=True,
    deadline=None,  # a busy machine is no failure
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("repeatable")


def pytest_sessionstart(session: pytest.Session) -> None:
    """Where the tests are shared out among workers, compile before there are any."""
    if getattr(session.config.option, "numprocesses", None):
        compile_once()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Return the workers of `--numprocesses auto`: one a core, and no more than their memory has room for."""
    return min(4, len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1)


@pytest.fixture(autouse=True)
def _own_plugins(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget after each test the plug-ins that it loaded: the next one may load others of their names."""
    monkeypatch.setattr(plugins, "_loaded", dict(plugins._loaded))


@pytest.fixture(scope="session")
def formats() -> dict[str, list[dict[str, Any]]]:
    """Task name -> cases with "prompt" and "target"; also of tasks that are not registered."""
    cases: dict[str, list[dict[str, Any]]] = {}
    for case in json.loads((Path(__file__).parent / "data" / "formats.json").read_text()):
        # Either maze task answers any maze.
        for task in ["maze-hops", "maze-nodes"] if case["task"] == "maze" else [case["task"]]:
            cases.setdefault(task, []).append(case)
    return cases


@pytest.fixture
def cli(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Callable[..., CompletedProcess[str]]:
    """Call `easy2hard` in this process, inside an empty working directory."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str, stdin: str | bytes = "") -> CompletedProcess[str]:
        content = stdin.encode() if isinstance(stdin, str) else stdin
        monkeypatch.setattr(sys, "argv", ["easy2hard", *arguments])
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content), encoding="utf-8"))
        capsys.readouterr()
        before = signal.getsignal(signal.SIGTERM)
        try:
            with pytest.raises(SystemExit) as exit_:
                main()
        finally:
            signal.signal(signal.SIGTERM, before)
        captured = capsys.readouterr()
        assert isinstance(exit_.value.code, int)
        return CompletedProcess(arguments, exit_.value.code, captured.out, captured.err)

    return call


@pytest.fixture(scope="session")
def smoke(tmp_path_factory: pytest.TempPathFactory) -> easy2hard.Run:
    """The recipe `smoke` brought to its end, once for all tests; do not change it."""
    return easy2hard.run("smoke", tmp_path_factory.mktemp("smoke") / "run", progress=False)


@pytest.fixture
def fake_run() -> Callable[..., RunDirectory]:
    """Write what a report reads of a smoke run: settings and a manifest, neither weights nor labels."""

    def write(path: Path, rounds: int = 3) -> RunDirectory:
        settings = load_recipe("smoke")
        easy, beyond = settings.supervised.difficulty, settings.evaluation.beyond
        records = []
        for number in range(rounds):
            hardest = easy + number
            records.append(
                RoundRecord(
                    round=number,
                    difficulties=[hardest] if number else list(range(1, easy + 1)),
                    proposed=100 if number else 0,
                    kept=80 if number else 0,
                    filters=[],
                    steps=20,
                    tokens=10_000,
                    seconds=1.5,
                    phase_seconds={"train": 1.5},
                    loss=0.1,
                    accuracy={str(d): 1 / max(1, d - hardest) for d in range(1, hardest + beyond + 1)},
                    weights_sha256="0" * 64,
                )
            )
        manifest = Manifest(
            task=settings.task.name, seed=settings.seed, torch="2", threads=1, device="cpu", rounds=records
        )
        path.mkdir(parents=True)
        (path / "settings.toml").write_text(settings.to_toml())
        (path / "manifest.json").write_text(manifest_text(manifest))
        return RunDirectory(path)

    return write

"""Help fits a screen, has an example and waits for nothing heavy; shells complete what there is."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from easy2hard.cli import app
from easy2hard.cli.app import DATA, JUDGE, LOOK, TRAIN
from easy2hard.runs.manifest import RunDirectory
from easy2hard.settings.recipes import recipe_names
from easy2hard.tasks.registry import task_names

COMMANDS = [info.name or info.callback.__name__ for info in app.registered_commands if info.callback]
GROUPS = (TRAIN, LOOK, JUDGE, DATA)
SCREEN = 40
HEAVY = {"torch", "pandas", "pyarrow", "matplotlib", "transformers", "scipy", "numba"}


def environment(**more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name != "LINES"}
    return {**kept, "COLUMNS": "100", "TERMINAL_WIDTH": "100", **more}


def test_no_help_imports_anything_heavy() -> None:
    """All in one process: what one command's help imports would be there for the next."""
    code = (
        "import sys, io, contextlib\n"
        "from easy2hard.cli import app\n"
        f"for name in {COMMANDS!r}:\n"
        "    with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):\n"
        "        app(args=[name, '--help'], standalone_mode=False)\n"
        "print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment())
    assert not HEAVY & set(done.stdout.split())


@pytest.mark.parametrize("command", [*COMMANDS, ""])
def test_help_fits_a_screen(
    command: str, cli: Callable[..., CompletedProcess[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment().items():
        monkeypatch.setenv(name, value)
    printed = cli(*([command] if command else []), "--help").stdout.rstrip().splitlines()
    assert 5 < len(printed) <= SCREEN
    assert max(map(len, printed)) <= 100
    if command:
        examples = [line.strip() for line in printed if line.strip().startswith("Example:")]
        assert len(examples) == 1
        assert f"easy2hard {command}" in examples[0]


def test_the_help_lists_every_command_in_a_group_on_one_line(
    cli: Callable[..., CompletedProcess[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment(COLUMNS="80", TERMINAL_WIDTH="80").items():
        monkeypatch.setenv(name, value)
    sections = cli("--help").stdout.rstrip().split("\n\n")
    listed = {heading: lines for heading, *lines in (part.splitlines() for part in sections[-len(GROUPS) :])}
    assert list(listed) == [f"{group}:" for group in GROUPS]
    lines = [line for of_group in listed.values() for line in of_group]
    assert sorted(line.split()[0] for line in lines) == sorted(COMMANDS)
    for line in lines:
        assert line.startswith("  ")
        assert len(line) <= 80
        assert line.endswith(".")
        assert not line.endswith("...")


def complete(line: str, folder: Path) -> list[str]:
    """Return what bash would offer for the last word of a line."""
    words = line.split(" ")
    done = subprocess.run(
        [sys.executable, "-c", "import sys; sys.argv[0] = 'easy2hard'; from easy2hard.cli import main; main()"],
        capture_output=True,
        text=True,
        cwd=folder,
        env=environment(
            _EASY2HARD_COMPLETE="complete_bash",
            COMP_WORDS=line,
            COMP_CWORD=str(len(words) - 1),
            PYTHONPATH=str(Path(__file__).parents[1]),
        ),
    )
    return done.stdout.split()


def test_shells_complete_commands_recipes_and_runs(tmp_path: Path, fake_run: Callable[..., RunDirectory]) -> None:
    fake_run(tmp_path / "runs" / "mine")
    assert complete("easy2hard est", tmp_path) == ["estimate"]
    assert complete("easy2hard run cop", tmp_path) == [name for name in recipe_names() if name.startswith("cop")]
    assert complete("easy2hard oracle rev", tmp_path) == [name for name in task_names() if name.startswith("rev")]
    assert complete("easy2hard eval runs/m", tmp_path) == ["runs/mine"]
    assert complete("easy2hard eval ru", tmp_path) == ["runs/"]

"""Any command line at all ends with an exit code that the documentation has, and in no traceback.

100 of them in `make test`, 10,000 in `make faults`: `COMMAND_LINES` says how many. They are made of the commands' own
options and of values that hardly fit; whatever would train is stopped once it would begin.
"""

import io
import os
import re
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import pytest
from helpers import TASKS
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.models import OptionInfo, ParameterInfo

import easy2hard
from easy2hard import init, memory, plugins
from easy2hard.cli import app, main
from easy2hard.runs import estimate, rounds
from easy2hard.runs.experiment import Experiment
from easy2hard.runs.manifest import RunDirectory
from easy2hard.settings.docs import sections
from easy2hard.settings.recipes import recipe_names, shipped
from easy2hard.sweep import forecast
from easy2hard.sweep.execute import Laboratory

EXAMPLES = int(os.environ.get("COMMAND_LINES", "100"))
DOCUMENTED = Path(__file__).parents[2] / "docs" / "reproducibility.md"
CODES = {int(code) for code in re.findall(r"^\| (\d+) \|", DOCUMENTED.read_text(encoding="utf-8"), re.MULTILINE)}
ROOM = 100_000_000
"""Bytes of memory that commands are told there are: what is accepted then takes no time."""


@dataclass(frozen=True)
class Parameter:
    """An argument or option of a command."""

    name: str
    kind: type
    option: str | None
    """``--name``; None for an argument."""
    info: ParameterInfo


def parameters(callback: Callable[..., Any]) -> list[Parameter]:
    found = []
    for name, annotation in get_type_hints(callback, include_extras=True).items():
        if get_origin(annotation) is not Annotated:
            continue
        base, info, *_ = get_args(annotation)
        kind = next((each for each in leaves(base) if each is not type(None)), str)
        written = next(iter(info.param_decls or ()), f"--{name.replace('_', '-')}")
        found.append(Parameter(name, kind, written if isinstance(info, OptionInfo) else None, info))
    return found


def leaves(annotation: Any) -> Iterator[type]:
    inner = get_args(annotation)
    if not inner:
        yield annotation
    for each in inner:
        yield from leaves(each)


COMMANDS = {
    info.name or info.callback.__name__: parameters(info.callback) for info in app.registered_commands if info.callback
}

junk = st.text(st.characters(exclude_characters="\0/", exclude_categories=()), max_size=6)
numbers = st.one_of(
    st.integers(-2, 12).map(str),
    st.sampled_from(["9" * 30, "9" * 5000, str(2**63), "1e3", "nan", "inf", "-inf", "1e308", "1e-320", "0x10", "²"]),
)
settings_paths = [each.path for section in sections() for each in section.settings]
replacements = st.builds(
    "{}={}".format,
    st.sampled_from([*settings_paths, "labels", "nothing", "seed.deep", ""]),
    st.one_of(numbers, junk, st.sampled_from(["true", "[]", "{}", "[1,", "'vote'", "[{name='vote'}]", "1979-05-27"])),
)
difficulties = st.lists(
    st.one_of(numbers, st.sampled_from(["1-3", "3-1", "2x3", "1x2-3", "1-1000000", "1000000x1000000", ""]), junk),
    min_size=1,
    max_size=3,
).map(",".join)
RUNS = ("run", "esc\x1b[31m\u202e")
runs = st.sampled_from([*RUNS, "run", "run", "folder", "folder/file", "nowhere"])
places = st.sampled_from(["new", "new/deep/new", "folder", "folder/file/new", "page.html", "a.pdf", "a.bmp", "x" * 300])
tomls = st.sampled_from(["bom.toml", "utf16.toml", "latin.toml", "odd.toml", "folder", "nowhere.toml", "smoke"])
by_name: dict[str, st.SearchStrategy[str]] = {
    "run": runs,
    "runs": runs,
    "folder": runs,
    "out": places,
    "jobs": places,
    "file": st.one_of(tomls, st.sampled_from(["prompts.txt", *shipped("sweeps")])),
    "recipe": st.one_of(tomls, st.sampled_from(recipe_names())),
    "name": st.sampled_from([*recipe_names(), *TASKS, "vote", "raises", "rubbish"]),
    "plugins": st.sampled_from(["plugins.py", "plugins.py", "quits.py", "broken.py", "folder", "prompts.txt", "no.py"]),
    "overrides": replacements,
    "options": st.builds("{}={}".format, st.sampled_from(["nodes", "hops", "first", "second", "carry_share"]), numbers),
    "difficulty": difficulties,
    "difficulties": difficulties,
    "prompts": st.one_of(numbers.map("{}=".format), st.sampled_from(["24=", "1+2=", "9" * 9000 + "="]), junk),
    "device": st.sampled_from(["auto", "cpu", "cuda", "cuda:99", "cuda:-1", "mps", "meta"]),
    "scale": st.sampled_from(["laptop", "desk"]),
    "kind": st.sampled_from(["evaluation", "labels", "supervised", "hard", "soft"]),
    "hardware": st.sampled_from(["cpu", "gpu", "abacus"]),
    "figure": st.sampled_from(["overview", "accuracy", "pie"]),
    "task": st.sampled_from([*TASKS, "raises", "exits", "rubbish"]),
    "check": st.sampled_from([*TASKS, "raises", "exits", "rubbish"]),
}


def values(parameter: Parameter) -> st.SearchStrategy[str]:
    """Values of a parameter: mostly of its kind, now and then anything."""
    usual = by_name.get(parameter.name, numbers if parameter.kind in (int, float) else junk)
    if parameter.kind is Path and parameter.name in ("out", "jobs"):  # nothing is written but where it may be
        return usual
    return st.one_of(usual, usual, usual, usual, junk)


@st.composite
def command_lines(draw: st.DrawFn) -> tuple[list[str], bytes | None]:
    """A command's name and what follows it, and the standard input; None where it is closed."""
    name = draw(st.sampled_from(sorted(COMMANDS)))
    line = [name]
    for each in COMMANDS[name]:
        if each.option is None:
            several = get_origin(each.kind) is list or each.name in ("prompts", "runs")
            line += draw(st.lists(values(each), min_size=0 if several else 1, max_size=2 if several else 1))
        elif draw(st.integers(0, 3)) == 0 or (each.name == "difficulty" and draw(st.integers(0, 9))):
            line += [each.option] if each.kind is bool else [each.option, draw(values(each))]
    if draw(st.integers(0, 9)) == 0:
        line.insert(draw(st.integers(0, len(line))), draw(st.one_of(junk, st.just("--nothing"), st.just("--"))))
    stdin = st.one_of(st.none(), st.binary(max_size=20), st.sampled_from([b"", b"24=\n", b"24=\t24\n", b"\xff\xfe2"]))
    return line, draw(stdin)


PLUGINS = """
from easy2hard.tasks.strings import Copy, CopyOracle

class Raises(Copy):
    name = "raises"
    def sample(self, generator, difficulty, count):
        raise RuntimeError("on purpose")

class Exits(Copy):
    name = "exits"
    def sample(self, generator, difficulty, count):
        raise SystemExit(0)

class Rubbish(Copy):
    name = "rubbish"
    def sample(self, generator, difficulty, count):
        return "rubbish"
    def answer_bounds(self, prompts):
        return None

class RaisesOracle(CopyOracle):
    task_class = Raises

class ExitsOracle(CopyOracle):
    task_class = Exits

class RubbishOracle(CopyOracle):
    task_class = Rubbish
    def solve(self, prompts):
        return [1]
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, smoke: easy2hard.Run) -> Iterator[tuple[Path, pytest.MonkeyPatch]]:
    """A folder with what the command lines name, and nothing that trains."""
    folder = tmp_path_factory.mktemp("lines")
    for name in RUNS:
        shutil.copytree(smoke.path, folder / name)
    (folder / "folder").mkdir()
    (folder / "folder" / "file").write_text("precious")
    recipe = (Path(easy2hard.__file__).parent / "recipes" / "smoke.toml").read_text(encoding="utf-8")
    (folder / "bom.toml").write_text(recipe, encoding="utf-8-sig")
    (folder / "utf16.toml").write_text(recipe, encoding="utf-16")
    (folder / "latin.toml").write_text(recipe.replace('description = "', 'description = "\xe9'), encoding="latin-1")
    (folder / "odd.toml").write_text(f"{recipe}\n[task.options]\nnodes = {'9' * 5000}\n")
    (folder / "prompts.txt").write_text("24=\n8631=\n")
    (folder / "plugins.py").write_text(PLUGINS)
    (folder / "quits.py").write_text("raise SystemExit(0)\n")
    (folder / "broken.py").write_text("this is no Python\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(memory, "_of_machine", lambda: ROOM)
        patch.setattr(rounds, "start", lambda settings, out, listener, blindfold, device: stop(settings, device))
        patch.setattr(rounds, "resume", lambda opened, listener, device: stop(opened.settings, device))
        patch.setattr(estimate, "estimate", lambda settings, on_phase, device: stop(settings, device))
        patch.setattr(init, "compose", lambda *arguments: stop(None, "cpu"))
        patch.setattr(Laboratory, "bring_to_end", lambda *arguments: stop(None, "cpu"))
        patch.setattr(forecast, "estimated", lambda *arguments: stop(None, "cpu"))
        patch.setattr(Laboratory, "check", lambda laboratory: None)
        yield folder, patch


def stop(settings: Any, device: str) -> None:
    """Stop where training would begin, as Ctrl-C does."""
    if settings is not None:
        assert Experiment(settings, device).device
    raise KeyboardInterrupt


def called(patch: pytest.MonkeyPatch, line: list[str], stdin: bytes | None) -> tuple[int, str, str]:
    """Return the exit code of a command line, what it wrote as a result, and what else it wrote."""
    out, error = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8") for _ in range(2))
    with patch.context() as within, redirect_stdout(out), redirect_stderr(error):
        within.setattr(plugins, "_loaded", {})  # each line is a process of its own
        within.setattr(sys, "argv", ["easy2hard", *line])
        within.setattr(sys, "stdin", None if stdin is None else io.TextIOWrapper(io.BytesIO(stdin), encoding="utf-8"))
        before = [(number, signal.getsignal(number)) for number in (signal.SIGINT, signal.SIGTERM)]
        try:
            main()
        except SystemExit as end:
            code = end.code
        finally:
            for number, handler in before:
                signal.signal(number, handler)
    assert isinstance(code, int)
    texts = []
    for stream in (out, error):
        stream.flush()
        texts.append(stream.buffer.getvalue().decode())  # type: ignore[attr-defined]
    return code, texts[0], texts[1]


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), database=None)
@given(command_line=command_lines())
def test_a_command_line_ends_as_documented(
    place: tuple[Path, pytest.MonkeyPatch], smoke: easy2hard.Run, command_line: tuple[list[str], bytes | None]
) -> None:
    folder, patch = place
    code, out, error = called(patch, *command_line)
    assert code in CODES
    assert "Traceback" not in error
    assert "\x1b" not in out + error
    if code == 2:
        lines = [line for line in error.splitlines() if line.startswith("error: ")]
        assert len(lines) == 1
        assert len(lines[0]) < 3000
    for new in ("new", "page.html", "a.pdf", "a.bmp", "runs"):
        path = folder / new
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    if command_line[0][:1] == ["resume"]:  # with --set it changes what a run is to become
        for name in RUNS:
            shutil.rmtree(folder / name)
            shutil.copytree(smoke.path, folder / name)
    assert RunDirectory(folder / "run").manifest.status == "finished"


@pytest.mark.parametrize("command", COMMANDS)
def test_every_number_of_a_command_has_a_range(command: str) -> None:
    numbers = [each for each in COMMANDS[command] if each.kind is int and each.option]
    open_ended = [each.option for each in numbers if None in (each.info.min, each.info.max)]
    assert open_ended == (["--seed"] if command == "run" else [])  # that one is a setting, which has a range

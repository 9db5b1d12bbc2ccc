"""Every command in the docs is executed, on tiny settings, page by page, one after the other as a reader would.

What needs a GPU says so in its comment. What is executed elsewhere, or cannot be without a network, is named below.
"""

import io
import re
import shlex
import shutil
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import easy2hard
from easy2hard.cli import main
from easy2hard.runs import probe

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "RESULTS.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
PROGRAMS = re.compile(r"(easy2hard|make|pip|git|python3?|torchrun|accelerate|hf|cd|\.|printf|echo)\s")

ELSEWHERE = {
    r"make (demo|test|check|docs|results|dist|format|bench|faults)": "the Makefile's own targets; `.ci/run` runs two",
    r"python -m (studies|benchmarks)\.": "hours of work; test_studies.py, test_results_pages.py run studies small",
    r"(git|cd|pip|hf|python3 -m (venv|pytest)|\. )": "setting up; `make test` does, before it runs this",
    r"(torchrun|accelerate) ": "several processes; tests/test_processes.py launches some",
    r"easy2hard sweep (?!.*--jobs)": "trains for an hour; tests/sweep runs some",
    r"easy2hard .*tracking\.trackers": "what a tracker does is up to it; tests/runs/test_tracking.py",
    r"easy2hard .*--(install|show)-completion": "changes the shell; tests/test_help.py completes words",
    r"easy2hard export .*--push": "uploads; tests/runs/test_hub.py has a hub of its own",
    r"easy2hard .*model\.pretrained=[A-Z]\w+/": "fetches a model; tests/huggingface/test_pretrained.py makes one",
}

TINY = [
    "model.preset=tiny",
    "model.width=16",
    "model.layers=1",
    "model.heads=2",
    "model.feed_forward=16",
    "training.batch=16",
    "training.groups=2",
    "optimiser.name=adamw",
    "supervised.steps=4",
    "supervised.warmup=0",
    "supervised.decay=0",
    "supervised.rest=0",
    "rounds.steps=2",
    "rounds.warmup=0",
    "rounds.decay=0",
    "rounds.rest=0",
    "labels.count=20",
    "rounds.count=4",
    "watch.enabled=false",
    "evaluation.examples=10",
]


@dataclass(frozen=True)
class Command:
    """A line of a page."""

    page: str
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}: {self.text}"


def commands(page: Path) -> Iterator[Command]:
    """Yield the commands of a page's blocks of code, those that go on over several lines in one."""
    fence, blank, text, begun = "", True, "", 0
    for number, line in enumerate(page.read_text().splitlines(), start=1):
        if line.startswith("```"):
            fence = "" if fence else line.removeprefix("```").strip() or "text"
            continue
        shown = fence in ("text", "console", "sh", "bash", "shell") if fence else line.startswith("    ") and blank
        blank = (blank and line.startswith("    ")) or not line.strip()
        if not shown or (fence == "console" and not text and not line.startswith("$ ")):
            continue
        begun = begun or number
        text += line.strip().removeprefix("$ ")
        if text.endswith("\\"):
            text = text[:-1]
            continue
        if PROGRAMS.match(text):
            yield Command(page.name, begun, text)
        text, begun = "", 0


def why_not(command: Command) -> str | None:
    """Return why a command is not executed here."""
    code, _, comment = command.text.partition(" #")
    if "GPU" in comment:
        return "needs a GPU"
    return next((why for pattern, why in ELSEWHERE.items() if re.match(pattern, code)), None)


def stages(command: Command) -> list[list[str]]:
    """Return the programs of a pipeline with their arguments."""
    found: list[list[str]] = [[]]
    for word in shlex.split(command.text, comments=True):
        if word == "|":
            found.append([])
        else:
            found[-1] += sorted(map(str, Path().glob(word))) or [word] if "*" in word else [word]
    return found


def tiny(arguments: list[str]) -> list[str]:
    """Return the arguments with settings so small that nothing takes long; those given come after, and hold."""
    if arguments[0] in ("run", "estimate") and len(arguments) > 1 and not arguments[1].startswith("-"):
        own = [each for each in TINY if each.partition("=")[0] not in " ".join(arguments)]
        return [*arguments[:2], *(part for each in own for part in ("--set", each)), *arguments[2:]]
    if arguments[0] == "resume" and any(each.startswith("rounds.count=") for each in arguments):
        return [*arguments, "--set", "rounds.count=3"]  # of a setting that is there twice the last one holds
    return arguments


def call(arguments: list[str], stdin: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> str:
    """Call easy2hard in this process and return what it prints."""
    monkeypatch.setattr(sys, "argv", ["easy2hard", *tiny(arguments)])
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin.encode()), encoding="utf-8"))
    before = signal.getsignal(signal.SIGTERM)
    try:
        with pytest.raises(SystemExit) as exit_:
            main()
    finally:
        signal.signal(signal.SIGTERM, before)
    captured = capsys.readouterr()
    assert exit_.value.code == 0, f"{arguments}: {captured.err}"
    return captured.out


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_commands_of_a_page(
    page: Path,
    smoke: easy2hard.Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    executed = [command for command in commands(page) if why_not(command) is None]
    if not executed:
        pytest.skip("no commands")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(probe, "SECONDS", 0.01)
    monkeypatch.setenv("COLUMNS", "100")
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    started = {word for command in executed for words in stages(command) for word in outputs(words)}
    for found in sorted(
        {each for command in executed for each in re.findall(r"\bruns/[\w.-]+(?:/runs/\*)?", command.text)}
    ):
        name = found.replace("*", "one")
        if name not in started and not Path(name).exists():
            shutil.copytree(smoke.path, tmp_path / name)
    for command in executed:
        text = ""
        for program, *arguments in stages(command):
            assert program in ("easy2hard", "printf", "echo"), f"{command}: not known to this test"
            if program == "easy2hard":
                text = call(arguments, text, monkeypatch, capsys)
            else:
                text = arguments[0].encode().decode("unicode_escape") + ("\n" if program == "echo" else "")


def outputs(words: list[str]) -> list[str]:
    """Return the run directory that a command makes."""
    if words[:2] != ["easy2hard", "run"] and "--out" not in words:
        return []
    if "--out" in words:
        return [words[words.index("--out") + 1]]
    seed = words[words.index("--seed") + 1] if "--seed" in words else "0"
    return [f"runs/{Path(words[2]).stem}-seed{seed}"]


def test_commands_are_found() -> None:
    """The walk itself: what it takes for a command, and for none."""
    found = [command.text for command in commands(ROOT / "docs" / "tasks.md")]
    assert found[0] == "easy2hard tasks --check sort-digits --plugin examples/sort_digits.py"
    assert not any("entry-points" in text for text in found)
    models = list(commands(ROOT / "docs" / "models.md"))
    assert any("optimiser.learning_rate=1e-4" in command.text for command in models)  # the second line of a command
    assert sum(len(list(commands(page))) for page in PAGES) > 30


def python_blocks(page: Path) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", page.read_text(), flags=re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("page", [page for page in PAGES if python_blocks(page)], ids=lambda page: page.name)
def test_the_python_of_a_page(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": "page"}
    for block in python_blocks(page):
        exec(compile(block, str(page), "exec"), names)

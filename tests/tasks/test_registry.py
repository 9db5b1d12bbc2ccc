"""Tasks of third parties: from a file, from an installed package, and broken ones."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest

from easy2hard import plugins
from easy2hard.errors import UserError
from easy2hard.tasks.contract import check_contract
from easy2hard.tasks.registry import load_oracle, load_task, task_names

ROOT = Path(__file__).parents[2]
SORT = ROOT / "examples" / "sort_digits.py"
PARITY = ROOT / "examples" / "parity-plugin"
CommandLine = Callable[..., CompletedProcess[str]]
SHORT = [
    "--set=supervised.steps=4",
    "--set=supervised.decay=0",
    "--set=supervised.warmup=0",
    "--set=rounds.warmup=0",
    "--set=rounds.steps=2",
    "--set=rounds.decay=0",
    "--set=rounds.count=1",
]


@pytest.fixture(autouse=True)
def forget_plugins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plugins, "_loaded", {})


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the example package into a folder of its own, as pip does it."""
    folder = tmp_path_factory.mktemp("site-packages")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-index"]
    source = tmp_path_factory.mktemp("source") / "plugin"
    subprocess.run(["cp", "-r", str(PARITY), str(source)], check=True)
    subprocess.run([*pip, "--no-deps", "--no-build-isolation", "--target", str(folder), str(source)], check=True)
    return folder


def test_a_task_of_a_file_runs_through_the_command_line(cli: CommandLine) -> None:
    file = f"--plugin={SORT}"
    assert cli("tasks", file).stdout.count("sort-digits") == 1
    assert cli("tasks", "--check", "sort-digits", file).stdout == "sort-digits: keeps the contract\n"
    prompts = cli("sample", "sort-digits", "--difficulty", "4", "--count", "3", file).stdout
    answers = cli("oracle", "sort-digits", file, stdin=prompts).stdout.splitlines()
    assert answers == ["".join(sorted(prompt.removesuffix("="))) for prompt in prompts.splitlines()]
    done = cli("run", "smoke", "--out", "run", file, *SHORT)
    assert (done.returncode, done.stderr) == (0, "")
    assert 'name = "sort-digits"' in Path("run/settings.toml").read_text()
    assert cli("eval", "run", "--examples", "10", file).returncode == 0
    assert cli("solve", "run", "3120=", file).stdout.startswith("3120=\t")
    assert cli("audit", "run", file).returncode == 0
    assert cli("resume", "run", file).returncode == 0


def test_what_reads_a_run_runs_no_code_of_its_task(cli: CommandLine) -> None:
    cli("run", "smoke", "--out", "run", f"--plugin={SORT}", *SHORT)
    plugins._loaded.clear()
    result = cli("audit", "run")
    assert (result.returncode, result.stdout) == (2, "")
    assert "task.name = 'sort-digits': no such task here" in result.stderr


def test_a_task_of_a_package_runs_through_the_command_line(
    cli: CommandLine, installed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(installed))
    assert "parity" in task_names()
    assert "1011=" in cli("tasks").stdout
    assert cli("tasks", "--check", "parity").returncode == 0
    assert cli("oracle", "parity", stdin="1011=\n").stdout == "1101\n"
    assert cli("run", "smoke", "--out", "run", "--set=task.name=parity", *SHORT).returncode == 0
    assert cli("eval", "run", "--examples", "10").returncode == 0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = 1", "defines no Filter, Schedule, Positions or Oracle"),
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("def (", "SyntaxError"),
        ("from easy2hard.tasks.oracle import Oracle\nclass A(Oracle): task_class = int", "A has no name"),
        (SORT.read_text().replace('"sort-digits"', '"copy"'), "task copy is built in"),
    ],
)
def test_a_file_without_a_task_is_refused(text: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "task.py"
    file.write_text(text)
    with pytest.raises(UserError, match=message) as error:
        plugins.load_file(file)
    assert str(file) in str(error.value)


def test_a_broken_task_is_refused_before_anything_is_written(cli: CommandLine, tmp_path: Path) -> None:
    file = tmp_path / "task.py"
    file.write_text(SORT.read_text().replace("prompts.shape[1] - 1", "prompts.shape[1] - 2"))
    for command in (["tasks", "--check", "sort-digits"], ["run", "smoke", "--out", "run"]):
        result = cli(*command, f"--plugin={file}")
        assert (result.returncode, result.stdout) == (2, "")
        assert "sort-digits breaks the contract at difficulty 1: answer_bounds" in result.stderr
        assert result.stderr.count("\n") == 1
    assert not Path("run").exists()


def test_options_reach_the_task() -> None:
    assert load_task("maze-hops", {"nodes": 12}).greatest == 11
    with pytest.raises(UserError, match="allowed: nodes"):
        load_task("maze-hops", {"hops": 3})


def test_every_oracle_belongs_to_its_task() -> None:
    for name in task_names():
        task = load_task(name)
        assert task.name == name
        assert load_oracle(task).task is task


def test_the_example_of_the_documentation_is_the_example() -> None:
    text = (ROOT / "docs" / "tasks.md").read_text()
    code = text.split("```python\n")[1].split("```")[0]
    lines = [line for line in code.splitlines() if line.strip()]
    assert lines == [line for line in SORT.read_text().split('"""\n', 1)[1].splitlines() if line.strip()]
    assert sum(not line.startswith(("import", "from")) for line in lines) < 20


def test_the_parts_of_the_documentation_keep_the_contract() -> None:
    names: dict[str, Any] = {"__name__": "page"}
    for block in (ROOT / "docs" / "tasks.md").read_text().split("```python\n")[1:]:
        exec(block.split("```")[0], names)
    task = names["SortDigitsWithParts"]()
    check_contract(task, names["SortDigitsOracle"](task))
    prompts, answers = task.vocabulary.encode_prompts(["3120="]), task.vocabulary.encode_answers(["0123"])
    (part,) = task.parts(prompts, answers)
    assert task.vocabulary.decode_prompts(part.prompts) == ["312="]
    for answer, agrees in (("123", True), ("012", False)):
        assert part.agree(answers, task.vocabulary.encode_answers([answer])).tolist() == [agrees]

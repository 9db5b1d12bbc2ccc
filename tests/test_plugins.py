"""What third parties add: found in one way, checked by kind, fenced, remembered by runs, and never run by readers."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pyarrow.parquet as pq
import pytest

from easy2hard import plugins
from easy2hard.contracts import check_thing
from easy2hard.errors import UserError
from easy2hard.plugins import FILTERS, POSITIONS, SCHEDULES, load_file
from easy2hard.runs import origins
from easy2hard.runs.manifest import RunDirectory
from easy2hard.runs.origins import KINDS
from easy2hard.runs.request import settings_of, unused_plugins
from easy2hard.settings.recipes import load_recipe
from easy2hard.tasks.registry import TASKS

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"
CommandLine = Callable[..., CompletedProcess[str]]
SHORT = [
    *("--set=supervised.steps=4", "--set=supervised.decay=0", "--set=supervised.warmup=0", "--set=rounds.warmup=0"),
    *("--set=rounds.steps=2", "--set=rounds.decay=0", "--set=rounds.count=2", "--set=watch.enabled=false"),
    *("--set=labels.count=20", "--set=evaluation.examples=5", "--set=evaluation.beyond=0"),
]
REPEATS = '--set=labels.filters=[{name="none"}, {name="repeats", most=1}]'
ALL = {
    "repeats": ("filter", [REPEATS]),
    "breathing": ("schedule", ["--set=schedule.name=breathing", "--set=schedule.options.rest=2"]),
    "clock": ("position scheme", ["--set=model.positions=clock", "--set=model.position_options.hours=3"]),
    "sort_digits": ("task", []),
}


@pytest.fixture(autouse=True)
def forget_plugins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plugins, "_loaded", {})


def edited(tmp_path: Path, example: str, old: str, new: str) -> Path:
    """Return a copy of an example with one place changed."""
    text = (EXAMPLES / f"{example}.py").read_text()
    assert text.count(old) == 1
    file = tmp_path / f"{example}.py"
    file.write_text(text.replace(old, new))
    return file


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.base.kind.replace(" ", "-"))
def test_what_is_built_in_keeps_its_contract(kind: plugins.Kind[Any]) -> None:
    assert len(kind.built_in) > 3
    if kind is not TASKS:  # tests/tasks/test_contract.py has the tasks, at more difficulties
        for thing in kind.built_in.values():
            check_thing(thing)


@pytest.mark.parametrize("example", ALL)
def test_the_examples_are_found_and_keep_their_contracts(example: str, cli: CommandLine) -> None:
    file = EXAMPLES / f"{example}.py"
    name = example.replace("_", "-")
    kind = ALL[example][0]
    assert cli("plugins", name, f"--plugin={file}").stdout.rstrip().endswith(f" {file}")
    checked = cli("plugins", "--check", name, f"--plugin={file}")
    assert (checked.returncode, checked.stdout.split()) == (0, [*kind.split(), name, *["keeps", "the", "contract"]])
    code = [line for line in file.read_text().split('"""\n', 1)[1].splitlines() if line.strip()]
    assert sum(not line.startswith(("import", "from")) for line in code) <= 20


@pytest.mark.parametrize("example", ["repeats", "breathing", "clock"])
def test_the_examples_of_the_documentation_are_the_examples(example: str) -> None:
    blocks = (ROOT / "docs" / "extending.md").read_text().split("```python\n")[1:]
    code = (EXAMPLES / f"{example}.py").read_text().split('"""\n', 1)[1].strip()
    assert code in [block.split("```")[0].strip() for block in blocks]


def test_the_old_option_is_named_with_the_new_one(cli: CommandLine) -> None:
    assert "--task-file; it is --plugin now" in cli("tasks", "--task-file", "x.py").stderr


def test_a_run_remembers_its_plug_ins_and_computing_finds_them(cli: CommandLine) -> None:
    given = [f"--plugin={EXAMPLES / name}.py" for name in ALL]
    chosen = [word for _, words in ALL.values() for word in words]
    done = cli("run", "smoke", "--out", "run", *given, *chosen, *SHORT, "--set=model.position_capacity=0")
    assert done.returncode == 2  # positions without a table have no capacity
    done = cli("run", "smoke", "--out", "run", *given, *chosen, *SHORT)
    assert (done.returncode, done.stderr) == (0, "")
    run = RunDirectory(Path("run"))
    assert {(origin.kind, origin.name) for origin in run.manifest.plugins} == {
        ("task", "sort-digits"), ("filter", "repeats"), ("schedule", "breathing"), ("position scheme", "clock")
    }  # fmt: skip
    assert "more than most times in a row (most = 1)" in run.manifest.filters[1]
    assert run.manifest.rounds[1].difficulties == run.manifest.rounds[2].difficulties
    ledger = pq.read_table(run.ledger_path(1)).to_pydict()
    for kept, why, longest in zip(ledger["kept"], ledger["why"], ledger["longest_repeat"], strict=True):
        assert (why == "repeats") <= (longest > 1)
        assert kept <= (longest <= 1)
    plugins._loaded.clear()
    assert cli("solve", "run", "3120=").stdout.startswith("3120=\t")
    plugins._loaded.clear()
    assert cli("eval", "run", "--examples", "5").returncode == 0
    plugins._loaded.clear()
    again = cli("branch", "run", "--from-round", "1", "--out", "branch")
    assert (again.returncode, again.stderr) == (0, "")
    branch = RunDirectory(Path("branch")).manifest
    assert branch.rounds[-1].weights_sha256 == run.manifest.rounds[-1].weights_sha256
    assert branch.plugins == run.manifest.plugins


READERS = [
    ["report", "run", "--out", "page"],
    ["list", "."],
    ["verify", "run"],
    ["audit", "run"],
    ["plot", "run", "--out", "picture.png"],
    ["du", "run"],
    ["frame", "run", "--audit"],
    ["frame", "run", "--labels", "--out", "labels.parquet"],
]


def test_a_plug_in_that_is_gone_or_changed_is_named_and_readers_do_not_care(cli: CommandLine, tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text((EXAMPLES / "repeats.py").read_text())
    assert cli("run", "smoke", "--out", "run", f"--plugin={file}", REPEATS, *SHORT).returncode == 0
    plugins._loaded.clear()
    file.write_text("raise SystemExit('code of a plug-in was run')")
    for words in READERS:
        result = cli(*words)
        assert (words[0], result.returncode, result.stderr) == (words[0], 0, "")
    assert not plugins._loaded
    for out, change, problem in (("first", None, "has changed since"), ("again", file.unlink, "is missing")):
        if change:
            change()
        result = cli("branch", "run", "--from-round", "1", "--out", out)
        assert (result.returncode, result.stderr.count("\n")) == (2, 1)
        assert f"filter repeats of {file}, which run uses: {file} {problem}" in result.stderr
        assert not Path(out).exists()
    other = tmp_path / "elsewhere.py"
    other.write_text((EXAMPLES / "repeats.py").read_text() + "\n")
    assert cli("branch", "run", "--from-round", "1", "--out", "again", f"--plugin={other}").returncode == 0
    sources = [origin.file for origin in RunDirectory(Path("again")).manifest.plugins]
    assert sources == [str(file), str(other)]


def test_a_file_within_a_run_is_never_run_of_its_own_accord(
    cli: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "mine.py"
    file.write_text((EXAMPLES / "repeats.py").read_text())
    assert cli("run", "smoke", "--out", "run", f"--plugin={file}", REPEATS, *SHORT).returncode == 0
    plugins._loaded.clear()
    store, inside = RunDirectory(Path("run")), Path("run", "evil.py").absolute()
    file.rename(inside)
    origin = store.manifest.plugins[0].model_copy(update={"file": str(inside)})
    manifest = store.manifest.model_copy(update={"plugins": [origin]})
    monkeypatch.setattr(RunDirectory, "manifest", manifest)
    with pytest.raises(UserError, match="is within the run"):
        origins.restore(store)
    assert not plugins._loaded


@pytest.mark.parametrize(
    ("example", "old", "new", "line"),
    [
        ("repeats", 'self.columns(proposals)["longest_repeat"]', "1 / 0 if len(kept) == 20 else 1", "filter repeats"),
        ("breathing", "if len(history) > 1 and", "if len(history) == 7: 1 / 0\n        if", "schedule breathing"),
        ("clock", "return x + self", "if x.shape[1] == 7: 1 / 0\n        return x + self", "position scheme clock"),
        ("sort_digits", "return self.frame(", "if count == 20: 1 / 0\n        return self.frame(", "task sort-digits"),
    ],
)
def test_what_raises_is_fenced(cli: CommandLine, tmp_path: Path, example: str, old: str, new: str, line: str) -> None:
    """It is raised in the run alone: the contract check sees nothing of it."""
    file = edited(tmp_path, example, old, new)
    if example == "repeats":
        file.write_text(
            file.read_text().replace("20 else 1 <=", "20 else self.columns(proposals)['longest_repeat'] <=")
        )
    chosen = ["--set=labels.count=20", "--set=rounds.count=7", *ALL[example][1]]
    result = cli("run", "smoke", "--out", "run", f"--plugin={file}", *SHORT, *chosen)
    assert (result.returncode, result.stderr.count("\n")) == (2, 1), result.stderr
    number = next(n for n, text in enumerate(file.read_text().splitlines(), start=1) if "1 / 0" in text)
    assert result.stderr.startswith(f"error: {line}: ZeroDivisionError: division by zero ({file.name}, line {number})")


BROKEN = [
    ("repeats", "<= self.most", "<= self.most * np.random.rand(len(kept))", "judge must say the same"),
    (
        "repeats",
        'return self.columns(proposals)["longest_repeat"] <=',
        "return len(kept) >",
        r"judge must return \(count",
    ),
    ("repeats", "<= self.most", "<= np.arange(len(kept)) % 3", "must not depend on the order"),
    ("repeats", "return self.columns", "kept[:] = False\n        return self.columns", "read-only.*repeats.py, line"),
    ("repeats", "return self.columns", "proposals.twin & kept\n        return self.columns", "judge must not raise"),
    ("repeats", "longest + 1}", 'longest + 1, "votes": longest}', "the ledger has a column 'votes' already"),
    (
        "repeats",
        "    most: int = Field(5, ge=1, description=",
        "    most: int = Field(5, ge=1, title=",
        "must have a desc",
    ),
    ("repeats", "    most: int", '    needs = frozenset({"truth"})\n    most: int', "truth is for the filter verifier"),
    (
        "repeats",
        'return self.columns(proposals)["longest_repeat"] <= self.most',
        "return proposals.votes * 2 > proposals.members",
        "judge depends on votes, so needs must hold 'votes'",
    ),
    ("breathing", "[difficulty for step", "[3 for step", "difficulty 3 is supervised"),
    ("breathing", "return [difficulty", "return [(9, 9)] if history else [difficulty", r"like 3, got \(9, 9\)"),
    ("breathing", "return [difficulty", "return ready(1 / 0)\n        return [difficulty", "next must not raise: Zero"),
    ("breathing", "import islice", "import islice\nimport random", "same difficulties"),
    (
        "clock",
        "    def embed",
        "    def ids(self, tokens, *_):\n        return (tokens > 9) * 1.0\n\n    def embed",
        "integers, got float64",
    ),
    (
        "clock",
        "    def embed",
        "    def ids(self, tokens, *_):\n        return tokens[:, ::-1] * 1\n\n    def embed",
        "come later",
    ),
    (
        "clock",
        "    def embed",
        "    def ids(self, tokens, *_):\n        return tokens + tokens[:1]\n\n    def embed",
        "of the batch",
    ),
    ("clock", "return x + self", "return x.mean(1, keepdim=True) + self", "come later|must decode"),
]


@pytest.mark.parametrize(("example", "old", "new", "message"), BROKEN)
def test_what_breaks_its_contract_is_refused(tmp_path: Path, example: str, old: str, new: str, message: str) -> None:
    file = edited(tmp_path, example, old, new)
    if "random\n" in new or new.endswith("random"):
        file.write_text(file.read_text().replace("self.settings.stride)", "random.randrange(1, 99))"))
    (thing,) = load_file(file)
    with pytest.raises(UserError, match=message) as refused:
        check_thing(thing)
    assert str(refused.value).startswith(f"{ALL[example][0]} {thing.extension_name()} breaks the contract")


def test_what_a_file_has_and_the_run_does_not_use_is_said(cli: CommandLine, tmp_path: Path) -> None:
    text = (EXAMPLES / "repeats.py").read_text()
    both = tmp_path / "both.py"
    both.write_text(text + text[text.index("class Repeats") :].replace("Repeats", "Again").replace("repeats", "again"))
    for chosen, states in (("repeats", ("used", "not used")), ("vote", ("not used", "not used"))):
        settings = settings_of("smoke", [f"labels.filters=[{{name='{chosen}'}}]"], both)
        said = f"--plugin {both}: has filter repeats ({states[0]}), filter again ({states[1]})"
        assert unused_plugins(settings, both) == [said]
    alone = EXAMPLES / "breathing.py"
    assert unused_plugins(settings_of("smoke", ["schedule.name=breathing"], alone), alone) == []
    result = cli("estimate", "smoke", "--plugin", str(alone))
    assert f"--plugin {alone}: has schedule breathing (not used)" in result.stderr.splitlines()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("from easy2hard import Filter\nclass A(Filter):\n    'x'", "A has no name"),
        ("from easy2hard import Schedule\nclass A(Schedule):\n    name = 'a'", "schedule a has no method next"),
        ((EXAMPLES / "clock.py").read_text().replace('"clock"', '"rope"'), "position scheme rope is built in"),
        ((EXAMPLES / "repeats.py").read_text().replace('"repeats"', '"vote"'), "filter vote is built in"),
        ("import nothing_of_this_name", r"ModuleNotFoundError: .*\(mine.py, line 1\)"),
    ],
)
def test_a_file_that_adds_nothing_of_use_is_refused(text: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(text)
    with pytest.raises(UserError, match=message) as refused:
        load_file(file)
    assert str(refused.value).startswith(f"--plugin {file}: ")
    assert not plugins._loaded


def test_two_files_with_one_name_are_refused(tmp_path: Path) -> None:
    load_file(EXAMPLES / "repeats.py")
    (tmp_path / "again.py").write_text((EXAMPLES / "repeats.py").read_text())
    with pytest.raises(UserError, match="filter repeats is there already"):
        load_file(tmp_path / "again.py")


PACKAGE = """
[build-system]
requires = ["setuptools>=69"]
build-backend = "setuptools.build_meta"
[project]
name = "many-things"
version = "1.2"
[project.entry-points."easy2hard.filters"]
repeats = "repeats:Repeats"
[project.entry-points."easy2hard.schedules"]
breathing = "breathing:Breathing"
[project.entry-points."easy2hard.positions"]
clock = "clock:Clock"
[tool.setuptools]
py-modules = ["repeats", "breathing", "clock"]
"""


def test_an_installed_package_offers_them_too(
    cli: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, folder = tmp_path / "source", tmp_path / "site"
    source.mkdir()
    (source / "pyproject.toml").write_text(PACKAGE)
    for name in ("repeats", "breathing", "clock"):
        (source / f"{name}.py").write_text((EXAMPLES / f"{name}.py").read_text())
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-index"]
    subprocess.run([*pip, "--no-deps", "--no-build-isolation", "--target", str(folder), str(source)], check=True)
    monkeypatch.syspath_prepend(str(folder))
    for name in ("repeats", "breathing", "clock"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    assert "repeats" in FILTERS.names()
    assert "breathing" in SCHEDULES.names()
    assert "clock" in POSITIONS.names()
    assert "repeats" not in sys.modules  # names run no code
    settings = load_recipe("smoke", ["labels.filters=[{name='repeats', most=3}]", "schedule.name=breathing"])
    assert settings.labels.filters[0].words().endswith("(most = 3)")
    origin = FILTERS.origin("repeats")
    assert origin is not None
    assert origin.source == "repeats:Repeats, many-things 1.2"
    assert origin.file == str(folder / "repeats.py")
    with pytest.raises(UserError, match=r"labels.filters.0.repeats.most = 0: .*greater than or equal to 1"):
        load_recipe("smoke", ["labels.filters=[{name='repeats', most=0}]"])


def test_what_is_not_there_is_named_with_what_is() -> None:
    for override, message in {
        "labels.filters=[{name='majority'}]": r"labels.filters.0: .*'majority': no such filter \(known: confidence, ",
        "labels.filters=[{keep=0.5}]": "a filter needs a name",
        "schedule.name=slow": r"'slow': no such schedule \(known: accelerated, ",
    }.items():
        with pytest.raises(UserError, match=message):
            load_recipe("smoke", [override])


STRANGER = """
from easy2hard.tasks.strings import Copy, CopyOracle

class Strange(Copy):
    name = "strange"

class StrangeOracle(CopyOracle):
    task_class = Strange

def wrong(*arguments):
    {code}

{place} = wrong
"""
FAILS = ["raise RuntimeError('no')", "raise SystemExit(0)", "exit(3)"]
WRONG = [*FAILS, "return None", "return 'rubbish'", "return [[1.5]]"]
PLACES = {
    "Strange.sample": ["sample strange --difficulty 3", "tasks --check strange", "plugins strange --check"],
    "Strange.answer_bounds": ["oracle strange", "check strange", "tasks --check strange", "plugins strange --check"],
    "StrangeOracle.solve": ["oracle strange", "check strange", "tasks --check strange", "plugins strange --check"],
    "Strange.check_prompt": ["sample strange --difficulty 3", "oracle strange", "tasks --check strange"],
}


# Nothing reads what check_prompt returns.
@pytest.mark.parametrize(
    ("place", "code"), [(place, code) for place in PLACES for code in (FAILS if "check_prompt" in place else WRONG)]
)
def test_whatever_a_task_does_is_named_in_a_line(cli: CommandLine, tmp_path: Path, place: str, code: str) -> None:
    file = tmp_path / "stranger.py"
    file.write_text(STRANGER.format(place=place, code=code))
    raised = next(i for i, line in enumerate(file.read_text().splitlines(), 1) if line.strip() == code)
    for command in PLACES[place]:
        stdin = "24=\t24\n" if "check s" in command else "24=\n"
        result = cli(*command.split(), "--plugin", "stranger.py", stdin=stdin)
        assert (result.returncode, result.stdout) == (2, "")
        assert result.stderr.startswith("error: task strange")
        assert result.stderr.count("\n") == 1
        if not code.startswith("return"):
            assert f"(stranger.py, line {raised})" in result.stderr


@pytest.mark.parametrize("code", FAILS)
def test_a_file_that_fails_or_ends_is_named(cli: CommandLine, tmp_path: Path, code: str) -> None:
    (tmp_path / "stranger.py").write_text(f"import os\n{code}\n")
    result = cli("tasks", "--plugin", "stranger.py")
    assert (result.returncode, result.stdout, result.stderr.count("\n")) == (2, "", 1)
    assert "--plugin stranger.py: " in result.stderr
    assert "(stranger.py, line 2)" in result.stderr


def test_prompts_that_are_all_equal_break_the_contract(cli: CommandLine, tmp_path: Path) -> None:
    code = "task, generator, difficulty, count = arguments; import numpy as np; return task.frame("
    code += "np.full((count, difficulty), 4), '=')"
    (tmp_path / "stranger.py").write_text(STRANGER.format(place="Strange.sample", code=code))
    for command in ("tasks --check strange", "plugins strange --check"):
        result = cli(*command.split(), "--plugin", "stranger.py")
        assert (result.returncode, "different prompts" in result.stderr) == (2, True)


@pytest.mark.parametrize("attribute", ["summary", "example", "grammar", "vocabulary"])
def test_a_task_without_an_attribute_is_named_and_hides_no_other(
    cli: CommandLine, tmp_path: Path, attribute: str
) -> None:
    text = STRANGER.format(place="Strange.twin", code="return None") + f"\nStrange.{attribute} = 7\n"
    (tmp_path / "stranger.py").write_text(text)
    listed = cli("tasks", "--plugin", "stranger.py")
    assert listed.returncode == 0
    lines = dict(line.split(maxsplit=1) for line in listed.stdout.splitlines())
    assert lines["strange"].startswith("cannot be loaded: task strange breaks the contract")
    assert lines["copy"].rstrip().endswith("8631=")
    asked = cli("sample", "strange", "--difficulty", "3", "--plugin", "stranger.py")
    assert (asked.returncode, attribute in asked.stderr) == (2, True)

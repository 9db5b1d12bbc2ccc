"""The command line: what it prints, and that a user's mistake is one line and exit code 2."""

import json
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest
from helpers import TASKS

import easy2hard
from easy2hard.cli import app
from easy2hard.runs import rounds
from easy2hard.runs.manifest import RunDirectory
from easy2hard.settings.recipes import load_recipe, recipe_names
from easy2hard.tasks.registry import load_task, task_names

CommandLine = Callable[..., CompletedProcess[str]]
FakeRun = Callable[..., RunDirectory]

OWN = pytest.mark.parametrize("task", TASKS)
DIGITS = "0 1 2 3 4 5 6 7 8 9 ="
COMMANDS = [info.name or info.callback.__name__ for info in app.registered_commands if info.callback]


def contents(folder: Path) -> dict[str, bytes | None]:
    paths = folder.rglob("*")
    return {str(path): path.read_bytes() if path.is_file() else None for path in paths}


@pytest.mark.parametrize("command", COMMANDS)
def test_help_shows_an_example(cli: CommandLine, command: str) -> None:
    result = cli(command, "--help")
    assert result.returncode == 0
    assert f"easy2hard {command}" in result.stdout.partition("Example:")[2]


def test_without_arguments_the_help_is_shown(cli: CommandLine) -> None:
    result = cli()
    assert all(f"\n  {command} " in result.stdout + result.stderr for command in COMMANDS)


def test_tasks_lists_every_task_with_an_example(cli: CommandLine) -> None:
    lines = cli("tasks").stdout.splitlines()
    assert lines == [line.rstrip() for line in lines]
    assert [line.split()[0] for line in lines] == task_names()
    for line in lines:
        name = line.split()[0]
        assert cli("oracle", name, stdin=load_task(name).example).returncode == 0
        assert line.split(maxsplit=1)[1].startswith(load_task(name).summary)


def test_recipes_lists_every_recipe_with_its_description(cli: CommandLine) -> None:
    lines = cli("recipes").stdout.splitlines()
    assert [line.split()[0] for line in lines] == recipe_names()
    for line in lines:
        assert line.endswith(load_recipe(line.split()[0]).description)


def test_a_recipe_is_printed_as_it_is_shipped(cli: CommandLine) -> None:
    shipped = Path(easy2hard.__file__).parent / "recipes"
    for name in recipe_names():
        result = cli("recipes", name)
        assert (result.returncode, result.stdout) == (0, (shipped / f"{name}.toml").read_text())


def test_the_version_is_that_of_the_package(cli: CommandLine) -> None:
    result = cli("--version")
    assert (result.returncode, result.stdout) == (0, f"easy2hard {easy2hard.__version__}\n")


@OWN
def test_sample_prints_prompts_that_depend_on_the_seed_alone(cli: CommandLine, task: str) -> None:
    difficulty = "12" if task == "maze-nodes" else "6"

    def sample(seed: int) -> str:
        result = cli("sample", task, "--difficulty", difficulty, "--count", "7", "--seed", str(seed))
        assert (result.returncode, result.stderr) == (0, "")
        return result.stdout

    prompts = sample(1).splitlines()
    assert len(prompts) == 7
    assert all(load_task(task).grammar.fullmatch(prompt) for prompt in prompts)
    assert sample(1).splitlines() == prompts
    assert not set(sample(2).splitlines()) & set(prompts)


@OWN
def test_oracle_and_check_know_the_exact_form(
    cli: CommandLine, task: str, formats: dict[str, list[dict[str, Any]]]
) -> None:
    prompts = "".join(f"{case['prompt']}\n" for case in formats[task])
    answers = "".join(f"{case['target']}\n" for case in formats[task])
    pairs = "".join(f"{case['prompt']}\t{case['target']}\n" for case in formats[task])
    assert cli("oracle", task, stdin=prompts).stdout == answers
    assert cli("check", task, stdin=pairs).stdout == "right\n" * len(formats[task])


@OWN
@pytest.mark.parametrize("command", ["oracle", "check"])
def test_no_lines_in_no_lines_out(cli: CommandLine, command: str, task: str) -> None:
    result = cli(command, task)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


@pytest.mark.parametrize(
    ("answer", "verdict"),
    [
        ("8631", "right"),
        ("8641", "wrong: wrong digit at position 3: 4 instead of 3"),
        ("7631", "wrong: wrong digit at position 1: 7 instead of 8"),
        ("863", "wrong: wrong length: 3 instead of 4"),
        ("86311", "wrong: wrong length: 5 instead of 4"),
        ("", "wrong: wrong length: 0 instead of 4"),
        ("86x1", f"wrong: bad format: character 'x' is not in the task's alphabet (allowed: {DIGITS})"),
        ("8631 ", f"wrong: bad format: character ' ' is not in the task's alphabet (allowed: {DIGITS})"),
    ],
)
def test_check_says_what_is_wrong(cli: CommandLine, answer: str, verdict: str) -> None:
    result = cli("check", "copy", stdin=f"8631=\t{answer}\n24=\t24\n")
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.splitlines() == [verdict, "right"]


def quick(*overrides: str) -> list[str]:
    """Return a command for a run that takes no time."""
    few = ["supervised.steps=6", "supervised.decay=0", "rounds.steps=2", "rounds.decay=0", "labels.count=20"]
    return ["run", "smoke", "--out", "new", *[part for each in (*few, *overrides) for part in ("--set", each)]]


def test_a_blindfolded_run_ends_with_the_same_weights_and_says_what_it_did_not_see(cli: CommandLine) -> None:
    assert cli(*quick()).returncode == 0
    seeing = RunDirectory(Path("new")).manifest
    Path("new").rename("seeing")
    result = cli(*quick(), "--blindfold")
    blind = RunDirectory(Path("new")).manifest
    assert result.returncode == 0
    assert [r.weights_sha256 for r in blind.rounds] == [r.weights_sha256 for r in seeing.rounds]
    assert all(set(record.accuracy) == {"1", "2", "3"} for record in blind.rounds)


def test_a_collapse_has_an_exit_code_and_a_reason(cli: CommandLine) -> None:
    watch = "watch={enabled=true, acceptance=1.0, holds=0, rollbacks=0}"
    result = cli(*quick(watch))
    assert result.returncode == 3
    assert "stopped by the collapse watch: round 2, difficulty 5: the share kept" in result.stderr
    assert RunDirectory(Path("new")).manifest.status.startswith("stopped: CollapseError")


def test_a_run_that_keeps_no_label_says_that_it_learned_nothing(cli: CommandLine) -> None:
    nothing = "it learned nothing after the supervised phase: none of its 40 labels was kept"
    ran = cli(*quick("labels.filters=[{name='confidence', threshold=1.0}]", "watch.enabled=false"))
    assert ran.returncode == 0
    assert ran.stdout.splitlines()[-1] == f"finished: new; {nothing}"
    assert nothing in cli("eval", "new", "--examples", "5").stdout
    assert nothing in cli("watch", "new", "--once").stdout
    assert cli("audit", "new").stdout.splitlines()[-1] == "no label was kept: there is no precision"


def test_a_relation_of_the_task_is_named_wherever_results_are_shown(cli: CommandLine) -> None:
    result = cli(*quick("labels.filters=[{name='parts', reliable=0}]"))
    named = "uses a relation the task declares: labels.filters: parts"
    assert result.stdout.count(named) == 1
    assert named in cli("eval", "new", "--examples", "5").stdout
    assert named in cli("watch", "new", "--once").stdout
    assert "NOT self-improvement" not in result.stdout


def test_a_supervised_signal_is_marked_wherever_results_are_shown(cli: CommandLine) -> None:
    result = cli(*quick("labels.filters=[{name='verifier'}]"))
    marks = "NOT self-improvement: labels.filters: verifier uses true answers beyond the supervised range"
    assert marks in result.stdout
    assert marks in cli("eval", "new", "--examples", "5").stdout


def test_eval_shows_the_hard_split_beside_the_uniform_prompts(cli: CommandLine) -> None:
    assert cli(*quick("task.name=forward-addition", "rounds.count=0")).returncode == 0
    header, *lines, reach, what = cli("eval", "new", "--examples", "20", "--difficulties", "1,2").stdout.splitlines()
    assert header.split() == ["difficulty", "exact", "match", "voted", "hard", "split"]
    assert [len(line.split()) for line in lines] == [4, 4]
    assert reach.startswith("reach at 0.99: ")
    assert what == "hard split: a carry through half of the columns"
    found = json.loads(cli("eval", "new", "--examples", "20", "--difficulties", "1,2", "--json").stdout)
    assert list(found) == ["exact_match", "voted", "hard_split"]
    assert all(list(scores) == ["1", "2"] for scores in found.values())


def test_the_baseline_of_a_task_is_shown_beside_the_members(cli: CommandLine) -> None:
    maze = ["task.name=maze-hops", "task.options={nodes=6, labels=6}", "supervised.difficulty=2", "rounds.count=1"]
    ran = cli(*quick(*maze, "labels.filters=[{name='none'}]"))
    assert "round 0: the members are no better than the task's baseline at difficulty 1-2: exact match 0" in ran.stdout
    header, *_, what = cli("eval", "new", "--examples", "200", "--difficulties", "2").stdout.splitlines()
    assert header.split() == ["difficulty", "exact", "match", "voted", "baseline"]
    assert what == f"baseline: {load_task('maze-hops').baseline}"
    found = json.loads(cli("eval", "new", "--examples", "200", "--difficulties", "2", "--json").stdout)
    assert found["baseline"]["2"] == pytest.approx(0.87, abs=0.08)
    header, line, what, *_ = cli("audit", "new").stdout.splitlines()
    assert header.split()[-1] == "baseline"
    assert 0 < float(line.split()[-1]) <= 1
    assert what.startswith("baseline, the share of the same prompts that it answers rightly: any unvisited")


def test_sample_shows_what_is_drawn_for_which_purpose(cli: CommandLine) -> None:
    options = ("--option", "carry_share=100", "--option", "carry_density=100", "--difficulty", "3")
    nines = {
        kind: [
            sum(map(int, prompt.removesuffix("=").split("+"))) == 999
            for prompt in cli("sample", "forward-addition", *options, "--kind", kind).stdout.split()
        ]
        for kind in ("evaluation", "labels", "supervised", "hard")
    }
    assert (all(nines["labels"]), all(nines["supervised"])) == (True, True)
    assert (all(nines["evaluation"]), any(nines["hard"])) == (False, False)
    assert "--kind soft" in cli("sample", "forward-addition", *options, "--kind", "soft").stderr
    assert "no hard split" in cli("sample", "copy", "--difficulty", "3", "--kind", "hard").stderr


def test_audit_names_the_first_round_whose_labels_fell(cli: CommandLine) -> None:
    assert cli(*quick()).returncode == 0
    lines = cli("audit", "new").stdout.splitlines()
    assert lines[0].split() == ["round", "difficulty", "proposed", "right", "kept", "precision", "recall"]
    assert [line.split()[:2] for line in lines[1:3]] == [["1", "4"], ["2", "5"]]
    assert lines[3].startswith("round 1, difficulty 4: kept (precision, recall) after unfinished ")
    assert lines[-1].startswith("label precision ")


def test_audit_compares_readiness_with_the_oracle(cli: CommandLine) -> None:
    daring = [
        "schedule.name='accelerated'",
        "schedule.ready=0.001",
        "schedule.readiness='confidence'",
        "schedule.most=2",
    ]
    assert cli(*quick(*daring)).returncode == 0
    rows = json.loads(cli("audit", "new", "--json").stdout)
    assert set(rows[0]["readiness"]["4"]) == {"confidence", "oracle", "vote"}
    asked = sum(len(row["readiness"]) for row in rows)
    yes = sum(each["oracle"] >= 0.001 for row in rows for each in row["readiness"].values())
    line = next(line for line in cli("audit", "new").stdout.splitlines() if "by confidence" in line)
    said = f"ready from 0.001, by confidence: {asked} times asked, {asked - yes} times yes where the oracle says no"
    assert line == f"{said}, 0 times no where it says yes"


def test_plot_draws_into_the_run_by_default(cli: CommandLine, fake_run: FakeRun) -> None:
    fake_run(Path("run"))
    assert Path(cli("plot", "run").stdout.strip()) == Path("run/overview.pdf")
    assert Path("run/overview.pdf").is_file()


NO_INPUT = ""
SMOKE = "run smoke --out new"
MAZE = "run smoke --out new --set task.name=maze-hops"

MISTAKES: list[tuple[str, str | bytes, list[str]]] = [
    # recipes and settings
    ("run nowhere", NO_INPUT, ["recipe", "'nowhere'", *recipe_names()]),
    ("run folder", NO_INPUT, ["recipe", "'folder'", *recipe_names()]),
    ("run binary.toml", NO_INPUT, ["recipe", "'binary.toml'", "TOML"]),
    (f"{SMOKE} --set section.nokey=1", NO_INPUT, ["section", "allowed", "training", "rounds"]),
    (f"{SMOKE} --set training.nokey=1", NO_INPUT, ["training.nokey", "allowed: batch, groups, precision"]),
    (f"{SMOKE} --set training.batch", NO_INPUT, ["--set", "'training.batch'", "section.key=value"]),
    (f"{SMOKE} --set training.batch=many", NO_INPUT, ["training.batch = 'many'", "integer"]),
    (f"{SMOKE} --set training.batch=2.5", NO_INPUT, ["training.batch = 2.5", "integer"]),
    (f"{SMOKE} --set training.batch=0", NO_INPUT, ["training.batch = 0", "greater than or equal to 1"]),
    (f"{SMOKE} --set supervised.difficulty=0", NO_INPUT, ["supervised.difficulty = 0", "equal to 1"]),
    (f"{SMOKE} --set task.name=juggling", NO_INPUT, ["task.name = 'juggling'", *task_names()]),
    (f"{SMOKE} --seed -1", NO_INPUT, ["seed = -1", "greater than or equal to 0"]),
    (f"{SMOKE} --seed one", NO_INPUT, ["--seed", "integer"]),
    (f"{SMOKE} --set schedule.name=grid", NO_INPUT, ["schedule.name = 'grid'", "pairs", "standard, accelerated"]),
    (f"{SMOKE} --set labels.filters=[{{name='twin'}}]", NO_INPUT, ["task copy", "twin"]),
    (f"{SMOKE} --set noise.round=1", NO_INPUT, ["noise.kind", "missing"]),
    (f"{SMOKE} --set noise={{round=9,kind='drop',share=0.5}}", NO_INPUT, ["noise.round = 9", "rounds.count = 2"]),
    (f"{MAZE} --set noise={{round=1,kind='drop',share=0.5}}", NO_INPUT, ["noise", "digits"]),
    (f"{SMOKE} --blindfold --set labels.filters=[{{name='verifier'}}]", NO_INPUT, ["--blindfold", "verifier"]),
    # where a run is written
    ("run smoke --out folder", NO_INPUT, ["--out folder", "exists", "empty"]),
    ("run smoke --out folder/file", NO_INPUT, ["--out folder/file", "exists", "empty"]),
    ("run smoke --out folder/file/new", NO_INPUT, ["folder/file"]),
    # prompts and answers
    ("sample juggling --difficulty 1", NO_INPUT, ["'juggling'", *task_names()]),
    ("sample copy --difficulty 0", NO_INPUT, ["--difficulty", "1"]),
    ("sample copy --difficulty hard", NO_INPUT, ["--difficulty", "'hard'", "number from 1 up"]),
    ("sample copy --difficulty 2x3", NO_INPUT, ["--difficulty 2x3", "copy is one number"]),
    ("sample maze-hops --difficulty 30", NO_INPUT, ["30 nodes", "30 hops", "more nodes than hops"]),
    ("sample maze-hops --difficulty 3 --option nodes=1", NO_INPUT, ["task.options.nodes = 1", "2 to 99"]),
    ("sample copy --difficulty 3 --option nodes=5", NO_INPUT, ["task.options.nodes = 5", "copy has none"]),
    ("sample copy --difficulty 3 --option nodes", NO_INPUT, ["--option 'nodes'", "NAME=VALUE"]),
    ("tasks --check juggling", NO_INPUT, ["'juggling'", *task_names()]),
    ("tasks --plugin nowhere.py", NO_INPUT, ["--plugin nowhere.py", "no such file"]),
    ("tasks --plugin folder/file", NO_INPUT, ["--plugin folder/file", ".py"]),
    (f"{SMOKE} --set task.options.nodes=3", NO_INPUT, ["task.options.nodes = 3", "copy has none"]),
    (f"{MAZE} --set supervised.difficulty=29", NO_INPUT, ["supervised.difficulty = 29", "harder"]),
    (f"{MAZE} --set supervised.difficulty=31", NO_INPUT, ["supervised.difficulty = 31", "29"]),
    ("sample copy --difficulty 1 --count 0", NO_INPUT, ["--count", "1"]),
    ("oracle juggling", "24=", ["'juggling'", *task_names()]),
    ("oracle copy", "24=\n2x4=\n", ["'2x4='", "'x'", DIGITS]),
    ("oracle copy", "1+2=\n", ["'1+2='", "'+'", DIGITS]),
    ("oracle copy", "24=\n\n24=\n", ["prompt ''", "'8631='"]),
    ("oracle copy", b"24\xff=\n", []),
    ("oracle reverse-addition", "1+2\n", ["'1+2'", "'1368+9661='"]),
    ("check juggling", "24=\t24", ["'juggling'", *task_names()]),
    ("check copy", "2x4=\t24\n", ["'2x4='", "'x'", DIGITS]),
    ("check copy", "24=\t24\n24=\n", ["line 2", "'24='", "prompt<TAB>answer"]),
    ("solve run 24= 2x4=", NO_INPUT, ["'2x4='", "'x'", DIGITS]),
    ("solve run 24= --member 2", NO_INPUT, ["member = 2", "0 to 1"]),
    # reading a run
    ("resume folder", NO_INPUT, ["folder", "not a run directory"]),
    ("eval folder", NO_INPUT, ["folder", "not a run directory"]),
    ("solve folder 24=", NO_INPUT, ["folder", "not a run directory"]),
    ("plot folder", NO_INPUT, ["folder", "not a run directory"]),
    ("audit folder", NO_INPUT, ["folder", "not a run directory"]),
    ("watch folder", NO_INPUT, ["folder", "not a run directory"]),
    ("watch run --every 0", NO_INPUT, ["--every", "0.1"]),
    ("list nowhere", NO_INPUT, ["nowhere", "no such directory"]),
    ("list folder/file", NO_INPUT, ["folder/file", "no such directory"]),
    ("report folder", NO_INPUT, ["folder", "not a run directory"]),
    ("report run nowhere", NO_INPUT, ["nowhere", "not a run directory"]),
    ("report run run", NO_INPUT, ["run", "given 2 times"]),
    ("report run --out folder/file/page.html", NO_INPUT, ["folder/file"]),
    ("eval nowhere", NO_INPUT, ["nowhere", "not a run directory"]),
    ("solve begun 24=", NO_INPUT, ["begun", "no round is committed", "resume"]),
    ("eval begun", NO_INPUT, ["begun", "no round is committed", "resume"]),
    ("plot begun", NO_INPUT, ["begun", "no round is committed"]),
    *(
        (f"eval run --difficulties={text}", NO_INPUT, ["--difficulties", repr(text), " 1"])
        for text in ["", "0", "5-1", "0-3", "-3", "1-", "1-2-3", "1,,2", "1,", "one", "1.5", "²", "1-²"]
    ),
    ("eval run --difficulties 3x4", NO_INPUT, ["--difficulties '3x4'", "copy is one number"]),
    ("eval run --examples 0", NO_INPUT, ["--examples", "1"]),
    ("eval run --examples 1001", NO_INPUT, ["--examples 1001", "at most 1000"]),
    ("plot run --out picture.bmp", NO_INPUT, ["--out picture.bmp", ".pdf, .svg, .png"]),
    ("plot run --figure pie", NO_INPUT, ["--figure 'pie'", "overview, accuracy, map"]),
    ("plot run --out folder/file/picture.png", NO_INPUT, ["folder/file"]),
    ("frame folder", NO_INPUT, ["folder", "not a run directory"]),
    ("frame sweep", NO_INPUT, ["not a run directory", "the runs of a sweep are sweep/runs/*"]),
    ("plot sweep", NO_INPUT, ["not a run directory", "the runs of a sweep are sweep/runs/*"]),
    ("frame begun begun", NO_INPUT, ["begun", "given 2 times"]),
    ("frame begun --out table.xlsx", NO_INPUT, ["--out table.xlsx", ".parquet, .csv"]),
    ("frame run", NO_INPUT, ["run/ledger/round-001.parquet", "missing", "easy2hard verify run"]),
    ("frame begun --out folder/file/table.csv", NO_INPUT, ["folder/file"]),
    # arguments
    ("run", NO_INPUT, ["RECIPE"]),
    ("resume", NO_INPUT, ["RUN"]),
    ("eval", NO_INPUT, ["RUN"]),
    ("solve", NO_INPUT, ["RUN"]),
    ("solve run", NO_INPUT, ["PROMPT"]),
    ("plot", NO_INPUT, ["RUN"]),
    ("audit", NO_INPUT, ["RUN"]),
    ("report", NO_INPUT, ["RUN"]),
    ("sample", NO_INPUT, ["TASK"]),
    ("sample copy", NO_INPUT, ["--difficulty"]),
    ("oracle", NO_INPUT, ["TASK"]),
    ("check", NO_INPUT, ["TASK"]),
    ("recipes juggling", NO_INPUT, ["'juggling'", *recipe_names()]),
    ("recipes ../recipes/copy-cpu", NO_INPUT, ["'../recipes/copy-cpu'", "not shipped"]),
    ("tasks more", NO_INPUT, ["more"]),
    ("run smoke --nothing", NO_INPUT, ["--nothing"]),
    ("juggle", NO_INPUT, ["'juggle'"]),
]
"""Command line, standard input, and what the error message must say."""


@pytest.mark.parametrize(("command", "stdin", "words"), MISTAKES, ids=[command for command, *_ in MISTAKES])
def test_a_mistake_is_one_line_and_leaves_no_trace(
    cli: CommandLine, fake_run: FakeRun, command: str, stdin: str | bytes, words: list[str]
) -> None:
    fake_run(Path("run"))
    fake_run(Path("begun"), rounds=0)
    Path("sweep/runs").mkdir(parents=True)
    Path("folder").mkdir()
    Path("folder/file").write_text("precious")
    Path("binary.toml").write_bytes(b"\xff\xfe")
    before = contents(Path())
    result = cli(*command.split(), stdin=stdin)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith("error: ")
    assert result.stderr.endswith("\n")
    assert result.stderr.count("\n") == 1
    assert [word for word in words if word not in result.stderr] == []
    assert contents(Path()) == before


def test_a_mistake_with_a_line_break_is_one_line_too(cli: CommandLine) -> None:
    result = cli("plot", "two\nlines")
    assert (result.returncode, result.stderr.count("\n")) == (2, 1)


def test_a_run_that_diverges_says_so_in_a_line(cli: CommandLine) -> None:
    huge = ["optimiser.name=adamw", "optimiser.learning_rate=1e38", "optimiser.clip=1e38", "supervised.warmup=0"]
    result = cli("run", "smoke", "--out", "run", *[part for each in huge for part in ("--set", each)])
    assert (result.returncode, result.stderr.count("\n")) == (5, 1)
    assert "diverged: member" in result.stderr
    assert "lower optimiser.learning_rate" in result.stderr


def test_what_was_interrupted_before_it_began_has_nothing_to_resume(
    cli: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(rounds, "start", interrupted)
    result = cli("run", "smoke", "--out", "run")
    assert (result.returncode, result.stderr) == (130, "stopped: nothing was begun\n")


def test_libraries_that_find_no_memory_are_no_mistake_of_the_program(
    cli: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unloaded(*arguments: object) -> None:
        raise ImportError("libarrow.so.2600: failed to map segment from shared object")

    monkeypatch.setattr(rounds, "start", unloaded)
    result = cli("run", "smoke", "--out", "run")
    assert (result.returncode, result.stderr.count("\n")) == (6, 1)
    assert result.stderr.startswith("error: out of memory: libarrow.so.2600: failed to map segment")


def test_only_a_command_without_it_says_what_an_option_is_now(cli: CommandLine) -> None:
    assert "--from-round; it is `easy2hard branch` now" in cli("resume", "run", "--from-round", "1").stderr
    for options in (["--from-round", "-1"], ["--from-round"], []):
        assert " now" not in cli("branch", "run", "--out", "out", *options).stderr

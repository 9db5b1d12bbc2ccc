"""`easy2hard init` and `estimate`: a recipe that fits a budget, with every setting explained."""

from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest

from easy2hard import init
from easy2hard.errors import UserError
from easy2hard.runs import probe as module
from easy2hard.runs.estimate import Estimate, RoundEstimate
from easy2hard.settings.docs import commented, filter_sections, sections
from easy2hard.settings.recipes import load_recipe, recipe_names
from easy2hard.settings.schema import Settings

CommandLine = Callable[..., CompletedProcess[str]]


@pytest.fixture
def priced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the supervised phase take 20 s a member, and a round 10 s."""

    def estimate(settings: Settings, *rest: Any, **options: Any) -> Estimate:
        members = settings.model.members
        rounds = [RoundEstimate(0, 10, 0.0, 20.0 * members, 0.0)]
        rounds += [RoundEstimate(n, 10 + n, 0.0, 10.0 * members, 0.0) for n in range(1, settings.rounds.count + 1)]
        return Estimate(rounds, "cpu", 2, 1.0, ["all is well"])

    monkeypatch.setattr(init, "estimate", estimate)


@pytest.mark.usefixtures("priced")
@pytest.mark.parametrize(
    ("minutes", "members", "rounds"), [(0.5, 1, 1), (1.5, 3, 1), (4, 3, 6), (5, 3, 8), (1000, 3, 21)]
)
def test_as_many_rounds_as_fit(minutes: float, members: int, rounds: int) -> None:
    written = init.compose("reverse", minutes, gpu=False)
    assert (written.settings.model.members, written.settings.rounds.count) == (members, rounds)
    assert written.estimate.seconds <= 60 * minutes
    assert written.base == "reverse-cpu"
    assert "vote" not in [each.name for each in written.settings.labels.filters] or members > 1
    assert ("tried more than 7 rounds" in written.text(minutes)) == (rounds > 7)
    assert ("too short for 3 members that vote" in written.text(minutes)) == (members < 3)


@pytest.mark.usefixtures("priced")
def test_a_budget_for_nothing_is_refused() -> None:
    with pytest.raises(UserError, match=r"--minutes 0.4: .* one round of reverse take about 30 s"):
        init.compose("reverse", 0.4, gpu=False)


@pytest.mark.usefixtures("priced")
def test_rounds_end_where_the_task_does() -> None:
    written = init.compose("maze-hops", 1000, gpu=False)
    assert written.settings.rounds.count <= load_recipe("maze-hops-cpu").rounds.count * init.FURTHER


@pytest.mark.usefixtures("priced")
def test_the_recipe_is_written_and_can_be_run(cli: CommandLine, tmp_path: Path) -> None:
    result = cli("init", "new/mine.toml", "--task", "reverse", "--minutes", "4", "--seed", "3", "--yes")
    assert (result.returncode, result.stderr.strip()) == (0, "measuring this machine")
    assert "easy2hard run new/mine.toml" in result.stdout
    settings = load_recipe(str(tmp_path / "new/mine.toml"))
    assert settings == init.compose("reverse", 4, gpu=False, seed=3).settings
    assert "about 4 min" in (tmp_path / "new/mine.toml").read_text()


@pytest.mark.usefixtures("priced")
def test_what_is_not_given_is_asked_for(cli: CommandLine, tmp_path: Path) -> None:
    result = cli("init", "mine.toml", stdin="reverse\n5\ncpu\n")
    assert result.returncode == 0
    assert load_recipe(str(tmp_path / "mine.toml")).rounds.count == 8
    kept = (tmp_path / "mine.toml").read_text()
    assert cli("init", "mine.toml", stdin="copy\n5\nn\n").returncode == 130
    assert (tmp_path / "mine.toml").read_text() == kept


@pytest.mark.parametrize(("answers", "question"), [("", "task"), ("reverse\n", "minutes"), ("copy\n5\n", "hardware")])
def test_where_nobody_answers_the_question_is_named(
    cli: CommandLine, tmp_path: Path, answers: str, question: str
) -> None:
    result = cli("init", "mine.toml", stdin=answers)
    said = f"error: {question}: it is not given, and nobody can be asked: standard input has ended\n"
    assert (result.returncode, result.stderr) == (2, said)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ("--task sort", "--task sort: expected one of copy"),
        ("--minutes 0", "--minutes 0: expected a number above 0"),
        ("--minutes nan", "--minutes nan"),
        ("--hardware tpu", "--hardware tpu: expected one of cpu, gpu"),
        ("mine.txt", "mine.txt: a recipe's name ends in .toml"),
    ],
)
def test_a_wrong_answer_is_one_line(cli: CommandLine, tmp_path: Path, options: str, named: str) -> None:
    result = cli("init", *options.split(), "--yes")
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith(f"error: {named}")
    assert not list(tmp_path.iterdir())


def test_a_gpu_that_is_not_there_is_not_estimated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(UserError, match="--hardware gpu: there is none"):
        init.compose("copy", 5, gpu=True)


@pytest.mark.parametrize("recipe", recipe_names())
def test_an_explained_recipe_gives_the_same_settings(tmp_path: Path, recipe: str) -> None:
    path = tmp_path / "explained.toml"
    path.write_text(commented(load_recipe(recipe), "Why\nit is so."))
    assert load_recipe(str(path)) == load_recipe(recipe)


def test_sections_that_are_left_out_are_explained_too() -> None:
    text = commented(load_recipe("smoke"), "")
    for name in ("model.lora", "noise", "budget"):
        assert f"Left out here; [{name}] takes:" in text
    assert "#   steps (default: not set):" in text


def test_defaults_that_are_shown_are_the_defaults(tmp_path: Path) -> None:
    """Uncommented, the recipe still gives the same settings."""
    text = commented(load_recipe("smoke"), "")
    lines = [line.removeprefix("# ") if " = " in line and "not set" not in line else line for line in text.splitlines()]
    path = tmp_path / "all.toml"
    path.write_text("\n".join(lines))
    assert load_recipe(str(path)) == load_recipe("smoke")
    assert len(lines) > 80


def test_every_setting_is_explained() -> None:
    unexplained = [
        each.path for part in [*sections(), *filter_sections()] for each in part.settings if not each.description
    ]
    assert unexplained == []
    assert {part.name for part in sections()} >= {"task", "model", "noise", "storage"}


def test_estimate_prints_what_it_measured(cli: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    import json

    monkeypatch.setattr(module, "SECONDS", 0.01)
    printed = json.loads(cli("estimate", "smoke", "--set", "rounds.count=1", "--json").stdout)
    assert printed["recipe"] == "smoke"
    assert [each["round"] for each in printed["rounds"]] == [0, 1]
    assert printed["seconds"] == pytest.approx(sum(printed["phases"].values()), abs=0.3)
    assert cli("estimate", "smoke", "--set", "rounds.count=x").stderr.startswith("error: rounds.count = 'x'")

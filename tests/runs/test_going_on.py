"""A run that goes on with other settings, in its own directory or in a copy."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest
from helpers import Silent

from easy2hard.errors import UserError
from easy2hard.runs import going_on, rounds
from easy2hard.runs.integrity import problems
from easy2hard.runs.store import Store
from easy2hard.settings.recipes import load_recipe

QUICK = [
    *("model.layers=1", "model.width=16", "supervised.steps=20", "supervised.decay=10", "supervised.warmup=2"),
    *("rounds.steps=6", "rounds.warmup=1", "rounds.decay=2", "labels.count=40", "evaluation.examples=10"),
    *("watch.enabled=false", "labels.filters=[{name='none'}]"),
]
CommandLine = Callable[..., CompletedProcess[str]]


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A run of two rounds."""
    settings = load_recipe("smoke", [*QUICK, "rounds.count=2"])
    return rounds.start(settings, tmp_path_factory.mktemp("two") / "run", Silent())


@pytest.fixture
def copy(two: Store, tmp_path: Path) -> Store:
    shutil.copytree(two.path, tmp_path / "copy")
    return Store(tmp_path / "copy")


def digests(run: Store) -> list[str]:
    return [record.weights_sha256 for record in run.manifest.rounds]


def test_a_run_that_goes_on_has_the_bits_of_one_begun_with_as_many_rounds(two: Store, tmp_path: Path) -> None:
    run = rounds.start(load_recipe("smoke", [*QUICK, "rounds.count=1"]), tmp_path / "one", Silent())
    going_on.go_on(run, ["rounds.count=2", "storage.checkpoint_minutes=0"])
    rounds.resume(run, Silent())
    assert digests(run) == digests(two)
    assert [record.accuracy for record in run.manifest.rounds] == [record.accuracy for record in two.manifest.rounds]
    assert run.settings == going_on.replaced(two.settings, ["storage.checkpoint_minutes=0"])
    assert not problems(run, run.manifest)


@pytest.mark.parametrize(
    ("override", "problem"),
    [
        ("labels.count=50", r"labels.count: .* branch .* --from-round 2 --out DIR --set labels.count=VALUE"),
        ("noise={round=1, kind='drop', share=0.5}", "noise: .*branch .* --from-round 2"),
        ("model.width=32", r"model.width: .*easy2hard run .*settings.toml --set model.width=VALUE --out DIR` begins"),
        ("seed=1", "seed: .* begins a new run"),
        ("rounds.count=1", "rounds.count = 1: 2 rounds are there; `easy2hard branch .* --from-round 1"),
        ("rounds.cuont=9", "rounds.cuont: unknown setting"),
    ],
)
def test_what_a_run_does_not_go_on_with_is_named_with_what_to_do(override: str, problem: str, copy: Store) -> None:
    before = (copy.path / "settings.toml").read_bytes(), copy.manifest
    with pytest.raises(UserError, match=problem):
        going_on.go_on(copy, ["rounds.count=3", override])
    assert ((copy.path / "settings.toml").read_bytes(), copy.manifest) == before


@pytest.mark.parametrize("moment", range(1, 10))
def test_new_settings_are_there_wholly_or_not_at_all(moment: int, copy: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """However far a process came, the run is resumed with the old settings or with the new ones."""
    left = moment

    def dying(real: Callable[..., Any]) -> Callable[..., Any]:
        def step(*arguments: Any, **named: Any) -> Any:
            nonlocal left
            left -= 1
            if not left:
                raise KeyboardInterrupt
            return real(*arguments, **named)

        return step

    for name in ("fsync", "replace"):  # of each file its flush, its name, and its folder's flush
        monkeypatch.setattr(os, name, dying(getattr(os, name)))
    with pytest.raises(KeyboardInterrupt):
        going_on.go_on(copy, ["rounds.count=3"])
    monkeypatch.undo()
    rounds.resume(copy, Silent())
    assert len(copy.manifest.rounds) == copy.settings.rounds.count + 1 == (4 if moment > 5 else 3)
    assert not problems(copy, copy.manifest)
    assert not (copy.path / "settings.toml.new").exists()


def test_a_branch_has_other_settings_from_its_round_on(two: Store, tmp_path: Path) -> None:
    branched = going_on.branch(two, tmp_path / "branch", 1, ["labels.count=30", "rounds.count=2"])
    rounds.resume(branched, Silent())
    assert digests(branched)[:2] == digests(two)[:2]
    assert [record.proposed for record in branched.manifest.rounds] == [0, 40, 30]
    assert two.settings.labels.count == 40


@pytest.mark.parametrize(
    ("override", "problem"),
    [
        ("task.name=reverse-addition", "task.name: round 0 was made with 'copy'; .* begins a new run"),
        ("supervised.steps=30", "supervised.steps: round 0 was made with 20"),
        ("training.second_target=1.0", "training.second_target: round 0 was made with 0.0"),
        ("evaluation.examples=2000", "evaluation.examples = 2000: must be at most 1000"),
        ("rounds.count=0", "rounds.count = 0: must be at least --from-round 1"),
        ("labels.filters=[{name='twin'}]", "twin"),
    ],
)
def test_what_a_branch_cannot_change_is_refused_before_anything_is_written(
    override: str, problem: str, two: Store, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=problem):
        going_on.branch(two, tmp_path / "branch", 1, [override])
    assert not (tmp_path / "branch").exists()


def test_the_command_line_goes_on_branches_and_says_how_to_get_more_rounds(copy: Store, cli: CommandLine) -> None:
    path = str(copy.path)
    again = cli("resume", path)
    assert again.returncode == 0
    assert f"with all of its 2 rounds; `easy2hard resume {path} --set rounds.count=12` adds 10" in again.stdout
    more = cli("resume", path, "--set", "rounds.count=3")
    assert (more.returncode, "ended before" in more.stdout) == (0, False)
    assert len(copy.manifest.rounds) == 4
    branched = cli("branch", path, "--from-round", "0", "--out", "branch", "--set", "rounds.count=1")
    assert branched.returncode == 0
    assert digests(Store(Path("branch"))) == digests(copy)[:2]

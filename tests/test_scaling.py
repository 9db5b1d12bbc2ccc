"""Any recipe at the size of a laptop."""

from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest
from bases import save_base
from helpers import Silent

from easy2hard.errors import UserError
from easy2hard.runs import rounds
from easy2hard.runs.experiment import Experiment
from easy2hard.runs.preflight import check
from easy2hard.settings.model import PRESETS
from easy2hard.settings.recipes import load_recipe, recipe_names
from easy2hard.settings.scaling import SMALL_BASE

LARGE = [
    name for name in recipe_names() if load_recipe(name).model.preset != "tiny" or load_recipe(name).model.pretrained
]
SHORT = ["supervised.steps=3", "supervised.warmup=1", "supervised.decay=1", "training.batch=8", "rounds.count=0"]
SHORT += ["training.groups=1", "evaluation.examples=1", "evaluation.beyond=0"]


@pytest.mark.parametrize("name", recipe_names())
def test_nothing_grows_and_what_it_is_about_stays(name: str) -> None:
    full, small = load_recipe(name), load_recipe(name, scale="laptop")
    check(Experiment(small))
    assert small.task.name == full.task.name
    assert small.schedule.name == full.schedule.name
    assert small.labels.filters == full.labels.filters
    assert (small.noise is None) == (full.noise is None)
    assert (small.model.pretrained is None) == (full.model.pretrained is None)
    assert (small.model.lora is None) == (full.model.lora is None)
    assert small.model.members <= full.model.members
    for section, keys in {
        "supervised": ["difficulty", "steps"],
        "rounds": ["count", "steps"],
        "labels": ["count"],
        "training": ["batch", "groups"],
        "evaluation": ["examples", "beyond"],
    }.items():
        for key in keys:
            assert getattr(getattr(small, section), key) <= getattr(getattr(full, section), key), f"{section}.{key}"


@pytest.mark.parametrize("name", recipe_names())
def test_scaled_once_or_twice_is_the_same(name: str, tmp_path: Path) -> None:
    small = load_recipe(name, scale="laptop")
    if name not in LARGE:
        assert small == load_recipe(name)
    (tmp_path / "small.toml").write_text(small.to_toml())
    if not small.model.pretrained:
        assert small.model.size == PRESETS["tiny"] or name not in LARGE
        assert load_recipe(str(tmp_path / "small.toml"), scale="laptop") == small


@pytest.mark.parametrize("name", LARGE)
def test_a_scaled_recipe_takes_three_steps(name: str, tmp_path: Path) -> None:
    overrides = list(SHORT)
    if load_recipe(name, scale="laptop").noise:
        overrides[overrides.index("rounds.count=0")] = "noise.round=1"
        overrides += ["rounds.count=1", "rounds.steps=3", "rounds.warmup=0", "rounds.decay=0", "labels.count=20"]
    if load_recipe(name).model.pretrained:
        assert load_recipe(name, scale="laptop").model.pretrained == SMALL_BASE
        overrides.append(f"model.pretrained={save_base('subwords', tmp_path / 'base')}")
    store = rounds.start(load_recipe(name, overrides, scale="laptop"), tmp_path / "run", Silent())
    assert all(record.steps == 3 for record in store.manifest.rounds)


def test_what_is_set_by_hand_comes_after_the_scale(cli: Callable[..., CompletedProcess[str]]) -> None:
    assert load_recipe("copy-paper", ["training.batch=512"], scale="laptop").training.batch == 512
    few: list[Any] = [part for each in SHORT for part in ("--set", each)]
    result = cli("run", "copy-paper", "--scale", "laptop", *few)
    assert result.returncode == 0, result.stderr
    assert "runs/copy-paper-laptop-seed0" in result.stdout
    wrong = cli("run", "copy-paper", "--scale", "watch")
    assert (wrong.returncode, wrong.stderr) == (2, "error: --scale watch: unknown (allowed: laptop)\n")
    with pytest.raises(UserError, match="allowed: laptop"):
        load_recipe("smoke", scale="")

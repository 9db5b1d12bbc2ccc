"""Every shipped recipe is one that can run."""

from pathlib import Path

import pytest
from helpers import Silent

from easy2hard.config import load_recipe, recipe_names
from easy2hard.runs import rounds

SHORT = [
    "supervised.steps=3",
    "supervised.warmup=1",
    "supervised.decay=1",
    "supervised.rest=0",
    "training.batch=8",
    "rounds.count=0",
    "evaluation.examples=1",
    "evaluation.beyond=0",
]


@pytest.mark.parametrize("name", recipe_names())
def test_a_recipe_fits_its_task(name: str) -> None:
    settings = load_recipe(name)
    assert settings.description.endswith(".")
    rounds.check(settings)


@pytest.mark.parametrize("name", [name for name in recipe_names() if name.endswith("-paper")])
def test_the_settings_of_the_paper_take_three_steps_on_a_cpu(name: str, tmp_path: Path) -> None:
    """At the true sizes and precision; a small batch, and two members where there are more."""
    settings = load_recipe(name)
    members = [f"model.members={min(settings.model.members, 2)}"]
    store = rounds.start(load_recipe(name, [*SHORT, *members]), tmp_path / "run", Silent())
    (record,) = store.manifest.rounds
    assert record.steps == 3
    assert 0 < record.loss < 10

"""Every shipped recipe is one that can run."""

from pathlib import Path

import pytest
from bases import save_base
from helpers import Silent

from easy2hard.runs import rounds
from easy2hard.runs.experiment import Experiment
from easy2hard.runs.preflight import check
from easy2hard.settings.recipes import load_recipe, recipe_names

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
    check(Experiment(settings))


PRETRAINED = [name for name in recipe_names() if load_recipe(name).model.pretrained]


@pytest.mark.parametrize("name", PRETRAINED)
def test_a_recipe_of_a_pretrained_model_takes_three_steps_with_a_small_one(name: str, tmp_path: Path) -> None:
    base = save_base("subwords", tmp_path / "base")
    store = rounds.start(load_recipe(name, [*SHORT, f"model.pretrained={base}"]), tmp_path / "run", Silent())
    (record,) = store.manifest.rounds
    assert record.steps == 3
    assert 0 < record.loss < 100


def test_the_recipes_of_llama_have_the_adapters_of_the_paper() -> None:
    for name in ("llama-3.2-1b-reverse-addition", "llama-3.2-3b-reverse-addition"):
        settings = load_recipe(name)
        assert settings.model.lora is not None
        assert (settings.model.lora.rank, settings.model.lora.alpha) == (64, 128)
        assert settings.optimiser.learning_rate == 1e-4


# Accelerated runs and label noise differ from these in their rounds alone.
PAPER = [
    name for name in recipe_names() if name.endswith("-paper") and not name.endswith(("ated-paper", "noise-paper"))
]
# Of each kind of task `make test` takes one: copies, sums, products and mazes.
ALIKE = ["copy-paper", "forward-addition-paper", "maze-nodes-paper"]


@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.slow] * (name in ALIKE)) for name in PAPER])
def test_the_settings_of_the_paper_take_three_steps_on_a_cpu(name: str, tmp_path: Path) -> None:
    """At the true sizes and precision; a small batch, and two members where there are more."""
    settings = load_recipe(name)
    members = [f"model.members={min(settings.model.members, 2)}"]
    store = rounds.start(load_recipe(name, [*SHORT, *members]), tmp_path / "run", Silent())
    (record,) = store.manifest.rounds
    assert record.steps == 3
    assert 0 < record.loss < 10

"""What a run is made of is made once, and no more of it than is asked for."""

import subprocess
import sys
from pathlib import Path

import pytest
from helpers import Silent

from easy2hard.evaluation.blindfold import BlindfoldError
from easy2hard.runs import experiment, rounds
from easy2hard.runs.experiment import Experiment
from easy2hard.settings.recipes import load_recipe
from easy2hard.tasks.base import Task
from easy2hard.tasks.registry import load_task

QUICK = ["supervised.steps=6", "supervised.decay=0", "rounds.steps=3", "rounds.decay=0", "labels.relabel=true"]


def test_who_needs_no_members_does_without_torch() -> None:
    code = """
import sys
from easy2hard.settings.recipes import load_recipe
from easy2hard.runs.experiment import Experiment
made = Experiment(load_recipe("smoke"))
prompts = made.reserved.prompts(3)
assert made.oracle.solve(prompts).shape[0] == len(prompts)
print(*(name for name in ("torch", "numba", "transformers") if name in sys.modules))
made.members
assert "torch" in sys.modules
"""
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said.strip() == ""


def test_a_run_makes_its_task_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Task] = []

    def counted(name: str, options: dict[str, int], reading: bool) -> Task:
        made.append(load_task(name, options, reading))
        return made[-1]

    monkeypatch.setattr(experiment, "load_task", counted)
    store = rounds.start(load_recipe("smoke", QUICK), tmp_path / "run", Silent())
    assert len(made) == 1
    rounds.resume(store, Silent())
    assert len(made) == 2


def test_all_parts_are_of_one_task_and_one_oracle() -> None:
    made = Experiment(load_recipe("smoke"), "cpu", blindfold=True)
    assert made.oracle is made.supervised.oracle
    assert made.task is made.oracle.task is made.reserved.task is made.supervised.task
    assert list(made.engine.members) == made.members
    assert made.parameters == sum(weight.numel() for weight in made.members[0].parameters())
    with pytest.raises(BlindfoldError):
        made.oracle.solve(made.reserved.prompts(9))

"""How long a run will take: a few pieces of each phase are measured on this machine at their real sizes (probe.py)."""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from easy2hard.engines.choice import cores
from easy2hard.engines.compiling import COMPILING
from easy2hard.errors import UserError
from easy2hard.runs.experiment import Experiment
from easy2hard.runs.preflight import check
from easy2hard.runs.probe import FEW, Probe
from easy2hard.runs.progress_file import COMPILING as NOTE
from easy2hard.runs.size import check_size, long_step
from easy2hard.settings.schema import Settings
from easy2hard.tasks.base import hardest
from easy2hard.text import counted, duration

MEASURABLE = 30.0
"""Seconds of a step of a few rows beyond which nothing is measured: several of them are."""


@dataclass(frozen=True)
class RoundEstimate:
    """Seconds of each phase of a round; round 0 is the supervised phase."""

    round: int
    hardest: int
    label: float
    train: float
    evaluate: float

    @property
    def seconds(self) -> float:
        """Of the whole round."""
        return self.label + self.train + self.evaluate


@dataclass(frozen=True)
class Estimate:
    """How long a run will take on this machine, as busy as it is now."""

    rounds: list[RoundEstimate]
    device: str
    threads: int
    measured: float
    """Seconds that the measuring took."""
    notes: list[str] = field(default_factory=list)
    """What the estimate takes for granted."""

    @property
    def seconds(self) -> float:
        """Of the whole run."""
        return sum(each.seconds for each in self.rounds)

    @property
    def phases(self) -> dict[str, float]:
        """Seconds of each phase: the supervised training, and the rounds' labels, training and evaluation."""
        rounds = self.rounds[1:]
        return {
            "supervised": self.rounds[0].train,
            "label": sum(each.label for each in rounds),
            "train": sum(each.train for each in rounds),
            "evaluate": sum(each.evaluate for each in self.rounds),
        }

    def cut(self, count: int) -> "Estimate":
        """Return the estimate of a run of ``count`` rounds only."""
        return replace(self, rounds=self.rounds[: count + 1])

    def lines(self) -> list[str]:
        """Return it for people: a line for each phase, their sum, and what is taken for granted."""
        rounds = len(self.rounds) - 1
        where = self.device if self.device != "cpu" else counted(self.threads, "core")
        what = {"supervised": "round 0", "evaluate": counted(rounds + 1, "time")}
        return [
            f"about {duration(self.seconds)} on {where}, as busy as it is now (measured for {self.measured:.0f} s)",
            *(
                f"  {name:<10}  {what.get(name, counted(rounds, 'round')):<10}  {duration(seconds)}"
                for name, seconds in self.phases.items()
            ),
            *(f"it assumes that {note}" for note in self.notes),
        ]

    def as_json(self) -> dict[str, Any]:
        """Return it as it is printed: seconds, rounded."""
        return {
            "seconds": round(self.seconds, 1),
            "phases": {name: round(seconds, 1) for name, seconds in self.phases.items()},
            "rounds": [
                {name: round(value, 2) if isinstance(value, float) else value for name, value in asdict(each).items()}
                for each in self.rounds
            ],
            "device": self.device,
            "threads": self.threads,
            "measured_seconds": round(self.measured, 1),
            "notes": self.notes,
        }


def estimate(settings: Settings, on_phase: Callable[[str], None] = lambda name: None, device: str = "auto") -> Estimate:
    """Measure what a run will do on this machine, for less than a minute, and add it up over the schedule.

    Args:
        settings: of the run.
        on_phase: told what is measured now.
        device: where the run would compute (engines/choice.py).

    Raises:
        UserError: a setting does not fit the task, a step takes minutes, or there is no such device.
    """
    experiment = Experiment(settings, device)
    check(experiment)
    check_size(experiment)
    if endless := long_step(experiment, FEW, MEASURABLE):
        raise UserError(f"{endless}; nothing is measured")
    begin = time.perf_counter()
    with COMPILING.telling(lambda: on_phase(f"while {NOTE}")):
        on_phase("the size of the run")
        probe = Probe(experiment)
        plan = probe.plan
        on_phase("supervised training")
        supervised = probe.supervised_step() * settings.supervised.steps
        on_phase("labels")
        label = probe.labels()
        on_phase("training of the rounds")
        step = probe.steps()
        on_phase("evaluation")
        evaluate = probe.evaluations()
    rounds = [RoundEstimate(0, settings.supervised.difficulty, 0.0, supervised, evaluate[0])] + [
        RoundEstimate(
            number,
            max(map(hardest, plan[number - 1])),
            label[number - 1],
            step[number - 1] * settings.rounds.steps,
            evaluate[number],
        )
        for number in range(1, len(plan) + 1)
    ]
    return Estimate(
        _affordable(settings, rounds),
        str(probe.members[0].device),
        cores(),
        time.perf_counter() - begin,
        probe.notes,
    )


def _affordable(settings: Settings, rounds: list[RoundEstimate]) -> list[RoundEstimate]:
    """Return the rounds that the run's budget lets begin."""
    if settings.budget is None:
        return rounds
    for count in range(1, len(rounds)):
        steps = settings.supervised.steps + (count - 1) * settings.rounds.steps
        if settings.budget.spent(steps, sum(each.seconds for each in rounds[:count]), settings.rounds.steps):
            return rounds[:count]
    return rounds

"""How long the rest of a run takes, from what its phases have taken so far.

A phase takes as many seconds for each token as it took in the last rounds. Which tokens a round will have is known
before: its difficulties are planned by the schedule, and their lengths are sampled.
"""

from collections import deque
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from easy2hard.engines.compiling import COMPILING
from easy2hard.errors import UserError
from easy2hard.improvement.schedules import History, planned
from easy2hard.runs.manifest import Manifest
from easy2hard.settings.schema import Settings
from easy2hard.tasks.base import Difficulty, Task, hardest

PHASES = "label", "relabel", "train", "evaluate"
"""Of a round, in their order."""
LAST = 3
"""Rounds whose seconds count."""
ANSWERED = 1 / 3
"""What a token costs that is answered or scored, where a token that is trained on costs 1: as long as neither was
measured. Training reads each weight three times, forwards and twice backwards."""
WINDOW = 10.0
"""Seconds that a rate is of."""


class Rate(NamedTuple):
    """What a phase does in a second."""

    parts: float
    tokens: float


class Window:
    """The last seconds of a phase, after its first part, which has what is done once: such as loading loops.

    It begins afresh where loops were compiled: the part that met them took longer.
    """

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int, int]] = deque()
        self._compiled = COMPILING.seconds

    def add(self, parts: int, tokens: int) -> Rate | None:
        """Note how far the phase is now, and return the rate; None where nothing was done yet."""
        now = COMPILING.clock()
        if self._compiled != COMPILING.seconds:
            self._seen.clear()
            self._compiled = COMPILING.seconds
        if parts:
            self._seen.append((now, parts, tokens))
        while len(self._seen) > 2 and self._seen[1][0] <= now - WINDOW:
            self._seen.popleft()
        if len(self._seen) < 2 or now <= self._seen[0][0] or parts == self._seen[0][1]:
            return None
        began, old_parts, old_tokens = self._seen[0]
        return Rate((parts - old_parts) / (now - began), (tokens - old_tokens) / (now - began))


class Work:
    """Knows about how many tokens of a member each phase of a round has.

    Args:
        settings: of the run.
        task: of the run; it samples prompts, and says how long their answers are at most.
    """

    def __init__(self, settings: Settings, task: Task) -> None:
        self._settings = settings
        self._task = task
        self._lengths: dict[Difficulty, float] = {}

    def __call__(self, history: History, difficulties: Sequence[Difficulty]) -> dict[str, float]:
        """Return it by phase, for a round of these difficulties after the rounds of ``history``."""
        settings, task = self._settings, self._task
        of_difficulties = sum(map(self.length, difficulties))
        frontier = max(hardest(each) for of_round in [*history, difficulties] for each in of_round)
        evaluated = task.evaluated_difficulties(task.capped(frontier + settings.evaluation.beyond))
        evaluate = settings.evaluation.examples * sum(map(self.length, evaluated))
        mean = of_difficulties / len(difficulties)
        if not history:
            batch = settings.supervised.steps * settings.training.batch
            return {"label": 0.0, "relabel": 0.0, "train": batch * mean, "evaluate": evaluate}
        older = list(history[:1] if settings.rounds.data == "replace" else history)
        before = [self.length(each) for of_round in older for each in of_round]
        newest = settings.rounds.newest_share
        row = newest * mean + (1 - newest) * sum(before) / len(before)
        again = sum(self.length(each) for of_round in history[1:] for each in of_round)
        return {
            "label": settings.labels.count * of_difficulties,
            "relabel": settings.labels.count * again if settings.labels.relabel else 0.0,
            "train": settings.rounds.steps * (settings.rounds.batch or settings.training.batch) * row,
            "evaluate": evaluate,
        }

    def length(self, difficulty: Difficulty) -> float:
        """Return the tokens of a prompt and its answer, about."""
        if difficulty not in self._lengths:
            prompts = self._task.sample(np.random.default_rng(0), difficulty, 4)
            self._lengths[difficulty] = float(prompts.shape[1] + self._task.answer_bounds(prompts).mean())
        return self._lengths[difficulty]


class TimeLeft:
    """Says how long the rest of a run takes.

    Args:
        settings: of the run.
        task: of the run; it samples prompts, and says how long their answers are at most.
        manifest: the run so far.
        begun: the next phase was begun before, so that its seconds here are not all it takes.
    """

    def __init__(self, settings: Settings, task: Task, manifest: Manifest, begun: bool = False) -> None:
        self._settings = settings
        self._task = task
        self._work = Work(settings, task)
        self._took: dict[str, deque[float]] = {}
        self._phase, self._began = "", 0.0
        self._begun = begun
        for record in manifest.rounds[-LAST:]:
            work = self._work([each.difficulties for each in manifest.rounds[: record.round]], record.difficulties)
            for name, seconds in record.phase_seconds.items():
                self._learn(name, seconds, work[name] + (work["relabel"] if name == "label" else 0.0))
        self.committed(manifest)

    def committed(self, manifest: Manifest) -> None:
        """Learn that a round is committed; or at the beginning, how far the run is."""
        self._end_phase()
        rounds = manifest.rounds
        self._steps, self._seconds = sum(each.steps for each in rounds), sum(each.seconds for each in rounds)
        history: list[list[Difficulty]] = [each.difficulties for each in manifest.lineage]
        if not history:
            history = [self._task.evaluated_difficulties(self._settings.supervised.difficulty)]
        try:
            plan = planned(
                self._settings.schedule, self._task, history, self._settings.rounds.count + 1 - max(1, len(rounds))
            )
        except UserError:  # of a schedule that does not know such a history; the round itself will say it
            plan = []
        all_rounds = [*history, *plan]
        first = len(history) if rounds else 0
        self._coming = [self._work(all_rounds[:at], all_rounds[at]) for at in range(first, len(all_rounds))]

    def phase(self, name: str) -> None:
        """Learn that a phase of the next round begins."""
        self._end_phase()
        self._phase, self._began = name, COMPILING.clock()

    def of_run(self, left: float | None, share: float) -> float | None:
        """Return the seconds that the run takes from now on; None where too little is known.

        Args:
            left: seconds that are left of this phase; None where that is not known.
            share: how much of the phase is done, from 0 to 1.
        """
        if not self._coming or not self._phase:
            return None
        now, *later = self._coming
        cost = {name: sum(took) / len(took) for name, took in self._took.items()}
        if left is not None and 0 < share < 1 and now[self._phase]:  # what is under way tells most
            cost[_kind(self._phase)] = left / (1 - share) / now[self._phase]
        if "train" not in cost:
            return None
        cost = {"label": ANSWERED * cost["train"], "evaluate": ANSWERED * cost["train"], **cost}

        def seconds(work: Mapping[str, float], phases: Sequence[str] = PHASES) -> float:
            return sum(cost[_kind(name)] * work[name] for name in phases)

        rest = seconds(now, [self._phase]) * (1 - share) if left is None else left
        rest += seconds(now, PHASES[PHASES.index(self._phase) + 1 :])
        budget, spent = self._settings.budget, self._seconds + COMPILING.clock() - self._began
        steps = self._steps + (self._settings.rounds.steps if self._steps else self._settings.supervised.steps)
        for work in later:
            if budget and budget.spent(steps, spent + rest, self._settings.rounds.steps):
                break
            rest, steps = rest + seconds(work), steps + self._settings.rounds.steps
        return rest

    def _end_phase(self) -> None:
        if self._phase and self._coming and not self._begun:
            self._learn(_kind(self._phase), COMPILING.clock() - self._began, self._coming[0][self._phase])
        self._begun = self._begun and not self._phase
        self._phase = ""

    def _learn(self, name: str, seconds: float, work: float) -> None:
        if work:
            self._took.setdefault(name, deque(maxlen=LAST)).append(seconds / work)


def _kind(phase: str) -> str:
    """Return the phase whose tokens cost as much."""
    return "label" if phase == "relabel" else phase

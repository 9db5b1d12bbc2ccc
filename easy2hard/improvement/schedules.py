"""Schedules: the difficulties covered so far -> those of the next round. How to add one is in docs/extending.md."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from itertools import count, islice, pairwise
from typing import TYPE_CHECKING, ClassVar

from typing_extensions import override

from easy2hard.errors import UserError
from easy2hard.plugins import SCHEDULES, Extension, made
from easy2hard.settings.rounds import ScheduleSettings
from easy2hard.tasks.base import Difficulty, Task, difficulty_text, hardest

if TYPE_CHECKING:  # settings load schedules, and never torch
    from easy2hard.improvement.proposals import Proposals

History = Sequence[Sequence[Difficulty]]
"""The difficulties of every round so far, the supervised phase first."""

Ready = Callable[[Difficulty], bool]
"""Whether the members answer a difficulty well enough to label it."""

ACCELERATED_GRID = {
    6: [(1, 1), (2, 3), (4, 5), (6, 6)],
    7: [(1, 1), (2, 4), (5, 6), (7, 7)],
    8: [(1, 2), (3, 5), (6, 7), (8, 8)],
    9: [(1, 5), (6, 8), (9, 9)],
    10: [(1, 6), (7, 9), (10, 10)],
}
"""method.md, "Schedules": for the greater number h, which smaller ones come in one round: (1,6) | (2..3,6) | …"""


class Schedule(Extension, ABC):
    """Says which difficulties the next round labels.

    Args:
        settings: the section ``schedule``.
        task: says which steps lead from one difficulty to the next.
    """

    kind = "schedule"
    name: ClassVar[str]
    asks: ClassVar[bool] = False
    """Whether it asks how ready the members are; settings then say how that is judged."""

    def __init__(self, settings: ScheduleSettings, task: Task) -> None:
        self.settings = settings
        self.task = task

    @abstractmethod
    def next(self, history: History, ready: Ready) -> list[Difficulty]:
        """Return the next round's difficulties; none where the task's greatest is passed.

        Args:
            history: the difficulties of every round so far, the supervised phase first.
            ready: whether the members answer a difficulty well enough; each question costs ``schedule.probe`` answers.

        Raises:
            UserError: it is for other tasks than this.
        """

    def ahead(self, history: History) -> Iterator[list[Difficulty]]:
        """Yield the small steps past the supervised range, less the difficulties that a round has taken already.

        They end with the task's greatest difficulty, where it has one.
        """
        covered = {difficulty for difficulties in history for difficulty in difficulties}
        first = max(map(hardest, history[0])) + 1
        for hard in count(first) if self.task.greatest is None else range(first, self.task.greatest + 1):
            for step in self.task.labelled_difficulties(hard):
                if left := [difficulty for difficulty in step if difficulty not in covered]:
                    yield left


def next_difficulties(
    settings: ScheduleSettings, task: Task, history: History, ready: Ready = lambda difficulty: False
) -> list[Difficulty]:
    """Return the next round's difficulties; none where the task's greatest is passed.

    Args:
        settings: the schedule and its settings.
        task: says which steps lead from one difficulty to the next.
        history: the difficulties of every round so far.
        ready: asked by schedules that want to know, one difficulty after another until one is not ready.

    Raises:
        UserError: there is no such schedule, or it is for other tasks.
    """
    schedule = made(
        SCHEDULES.find(settings.name), f"schedule {settings.name}", "schedule.options", settings.options, settings, task
    )
    return schedule.next(history, ready)


def planned(
    settings: ScheduleSettings,
    task: Task,
    history: History,
    rounds: int,
    ready: Ready = lambda difficulty: False,
) -> list[list[Difficulty]]:
    """Return the difficulties of so many further rounds; fewer where the task has nothing harder.

    Args:
        settings: the schedule and its settings.
        task: says which steps lead from one difficulty to the next.
        history: the difficulties of every round so far, the supervised phase first.
        rounds: how many.
        ready: see :func:`next_difficulties`.
    """
    all_rounds = [list(each) for each in history]
    for _ in range(rounds):
        difficulties = next_difficulties(settings, task, all_rounds, ready)
        if not difficulties:
            break
        all_rounds.append(difficulties)
    return all_rounds[len(history) :]


def readiness_of(proposals: "Proposals") -> dict[str, float]:
    """Return how ready the members are for a difficulty, judged by their answers alone, in each way there is."""
    if not len(proposals.prompts):
        return dict.fromkeys(["vote", "confidence", "twin", "parts"], 0.0)
    values = {"confidence": float(proposals.probability.mean())}
    if proposals.members > 1:
        values["vote"] = float(proposals.unanimous.mean())
    if proposals.twin is not None:
        values["twin"] = float(proposals.twin.mean())
    if proposals.parts is not None:
        values["parts"] = float(proposals.parts.mean())
    return values


class Standard(Schedule):
    """The next ``stride`` small steps past the supervised range that no round has taken yet."""

    name = "standard"

    @override
    def next(self, history: History, ready: Ready) -> list[Difficulty]:
        return [difficulty for step in islice(self.ahead(history), self.settings.stride) for difficulty in step]


class Accelerated(Schedule):
    """The next small step, and those after it up to the last that the members are ready for, ``most`` in all."""

    name, asks = "accelerated", True

    @override
    def next(self, history: History, ready: Ready) -> list[Difficulty]:
        taken: list[Difficulty] = []
        for step in islice(self.ahead(history), self.settings.most):
            is_ready = all(map(ready, step))
            if taken and not is_ready:
                break
            taken += step
            if not is_ready:
                break
        return taken


class Grid(Schedule):
    """The paper's order of pairs, one pair and its mirror image a round."""

    name = "grid"

    @override
    def next(self, history: History, ready: Ready) -> list[Difficulty]:
        step = next(self.ahead(history), [])
        if step and not isinstance(step[0], tuple):
            raise UserError(
                f"schedule.name = {self.name!r}: for difficulties that are pairs; those of task {self.task.name} are "
                "numbers (allowed: standard, accelerated)"
            )
        return step


class GridAccelerated(Grid):
    """The paper's accelerated order of pairs; past its table in thirds of a row."""

    name = "grid-accelerated"

    @override
    def next(self, history: History, ready: Ready) -> list[Difficulty]:
        super().next(history, ready)
        greatest = history[0][-1]
        if isinstance(greatest, tuple) and greatest[0] != greatest[1]:
            raise UserError(
                "schedule.name = 'grid-accelerated': its table is for squares, and the supervised range is "
                f"{difficulty_text(greatest)} (allowed: standard, accelerated, grid)"
            )
        covered = {difficulty for difficulties in history for difficulty in difficulties}
        for greater in count(max(map(hardest, history[0])) + 1):
            for first, last in ACCELERATED_GRID.get(greater, _thirds(greater)):
                pairs = [(small, greater) for small in range(first, last + 1)]
                mirrored = [pair for a, b in pairs for pair in dict.fromkeys([(a, b), (b, a)])]
                if not covered.issuperset(mirrored):
                    return list(mirrored)
        raise AssertionError("unreachable: there is always a greater number")


def _thirds(greater: int) -> list[tuple[int, int]]:
    rest = greater - 1
    cuts = [0, max(1, rest * 2 // 3), rest] if rest > 1 else [0, rest]
    parts = [(low + 1, high) for low, high in pairwise(cuts) if high > low]
    return [*parts, (greater, greater)]

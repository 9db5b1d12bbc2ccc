"""Schedules: the difficulties covered so far -> those of the next round."""

from collections.abc import Callable, Iterator, Sequence
from itertools import count, islice, pairwise

from easy2hard.errors import UserError
from easy2hard.improvement.proposals import Proposals
from easy2hard.settings.rounds import ScheduleSettings
from easy2hard.tasks.base import Difficulty, Task, hardest

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


def next_difficulties(
    settings: ScheduleSettings, task: Task, history: History, ready: Ready = lambda difficulty: False
) -> list[Difficulty]:
    """Return the next round's difficulties; none where the task's greatest is passed.

    Args:
        settings: the schedule and its settings.
        task: says which steps lead from one difficulty to the next.
        history: the difficulties of every round so far.
        ready: asked by the accelerated schedule, one difficulty after another until one is not ready.

    Raises:
        UserError: the schedule is for pairs and the task has none.
    """
    return _SCHEDULES[settings.name](settings, task, history, ready)


def readiness_of(proposals: Proposals) -> dict[str, float]:
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


def _standard(settings: ScheduleSettings, task: Task, history: History, ready: Ready) -> list[Difficulty]:
    """The next ``stride`` small steps past the supervised range that no round has taken yet."""
    return [difficulty for step in islice(_ahead(task, history), settings.stride) for difficulty in step]


def _accelerated(settings: ScheduleSettings, task: Task, history: History, ready: Ready) -> list[Difficulty]:
    """The next small step, and those after it up to the last that the members are ready for, ``most`` in all."""
    taken: list[Difficulty] = []
    for step in islice(_ahead(task, history), settings.most):
        greatest = max(map(hardest, step))
        if greatest > task.capped(greatest):
            break
        is_ready = all(map(ready, step))
        if taken and not is_ready:
            break
        taken += step
        if not is_ready:
            break
    return taken


def _grid(settings: ScheduleSettings, task: Task, history: History, ready: Ready) -> list[Difficulty]:
    """The paper's order of pairs, one pair and its mirror image a round."""
    _need_pairs(settings, task, history)
    return next(_ahead(task, history))


def _grid_accelerated(settings: ScheduleSettings, task: Task, history: History, ready: Ready) -> list[Difficulty]:
    """The paper's accelerated order of pairs; past its table in thirds of a row."""
    _need_pairs(settings, task, history)
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


def _need_pairs(settings: ScheduleSettings, task: Task, history: History) -> None:
    if not isinstance(next(_ahead(task, history))[0], tuple):
        raise UserError(
            f"schedule.name = {settings.name!r}: for difficulties that are pairs; those of task {task.name} are "
            "numbers (allowed: standard, accelerated)"
        )


def _ahead(task: Task, history: History) -> Iterator[list[Difficulty]]:
    """Yield the small steps past the supervised range, less the difficulties that a round has taken already."""
    covered = {difficulty for difficulties in history for difficulty in difficulties}
    for hard in count(max(map(hardest, history[0])) + 1):
        for step in task.labelled_difficulties(hard):
            if left := [difficulty for difficulty in step if difficulty not in covered]:
                yield left


_SCHEDULES: dict[str, Callable[[ScheduleSettings, Task, History, Ready], list[Difficulty]]] = {
    "standard": _standard,
    "accelerated": _accelerated,
    "grid": _grid,
    "grid-accelerated": _grid_accelerated,
}

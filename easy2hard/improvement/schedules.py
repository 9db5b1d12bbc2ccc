"""Schedules: the difficulties covered so far -> those of the next round."""

from collections.abc import Callable, Iterator, Sequence
from itertools import count, islice

from easy2hard.config import RoundsSettings
from easy2hard.tasks.base import Difficulty, Task, hardest

History = Sequence[Sequence[Difficulty]]
"""The difficulties of every round so far, the supervised phase first."""


def next_difficulties(settings: RoundsSettings, task: Task, history: History) -> list[Difficulty]:
    """Return the next round's difficulties.

    Args:
        settings: the schedule and its settings.
        task: says which steps lead from one difficulty to the next.
        history: the difficulties of every round so far.
    """
    return _SCHEDULES[settings.schedule](settings, task, history)


def _standard(settings: RoundsSettings, task: Task, history: History) -> list[Difficulty]:
    """The next ``step`` small steps past the supervised range that no round has taken yet."""
    easy = max(map(hardest, history[0]))
    covered = {difficulty for difficulties in history for difficulty in difficulties}
    ahead = (step for step in _steps(task, easy) if not covered.issuperset(step))
    return [difficulty for step in islice(ahead, settings.step) for difficulty in step]


def _steps(task: Task, easy: int) -> Iterator[list[Difficulty]]:
    for hard in count(easy + 1):
        yield from task.labelled_difficulties(hard)


_SCHEDULES: dict[str, Callable[[RoundsSettings, Task, History], list[Difficulty]]] = {
    "standard": _standard,
}

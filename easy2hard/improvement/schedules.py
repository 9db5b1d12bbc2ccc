"""Schedules: the difficulties covered so far -> those of the next round."""

from collections.abc import Callable, Sequence

from easy2hard.config import RoundsSettings
from easy2hard.tasks.base import Difficulty


def next_difficulties(settings: RoundsSettings, history: Sequence[Sequence[Difficulty]]) -> list[Difficulty]:
    """Return the next round's difficulties.

    Args:
        settings: the schedule and its settings.
        history: the difficulties of every round so far, the supervised phase first.
    """
    return _SCHEDULES[settings.schedule](settings, history)


def _standard(settings: RoundsSettings, history: Sequence[Sequence[Difficulty]]) -> list[Difficulty]:
    hardest = max(d if isinstance(d, int) else max(d) for difficulties in history for d in difficulties)
    return list(range(hardest + 1, hardest + 1 + settings.step))


_SCHEDULES: dict[str, Callable[[RoundsSettings, Sequence[Sequence[Difficulty]]], list[Difficulty]]] = {
    "standard": _standard,
}

"""A round's labels until they may be trained on: what the watch turns down is held, or the run rolls back."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from easy2hard.improvement.labeller import Labelled
from easy2hard.improvement.watch import Action, Past, Signals, decide, good_before, trouble, unreliable
from easy2hard.runs.manifest import RoundRecord
from easy2hard.runs.records import WatchRecord
from easy2hard.settings.schema import Settings
from easy2hard.tasks.base import Difficulty, difficulty_text, span


class CollapseError(Exception):
    """The labels are no longer to be trusted, and holding and rolling back did not help."""


@dataclass(frozen=True)
class Attempt:
    """Labels that a round may be trained on."""

    past: list[RoundRecord]
    """The rounds that the labels build on, the newest weights last."""
    rollbacks: int
    """Of the run, so far."""
    difficulties: list[Difficulty]
    labelled: list[Labelled]
    """Of each difficulty; nothing where the round holds the supervised range, which has true answers."""
    signals: Signals
    put_off: dict[str, str]
    """Difficulties that it was too early for, and why."""
    watch: WatchRecord | None = None
    """What was turned down before."""
    from_round: int | None = None
    """The round that was rolled back to."""


class Attempts(Protocol):
    """Makes attempts; the label phase does."""

    def attempt(
        self, number: int, past: list[RoundRecord], rollbacks: int, difficulties: list[Difficulty] | None
    ) -> Attempt | None:
        """Label ``difficulties``, or those that follow ``past``; None where nothing is left there."""

    def answer_with(self, past: Sequence[RoundRecord]) -> None:
        """Load the weights that give labels after the ``past`` rounds: the newest, or a mean of the last."""


def settled(
    settings: Settings, number: int, first: Attempt, attempts: Attempts, note: Callable[[str], None]
) -> Attempt:
    """Return the labels that a round is trained on: the first ones, or what the watch says instead.

    Args:
        settings: of the run.
        number: the round.
        first: its first labels.
        attempts: makes others.
        note: told what the user should know.

    Raises:
        CollapseError: the watch stops the run.
    """
    now = first
    while True:
        memory = [_remembered(record) for record in now.past]
        action, problem = _verdict(settings, now, memory)
        if action == "go on":
            return now
        where = f"round {number}, difficulty {span(now.difficulties)}: {problem}"
        if action == "stop":
            note(f"{where}; the run stops")
            raise CollapseError(where)
        turned_down = [difficulty_text(difficulty) for difficulty in now.difficulties]
        watch = WatchRecord(action=action, reason=problem, difficulties=turned_down, signals=now.signals.rounded())
        if action == "hold":
            last = now.past[-1]
            if not last.proposed:  # the easy range has true answers: nothing is labelled
                note(f"{where}; the round trains on the supervised data alone")
                return replace(now, difficulties=last.difficulties, labelled=[], watch=watch)
            note(f"{where}; difficulty {span(last.difficulties)} is labelled afresh")
            again = attempts.attempt(number, now.past, now.rollbacks, last.difficulties)
            assert again is not None
            now = replace(again, watch=watch, put_off=now.put_off | again.put_off)
        else:
            past = now.past[: len(good_before(memory))]
            attempts.answer_with(past)
            note(f"{where}; back to the weights of round {past[-1].round}, with a stricter filter")
            again = attempts.attempt(number, past, now.rollbacks + 1, None)
            assert again is not None
            # They are trained on, whatever they look like; the next round is judged again.
            put_off = now.put_off | again.put_off
            return replace(again, watch=watch, put_off=put_off, from_round=past[-1].round)


def _remembered(record: RoundRecord) -> Past:
    held = record.watch is not None and record.watch.action == "hold"
    confidence = record.signals.confidence if record.signals else 0.0
    return Past(record.round, record.difficulties, confidence, held, bool(record.proposed))


def _verdict(settings: Settings, attempt: Attempt, memory: Sequence[Past]) -> tuple[Action, str]:
    """Return what to do about labels, and why."""
    tried = attempt.watch is not None
    if not tried and (problem := unreliable(settings.labels, attempt.signals.parts)):
        return "hold", problem
    if problem := trouble(settings.watch, attempt.signals, memory):
        # What was held was tried already: a held difficulty in trouble means that the weights are.
        return decide(settings.watch, memory, attempt.rollbacks, may_hold=not tried), problem
    return "go on", ""

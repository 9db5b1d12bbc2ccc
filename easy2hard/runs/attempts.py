"""A round's labels until they may be trained on: next difficulties -> labels -> what the watch says of them.

What the watch turns down is held, or the run rolls back. Nothing here can see a true answer.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

from easy2hard.improvement.filters import Filtered
from easy2hard.improvement.labeller import Labelled, Labeller
from easy2hard.improvement.ledger import read_prompts
from easy2hard.improvement.proposals import Relation
from easy2hard.improvement.schedules import next_difficulties, readiness_of
from easy2hard.improvement.watch import (
    Action,
    Past,
    Signals,
    decide,
    good_before,
    signals_of,
    stricter,
    too_early,
    trouble,
    unreliable,
)
from easy2hard.runs.checkpoint import LabelCheckpoints
from easy2hard.runs.experiment import Experiment
from easy2hard.runs.listener import Listener
from easy2hard.runs.manifest import Manifest, RoundRecord
from easy2hard.runs.records import WatchRecord
from easy2hard.runs.store import Store, load_mean, load_weights
from easy2hard.runs.supervision import Supervision
from easy2hard.seeding import numpy_generator
from easy2hard.settings.filters import Scorer
from easy2hard.settings.schema import Settings
from easy2hard.tasks.base import Difficulty, difficulty_text, span
from easy2hard.tasks.prompts import fresh_prompts


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

    @property
    def ended(self) -> dict[str, str]:
        """The difficulties that kept fewer labels than wanted, and why topping up ended."""
        of = zip(self.difficulties, self.labelled, strict=False)
        return {difficulty_text(difficulty): each.ended for difficulty, each in of if each.ended}


class Attempts:
    """Labels one round, as often as the watch asks for; every process calls it alike.

    Args:
        store: the run.
        experiment: what it is made of; a roll-back loads older weights into its members.
        listener: is told what happens.
        number: the round.
        weights: digest of the newest weights, which the members have.

    Attributes:
        answers: keeps the members' answers; knows whose they are.
        supervision: all that is known of true answers.
        asked: the difficulties that the schedule asked about, and what it was told.
    """

    def __init__(self, store: Store, experiment: Experiment, listener: Listener, number: int, weights: str) -> None:
        self.store = store
        self.settings = settings = experiment.settings
        self.task = experiment.task
        self.members = experiment.members
        self.listener = listener
        self.number = number
        self.supervision = Supervision(experiment)
        path, seconds = partial(store.answers_path, number), 60 * settings.storage.checkpoint_minutes
        self.answers = LabelCheckpoints(path, weights, len(self.members), seconds)
        self.asked: dict[Difficulty, dict[str, float]] = {}
        self.labeller = Labeller(
            experiment.engine,
            self.task,
            settings.seed,
            experiment.reserved,
            settings.labels,
            self.supervision.verify,
            listener.advance,
            self.answers,
        )

    def settled(self, manifest: Manifest) -> Attempt | None:
        """Return the labels that the round is trained on: the first ones, or what the watch says instead.

        None where nothing harder is left.

        Raises:
            CollapseError: the watch stops the run.
        """
        past, rollbacks = manifest.lineage, sum(record.from_round is not None for record in manifest.rounds)
        if self.settings.labels.averaging > 1:
            self._answer_with(past)
        difficulties = self._next(past)
        if not difficulties:
            return None
        now = self._attempt(past, rollbacks, difficulties)
        while True:
            memory = [_remembered(record) for record in now.past]
            action, problem = _verdict(self.settings, now, memory)
            if action == "go on":
                return now
            where = f"round {self.number}, difficulty {span(now.difficulties)}: {problem}"
            if action == "stop":
                self.listener.note(f"{where}; the run stops")
                raise CollapseError(where)
            turned_down = [difficulty_text(difficulty) for difficulty in now.difficulties]
            watch = WatchRecord(action=action, reason=problem, difficulties=turned_down, signals=now.signals.rounded())
            if action == "hold":
                last = now.past[-1]
                if not last.proposed:  # the easy range has true answers: nothing is labelled
                    self.listener.note(f"{where}; the round trains on the supervised data alone")
                    return replace(now, difficulties=last.difficulties, labelled=[], watch=watch)
                self.listener.note(f"{where}; difficulty {span(last.difficulties)} is labelled afresh")
                again = self._attempt(now.past, now.rollbacks, last.difficulties)
                now = replace(again, watch=watch, put_off=now.put_off | again.put_off)
            else:
                past = now.past[: len(good_before(memory))]
                self._answer_with(past)
                self.listener.note(f"{where}; back to the weights of round {past[-1].round}, with a stricter filter")
                again = self._attempt(past, now.rollbacks + 1, self._next(past))
                # They are trained on, whatever they look like; the next round is judged again.
                put_off = now.put_off | again.put_off
                return replace(again, watch=watch, put_off=put_off, from_round=past[-1].round)

    def relabelled(self, attempt: Attempt) -> list[tuple[int, Filtered]]:
        """Return the labels that the prompts of past rounds get now, each difficulty with its round."""
        asked = [
            (record.round, difficulty, self.task.vocabulary.encode_prompts(prompts))
            for record in attempt.past[1:]
            for difficulty, prompts in read_prompts(self.store.ledger_path(record.round))
        ]
        self._phase("relabel", sum(len(prompts) for _, _, prompts in asked))
        filters = stricter(self.settings.watch, self.settings.labels.filters, attempt.rollbacks)
        verifier = self.verifier
        return [
            (of, self.labeller.relabel(self.number, difficulty, prompts, filters, verifier))
            for of, difficulty, prompts in asked
        ]

    def averaged(self, past: Sequence[RoundRecord]) -> list[int]:
        """Return the rounds whose weights' mean gives labels after the ``past`` rounds; none where the newest do."""
        last = [record.round for record in past[-self.settings.labels.averaging :]]
        return last if len(last) > 1 else []

    @property
    def verifier(self) -> Scorer | None:
        """What learned to tell right answers from wrong ones of the members as they are, where the settings ask."""
        return self.supervision.verifier(self.number, self.answers.weights)

    def _attempt(self, past: list[RoundRecord], rollbacks: int, difficulties: list[Difficulty]) -> Attempt:
        """Label difficulties; put off those that it is too early for, unless all are.

        Of agreement with parts, the difficulty with the least counts.
        """
        settings = self.settings
        self._phase("label", len(difficulties) * settings.labels.count)
        filters = stricter(settings.watch, settings.labels.filters, rollbacks)
        verifier = self.verifier
        labelled = [self.labeller.label(self.number, each, filters, verifier) for each in difficulties]
        shares = [self._agreement(each.filtered) for each in labelled]
        early = [
            too_early(settings.labels, settings.watch, each.filtered, share)
            for each, share in zip(labelled, shares, strict=True)
        ]
        ripe = [index for index, reason in enumerate(early) if reason is None] or list(range(len(early)))
        put_off = {
            difficulty_text(difficulties[index]): reason
            for index, reason in enumerate(early)
            if reason is not None and index not in ripe
        }
        for text, reason in put_off.items():
            self.listener.note(f"round {self.number}, difficulty {text}: {reason}; it is put off")
        found = [share for index in ripe if (share := shares[index]) is not None]
        signals = signals_of([labelled[index].filtered for index in ripe], min(found, default=None))
        left = [difficulties[index] for index in ripe]
        return Attempt(past, rollbacks, left, [labelled[index] for index in ripe], signals, put_off)

    def _agreement(self, labels: Filtered) -> float | None:
        """Return how well the parts of a difficulty's labels are answered; None where nobody asks."""
        judged, watch = self.settings.labels.judged_by_parts is not None, self.settings.watch
        if not (judged or watch.enabled):
            return None
        return self.labeller.agreement_with_parts(self.number, labels, judged, watch.sample)

    def _answer_with(self, past: Sequence[RoundRecord]) -> None:
        """Load the weights that give labels after the ``past`` rounds: the newest, or a mean of the last."""
        averaged = self.averaged(past)
        if not averaged:
            load_weights(self.store.weights_path(past[-1].round), self.members)
            self.answers.weights = past[-1].weights_sha256
        else:
            self.answers.weights = load_mean([self.store.weights_path(each) for each in averaged], self.members)

    def _next(self, past: Sequence[RoundRecord]) -> list[Difficulty]:
        """Return the difficulties after those of ``past``."""

        def ready(difficulty: Difficulty) -> bool:
            if difficulty not in self.asked:
                self.asked[difficulty] = self._readiness(difficulty)
            return self.asked[difficulty][self.settings.readiness] >= self.settings.schedule.ready

        return next_difficulties(self.settings.schedule, self.task, [record.difficulties for record in past], ready)

    def _readiness(self, difficulty: Difficulty) -> dict[str, float]:
        settings = self.settings
        generator = numpy_generator(settings.seed, "readiness", self.number, difficulty_text(difficulty))
        reserved = self.labeller.reserved.prompts(difficulty)
        prompts = fresh_prompts(self.task, generator, difficulty, settings.schedule.probe, reserved)
        related: list[Relation] = ["twin", "parts"]
        relations = frozenset(each for each in related if each == settings.readiness)
        proposals = self.labeller.propose(difficulty, prompts, relations)
        values = readiness_of(proposals) | self.supervision.readiness(proposals)
        return {name: round(value, 4) for name, value in values.items()}

    def _phase(self, name: str, total: int) -> None:
        self.listener.phase(self.number, self.settings.rounds.count, name, total)


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

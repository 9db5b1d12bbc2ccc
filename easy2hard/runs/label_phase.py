"""The label phase of a round: next difficulties -> labels -> what the watch says of them -> ledger."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from easy2hard import processes
from easy2hard.engines.engine import DeviceFullError, Engine
from easy2hard.evaluation.counter_examples import counter_examples
from easy2hard.evaluation.exact_match import right
from easy2hard.improvement.filters import Filtered, Mask, add_counts
from easy2hard.improvement.labeller import Labelled, Labeller
from easy2hard.improvement.ledger import read_prompts, write_ledger
from easy2hard.improvement.noise import inject
from easy2hard.improvement.proposals import Draws, Proposals, Relation, count_votes
from easy2hard.improvement.schedules import next_difficulties, readiness_of
from easy2hard.improvement.verifier import Verifier, learn
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
from easy2hard.runs.checkpoint import LabelCheckpoints, LabelRecord
from easy2hard.runs.listener import Listener
from easy2hard.runs.manifest import Manifest, RoundRecord, file_digest, read_sealed
from easy2hard.runs.store import Store, load_mean, load_weights
from easy2hard.seeding import numpy_generator
from easy2hard.settings.filters import LearnedVerifierFilter
from easy2hard.tasks.base import Difficulty, Task, difficulty_text, span
from easy2hard.tasks.oracle import Oracle
from easy2hard.tasks.prompts import Reserved, fresh_prompts

Score = Callable[[Proposals], NDArray[np.float64]]


class CollapseError(Exception):
    """The labels are no longer to be trusted, and holding and rolling back did not help."""


@dataclass(frozen=True)
class _Labels:
    """What the label phase of a round ends with."""

    difficulties: list[Difficulty]
    filtered: list[Filtered]
    past: list[RoundRecord]
    """The rounds that the labels build on, the newest weights last."""
    notes: dict[str, Any]
    """For the round's record."""
    older: list[tuple[int, Filtered]]
    """Labels that older rounds' prompts got afresh, each with its round."""


def _remembered(record: RoundRecord) -> Past:
    held = record.watch is not None and record.watch["action"] == "hold"
    return Past(record.round, record.difficulties, record.signals.get("confidence", 0.0), held, bool(record.proposed))


class LabelPhase:
    """Labels the rounds of a run; every process calls it alike.

    Args:
        store: the run.
        task: samples prompts and bounds answers.
        oracle: for what the settings mark as supervised, and for comparison in the manifest.
        reserved: the prompts that are evaluation's.
        engine: the members that answer; a roll-back loads older weights into them.
        listener: is told what happens.
    """

    def __init__(
        self,
        store: Store,
        task: Task,
        oracle: Oracle,
        reserved: Reserved,
        engine: Engine,
        listener: Listener,
    ) -> None:
        self.world = processes.current()
        self.store = store
        self.settings = store.settings
        self.blindfold = store.manifest.blindfold
        self.task = task
        self.oracle = oracle
        self.reserved = reserved
        self.engine = engine
        self.members = engine.members
        self.listener = listener
        self.answers: LabelCheckpoints  # of the round that is labelled
        self.verifier: tuple[str, Verifier] | None = None  # the newest, and the weights whose answers it learned from

    def kept(self, number: int) -> LabelRecord | None:
        """Return what the label phase of a round came to, if it is over and its ledgers are whole."""
        path = self.store.labels_path(number)
        if not path.exists():
            return None
        labels = LabelRecord.model_validate_json(read_sealed(path))
        expected = {self.store.ledger_path(number): labels.ledger_sha256}
        if labels.relabelled_sha256:
            expected[self.store.relabelled_path(number)] = labels.relabelled_sha256
        whole = all(file.exists() and file_digest(file) == digest for file, digest in expected.items())
        return labels if whole else None

    def run(self, manifest: Manifest, number: int) -> LabelRecord | None:
        """Label a round, write its ledger, and return what it came to; None where nothing harder is left.

        Raises:
            CollapseError: the collapse watch stops the run.
        """
        self.answers = LabelCheckpoints(
            partial(self.store.answers_path, number),
            manifest.rounds[-1].weights_sha256,
            len(self.members),
            60 * self.settings.storage.checkpoint_minutes,
        )
        try:
            if self.settings.labels.averaging > 1:
                self._answer_with(manifest.lineage)
            labels = self._label(manifest, number)
        except (KeyboardInterrupt, DeviceFullError):
            self.answers.flush()
            raise
        return None if labels is None else self.world.from_main(lambda: self._write(number, labels))

    def _write(self, number: int, labels: _Labels) -> LabelRecord:
        failed = self.settings.labels.counter_examples
        solved = [counter_examples(self.oracle, each) if failed else each for each in labels.filtered]
        filtered, spoilt = self._spoil(number, solved)
        weights, vocabulary = self.answers.weights, self.task.vocabulary
        with self.store.replacing(self.store.ledger_path(number)) as path:
            write_ledger(path, filtered, vocabulary, number, weights, spoilt, solved=failed)
        if labels.older:
            rounds, again = zip(*labels.older, strict=True)
            with self.store.replacing(self.store.relabelled_path(number)) as path:
                write_ledger(path, again, vocabulary, rounds, weights)
        return LabelRecord(
            difficulties=labels.difficulties,
            past=labels.past[-1].round,
            proposed=sum(len(each.kept) for each in filtered),
            kept=sum(int(each.kept.sum()) for each in filtered),
            filters=add_counts(filtered),
            notes={**labels.notes, "spoilt": sum(int(each.sum()) for each in spoilt or [])},
            seconds=0.0,
            ledger_sha256=file_digest(self.store.ledger_path(number)),
            relabelled_sha256=file_digest(self.store.relabelled_path(number)) if labels.older else "",
        )

    def _label(self, manifest: Manifest, number: int) -> _Labels | None:
        """Label the next difficulties, or what the collapse watch says instead."""
        past = manifest.lineage
        rollbacks = sum(record.from_round is not None for record in manifest.rounds)
        asked: dict[Difficulty, dict[str, float]] = {}
        difficulties = self._next(number, past, asked)
        if not difficulties:
            return None
        difficulties, labelled, signals, put_off = self._label_ripe(number, difficulties, rollbacks)
        notes: dict[str, Any] = {}
        while True:
            memory = [_remembered(record) for record in past]
            action, problem = self._verdict(signals, memory, rollbacks, tried=bool(notes))
            where = f"round {number}, difficulty {span(difficulties)}: {problem}"
            if action == "go on":
                break
            if action == "stop":
                self.listener.note(f"{where}; the run stops")
                raise CollapseError(where)
            notes["watch"] = {
                "action": action,
                "reason": problem,
                "difficulties": [difficulty_text(difficulty) for difficulty in difficulties],
                "signals": signals.rounded(),
            }
            if action == "hold":
                difficulties = past[-1].difficulties
                if not past[-1].proposed:  # the easy range has true answers: nothing is labelled
                    self.listener.note(f"{where}; the round trains on the supervised data alone")
                    labelled = []
                    break
                self.listener.note(f"{where}; difficulty {span(difficulties)} is labelled afresh")
            else:
                past = past[: len(good_before(memory))]
                rollbacks += 1
                notes["from_round"] = past[-1].round
                self._answer_with(past)
                difficulties = self._next(number, past, asked)
                self.listener.note(f"{where}; back to the weights of round {past[-1].round}, with a stricter filter")
            difficulties, labelled, signals, more = self._label_ripe(number, difficulties, rollbacks)
            put_off |= more
            if action == "roll back":
                break  # its labels are trained on, whatever they look like; the next round is judged again
        ended = {
            difficulty_text(difficulty): each.ended
            for difficulty, each in zip(difficulties if labelled else [], labelled, strict=True)
            if each.ended
        }
        for text, reason in ended.items():
            self.listener.note(f"round {number}, difficulty {text}: {reason}")
        filtered = [each.filtered for each in labelled]
        older = self._relabelled(number, past, rollbacks) if self.settings.labels.relabel else []
        answered = [*filtered, *(again for _, again in older)]
        seconds = np.sum([np.zeros(len(self.members)), *(each.proposals.seconds for each in answered)], axis=0)
        notes |= {
            "signals": signals.rounded(),
            "top_up": ended,
            "put_off": put_off,
            "readiness": {difficulty_text(difficulty): values for difficulty, values in asked.items()},
            "member_seconds": [round(float(value), 3) for value in seconds],
            "verifier": verifier.record() if (verifier := self._learned(number)) else None,
            "averaged": self._averaged(past),
            "relabelled": [
                {
                    "round": each,
                    "proposed": sum(len(again.kept) for of, again in older if of == each),
                    "kept": sum(int(again.kept.sum()) for of, again in older if of == each),
                }
                for each in dict.fromkeys(of for of, _ in older)
            ],
        }
        return _Labels(difficulties, filtered, past, notes, older)

    def _verdict(self, signals: Signals, memory: Sequence[Past], rollbacks: int, tried: bool) -> tuple[Action, str]:
        """Return what to do about a round's labels, and why; ``tried`` after a hold or a roll-back in this round."""
        if not tried and (problem := unreliable(self.settings.labels, signals.parts)):
            return "hold", problem
        if problem := trouble(self.settings.watch, signals, memory):
            # What was held was tried already: a held difficulty in trouble means that the weights are.
            return decide(self.settings.watch, memory, rollbacks, may_hold=not tried), problem
        return "go on", ""

    def _label_ripe(
        self, number: int, difficulties: Sequence[Difficulty], rollbacks: int
    ) -> tuple[list[Difficulty], list[Labelled], Signals, dict[str, str]]:
        """Label difficulties; those that it is too early for are put off, unless all are.

        Returns:
            The difficulties that are left, their labels, what these show, and why others were put off. Of agreement
            with parts, the difficulty with the least counts.
        """
        labelled, settings = self._label_all(number, difficulties, rollbacks), self.settings
        shares = [self._agreement(number, each) for each in labelled]
        early = [
            too_early(settings.labels, settings.watch, each.filtered, share)
            for each, share in zip(labelled, shares, strict=True)
        ]
        ripe = [index for index, reason in enumerate(early) if reason is None] or list(range(len(early)))
        put_off = {
            difficulty_text(difficulty): reason
            for index, (difficulty, reason) in enumerate(zip(difficulties, early, strict=True))
            if reason is not None and index not in ripe
        }
        for text, reason in put_off.items():
            self.listener.note(f"round {number}, difficulty {text}: {reason}; it is put off")
        found = [share for index in ripe if (share := shares[index]) is not None]
        signals = signals_of([labelled[index].filtered for index in ripe], min(found, default=None))
        return [difficulties[index] for index in ripe], [labelled[index] for index in ripe], signals, put_off

    def _agreement(self, number: int, labelled: Labelled) -> float | None:
        """Return how well the parts of a difficulty's labels are answered; None where nobody asks."""
        judged, watch = self.settings.labels.judged_by_parts is not None, self.settings.watch
        if not (judged or watch.enabled):
            return None
        return self._labeller().agreement_with_parts(number, labelled.filtered, judged, watch.sample)

    def _answer_with(self, past: Sequence[RoundRecord]) -> None:
        """Load the weights that give labels after the ``past`` rounds: the newest, or a mean of the last."""
        averaged = self._averaged(past)
        if not averaged:
            load_weights(self.store.weights_path(past[-1].round), self.members)
            self.answers.weights = past[-1].weights_sha256
        else:
            self.answers.weights = load_mean([self.store.weights_path(each) for each in averaged], self.members)

    def _averaged(self, past: Sequence[RoundRecord]) -> list[int]:
        """Return the rounds whose weights' mean gives labels after the ``past`` rounds; none where the newest do."""
        last = [record.round for record in past[-self.settings.labels.averaging :]]
        return last if len(last) > 1 else []

    def _next(
        self, number: int, past: Sequence[RoundRecord], asked: dict[Difficulty, dict[str, float]]
    ) -> list[Difficulty]:
        """Return the difficulties after those of ``past``; what the schedule asked on the way goes into ``asked``."""

        def ready(difficulty: Difficulty) -> bool:
            if difficulty not in asked:
                asked[difficulty] = self._readiness(number, difficulty)
            return asked[difficulty][self.settings.readiness] >= self.settings.schedule.ready

        history = [record.difficulties for record in past]
        return next_difficulties(self.settings.schedule, self.task, history, ready)

    def _readiness(self, number: int, difficulty: Difficulty) -> dict[str, float]:
        settings = self.settings
        generator = numpy_generator(settings.seed, "readiness", number, difficulty_text(difficulty))
        reserved = self.reserved.prompts(difficulty)
        prompts = fresh_prompts(self.task, generator, difficulty, settings.schedule.probe, reserved)
        related: list[Relation] = ["twin", "parts"]
        relations = frozenset(each for each in related if each == settings.readiness)
        proposals = self._labeller().propose(difficulty, prompts, relations)
        values = readiness_of(proposals)
        if not self.blindfold:  # for comparison; nothing but the diagnostic readiness = "oracle" reads it
            values["oracle"] = float(right(self.oracle, proposals).mean()) if len(prompts) else 0.0
        return {name: round(value, 4) for name, value in values.items()}

    def _learned(self, number: int) -> Verifier | None:
        """Return a verifier that learned from the answers of the members, as they are, to supervised prompts."""
        for each in self.settings.labels.filters:
            if isinstance(each, LearnedVerifierFilter):
                if self.verifier is None or self.verifier[0] != self.answers.weights:
                    self.verifier = (self.answers.weights, self._learn(number, each))
                return self.verifier[1]
        return None

    def _learn(self, number: int, settings: LearnedVerifierFilter) -> Verifier:
        easy = self.task.supervised_difficulties(self.settings.supervised.difficulty)
        seed, prompts = self.settings.seed, {}
        for difficulty in easy:
            generator = numpy_generator(seed, "verifier", number, difficulty_text(difficulty))
            prompts[difficulty] = self.reserved.sample(generator, difficulty, settings.examples)

        proposals = []
        for difficulty, own in prompts.items():
            draws = Draws(settings.temperature, 1, seed, ("verifier", number, difficulty_text(difficulty)))
            samplings = [draws.of(member) for member in range(len(self.members))]
            each = self.engine.sample(own, self.task.answer_bounds(own), samplings)
            proposals += [count_votes(difficulty, own, answers) for answers in each]
        return learn(proposals, [right(self.oracle, each) for each in proposals])

    def _labeller(self, score: Score | None = None) -> Labeller:
        verify = (lambda proposals: right(self.oracle, proposals)) if self.settings.verified else None
        return Labeller(
            self.engine,
            self.task,
            self.settings.seed,
            self.reserved,
            self.settings.labels,
            verify,
            self.listener.advance,
            self.answers,
            score,
        )

    def _scoring(self, number: int) -> Labeller:
        verifier = self._learned(number)
        return self._labeller(verifier.score if verifier else None)

    def _label_all(self, number: int, difficulties: Sequence[Difficulty], rollbacks: int) -> list[Labelled]:
        settings = self.settings
        self.listener.phase(number, settings.rounds.count, "label", len(difficulties) * settings.labels.count)
        filters = stricter(settings.watch, settings.labels.filters, rollbacks)
        labeller = self._scoring(number)
        return [labeller.label(number, difficulty, filters) for difficulty in difficulties]

    def _relabelled(self, number: int, past: Sequence[RoundRecord], rollbacks: int) -> list[tuple[int, Filtered]]:
        """Return the labels that the prompts of ``past`` rounds get now, each difficulty with its round."""
        asked = [
            (record.round, difficulty, self.task.vocabulary.encode_prompts(prompts))
            for record in past[1:]
            for difficulty, prompts in read_prompts(self.store.ledger_path(record.round))
        ]
        total = sum(len(prompts) for _, _, prompts in asked)
        self.listener.phase(number, self.settings.rounds.count, "relabel", total)
        filters = stricter(self.settings.watch, self.settings.labels.filters, rollbacks)
        labeller = self._scoring(number)
        return [(of, labeller.relabel(number, difficulty, prompts, filters)) for of, difficulty, prompts in asked]

    def _spoil(self, number: int, labels: Sequence[Filtered]) -> tuple[list[Filtered], list[Mask] | None]:
        noise = self.settings.noise
        if noise is None or noise.round != number:
            return list(labels), None
        spoilt = [
            inject(
                noise,
                each,
                self.task.vocabulary,
                numpy_generator(
                    self.settings.seed, "noise", number, difficulty_text(each.proposals.difficulty), noise.kind
                ),
            )
            for each in labels
        ]
        return [each for each, _ in spoilt], [mask for _, mask in spoilt]

"""The label phase of a round: next difficulties -> labels -> what the watch says of them -> ledger."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from easy2hard import processes
from easy2hard.engines.engine import DeviceFullError
from easy2hard.improvement.filters import Filtered, Mask, add_counts
from easy2hard.improvement.labeller import Labelled, Labeller
from easy2hard.improvement.ledger import read_prompts, write_ledger
from easy2hard.improvement.noise import inject
from easy2hard.improvement.proposals import Proposals, Relation
from easy2hard.improvement.schedules import next_difficulties, readiness_of
from easy2hard.improvement.watch import signals_of, stricter, too_early
from easy2hard.runs.attempts import Attempt, Attempts, settled
from easy2hard.runs.checkpoint import LabelCheckpoints
from easy2hard.runs.experiment import Experiment
from easy2hard.runs.listener import Listener
from easy2hard.runs.manifest import Manifest, RoundRecord, file_digest, read_sealed
from easy2hard.runs.records import LabelCheckpoint, LabelRecord, RelabelledRecord, VerifierRecord, filter_record
from easy2hard.runs.store import Store, load_mean, load_weights
from easy2hard.runs.supervision import Supervision
from easy2hard.seeding import numpy_generator
from easy2hard.tasks.base import Difficulty, difficulty_text
from easy2hard.tasks.prompts import fresh_prompts

Score = Callable[[Proposals], NDArray[np.float64]]


@dataclass(frozen=True)
class _Labels:
    """What the label phase of a round ends with."""

    attempt: Attempt
    older: list[tuple[int, Filtered]]
    """Labels that older rounds' prompts got afresh, each with its round."""
    verifier: VerifierRecord | None

    @property
    def filtered(self) -> list[Filtered]:
        """The round's own labels, of each difficulty."""
        return [each.filtered for each in self.attempt.labelled]

    @property
    def ended(self) -> dict[str, str]:
        """The difficulties that kept fewer labels than wanted, and why topping up ended."""
        of = zip(self.attempt.difficulties if self.attempt.labelled else [], self.attempt.labelled, strict=True)
        return {difficulty_text(difficulty): each.ended for difficulty, each in of if each.ended}

    @property
    def relabelled(self) -> list[RelabelledRecord]:
        """What came of each older round's prompts."""
        found = []
        for number in dict.fromkeys(number for number, _ in self.older):
            kept = np.concatenate([again.kept for of, again in self.older if of == number])
            found.append(RelabelledRecord(round=number, proposed=len(kept), kept=int(kept.sum())))
        return found


class LabelPhase(Attempts):
    """Labels the rounds of a run; every process calls it alike.

    Args:
        store: the run.
        experiment: what it is made of; a roll-back loads older weights into its members.
        listener: is told what happens.
    """

    def __init__(self, store: Store, experiment: Experiment, listener: Listener) -> None:
        self.world = processes.current()
        self.store = store
        self.settings = experiment.settings
        self.task = experiment.task
        self.reserved = experiment.reserved
        self.engine = experiment.engine
        self.members = experiment.members
        self.supervision = Supervision(experiment)
        self.listener = listener
        # Of the round that is labelled:
        self.answers: LabelCheckpoints
        self.asked: dict[Difficulty, dict[str, float]] = {}  # what the schedule asked about, and what it was told

    def kept(self, number: int) -> LabelCheckpoint | None:
        """Return what the label phase of a round came to, if it is over and its ledgers are whole."""
        path = self.store.labels_path(number)
        if not path.exists():
            return None
        kept = LabelCheckpoint.model_validate_json(read_sealed(path))
        expected = {self.store.ledger_path(number): kept.ledger_sha256}
        if kept.relabelled_sha256:
            expected[self.store.relabelled_path(number)] = kept.relabelled_sha256
        whole = all(file.exists() and file_digest(file) == digest for file, digest in expected.items())
        return kept if whole else None

    def run(self, manifest: Manifest, number: int) -> LabelCheckpoint | None:
        """Label a round, write its ledger, and return what it came to; None where nothing harder is left.

        Raises:
            CollapseError: the collapse watch stops the run (attempts.py).
        """
        self.answers = LabelCheckpoints(
            partial(self.store.answers_path, number),
            manifest.rounds[-1].weights_sha256,
            len(self.members),
            60 * self.settings.storage.checkpoint_minutes,
        )
        self.asked = {}
        try:
            if self.settings.labels.averaging > 1:
                self.answer_with(manifest.lineage)
            labels = self._label(manifest, number)
        except (KeyboardInterrupt, DeviceFullError):
            self.answers.flush()
            raise
        return None if labels is None else self.world.from_main(lambda: self._write(number, labels))

    def _label(self, manifest: Manifest, number: int) -> _Labels | None:
        """Label the next difficulties, or what the collapse watch says instead."""
        rollbacks = sum(record.from_round is not None for record in manifest.rounds)
        first = self.attempt(number, manifest.lineage, rollbacks, None)
        if first is None:
            return None
        attempt = settled(self.settings, number, first, self, self.listener.note)
        older = self._relabelled(number, attempt) if self.settings.labels.relabel else []
        verifier = self.supervision.verifier(number, self.answers.weights)
        labels = _Labels(attempt, older, VerifierRecord.model_validate(verifier.record()) if verifier else None)
        for text, reason in labels.ended.items():
            self.listener.note(f"round {number}, difficulty {text}: {reason}")
        return labels

    def _write(self, number: int, labels: _Labels) -> LabelCheckpoint:
        filtered, spoilt = self._spoil(number, self.supervision.solved(labels.filtered))
        weights, vocabulary = self.answers.weights, self.task.vocabulary
        with self.store.replacing(self.store.ledger_path(number)) as path:
            solved = self.settings.labels.counter_examples
            write_ledger(path, filtered, vocabulary, number, weights, spoilt, solved=solved)
        if labels.older:
            rounds, again = zip(*labels.older, strict=True)
            with self.store.replacing(self.store.relabelled_path(number)) as path:
                write_ledger(path, again, vocabulary, rounds, weights)
        attempt = labels.attempt
        answered = [*labels.filtered, *(again for _, again in labels.older)]
        seconds = np.sum([np.zeros(len(self.members)), *(each.proposals.seconds for each in answered)], axis=0)
        return LabelCheckpoint(
            labels=LabelRecord(
                round=number,
                difficulties=attempt.difficulties,
                proposed=sum(len(each.kept) for each in filtered),
                kept=sum(int(each.kept.sum()) for each in filtered),
                filters=[filter_record(counts) for counts in add_counts(filtered)],
                signals=attempt.signals.rounded(),
                watch=attempt.watch,
                from_round=attempt.from_round,
                readiness={difficulty_text(difficulty): values for difficulty, values in self.asked.items()},
                top_up=labels.ended,
                put_off=attempt.put_off,
                spoilt=sum(int(each.sum()) for each in spoilt or []),
                averaged=self._averaged(attempt.past),
                verifier=labels.verifier,
                relabelled=labels.relabelled,
                member_seconds=[round(float(value), 3) for value in seconds],
            ),
            past=attempt.past[-1].round,
            seconds=0.0,
            ledger_sha256=file_digest(self.store.ledger_path(number)),
            relabelled_sha256=file_digest(self.store.relabelled_path(number)) if labels.older else "",
        )

    @override
    def attempt(
        self, number: int, past: list[RoundRecord], rollbacks: int, difficulties: list[Difficulty] | None
    ) -> Attempt | None:
        if difficulties is None:
            difficulties = self._next(number, past)
        if not difficulties:
            return None
        labelled = self._label_all(number, difficulties, rollbacks)
        return self._ripe(number, past, rollbacks, difficulties, labelled)

    @override
    def answer_with(self, past: Sequence[RoundRecord]) -> None:
        averaged = self._averaged(past)
        if not averaged:
            load_weights(self.store.weights_path(past[-1].round), self.members)
            self.answers.weights = past[-1].weights_sha256
        else:
            self.answers.weights = load_mean([self.store.weights_path(each) for each in averaged], self.members)

    def _ripe(
        self,
        number: int,
        past: list[RoundRecord],
        rollbacks: int,
        difficulties: Sequence[Difficulty],
        labelled: Sequence[Labelled],
    ) -> Attempt:
        """Put off the difficulties that it is too early for, unless all are, and return what is left.

        Of agreement with parts, the difficulty with the least counts.
        """
        settings = self.settings
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
        left = [difficulties[index] for index in ripe]
        return Attempt(past, rollbacks, left, [labelled[index] for index in ripe], signals, put_off)

    def _agreement(self, number: int, labelled: Labelled) -> float | None:
        """Return how well the parts of a difficulty's labels are answered; None where nobody asks."""
        judged, watch = self.settings.labels.judged_by_parts is not None, self.settings.watch
        if not (judged or watch.enabled):
            return None
        return self._labeller().agreement_with_parts(number, labelled.filtered, judged, watch.sample)

    def _averaged(self, past: Sequence[RoundRecord]) -> list[int]:
        """Return the rounds whose weights' mean gives labels after the ``past`` rounds; none where the newest do."""
        last = [record.round for record in past[-self.settings.labels.averaging :]]
        return last if len(last) > 1 else []

    def _next(self, number: int, past: Sequence[RoundRecord]) -> list[Difficulty]:
        """Return the difficulties after those of ``past``."""

        def ready(difficulty: Difficulty) -> bool:
            if difficulty not in self.asked:
                self.asked[difficulty] = self._readiness(number, difficulty)
            return self.asked[difficulty][self.settings.readiness] >= self.settings.schedule.ready

        return next_difficulties(self.settings.schedule, self.task, [record.difficulties for record in past], ready)

    def _readiness(self, number: int, difficulty: Difficulty) -> dict[str, float]:
        settings = self.settings
        generator = numpy_generator(settings.seed, "readiness", number, difficulty_text(difficulty))
        reserved = self.reserved.prompts(difficulty)
        prompts = fresh_prompts(self.task, generator, difficulty, settings.schedule.probe, reserved)
        related: list[Relation] = ["twin", "parts"]
        relations = frozenset(each for each in related if each == settings.readiness)
        proposals = self._labeller().propose(difficulty, prompts, relations)
        values = readiness_of(proposals) | self.supervision.readiness(proposals)
        return {name: round(value, 4) for name, value in values.items()}

    def _labeller(self, score: Score | None = None) -> Labeller:
        return Labeller(
            self.engine,
            self.task,
            self.settings.seed,
            self.reserved,
            self.settings.labels,
            self.supervision.verify,
            self.listener.advance,
            self.answers,
            score,
        )

    def _scoring(self, number: int) -> Labeller:
        verifier = self.supervision.verifier(number, self.answers.weights)
        return self._labeller(verifier.score if verifier else None)

    def _label_all(self, number: int, difficulties: Sequence[Difficulty], rollbacks: int) -> list[Labelled]:
        settings = self.settings
        self.listener.phase(number, settings.rounds.count, "label", len(difficulties) * settings.labels.count)
        filters = stricter(settings.watch, settings.labels.filters, rollbacks)
        labeller = self._scoring(number)
        return [labeller.label(number, difficulty, filters) for difficulty in difficulties]

    def _relabelled(self, number: int, attempt: Attempt) -> list[tuple[int, Filtered]]:
        """Return the labels that the prompts of past rounds get now, each difficulty with its round."""
        asked = [
            (record.round, difficulty, self.task.vocabulary.encode_prompts(prompts))
            for record in attempt.past[1:]
            for difficulty, prompts in read_prompts(self.store.ledger_path(record.round))
        ]
        total = sum(len(prompts) for _, _, prompts in asked)
        self.listener.phase(number, self.settings.rounds.count, "relabel", total)
        filters = stricter(self.settings.watch, self.settings.labels.filters, attempt.rollbacks)
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

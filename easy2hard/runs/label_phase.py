"""The label phase of a round: labels that the watch lets pass -> ledger. Holds no oracle."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from easy2hard import processes
from easy2hard.engines.engine import DeviceFullError
from easy2hard.files import writing
from easy2hard.improvement.filters import Filtered, Mask, add_counts
from easy2hard.improvement.ledger import write_ledger
from easy2hard.improvement.noise import inject
from easy2hard.improvement.proposals import Proposals
from easy2hard.runs.attempts import Attempt, Attempts
from easy2hard.runs.experiment import Experiment
from easy2hard.runs.listener import Listener
from easy2hard.runs.manifest import Manifest, file_digest, read_sealed
from easy2hard.runs.records import LabelCheckpoint, LabelRecord, RelabelledRecord, VerifierRecord, filter_record
from easy2hard.runs.store import Store
from easy2hard.seeding import numpy_generator
from easy2hard.tasks.base import difficulty_text
from easy2hard.text import counted

Score = Callable[[Proposals], NDArray[np.float64]]


class LabelPhase:
    """Labels the rounds of a run; every process calls it alike.

    Args:
        store: the run.
        experiment: what it is made of.
        listener: is told what happens.
    """

    def __init__(self, store: Store, experiment: Experiment, listener: Listener) -> None:
        self.store = store
        self.experiment = experiment
        self.settings = experiment.settings
        self.listener = listener

    def kept(self, number: int) -> LabelCheckpoint | None:
        """Return what the label phase of a round came to, if it is over and its ledgers are intact."""
        path = self.store.labels_path(number)
        if not path.exists():
            return None
        kept = LabelCheckpoint.model_validate_json(read_sealed(path))
        expected = {self.store.ledger_path(number): kept.ledger_sha256}
        if kept.relabelled_sha256:
            expected[self.store.relabelled_path(number)] = kept.relabelled_sha256
        intact = all(
            file.exists() and file_digest(file, self.store.path) == digest for file, digest in expected.items()
        )
        return kept if intact else None

    def run(self, manifest: Manifest, number: int) -> LabelCheckpoint | None:
        """Label a round, write its ledger, and return what it came to; None where nothing harder is left.

        Raises:
            CollapseError: the collapse watch stops the run (attempts.py).
        """
        attempts = Attempts(self.store, self.experiment, self.listener, number, manifest.rounds[-1].weights_sha256)
        try:
            attempt = attempts.settled(manifest)
            if attempt is None:
                return None
            older = attempts.relabelled(attempt) if self.settings.labels.relabel else []
        except (KeyboardInterrupt, DeviceFullError):
            attempts.answers.flush()
            raise
        for text, reason in attempt.ended.items():
            self.listener.note(f"round {number}, difficulty {text}: {reason}")
        for difficulty, each in zip(attempt.difficulties, attempt.labelled, strict=False):
            there, wanted = len(each.filtered.kept), self.settings.labels.count
            if there < wanted and each.ended is None:
                self.listener.note(
                    f"round {number}, difficulty {difficulty_text(difficulty)}: it has no more than "
                    f"{counted(there, 'prompt')} that evaluation leaves, where labels.count = {wanted:,} are wanted"
                )
        return processes.current().from_main(lambda: self._write(attempts, attempt, older))

    def _write(self, attempts: Attempts, attempt: Attempt, older: list[tuple[int, Filtered]]) -> LabelCheckpoint:
        number, weights, verifier = attempts.number, attempts.answers.weights, attempts.verifier
        own = [each.filtered for each in attempt.labelled]
        filtered, spoilt = self._spoil(number, attempts.supervision.solved(own))
        vocabulary, solved = self.experiment.task.vocabulary, self.settings.labels.counter_examples
        with writing(self.store.ledger_path(number), self.store.path) as file:
            write_ledger(file, filtered, vocabulary, number, weights, spoilt, solved=solved)
        if older:
            rounds, again = zip(*older, strict=True)
            with writing(self.store.relabelled_path(number), self.store.path) as file:
                write_ledger(file, again, vocabulary, rounds, weights)
        answered = [*own, *(again for _, again in older)]
        nothing = np.zeros(len(self.experiment.members))
        seconds = np.sum([nothing, *(each.proposals.seconds for each in answered)], axis=0)
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
                readiness={difficulty_text(difficulty): values for difficulty, values in attempts.asked.items()},
                top_up=attempt.ended,
                put_off=attempt.put_off,
                spoilt=sum(int(each.sum()) for each in spoilt or []),
                averaged=attempts.averaged(attempt.past),
                verifier=VerifierRecord.model_validate(verifier.record()) if verifier else None,
                relabelled=_relabelled(older),
                member_seconds=[round(float(value), 3) for value in seconds],
            ),
            past=attempt.past[-1].round,
            seconds=0.0,
            ledger_sha256=file_digest(self.store.ledger_path(number), self.store.path),
            relabelled_sha256=file_digest(self.store.relabelled_path(number), self.store.path) if older else "",
        )

    def _spoil(self, number: int, labels: Sequence[Filtered]) -> tuple[list[Filtered], list[Mask] | None]:
        noise = self.settings.noise
        if noise is None or noise.round != number:
            return list(labels), None
        spoilt = [
            inject(
                noise,
                each,
                self.experiment.task.vocabulary,
                numpy_generator(
                    self.settings.seed, "noise", number, difficulty_text(each.proposals.difficulty), noise.kind
                ),
            )
            for each in labels
        ]
        return [each for each, _ in spoilt], [mask for _, mask in spoilt]


def _relabelled(older: list[tuple[int, Filtered]]) -> list[RelabelledRecord]:
    """Return what came of each older round's prompts."""
    found = []
    for number in dict.fromkeys(number for number, _ in older):
        kept = np.concatenate([again.kept for of, again in older if of == number])
        found.append(RelabelledRecord(round=number, proposed=len(kept), kept=int(kept.sum())))
    return found

"""The order of a round: label -> filter -> ledger -> train -> evaluate -> commit. Nothing else knows it."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch

from easy2hard.config import PhaseSettings, Settings
from easy2hard.errors import UserError
from easy2hard.evaluation.exact_match import accuracy
from easy2hard.improvement.filters import Filtered, add_counts, apply_filters
from easy2hard.improvement.labels import propose
from easy2hard.improvement.ledger import read_kept, write_ledger
from easy2hard.improvement.schedules import next_difficulties
from easy2hard.learning.batches import Group, LabelledSource, Mixture, SupervisedSource
from easy2hard.learning.trainer import Step, fit
from easy2hard.models.threads import give_back_freed_memory, keep_freed_memory
from easy2hard.models.transformer import Transformer
from easy2hard.runs.manifest import Manifest, RoundRecord, RunDirectory
from easy2hard.runs.store import Store, load_weights
from easy2hard.seeding import numpy_generator, torch_generator
from easy2hard.tasks.base import Difficulty, Task, difficulty_text, hardest
from easy2hard.tasks.contract import check_contract
from easy2hard.tasks.prompts import Reserved, fresh_prompts
from easy2hard.tasks.registry import is_built_in, load_oracle, load_task

RESERVED = 1000
"""Evaluation prompts of each difficulty that are never trained on; more where evaluation.examples is greater."""


def reserved_examples(settings: Settings) -> int:
    """Return how many evaluation prompts of each difficulty a run never trains on."""
    return max(RESERVED, settings.evaluation.examples)


class Listener(Protocol):
    """Is told what happens, to show it."""

    def phase(self, number: int, rounds: int, name: str, total: int) -> None:
        """A phase of round ``number`` of ``rounds`` begins; ``total`` parts of it will be reported."""

    def step(self, step: Step) -> None:
        """A training step is done."""

    def advance(self, count: int) -> None:
        """``count`` parts of a phase other than training are done."""

    def round(self, manifest: Manifest) -> None:
        """A round is committed: the last one in the manifest."""


def build_members(settings: Settings, task: Task, device: torch.device | None = None) -> list[Transformer]:
    """Return the untrained members of a run, each from its own seed."""
    keep_freed_memory(max(settings.model.members, torch.get_num_threads()))
    return [
        Transformer(settings.model.size, len(task.vocabulary), torch_generator(settings.seed, "weights", member)).to(
            device or default_device()
        )
        for member in range(settings.model.members)
    ]


def load_members(run: RunDirectory) -> list[Transformer]:
    """Return the members of a run after its last committed round.

    Raises:
        UserError: no round is committed yet.
    """
    rounds = run.manifest.rounds
    if not rounds:
        raise UserError(f"{run.path}: no round is committed yet; `easy2hard resume {run.path}` goes on")
    settings = run.settings
    members = build_members(settings, load_task(settings.task.name, settings.task.options))
    load_weights(run.weights_path(rounds[-1].round), members)
    return members


def default_device() -> torch.device:
    """Return the GPU where there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def check(settings: Settings) -> None:
    """Refuse settings that cannot run, before anything is written.

    Raises:
        UserError: naming the setting and what would be right.
    """
    task = load_task(settings.task.name, settings.task.options)
    if not task.supervised_difficulties(settings.supervised.difficulty):
        raise UserError(
            f"supervised.difficulty = {settings.supervised.difficulty}: task {task.name} has nothing that easy"
        )
    if settings.supervised.difficulty > task.capped(settings.supervised.difficulty):
        raise UserError(f"supervised.difficulty = {settings.supervised.difficulty}: at most {task.greatest} here")
    history = [task.evaluated_difficulties(settings.supervised.difficulty)]
    for number in range(1, settings.rounds.count + 1):
        history.append(next_difficulties(settings.rounds, task, history))
        reached = max(map(hardest, history[-1]))
        if reached > task.capped(reached):
            raise UserError(
                f"rounds.count = {settings.rounds.count}: round {number} would pass difficulty {task.greatest}, "
                f"the greatest of task {task.name}"
            )
    if not is_built_in(task.name):
        check_contract(task, load_oracle(task))


def start(settings: Settings, out: Path, listener: Listener) -> Store:
    """Start a run in the new directory ``out`` and bring it to its end.

    Raises:
        UserError: a setting does not fit the task, or ``out`` is in use.
    """
    check(settings)
    store = Store.create(out, settings, default_device())
    resume(store, listener)
    return store


def resume(store: Store, listener: Listener) -> None:
    """Bring a run to its end from its last committed round; a finished run stays as it is.

    The manifest's status is ``running`` meanwhile and ``finished`` afterwards, or ``stopped: reason``.
    """
    with store.lock():
        try:
            store.save(store.manifest.model_copy(update={"status": "running"}))
            _Run(store, listener).finish()
            store.save(store.manifest.model_copy(update={"status": "finished"}))
        except BaseException as error:
            reason = "interrupted" if isinstance(error, KeyboardInterrupt) else f"{type(error).__name__}: {error}"
            store.save(store.manifest.model_copy(update={"status": f"stopped: {reason}"}))
            raise


@dataclass
class _Clock:
    """Seconds spent in each phase of a round."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        begin = time.perf_counter()
        yield
        give_back_freed_memory()
        self.seconds[name] = time.perf_counter() - begin


def _share_kept(labels: Sequence[Filtered]) -> float:
    return sum(int(each.kept.sum()) for each in labels) / max(1, sum(len(each.kept) for each in labels))


class _Run:
    def __init__(self, store: Store, listener: Listener) -> None:
        self.store = store
        self.listener = listener
        self.settings = store.settings
        self.task = load_task(self.settings.task.name, self.settings.task.options)
        # The oracle goes to supervised data and evaluation, and nowhere else.
        self.oracle = load_oracle(self.task)
        self.reserved = Reserved(self.task, self.settings.seed, reserved_examples(self.settings))
        self.supervised = SupervisedSource(
            self.reserved, self.oracle, self.settings.supervised.difficulty, self.settings.supervised.curriculum
        )
        self.members = build_members(self.settings, self.task)
        self.labelled: list[tuple[LabelledSource, float]] = []

    def finish(self) -> None:
        manifest = self.store.manifest
        if manifest.rounds:
            load_weights(self.store.weights_path(manifest.rounds[-1].round), self.members)
        for record in manifest.rounds[1:]:
            self.labelled.append(self._labels_of(record.round))
        for number in range(len(manifest.rounds), self.settings.rounds.count + 1):
            manifest = self._commit(
                manifest, self._supervised_phase() if number == 0 else self._round(manifest, number)
            )

    def _commit(self, manifest: Manifest, record: RoundRecord) -> Manifest:
        manifest = manifest.model_copy(update={"status": "running", "rounds": [*manifest.rounds, record]})
        self.store.save(manifest)
        self.listener.round(manifest)
        return manifest

    def _supervised_phase(self) -> RoundRecord:
        clock = _Clock()
        with clock.phase("train"):
            trained = self._train(0, self.settings.supervised, None)
        trained["overlap"] = {
            difficulty_text(difficulty): round(share, 3) for difficulty, share in self.supervised.overlap.items()
        }
        return self._record(
            clock, 0, self.task.evaluated_difficulties(self.settings.supervised.difficulty), [], trained
        )

    def _round(self, manifest: Manifest, number: int) -> RoundRecord:
        clock = _Clock()
        history = [record.difficulties for record in manifest.rounds]
        difficulties = next_difficulties(self.settings.rounds, self.task, history)
        given_up: dict[str, float] = {}
        with clock.phase("label"):
            labels = self._label(number, difficulties)
            if number > 1 and _share_kept(labels) < (self.settings.rounds.hold or 0):
                given_up = {
                    difficulty_text(d): round(_share_kept([each]), 4)
                    for d, each in zip(difficulties, labels, strict=True)
                }
                difficulties = manifest.rounds[-1].difficulties
                labels = self._label(number, difficulties)
        with self.store.replacing(self.store.ledger_path(number)) as path:
            write_ledger(path, labels, self.task.vocabulary, number, manifest.rounds[-1].weights_sha256)
        # Read back what was written: a resumed run trains on exactly the same data.
        newest, weight = self._labels_of(number)
        with clock.phase("train"):
            trained = self._train(number, self.settings.rounds, newest if len(newest) else None)
        self.labelled.append((newest, weight))
        return self._record(clock, number, difficulties, labels, {**trained, "given_up": given_up})

    def _label(self, number: int, difficulties: Sequence[Difficulty]) -> list[Filtered]:
        settings = self.settings
        self.listener.phase(number, settings.rounds.count, "label", len(difficulties) * settings.rounds.labels)
        labels = []
        for difficulty in difficulties:
            generator = numpy_generator(settings.seed, "labels", number, difficulty_text(difficulty))
            prompts = fresh_prompts(
                self.task, generator, difficulty, settings.rounds.labels, self.reserved.prompts(difficulty)
            )
            proposals = propose(self.members, self.task, difficulty, prompts, self.listener.advance)
            labels.append(apply_filters(settings.rounds.filters, proposals))
        return labels

    def _labels_of(self, number: int) -> tuple[LabelledSource, float]:
        """Return the kept labels of a round and their weight in a mixture: the difficulties they cover."""
        vocabulary = self.task.vocabulary
        kept = read_kept(self.store.ledger_path(number))
        groups = [
            Group.join(vocabulary.encode_prompts(prompts), vocabulary.encode_answers(answers))
            for prompts, answers in kept.values()
        ]
        return LabelledSource(groups, self.store.path), float(len(groups))

    def _train(self, number: int, phase: PhaseSettings, newest: LabelledSource | None) -> dict[str, Any]:
        settings = self.settings
        batch = (number > 0 and settings.rounds.batch) or settings.training.batch
        # A round that kept fewer labels than a batch holds weighs less than the others, by as much.
        older = [(source, weight * min(1, len(source) / batch)) for source, weight in self.labelled if len(source)]
        mixtures = [
            Mixture(
                seed=settings.seed,
                stream=("batches", number, member),
                supervised=(
                    self.supervised,
                    float(len(self.task.evaluated_difficulties(settings.supervised.difficulty))),
                ),
                older=older,
                newest=newest,
                batch=batch,
                groups=settings.training.groups,
                newest_share=settings.rounds.newest_share,
            )
            for member in range(len(self.members))
        ]
        rows: list[tuple[int, float, float, int]] = []

        def on_step(step: Step) -> None:
            rows.append((step.step, round(step.loss, 6), round(step.learning_rate, 6), step.tokens))
            self.listener.step(step)

        self.listener.phase(number, settings.rounds.count, "train", phase.steps)
        scale = 1.0 if number == 0 else settings.rounds.learning_rate_scale
        fit(self.members, mixtures, phase, settings.optimiser, settings.training, scale, on_step)
        self.store.save_training(number, rows)
        last = rows[-20:]
        return {
            "steps": len(rows),
            "tokens": sum(row[3] for row in rows),
            "loss": sum(row[1] for row in last) / len(last),
        }

    def _evaluate(self, number: int, frontier: int) -> dict[str, float]:
        settings = self.settings
        difficulties = self.task.evaluated_difficulties(self.task.capped(frontier + settings.evaluation.beyond))
        self.listener.phase(
            number,
            settings.rounds.count,
            "evaluate",
            len(difficulties) * settings.evaluation.examples * len(self.members),
        )
        scores = accuracy(
            self.members,
            self.task,
            self.oracle,
            settings.seed,
            difficulties,
            settings.evaluation.examples,
            self.listener.advance,
        )
        return {difficulty_text(difficulty): score for difficulty, score in scores.items()}

    def _record(
        self,
        clock: _Clock,
        number: int,
        difficulties: list[Difficulty],
        labels: Sequence[Filtered],
        trained: dict[str, Any],
    ) -> RoundRecord:
        with clock.phase("evaluate"):
            scores = self._evaluate(number, max(map(hardest, difficulties)))
        return RoundRecord(
            round=number,
            difficulties=difficulties,
            proposed=sum(len(each.kept) for each in labels),
            kept=sum(int(each.kept.sum()) for each in labels),
            filters=add_counts(labels) if labels else [],
            seconds=round(sum(clock.seconds.values()), 3),
            phase_seconds={name: round(value, 3) for name, value in clock.seconds.items()},
            accuracy=scores,
            weights_sha256=self.store.save_weights(number, self.members),
            **trained,
        )

"""The order of a round: label -> filter -> ledger -> train -> evaluate -> commit. Nothing else knows it."""

import copy
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from easy2hard import __version__, processes
from easy2hard.engines.choice import build_engine, cores, find_device, in_main_memory
from easy2hard.engines.engine import Group
from easy2hard.engines.sharding import check_sharding
from easy2hard.evaluation.blindfold import Blindfold, refuse_supervised_signals
from easy2hard.evaluation.exact_match import accuracy, baseline_accuracy
from easy2hard.improvement.ledger import read_kept
from easy2hard.learning.batches import STOCK, LabelledSource, Mixture, SupervisedSource
from easy2hard.learning.trainer import NonFiniteLossError, Step, fit
from easy2hard.models.member import Place
from easy2hard.runs.checkpoint import PhaseCheckpoints
from easy2hard.runs.disk_space import check_room, needed, pausing, require, require_memory
from easy2hard.runs.integrity import check_intact
from easy2hard.runs.label_phase import LabelPhase
from easy2hard.runs.listener import Listener
from easy2hard.runs.manifest import Manifest, RoundRecord, environment, file_digest, read_sealed
from easy2hard.runs.members import build_members, check_base, trained_parameters
from easy2hard.runs.preflight import check
from easy2hard.runs.progress_file import shown
from easy2hard.runs.store import Store, load_weights
from easy2hard.runs.tracking import tracked
from easy2hard.settings.recipes import refuse_to_continue_old
from easy2hard.settings.schema import Settings
from easy2hard.settings.training import PhaseSettings
from easy2hard.tasks.base import Difficulty, difficulty_text, hardest
from easy2hard.tasks.prompts import Reserved
from easy2hard.tasks.registry import load_oracle, load_task


def build_mixture(
    settings: Settings,
    supervised: SupervisedSource,
    older: Sequence[LabelledSource],
    newest: LabelledSource | None,
    number: int,
    member: int,
    again: int = 0,
    place: Place | None = None,
) -> Mixture:
    """Return the batches of a member in a round.

    Args:
        settings: of the run.
        supervised: D0.
        older: labels of earlier rounds; left out where a round's own replace them (``rounds.data``).
        newest: the round's own, None in the supervised phase.
        number: the round.
        member: whose batches.
        again: how often its training had to begin again, with other batches.
        place: draws the places of its examples, where they are drawn.
    """
    batch = (number > 0 and settings.rounds.batch) or settings.training.batch
    stream: tuple[str | int, ...] = ("batches", number, member)
    older = [] if settings.rounds.data == "replace" else older
    # A round weighs 1 for each difficulty it covers; one with fewer labels than a batch holds, less by as much.
    weighed = [(source, len(source.labels) * min(1.0, len(source) / batch)) for source in older if len(source)]
    of_supervised = float(len(supervised.task.evaluated_difficulties(settings.supervised.difficulty)))
    if weighed and (share := settings.rounds.supervised_share) is not None:
        of_supervised = share / (1 - share) * sum(weight for _, weight in weighed)
    return Mixture(
        seed=settings.seed,
        stream=(*stream, "again", again) if again else stream,
        supervised=(supervised if number == 0 else supervised.whole, of_supervised),
        older=weighed,
        newest=newest if newest is not None and len(newest) else None,
        batch=batch,
        groups=settings.training.groups,
        newest_share=settings.rounds.newest_share,
        place=place,
        stock=settings.training.stock or min(STOCK, settings.supervised.steps * settings.training.batch),
    )


def start(settings: Settings, out: Path, listener: Listener, blindfold: bool = False, device: str = "auto") -> Store:
    """Start a run in the new directory ``out`` and bring it to its end.

    Args:
        settings: all there is to know.
        out: the run directory, which must not be in use.
        listener: is told what happens.
        blindfold: make the oracle raise beyond the supervised range; what it would be needed for is left out.
        device: where it computes (engines/choice.py).

    Raises:
        UserError: a setting does not fit the task, there is no such device, or ``out`` is in use.
        CollapseError: the collapse watch stopped the run (label_phase.py).
    """
    check(settings)
    if blindfold:
        refuse_supervised_signals(settings.supervised_signals)
    world = processes.current()
    found = find_device(device)

    def create() -> Store:
        if in_main_memory(found):
            task = load_task(settings.task.name, settings.task.options)
            require_memory(trained_parameters(settings, task) * settings.model.members)
        require(out, _space_needed(settings))
        return Store.create(out, settings, found, blindfold)

    store = world.from_main(create)
    resume(store, listener, device)
    return store


def resume(store: Store, listener: Listener, device: str = "auto") -> None:
    """Bring a run to its end from its last committed round; a finished run stays as it is.

    The manifest's status is ``running`` meanwhile and ``finished`` afterwards, or ``stopped: reason``.

    Raises:
        UserError: a file of the run is missing or changed, another process is writing it, an older version began it, or
            there is no such device.
        CollapseError: the collapse watch stopped the run (label_phase.py).
        DiskFullError: the disk is full; what was kept is on it.
    """
    refuse_to_continue_old(store.path / "settings.toml")
    world = processes.current()
    check_sharding(store.settings.model)
    found = find_device(device)

    def say(status: str) -> None:
        store.save(store.manifest.model_copy(update={"status": status}))

    with ExitStack() as held:

        def begin() -> None:
            held.enter_context(store.lock())
            check_intact(store)
            store.checkpoint_folder.mkdir(exist_ok=True)  # an empty folder is easily lost in a copy

        world.from_main(begin)
        try:
            with pausing(store.path):
                world.from_main(lambda: say("running"))
                with tracked(store, listener) as told, shown(store.path, told, world.main) as seen:
                    _Run(store, seen, found).finish()
                world.from_main(lambda: say("finished"))
        except BaseException as error:
            reason = "interrupted" if isinstance(error, KeyboardInterrupt) else f"{type(error).__name__}: {error}"
            if world.main:
                with suppress(OSError):  # where not even this finds room, the manifest stays as it was
                    say(f"stopped: {reason}")
            raise


def _space_needed(settings: Settings, first: int = 0, last: int | None = None) -> int:
    """Return the bytes that rounds take, about."""
    task = load_task(settings.task.name, settings.task.options)
    hard = task.capped(settings.supervised.difficulty + settings.rounds.count * settings.schedule.stride)
    prompts = task.sample(np.random.default_rng(0), task.evaluated_difficulties(hard)[-1], 1)
    tokens = prompts.shape[1] + int(task.answer_bounds(prompts)[0])
    return needed(settings, trained_parameters(settings, task), tokens, first, last)


def _differences(manifest: Manifest, device: torch.device) -> list[str]:
    """Return what the last bits of a result depend on and is not what it was when the run was begun."""
    known = {"easy2hard": __version__, "torch": torch.__version__, "threads": cores()}
    now = {**known, "device": str(device), **environment()}
    then = {**manifest.model_dump(include={"easy2hard", "torch", "threads", "device"}), **manifest.environment}
    decisive = ("easy2hard", "torch", "threads", "device", "processor")
    return [f"{name} {then[name]}, now {now[name]}" for name in decisive if name in then and then[name] != now[name]]


@dataclass
class _Clock:
    """Seconds spent in each phase of a round."""

    rest: Callable[[], None]
    """Called at the end of each phase."""
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        begin = time.perf_counter()
        yield
        self.rest()
        self.seconds[name] = time.perf_counter() - begin


class _Run:
    """Every process runs this alike; what is written goes through ``world.from_main``."""

    def __init__(self, store: Store, listener: Listener, device: torch.device) -> None:
        self.world = processes.current()
        self.store = store
        self.listener = listener
        self.settings = store.settings
        self.task = load_task(self.settings.task.name, self.settings.task.options)
        self.blindfold = store.manifest.blindfold
        # The oracle goes to supervised data and evaluation, and to what the settings mark as supervised.
        self.oracle = load_oracle(self.task)
        if self.blindfold:
            self.oracle = Blindfold(self.oracle, self.settings.supervised.difficulty)
        self.reserved = Reserved(self.task, self.settings.seed, self.settings.evaluation.reserved)
        self.supervised = SupervisedSource(
            self.reserved,
            self.oracle,
            self.settings.supervised.difficulty,
            self.settings.supervised.curriculum,
            self.settings.supervised.stages,
        )
        self.device = device
        self.members = build_members(self.settings, self.task, device)
        self.engine = build_engine(self.members, self.settings.training.precision)
        if base := check_base(store, self.members):
            self.world.from_main(lambda: store.save(store.manifest.model_copy(update={"base_sha256": base})))
        scratch = self.settings.rounds.start == "scratch"
        self.untrained = [copy.deepcopy(each.state_dict()) for each in self.members] if scratch else []
        self.labelled: dict[int, LabelledSource] = {}
        self.warned = False
        self.labels = LabelPhase(store, self.task, self.oracle, self.reserved, self.engine, listener)

    def finish(self) -> None:
        manifest = self.store.manifest
        self.world.from_main(lambda: self.store.clear_checkpoints(but=len(manifest.rounds)))
        if self.engine.note:
            self.listener.note(self.engine.note)
        if different := _differences(manifest, self.device):
            self.listener.note(f"begun with {'; '.join(different)}: the last bits may differ (docs/reproducibility.md)")
        if manifest.rounds:
            load_weights(self.store.weights_path(manifest.rounds[-1].round), self.members)
        for number in range(len(manifest.rounds), self.settings.rounds.count + 1):
            if number and (spent := self._spent(manifest)):
                self.listener.note(f"no further round: {spent}")
                break
            self.world.from_main(partial(self._check_room, number))
            record = self._supervised_phase() if number == 0 else self._round(manifest, number)
            if record is None:
                self.listener.note(f"there is nothing harder than difficulty {manifest.frontier}")
                break
            manifest = self.world.from_main(partial(self._commit, manifest, record))

    def _spent(self, manifest: Manifest) -> str | None:
        """Return why the budget allows no further round, if it does not."""
        budget, rounds = self.settings.budget, manifest.rounds
        if budget is None:
            return None
        steps, seconds = sum(record.steps for record in rounds), sum(record.seconds for record in rounds)
        return budget.spent(steps, seconds, self.settings.rounds.steps)

    def _check_room(self, number: int) -> None:
        next_round = _space_needed(self.settings, number, number)
        warning = check_room(self.store.path, next_round, _space_needed(self.settings, number))
        if warning and not self.warned:
            self.listener.note(warning)
            self.warned = True

    def _commit(self, manifest: Manifest, record: RoundRecord) -> Manifest:
        manifest = manifest.model_copy(update={"status": "running", "rounds": [*manifest.rounds, record]})
        manifest = self.store.pruned(manifest, self.settings.storage.keep_weights)
        self.store.save(manifest)
        self.store.remove_pruned(manifest)
        self.store.clear_checkpoints()
        self.listener.round(manifest)
        return manifest

    def _supervised_phase(self) -> RoundRecord:
        clock = _Clock(self.engine.rest)
        with clock.phase("train"):
            trained = self._train(0, self.settings.supervised, [], None)
        overlap = {
            difficulty_text(difficulty): round(share, 3) for difficulty, share in self.supervised.overlap.items()
        }
        easy = self.task.evaluated_difficulties(self.settings.supervised.difficulty)
        known = {"proposed": 0, "kept": 0, "filters": [], "overlap": overlap, **trained}
        record = self._record(clock, 0, easy, known)
        if problem := record.no_better:
            self.listener.note(f"{problem} ({self.task.baseline})")
        return record

    def _round(self, manifest: Manifest, number: int) -> RoundRecord | None:
        clock = _Clock(self.engine.rest)
        labels = self.world.from_main(lambda: self.labels.kept(number))
        if labels is None:
            with clock.phase("label"):
                labels = self.labels.run(manifest, number)
            if labels is None:
                return None
            labels = labels.model_copy(update={"seconds": clock.seconds["label"]})
            self.world.from_main(partial(self.store.save_labels, number, labels))
        self._begin_training(labels.past)
        clock.seconds["label"] = labels.seconds
        past = [record for record in manifest.lineage if record.round <= labels.past]
        with clock.phase("train"):
            trained = self._train(number, self.settings.rounds, past, number)
        counted = labels.model_dump(include={"proposed", "kept", "filters"})
        return self._record(clock, number, labels.difficulties, {**counted, **labels.notes, **trained})

    def _begin_training(self, past: int) -> None:
        """Bring the members to the weights that a round's training begins with; ``past`` labelled it."""
        if self.settings.rounds.start == "continue":
            load_weights(self.store.weights_path(past), self.members)
            return
        for member, state in zip(self.members, self.untrained, strict=True):
            member.load_state_dict(state)

    def _labels_of(self, number: int) -> LabelledSource:
        """Return the kept labels of a round, read from its ledger: a resumed run trains on exactly the same data."""
        if number not in self.labelled:
            self.labelled[number] = self._source(read_kept(self.store.ledger_path(number)))
        return self.labelled[number]

    def _older_labels(self, number: int, past: Sequence[RoundRecord]) -> list[LabelledSource]:
        """Return the labels of the ``past`` rounds that round ``number`` trains on."""
        if not self.settings.labels.relabel:
            return [self._labels_of(record.round) for record in past]
        again = self.store.relabelled_path(number)
        return [self._source(read_kept(again, record.round)) for record in past if record.proposed]

    def _source(self, kept: Mapping[int | str, tuple[list[str], list[str]]]) -> LabelledSource:
        vocabulary = self.task.vocabulary
        groups = [
            Group.join(vocabulary.encode_prompts(prompts), vocabulary.encode_answers(answers))
            for prompts, answers in kept.values()
        ]
        return LabelledSource(groups, self.store.path)

    def _train(
        self, number: int, phase: PhaseSettings, past: Sequence[RoundRecord], newest: int | None
    ) -> dict[str, Any]:
        settings = self.settings
        sources = self._older_labels(number, past[1:])
        new = self._labels_of(newest) if newest is not None else None
        restarts = self._restarts(number)

        def mixture(member: int) -> Mixture:
            again = sum(restart["member"] == member for restart in restarts)
            place = self.members[member].place
            return build_mixture(settings, self.supervised, sources, new, number, member, again, place)

        kept = PhaseCheckpoints(
            lambda member: self.store.member_path(number, member),
            60 * settings.storage.checkpoint_minutes,
            writes=self.world.main,
        )
        scale = 1.0 if number == 0 else settings.rounds.learning_rate_scale
        with self.engine.training() as engine:
            begin = [copy.deepcopy(member.state_dict()) for member in engine.members]
            while True:
                rows: list[tuple[int, float, float, int]] = []

                def on_step(step: Step, rows: list[tuple[int, float, float, int]] = rows) -> None:
                    rows.append((step.step, round(step.loss, 6), round(step.learning_rate, 6), step.tokens))
                    self.listener.step(step)

                self.listener.phase(number, settings.rounds.count, "train", phase.steps)
                mixtures = [mixture(member) for member in range(len(self.members))]
                try:
                    fit(engine, mixtures, phase, settings.optimiser, scale, on_step, kept)
                    break
                except NonFiniteLossError as error:
                    if len(restarts) >= settings.training.restarts:
                        raise
                    restarts.append({"member": error.member, "step": error.step, "what": str(error)})
                    self.world.from_main(lambda: self.store.save_restarts(number, restarts))
                    self.listener.note(f"round {number}, {error}: back to the last checkpoint, with other batches")
                    for member, state in zip(engine.members, begin, strict=True):
                        member.load_state_dict(state)  # where there is a checkpoint, it takes its place
        # Processors of another kind may differ in the last bits.
        self.world.copy_from_main([tensor for member in self.members for tensor in member.state_dict().values()])
        self.world.from_main(lambda: self.store.save_training(number, rows))
        last = rows[-20:]
        return {
            "steps": len(rows),
            "tokens": sum(row[3] for row in rows),
            "loss": sum(row[1] for row in last) / len(last),
            "restarts": restarts,
        }

    def _restarts(self, number: int) -> list[dict[str, Any]]:
        path = self.store.restarts_path(number)
        return json.loads(read_sealed(path)) if path.exists() else []

    def _evaluate(self, number: int, frontier: int) -> dict[str, dict[str, float]]:
        settings = self.settings
        difficulties = self.task.evaluated_difficulties(self.task.capped(frontier + settings.evaluation.beyond))
        if self.blindfold:
            easy = set(self.task.evaluated_difficulties(settings.supervised.difficulty))
            difficulties = [difficulty for difficulty in difficulties if difficulty in easy]
        self.listener.phase(
            number,
            settings.rounds.count,
            "evaluate",
            len(difficulties) * settings.evaluation.examples * len(self.members),
        )
        scores = accuracy(
            self.engine,
            self.task,
            self.oracle,
            settings.seed,
            difficulties,
            settings.evaluation.examples,
            self.listener.advance,
        )
        # Under a blindfold the oracle judges nothing but the members.
        baseline = (
            {}
            if self.blindfold
            else baseline_accuracy(self.task, self.oracle, settings.seed, difficulties, settings.evaluation.examples)
        )
        return {
            name: {difficulty_text(difficulty): score for difficulty, score in each.items()}
            for name, each in {"accuracy": scores, "baseline": baseline}.items()
        }

    def _record(self, clock: _Clock, number: int, difficulties: list[Difficulty], known: dict[str, Any]) -> RoundRecord:
        with clock.phase("evaluate"):
            scores = self._evaluate(number, max(map(hardest, difficulties)))
        return self.world.from_main(lambda: self._written(clock, number, difficulties, scores, known))

    def _written(
        self,
        clock: _Clock,
        number: int,
        difficulties: list[Difficulty],
        scores: dict[str, dict[str, float]],
        known: dict[str, Any],
    ) -> RoundRecord:
        weights = self.store.save_weights(number, self.members)
        return RoundRecord(
            round=number,
            difficulties=difficulties,
            seconds=round(sum(clock.seconds.values()), 3),
            phase_seconds={name: round(value, 3) for name, value in clock.seconds.items()},
            **scores,
            weights_sha256=weights,
            files={
                str(path.relative_to(self.store.path)): file_digest(path)
                for path in self.store.files(number, bool(known.get("relabelled")))
            },
            **known,
        )

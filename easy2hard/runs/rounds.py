"""The order of a round: label -> filter -> ledger -> train -> evaluate -> commit. Nothing else knows it."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import torch

from easy2hard import __version__, processes
from easy2hard.engines.choice import cores
from easy2hard.evaluation.blindfold import refuse_supervised_signals
from easy2hard.evaluation.exact_match import accuracy, baseline_accuracy
from easy2hard.huggingface.sharding import check_sharding
from easy2hard.plugins import fenced
from easy2hard.runs.disk_space import check_room, needed, pausing, require
from easy2hard.runs.experiment import Experiment
from easy2hard.runs.integrity import check_intact
from easy2hard.runs.label_phase import LabelPhase
from easy2hard.runs.listener import Listener
from easy2hard.runs.manifest import Manifest, RoundRecord, environment, file_digest
from easy2hard.runs.origins import origins_of, restore
from easy2hard.runs.preflight import check, doubts
from easy2hard.runs.progress_writer import shown
from easy2hard.runs.records import LabelRecord, ScoreRecord, TrainingRecord
from easy2hard.runs.size import check_size
from easy2hard.runs.store import Store, load_weights
from easy2hard.runs.time_left import TimeLeft
from easy2hard.runs.tracking import tracked
from easy2hard.runs.training_phase import TrainingPhase
from easy2hard.settings.schema import Settings
from easy2hard.tasks.base import difficulty_text, hardest
from easy2hard.text import counted


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
        CollapseError: the collapse watch stopped the run (attempts.py).
    """
    experiment = Experiment(settings, device, blindfold)
    with fenced():
        check(experiment)
        check_size(experiment)
    if blindfold:
        refuse_supervised_signals(settings.supervised_signals)
    found = experiment.device

    def create() -> Store:
        require(out, _space_needed(experiment))
        return Store.create(out, settings, found, blindfold)

    store = processes.current().from_main(create)
    _finish(store, experiment, listener)
    return store


def resume(store: Store, listener: Listener, device: str = "auto") -> None:
    """Bring a run to its end from its last committed round; a finished run stays as it is.

    The manifest's status is ``running`` meanwhile and ``finished`` afterwards, or ``stopped: reason``.

    Raises:
        UserError: a file of the run is missing or changed, another process is writing it, there is no such device, or
            another version began it.
        CollapseError: the collapse watch stopped the run (attempts.py).
        DiskFullError: the disk is full; what was kept is on it.
    """
    world = processes.current()
    world.from_main(store.settle_settings)
    restore(store)
    experiment = Experiment(store.settings, device, store.manifest.blindfold)
    check_sharding(experiment.settings.model)
    check_size(experiment)  # here nothing of the run is touched yet, where a device is missing, too
    _finish(store, experiment, listener)


def _finish(store: Store, experiment: Experiment, listener: Listener) -> None:
    """Hold the run, and keep its status while its rounds are finished."""
    world = processes.current()

    def say(status: str) -> None:
        plugins = origins_of(store.settings, store.manifest.plugins)  # the user may have named another place
        store.save(store.manifest.model_copy(update={"status": status, "plugins": plugins}))

    with ExitStack() as held:

        def begin() -> None:
            held.enter_context(store.lock())
            store.refuse_older()
            check_intact(store)
            store.checkpoint_folder.mkdir(exist_ok=True)  # an empty folder is easily lost in a copy

        world.from_main(begin)
        try:
            with pausing(store.path):
                world.from_main(lambda: say("running"))
                with (
                    fenced(),
                    tracked(store, listener) as told,
                    shown(store.path, told, _time_left(experiment, store)) as seen,
                ):
                    _Rounds(store, experiment, seen).finish()
                world.from_main(lambda: say("finished"))
        except BaseException as error:
            reason = "interrupted" if isinstance(error, KeyboardInterrupt) else f"{type(error).__name__}: {error}"
            if world.main:
                with suppress(OSError):  # where not even this finds room, the manifest stays as it was
                    say(f"stopped: {reason}")
            raise


def _time_left(experiment: Experiment, store: Store) -> TimeLeft | None:
    """Return what says how long the run will take; None in a process that shows nothing."""
    if not processes.current().main:
        return None
    return TimeLeft(experiment.settings, experiment.task, store.manifest, begun=any(store.checkpoint_folder.iterdir()))


def _space_needed(experiment: Experiment, first: int = 0, last: int | None = None) -> int:
    """Return the bytes that rounds take, about."""
    settings, task = experiment.settings, experiment.task
    hard = task.capped(settings.supervised.difficulty + settings.rounds.count * settings.schedule.stride)
    prompts = task.sample(np.random.default_rng(0), task.evaluated_difficulties(hard)[-1], 1)
    tokens = prompts.shape[1] + int(task.answer_bounds(prompts)[0])
    return needed(settings, experiment.parameters, tokens, first, last)


def _differences(manifest: Manifest, device: torch.device) -> list[str]:
    """Return what the last bits of a result depend on and is not what it was when the run was begun."""
    known = {"easy2hard": __version__, "torch": torch.__version__, "threads": cores()}
    now = {**known, "device": str(device), **environment(manifest.task)}
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


class _Rounds:
    """Every process runs this alike; what is written goes through ``world.from_main``."""

    def __init__(self, store: Store, experiment: Experiment, listener: Listener) -> None:
        self.world = processes.current()
        self.store = store
        self.experiment = experiment
        self.settings = experiment.settings
        self.task = experiment.task
        self.engine = experiment.engine
        self.listener = listener
        if base := experiment.check_base(store):
            self.world.from_main(lambda: store.save(store.manifest.model_copy(update={"base_sha256": base})))
        self.warned = False
        self.labels = LabelPhase(store, experiment, listener)
        self.training = TrainingPhase(store, experiment, listener)

    def finish(self) -> None:
        manifest = self.store.manifest
        self.world.from_main(lambda: self.store.clear_checkpoints(but=len(manifest.rounds)))
        if self.engine.note:
            self.listener.note(self.engine.note)
        if different := _differences(manifest, self.experiment.device):
            self.listener.note(f"begun with {'; '.join(different)}: the last bits may differ (docs/reproducibility.md)")
        if manifest.rounds:
            load_weights(self.store.weights_path(manifest.rounds[-1].round), self.engine.members)
        for number in range(len(manifest.rounds), self.settings.rounds.count + 1):
            if number and (spent := self._spent(manifest)):
                self.listener.note(f"no further round: {spent}")
                break
            self.world.from_main(partial(self._check_room, number))
            record = self._round(manifest, number) if number else self._supervised_phase()
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
        next_round = _space_needed(self.experiment, number, number)
        warning = check_room(self.store.path, next_round, _space_needed(self.experiment, number))
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
        if shared := self._shared_prompts():
            why = "so evaluation asks some that training may have seen"
            self.listener.note(f"there are few easy prompts, {why}: {shared}")
        for doubt in doubts(self.experiment):
            self.listener.note(doubt)
        clock = _Clock(self.engine.rest)
        with clock.phase("train"):
            trained = self.training.run(0, [])
        shares = self.experiment.supervised.overlap.items()
        overlap = {difficulty_text(difficulty): round(share, 3) for difficulty, share in shares}
        easy = self.task.evaluated_difficulties(self.settings.supervised.difficulty)
        record = self._record(clock, LabelRecord(round=0, difficulties=easy), trained, overlap)
        if problem := record.no_better:
            self.listener.note(f"{problem} ({self.task.baseline})")
        return record

    def _shared_prompts(self) -> str:
        """Return in words the difficulties that have too few prompts to keep evaluation's apart; at most three."""
        easy, reserved = self.settings.supervised.difficulty, self.experiment.reserved
        few = {each: found for each in self.task.supervised_difficulties(easy) if (found := reserved.few(each))}
        said = [
            f"difficulty {difficulty_text(each)} has {there:,} ({own:,} are evaluation's)"
            for each, (there, own) in few.items()
        ]
        return ", ".join([*said[:3], *([f"and {len(said) - 3} more"] if said[3:] else [])])

    def _round(self, manifest: Manifest, number: int) -> RoundRecord | None:
        clock = _Clock(self.engine.rest)
        labelled = self.world.from_main(lambda: self.labels.kept(number))
        if labelled is None:
            with clock.phase("label"):
                labelled = self.labels.run(manifest, number)
            if labelled is None:
                return None
            labelled = labelled.model_copy(update={"seconds": clock.seconds["label"]})
            self.world.from_main(partial(self.store.save_labels, number, labelled))
        if labelled.labels.proposed and not labelled.labels.kept:
            self.listener.note(
                f"round {number} kept none of its {counted(labelled.labels.proposed, 'label')}: "
                "it trains on what was there before"
            )
        self.training.begin(labelled.past)
        clock.seconds["label"] = labelled.seconds
        past = [record for record in manifest.lineage if record.round <= labelled.past]
        with clock.phase("train"):
            trained = self.training.run(number, past)
        return self._record(clock, labelled.labels, trained)

    def _record(
        self, clock: _Clock, labels: LabelRecord, trained: TrainingRecord, overlap: dict[str, float] | None = None
    ) -> RoundRecord:
        """Evaluate the members, write their weights and return what the round came to."""
        with clock.phase("evaluate"):
            scores = self._evaluate(labels.round, max(map(hardest, labels.difficulties)))

        def written() -> RoundRecord:
            weights = self.store.save_weights(labels.round, self.engine.members)
            files = self.store.files(labels.round, bool(labels.relabelled))
            return RoundRecord(
                **dict(labels),
                **dict(trained),
                **dict(scores),
                overlap=overlap or {},
                seconds=round(sum(clock.seconds.values()), 3),
                phase_seconds={name: round(value, 3) for name, value in clock.seconds.items()},
                weights_sha256=weights,
                files={str(path.relative_to(self.store.path)): file_digest(path, self.store.path) for path in files},
            )

        return self.world.from_main(written)

    def _evaluate(self, number: int, frontier: int) -> ScoreRecord:
        settings, task, oracle = self.settings, self.task, self.experiment.oracle
        difficulties = task.evaluated_difficulties(task.capped(frontier + settings.evaluation.beyond))
        if self.experiment.blindfold:
            easy = set(task.evaluated_difficulties(settings.supervised.difficulty))
            difficulties = [difficulty for difficulty in difficulties if difficulty in easy]
        examples = settings.evaluation.examples
        total = len(difficulties) * examples * len(self.engine.members)
        self.listener.phase(number, settings.rounds.count, "evaluate", total)
        scores = accuracy(self.engine, task, oracle, settings.seed, difficulties, examples, self.listener.advance)
        # Under a blindfold the oracle judges nothing but the members.
        judged = [] if self.experiment.blindfold else difficulties
        baseline = baseline_accuracy(task, oracle, settings.seed, judged, examples)
        return ScoreRecord(
            examples=examples,
            accuracy={difficulty_text(difficulty): score for difficulty, score in scores.items()},
            baseline={difficulty_text(difficulty): score for difficulty, score in baseline.items()},
        )

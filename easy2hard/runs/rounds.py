"""The order of a round: label -> filter -> ledger -> train -> evaluate -> commit. Nothing else knows it."""

import copy
import json
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from easy2hard import __version__, processes
from easy2hard.config import PhaseSettings, Settings
from easy2hard.errors import UserError
from easy2hard.evaluation.blindfold import Blindfold, refuse_supervised_signals
from easy2hard.evaluation.exact_match import accuracy, right
from easy2hard.improvement.filters import Filtered, Mask, add_counts
from easy2hard.improvement.labelling import Labelled, Labeller
from easy2hard.improvement.ledger import read_kept, write_ledger
from easy2hard.improvement.noise import inject
from easy2hard.improvement.schedules import next_difficulties, readiness_of
from easy2hard.improvement.watch import Past, decide, good_before, signals_of, stricter, trouble
from easy2hard.learning.batches import Group, LabelledSource, Mixture, SupervisedSource
from easy2hard.learning.trainer import NonFiniteLossError, Step, fit
from easy2hard.models.member import Member
from easy2hard.models.pretrained import Pretrained, load_base, trained_weights
from easy2hard.models.sharding import check_sharding, in_parts
from easy2hard.models.threads import give_back_freed_memory, keep_freed_memory
from easy2hard.models.transformer import Transformer
from easy2hard.runs.checkpoint import LabelCheckpoints, LabelRecord, PhaseCheckpoints
from easy2hard.runs.integrity import check_intact
from easy2hard.runs.live import shown
from easy2hard.runs.manifest import Manifest, RoundRecord, RunDirectory, environment, file_digest, read_sealed
from easy2hard.runs.space import check_room, needed, pausing, require, require_memory
from easy2hard.runs.store import Store, load_weights
from easy2hard.runs.tracking import check_tracking, tracked
from easy2hard.seeding import numpy_generator, torch_generator
from easy2hard.tasks.base import Difficulty, Task, difficulty_text, hardest, span
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

    def note(self, text: str) -> None:
        """Something happened that the user should know."""


def build_members(settings: Settings, task: Task, device: torch.device | None = None) -> list[Member]:
    """Return the members of a run before any training, each from its own seed.

    Raises:
        UserError: the pretrained model that they start from cannot be had.
    """
    keep_freed_memory(max(settings.model.members, torch.get_num_threads()))
    device = device or processes.current().device
    generators = [torch_generator(settings.seed, "weights", member) for member in range(settings.model.members)]
    model = settings.model
    if model.pretrained:
        # Whoever trains all weights copies them, and needs the first ones no more.
        home = device if model.lora else torch.device("cpu")
        base = load_base(model, settings.training.precision, task.name, task.vocabulary, home)
        return [Pretrained(base, model.lora, generator).to(device) for generator in generators]
    return [Transformer(model.size, len(task.vocabulary), generator).to(device) for generator in generators]


def build_mixture(
    settings: Settings,
    supervised: SupervisedSource,
    older: Sequence[LabelledSource],
    newest: LabelledSource | None,
    number: int,
    member: int,
    again: int = 0,
) -> Mixture:
    """Return the batches of a member in a round.

    Args:
        settings: of the run.
        supervised: D0.
        older: labels of earlier rounds.
        newest: the round's own, None in the supervised phase.
        number: the round.
        member: whose batches.
        again: how often its training had to begin again, with other batches.
    """
    batch = (number > 0 and settings.rounds.batch) or settings.training.batch
    stream: tuple[str | int, ...] = ("batches", number, member)
    return Mixture(
        seed=settings.seed,
        stream=(*stream, "again", again) if again else stream,
        supervised=(supervised, float(len(supervised.task.evaluated_difficulties(settings.supervised.difficulty)))),
        # A round weighs 1 for each difficulty it covers; one with fewer labels than a batch holds, less by as much.
        older=[(source, len(source.labels) * min(1.0, len(source) / batch)) for source in older if len(source)],
        newest=newest if newest is not None and len(newest) else None,
        batch=batch,
        groups=settings.training.groups,
        newest_share=settings.rounds.newest_share,
    )


def load_members(run: RunDirectory) -> list[Member]:
    """Return the members of a run after its last committed round.

    Raises:
        UserError: no round is committed yet, or they started from another pretrained model.
    """
    rounds = run.manifest.rounds
    if not rounds:
        raise UserError(f"{run.path}: no round is committed yet; `easy2hard resume {run.path}` goes on")
    settings = run.settings
    members = build_members(settings, load_task(settings.task.name, settings.task.options))
    _check_base(run, members)
    load_weights(run.intact(run.weights_path(rounds[-1].round)), members)
    return members


def _check_base(run: RunDirectory, members: Sequence[Member]) -> str:
    """Return the digest of the pretrained model that the members start from; empty where there is none.

    Raises:
        UserError: the run began with another one.
    """
    base = members[0].base.digest() if isinstance(members[0], Pretrained) else ""
    if run.manifest.base_sha256 not in ("", base):
        raise UserError(
            f"{run.path}: model.pretrained = {run.settings.model.pretrained!r} is no longer the model that this run "
            "began with (its weights or its tokenizer have changed)"
        )
    return base


def check(settings: Settings) -> None:
    """Refuse settings that cannot run, before anything is written.

    Raises:
        UserError: naming the setting and what would be right.
    """
    check_tracking(settings.tracking)
    check_sharding(settings.model)
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
        reached = max(map(hardest, history[-1]), default=0)
        if reached > task.capped(reached):
            raise UserError(
                f"rounds.count = {settings.rounds.count}: round {number} would pass difficulty {task.greatest}, "
                f"the greatest of task {task.name}"
            )
    uses_twins = "twin" in [each.name for each in settings.rounds.filters] or (
        settings.rounds.schedule == "accelerated" and settings.readiness == "twin"
    )
    easiest = task.supervised_difficulties(settings.supervised.difficulty)[0]
    if uses_twins and task.twin(task.sample(np.random.default_rng(0), easiest, 1)) is None:
        raise UserError(f"task {task.name}: has no twin prompts for rounds.filters or rounds.readiness = 'twin'")
    if settings.noise and "0" not in task.vocabulary.symbols:
        raise UserError(f"noise: only digits are spoilt, and the answers of task {task.name} have none")
    if not is_built_in(task.name):
        check_contract(task, load_oracle(task))


def start(settings: Settings, out: Path, listener: Listener, blindfold: bool = False) -> Store:
    """Start a run in the new directory ``out`` and bring it to its end.

    Args:
        settings: all there is to know.
        out: the run directory, which must not be in use.
        listener: is told what happens.
        blindfold: make the oracle raise beyond the supervised range; what it would be needed for is left out.

    Raises:
        UserError: a setting does not fit the task, or ``out`` is in use.
        CollapseError: the collapse watch stopped the run.
    """
    check(settings)
    if blindfold:
        refuse_supervised_signals(settings.supervised_signals)
    world = processes.current()

    def create() -> Store:
        if world.device.type == "cpu":
            task = load_task(settings.task.name, settings.task.options)
            require_memory(_parameters(settings, task) * settings.model.members)
        require(out, _space_needed(settings))
        return Store.create(out, settings, world.device, blindfold)

    store = world.from_main(create)
    resume(store, listener)
    return store


def resume(store: Store, listener: Listener) -> None:
    """Bring a run to its end from its last committed round; a finished run stays as it is.

    The manifest's status is ``running`` meanwhile and ``finished`` afterwards, or ``stopped: reason``.

    Raises:
        UserError: a file of the run is missing or changed, or another process is writing it.
        CollapseError: the collapse watch stopped the run.
        DiskFullError: the disk is full; what was kept is on it.
    """
    world = processes.current()
    check_sharding(store.settings.model)

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
                    _Run(store, seen).finish()
                world.from_main(lambda: say("finished"))
        except BaseException as error:
            reason = "interrupted" if isinstance(error, KeyboardInterrupt) else f"{type(error).__name__}: {error}"
            if world.main:
                with suppress(OSError):  # where not even this finds room, the manifest stays as it was
                    say(f"stopped: {reason}")
            raise


def _parameters(settings: Settings, task: Task) -> int:
    """Return how many numbers of one member training changes."""
    if settings.model.pretrained:
        return trained_weights(settings.model, task.name, task.vocabulary)
    with torch.device("meta"):
        member = Transformer(settings.model.size, len(task.vocabulary), torch_generator(0, "space"))
    return sum(weight.numel() for weight in member.parameters())


def _space_needed(settings: Settings, first: int = 0, last: int | None = None) -> int:
    """Return the bytes that rounds take, about."""
    task = load_task(settings.task.name, settings.task.options)
    hard = task.capped(settings.supervised.difficulty + settings.rounds.count * settings.rounds.step)
    prompts = task.sample(np.random.default_rng(0), task.evaluated_difficulties(hard)[-1], 1)
    tokens = prompts.shape[1] + int(task.answer_bounds(prompts)[0])
    return needed(settings, _parameters(settings, task), tokens, first, last)


def _differences(manifest: Manifest) -> list[str]:
    """Return what the last bits of a result depend on and is not what it was when the run was begun."""
    now = {"easy2hard": __version__, "torch": torch.__version__, "threads": torch.get_num_threads(), **environment()}
    then = {**manifest.model_dump(include={"easy2hard", "torch", "threads"}), **manifest.environment}
    decisive = ("easy2hard", "torch", "threads", "processor")
    return [f"{name} {then[name]}, now {now[name]}" for name in decisive if name in then and then[name] != now[name]]


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


def _remembered(record: RoundRecord) -> Past:
    held = record.watch is not None and record.watch["action"] == "hold"
    return Past(record.round, record.difficulties, record.signals.get("confidence", 0.0), held)


class _Run:
    """Every process runs this alike; what is written goes through ``world.from_main``."""

    def __init__(self, store: Store, listener: Listener) -> None:
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
        self.reserved = Reserved(self.task, self.settings.seed, reserved_examples(self.settings))
        self.supervised = SupervisedSource(
            self.reserved, self.oracle, self.settings.supervised.difficulty, self.settings.supervised.curriculum
        )
        self.members = build_members(self.settings, self.task)
        if base := _check_base(store, self.members):
            self.world.from_main(lambda: store.save(store.manifest.model_copy(update={"base_sha256": base})))
        self.labelled: dict[int, LabelledSource] = {}
        self.warned = False
        self.answers: LabelCheckpoints  # of the label phase that goes on

    def finish(self) -> None:
        manifest = self.store.manifest
        self.world.from_main(lambda: self.store.clear_checkpoints(but=len(manifest.rounds)))
        if different := _differences(manifest):
            self.listener.note(f"begun with {'; '.join(different)}: the last bits may differ (docs/reproducibility.md)")
        if manifest.rounds:
            load_weights(self.store.weights_path(manifest.rounds[-1].round), self.members)
        for number in range(len(manifest.rounds), self.settings.rounds.count + 1):
            self.world.from_main(partial(self._check_room, number))
            record = self._supervised_phase() if number == 0 else self._round(manifest, number)
            if record is None:
                self.listener.note(f"there is nothing harder than difficulty {manifest.frontier}")
                break
            manifest = self.world.from_main(partial(self._commit, manifest, record))

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
        clock = _Clock()
        with clock.phase("train"):
            trained = self._train(0, self.settings.supervised, [], None)
        overlap = {
            difficulty_text(difficulty): round(share, 3) for difficulty, share in self.supervised.overlap.items()
        }
        easy = self.task.evaluated_difficulties(self.settings.supervised.difficulty)
        return self._record(clock, 0, easy, {"proposed": 0, "kept": 0, "filters": [], "overlap": overlap, **trained})

    def _round(self, manifest: Manifest, number: int) -> RoundRecord | None:
        clock = _Clock()
        labels = self.world.from_main(lambda: self._kept_labels(number))
        if labels is None:
            with clock.phase("label"):
                labels = self._new_labels(manifest, number)
            if labels is None:
                return None
            labels = labels.model_copy(update={"seconds": clock.seconds["label"]})
            self.world.from_main(partial(self.store.save_labels, number, labels))
        elif labels.past != manifest.rounds[-1].round:
            load_weights(self.store.weights_path(labels.past), self.members)
        clock.seconds["label"] = labels.seconds
        past = [record for record in manifest.lineage if record.round <= labels.past]
        with clock.phase("train"):
            trained = self._train(number, self.settings.rounds, past, number)
        counted = labels.model_dump(include={"proposed", "kept", "filters"})
        return self._record(clock, number, labels.difficulties, {**counted, **labels.notes, **trained})

    def _kept_labels(self, number: int) -> LabelRecord | None:
        """Return what the label phase came to, if it is over and its ledger is whole."""
        path, ledger = self.store.labels_path(number), self.store.ledger_path(number)
        if not path.exists() or not ledger.exists():
            return None
        labels = LabelRecord.model_validate_json(read_sealed(path))
        return labels if file_digest(ledger) == labels.ledger_sha256 else None

    def _new_labels(self, manifest: Manifest, number: int) -> LabelRecord | None:
        """Label a round, write its ledger, and say what it came to."""
        self.answers = LabelCheckpoints(
            partial(self.store.answers_path, number),
            manifest.rounds[-1].weights_sha256,
            len(self.members),
            60 * self.settings.storage.checkpoint_minutes,
        )
        try:
            labels = self._label(manifest, number)
        except KeyboardInterrupt:
            self.answers.flush()
            raise
        return None if labels is None else self.world.from_main(lambda: self._write_labels(number, labels))

    def _write_labels(self, number: int, labels: _Labels) -> LabelRecord:
        filtered, spoilt = self._spoil(number, labels.filtered)
        with self.store.replacing(self.store.ledger_path(number)) as path:
            weights = labels.past[-1].weights_sha256
            write_ledger(path, filtered, self.task.vocabulary, number, weights, spoilt)
        return LabelRecord(
            difficulties=labels.difficulties,
            past=labels.past[-1].round,
            proposed=sum(len(each.kept) for each in filtered),
            kept=sum(int(each.kept.sum()) for each in filtered),
            filters=add_counts(filtered),
            notes={**labels.notes, "spoilt": sum(int(each.sum()) for each in spoilt or [])},
            seconds=0.0,
            ledger_sha256=file_digest(self.store.ledger_path(number)),
        )

    def _label(self, manifest: Manifest, number: int) -> _Labels | None:
        """Label the next difficulties, or what the collapse watch says instead."""
        watch, past = self.settings.watch, manifest.lineage
        rollbacks = sum(record.from_round is not None for record in manifest.rounds)
        asked: dict[Difficulty, dict[str, float]] = {}
        difficulties = self._next(number, past, asked)
        if not difficulties:
            return None
        labelled = self._label_all(number, difficulties, rollbacks)
        signals = signals_of([each.filtered for each in labelled])
        notes: dict[str, Any] = {}
        while problem := trouble(watch, signals, memory := [_remembered(record) for record in past]):
            # What was held was tried already: a held difficulty in trouble means that the weights are.
            action = decide(watch, memory, rollbacks, may_hold=not notes)
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
                self.listener.note(f"{where}; difficulty {span(difficulties)} is labelled afresh")
            else:
                past = past[: len(good_before(memory))]
                rollbacks += 1
                notes["from_round"] = past[-1].round
                load_weights(self.store.weights_path(past[-1].round), self.members)
                self.answers.weights = past[-1].weights_sha256
                difficulties = self._next(number, past, asked)
                self.listener.note(f"{where}; back to the weights of round {past[-1].round}, with a stricter filter")
            labelled = self._label_all(number, difficulties, rollbacks)
            signals = signals_of([each.filtered for each in labelled])
            if action == "roll back":
                break  # its labels are trained on, whatever they look like; the next round is judged again
        ended = {
            difficulty_text(difficulty): each.ended
            for difficulty, each in zip(difficulties, labelled, strict=True)
            if each.ended
        }
        for text, reason in ended.items():
            self.listener.note(f"round {number}, difficulty {text}: {reason}")
        filtered = [each.filtered for each in labelled]
        seconds = np.sum([each.proposals.seconds for each in filtered], axis=0)
        notes |= {
            "signals": signals.rounded(),
            "top_up": ended,
            "readiness": {difficulty_text(difficulty): values for difficulty, values in asked.items()},
            "member_seconds": [round(float(value), 3) for value in seconds],
        }
        return _Labels(difficulties, filtered, past, notes)

    def _next(
        self, number: int, past: Sequence[RoundRecord], asked: dict[Difficulty, dict[str, float]]
    ) -> list[Difficulty]:
        """Return the difficulties after those of ``past``; what the schedule asked on the way goes into ``asked``."""

        def ready(difficulty: Difficulty) -> bool:
            if difficulty not in asked:
                asked[difficulty] = self._readiness(number, difficulty)
            return asked[difficulty][self.settings.readiness] >= self.settings.rounds.ready

        history = [record.difficulties for record in past]
        return next_difficulties(self.settings.rounds, self.task, history, ready)

    def _readiness(self, number: int, difficulty: Difficulty) -> dict[str, float]:
        settings = self.settings
        generator = numpy_generator(settings.seed, "readiness", number, difficulty_text(difficulty))
        reserved = self.reserved.prompts(difficulty)
        prompts = fresh_prompts(self.task, generator, difficulty, settings.rounds.probe, reserved)
        proposals = self._labeller().propose(difficulty, prompts, twins=settings.readiness == "twin")
        values = readiness_of(proposals)
        if not self.blindfold:  # for comparison; nothing but the diagnostic readiness = "oracle" reads it
            values["oracle"] = float(right(self.oracle, proposals).mean()) if len(prompts) else 0.0
        return {name: round(value, 4) for name, value in values.items()}

    def _labeller(self) -> Labeller:
        verify = (lambda proposals: right(self.oracle, proposals)) if self.settings.supervised_signals else None
        return Labeller(
            self.members,
            self.task,
            self.settings.seed,
            self.reserved,
            self.settings.rounds,
            verify,
            self.listener.advance,
            self.answers,
        )

    def _label_all(self, number: int, difficulties: Sequence[Difficulty], rollbacks: int) -> list[Labelled]:
        settings = self.settings
        self.listener.phase(number, settings.rounds.count, "label", len(difficulties) * settings.rounds.labels)
        filters = stricter(settings.watch, settings.rounds.filters, rollbacks)
        labeller = self._labeller()
        return [labeller.label(number, difficulty, filters) for difficulty in difficulties]

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

    def _labels_of(self, number: int) -> LabelledSource:
        """Return the kept labels of a round, read from its ledger: a resumed run trains on exactly the same data."""
        if number not in self.labelled:
            vocabulary = self.task.vocabulary
            groups = [
                Group.join(vocabulary.encode_prompts(prompts), vocabulary.encode_answers(answers))
                for prompts, answers in read_kept(self.store.ledger_path(number)).values()
            ]
            self.labelled[number] = LabelledSource(groups, self.store.path)
        return self.labelled[number]

    def _train(
        self, number: int, phase: PhaseSettings, past: Sequence[RoundRecord], newest: int | None
    ) -> dict[str, Any]:
        settings = self.settings
        sources = [self._labels_of(record.round) for record in past[1:]]
        new = self._labels_of(newest) if newest is not None else None
        restarts = self._restarts(number)

        def mixture(member: int) -> Mixture:
            again = sum(restart["member"] == member for restart in restarts)
            return build_mixture(settings, self.supervised, sources, new, number, member, again)

        kept = PhaseCheckpoints(
            lambda member: self.store.member_path(number, member),
            60 * settings.storage.checkpoint_minutes,
            writes=self.world.main,
        )
        scale = 1.0 if number == 0 else settings.rounds.learning_rate_scale
        with in_parts(self.members) as members:
            begin = [copy.deepcopy(member.state_dict()) for member in members]
            while True:
                rows: list[tuple[int, float, float, int]] = []

                def on_step(step: Step, rows: list[tuple[int, float, float, int]] = rows) -> None:
                    rows.append((step.step, round(step.loss, 6), round(step.learning_rate, 6), step.tokens))
                    self.listener.step(step)

                self.listener.phase(number, settings.rounds.count, "train", phase.steps)
                mixtures = [mixture(member) for member in range(len(members))]
                try:
                    fit(members, mixtures, phase, settings.optimiser, settings.training, scale, on_step, kept)
                    break
                except NonFiniteLossError as error:
                    if len(restarts) >= settings.training.restarts:
                        raise
                    restarts.append({"member": error.member, "step": error.step, "what": str(error)})
                    self.world.from_main(lambda: self.store.save_restarts(number, restarts))
                    self.listener.note(f"round {number}, {error}: back to the last checkpoint, with other batches")
                    for member, state in zip(members, begin, strict=True):
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

    def _evaluate(self, number: int, frontier: int) -> dict[str, float]:
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
            self.members,
            self.task,
            self.oracle,
            settings.seed,
            difficulties,
            settings.evaluation.examples,
            self.listener.advance,
        )
        return {difficulty_text(difficulty): score for difficulty, score in scores.items()}

    def _record(self, clock: _Clock, number: int, difficulties: list[Difficulty], known: dict[str, Any]) -> RoundRecord:
        with clock.phase("evaluate"):
            scores = self._evaluate(number, max(map(hardest, difficulties)))
        return self.world.from_main(lambda: self._written(clock, number, difficulties, scores, known))

    def _written(
        self,
        clock: _Clock,
        number: int,
        difficulties: list[Difficulty],
        scores: dict[str, float],
        known: dict[str, Any],
    ) -> RoundRecord:
        weights = self.store.save_weights(number, self.members)
        return RoundRecord(
            round=number,
            difficulties=difficulties,
            seconds=round(sum(clock.seconds.values()), 3),
            phase_seconds={name: round(value, 3) for name, value in clock.seconds.items()},
            accuracy=scores,
            weights_sha256=weights,
            files={str(path.relative_to(self.store.path)): file_digest(path) for path in self.store.files(number)},
            **known,
        )

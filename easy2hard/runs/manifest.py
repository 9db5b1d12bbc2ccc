"""What a run directory is called inside and what its manifest holds. Reports read runs through this, without torch.

settings.toml                    the recipe with everything filled in
manifest.json                    status and one record for each committed round
weights/round-000.safetensors    all members after a round
ledger/round-001.parquet         every label of a round
ledger/round-002-relabelled.parquet  older rounds' prompts, answered afresh (labels.relabel)
training/round-000.csv           step, loss, learning rate, tokens
checkpoint/                      what is kept within a round; empty between rounds (runs/checkpoint.py)
tracking/                        what trackers keep, where there are some (runs/tracking.py); never read
lock                             held by the process that writes
progress.json                    where a running run is within its round (runs/progress_file.py)
evaluations/1000-seed-0.json     what was measured afterwards, on 1,000 prompts each (runs/evaluations.py)
"""

import fcntl
import hashlib
import json
import os
import platform
from collections import Counter
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from easy2hard import __version__
from easy2hard.errors import UserError
from easy2hard.evaluation.reach import REACHED, reach_of
from easy2hard.files import open_inside, read_inside
from easy2hard.plugins import Origin
from easy2hard.runs.records import (
    Count,
    DifficultyText,
    LabelRecord,
    ScoreRecord,
    Seconds,
    Share,
    TrainingRecord,
    filter_record,
)
from easy2hard.settings.recipes import settings_of_run
from easy2hard.settings.schema import Settings
from easy2hard.tasks.base import difficulty_text, hardest, span
from easy2hard.text import printable

LAYOUT = 3
"""Of the run directory."""
MANIFEST_BYTES = 1 << 24
"""No manifest has more: that of 1,000 rounds has five million."""
LAYOUT_0_1 = 2
"""That of version 0.1: read, and not written."""


class RoundRecord(ScoreRecord, TrainingRecord, LabelRecord):
    """One committed round; round 0 is the supervised phase."""

    overlap: dict[DifficultyText, Share] = Field({})
    """Supervised difficulties with too few prompts to keep evaluation's apart, and the share that is evaluation's."""
    seconds: Seconds
    phase_seconds: dict[str, Seconds]
    weights_sha256: str
    files: dict[str, str] = Field({})
    """SHA-256 of each file of the round, by its path within the run."""
    pruned: bool = False
    """The weights are gone (setting storage.keep_weights)."""

    @property
    def reach(self) -> int:
        """How far the scores say that it came (``evaluation.reach``)."""
        return reach_of(self.accuracy, self.examples)

    @property
    def measured_by(self) -> str:
        """What the scores are of, in words."""
        prompts = f"{self.examples:,} prompts each" if self.examples else "the run's own evaluation"
        return f"{prompts}, members' mean, round {self.round}"

    @property
    def reach_text(self) -> str:
        """The reach, and what it is of, in words."""
        return f"reach at {REACHED:g}: {self.reach or 'none'} ({self.measured_by})"

    @property
    def no_better(self) -> str | None:
        """That the members are no better than the task's baseline at the round's difficulties; None where they are."""
        shared = [text for text in map(difficulty_text, self.difficulties) if text in self.baseline]
        if not shared:
            return None
        ours, its = (sum(scores[text] for text in shared) / len(shared) for scores in (self.accuracy, self.baseline))
        if ours > its:
            return None
        return (
            f"round {self.round}: the members are no better than the task's baseline at difficulty "
            f"{span(self.difficulties)}: exact match {ours:.3f}, the baseline's {its:.3f}"
        )


class Manifest(BaseModel):
    """What ``manifest.json`` holds."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    format: int = LAYOUT
    settings_sha256: str = ""
    """SHA-256 of ``settings.toml``."""
    easy2hard: str = __version__
    torch: str
    threads: Count
    device: str
    environment: dict[str, str] = {}
    """Versions and the machine the run was begun with (:func:`environment`)."""
    task: str
    seed: int
    base_sha256: str = ""
    """Digest of the pretrained model that the members start from, once it was loaded; its weights are not kept."""
    blindfold: bool = False
    """No true answer beyond the supervised range could be asked for; nothing is evaluated there."""
    supervised_signals: list[str] = []
    """Settings that use true answers beyond the supervised phase: with any of them this is not self-improvement."""
    relations: list[str] = []
    """Settings that judge labels by a relation that the task declares: no supervision, but more than the paper has."""
    filters: list[str] = []
    """What each of the filters does, in a line."""
    plugins: list[Origin] = []
    """Where the code of third parties that the run uses came from; of one name the newest is the last."""
    status: str = "running"
    rounds: list[RoundRecord] = []

    @property
    def marks(self) -> list[str]:
        """What everybody who sees a result of this run must be told."""
        return [
            f"NOT self-improvement: {signal} uses true answers beyond the supervised range"
            for signal in self.supervised_signals
        ]

    @property
    def remarks(self) -> list[str]:
        """What tells a result of this run from one of the paper's filters alone."""
        return [f"uses a relation the task declares: {each}" for each in self.relations]

    @property
    def learned_nothing(self) -> str | None:
        """That rounds had labels and kept none; None where one was kept, or no round is over yet."""
        rounds = self.rounds[1:]
        if not rounds or any(record.kept for record in rounds):
            return None
        proposed = sum(record.proposed for record in rounds)
        return f"it learned nothing after the supervised phase: none of its {proposed:,} labels was kept"

    @property
    def lineage(self) -> list[RoundRecord]:
        """The rounds that the newest weights come from: those that a roll-back left behind are left out."""
        counted: list[RoundRecord] = []
        for record in self.rounds:
            if record.from_round is not None:
                counted = [each for each in counted if each.round <= record.from_round]
            counted.append(record)
        return counted

    @property
    def frontier(self) -> int:
        """The hardest difficulty trained on so far; 0 before the first round is committed."""
        return max((hardest(d) for record in self.lineage for d in record.difficulties), default=0)


def round_record(content: Any, layout: object) -> RoundRecord:
    """Return a round's record from what is written of it.

    Version 0.1 wrote a filter's settings among its counts, and an empty table where there are no signals.

    Raises:
        ValueError: it is no such record.
    """
    if layout == LAYOUT_0_1:
        try:
            filters = [filter_record(counts) for counts in content["filters"]]
            content = {**content, "filters": filters, "signals": content.get("signals") or None}
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"the record of a round is none: {error!r}") from error
    return RoundRecord.model_validate(content)


def manifest_text(manifest: Manifest) -> str:
    """Return what ``manifest.json`` holds: the manifest and the digest of it."""
    content = manifest.model_dump(mode="json")
    return json.dumps({**content, "sha256": manifest_digest(content)}, indent=1) + "\n"


def manifest_digest(content: dict[str, Any]) -> str:
    """Return the SHA-256 of a manifest without its own digest."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def environment(task: str) -> dict[str, str]:
    """Return what the last bits of a result may depend on besides torch: versions and the processor.

    Args:
        task: name of the run's task.
    """
    cpu = Path("/proc/cpuinfo")  # Linux; elsewhere the platform names it
    lines = cpu.read_text(encoding="utf-8", errors="replace").splitlines() if cpu.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    gym = {task: version(task)} if task == "reasoning-gym" else {}  # draws prompts and answers
    return {
        "python": platform.python_version(),
        "numpy": version("numpy"),
        **gym,
        "system": platform.platform(),
        "processor": models[0] if models else platform.processor() or platform.machine(),
    }


def file_digest(path: Path, root: Path) -> str:
    """Return the SHA-256 of a file of a folder (``files.open_inside``)."""
    with open_inside(path, root) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def runs_below(path: Path) -> str:
    """Return where the runs are, to be said of a sweep's directory that was given in their place; else nothing."""
    return f"; the runs of a sweep are {path}/runs/*" if (path / "runs").is_dir() else ""


def read_sealed(path: Path) -> bytes:
    """Return what was written to a file in ``checkpoint/``.

    Raises:
        UserError: it is not what was written.
    """
    with open_inside(path, path.parents[1]) as file:
        stored = file.read()
    content, seal = stored[:-32], stored[-32:]
    if hashlib.sha256(content).digest() != seal:
        raise UserError(f"{path}: changed or cut off since it was written; without it, its part of the round is redone")
    return content


class RunDirectory:
    """A run directory, for reading.

    Args:
        path: the directory.
        complete: False opens what is left of one, too.

    Raises:
        UserError: ``path`` is not a run directory.
    """

    def __init__(self, path: Path, complete: bool = True) -> None:
        self.path = path
        if complete and not all(os.path.lexists(path / name) for name in ("manifest.json", "settings.toml")):
            raise UserError(
                f"{path}: not a run directory (it has no manifest.json and settings.toml){runs_below(path)}"
            )

    @property
    def held(self) -> bool:
        """Whether a process is writing the run."""
        try:
            with open_inside(self.path / "lock", self.path) as file:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except FileNotFoundError:
            return False
        except BlockingIOError:
            return True
        return False

    @property
    def settings(self) -> Settings:
        """The settings the run was started with, under the names they have in this version."""
        return settings_of_run(self.path / "settings.toml")

    @property
    def manifest(self) -> Manifest:
        """The manifest as it stands.

        Raises:
            UserError: it cannot be read.
        """
        path = self.path / "manifest.json"
        try:
            content = json.loads(read_inside(path, self.path, MANIFEST_BYTES))
            if not isinstance(content, dict):
                raise ValueError("not an object")
        except UserError:
            raise
        except (ValueError, RecursionError) as error:
            raise UserError(f"{path}: damaged: {error}") from error
        layout = content.get("format")
        if layout not in (LAYOUT_0_1, LAYOUT):
            raise UserError(
                f"{path}: layout {layout!r} of easy2hard {content.get('easy2hard')!r}, this version ({__version__}) "
                f"reads layouts {LAYOUT_0_1} and {LAYOUT}: use that version, or run {self.path}/settings.toml again"
            )
        if content.pop("sha256", None) != manifest_digest(content):
            raise UserError(f"{path}: damaged: it was changed after it was written")
        try:
            rounds = [round_record(each, layout) for each in content["rounds"]]
            for record in rounds:
                if not record.difficulties:  # one that a report puts together may have none
                    raise ValueError(f"round {record.round} has no difficulties")
            return Manifest.model_validate({**content, "rounds": rounds})
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part)[:80] for part in first["loc"])
            raise UserError(f"{path}: damaged: {where}: {first['msg']}") from error
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f"{path}: damaged: {error}") from error

    def files(self, number: int, relabelled: bool, pruned: bool = False) -> list[Path]:
        """Return the files that round ``number`` has once it is committed, or has left once it is pruned."""
        weights = [] if pruned else [self.weights_path(number)]
        ledgers = [self.ledger_path(number)] if number else []
        ledgers += [self.relabelled_path(number)] if relabelled else []
        return [*weights, *ledgers, self.training_path(number)]

    def intact(self, path: Path) -> Path:
        """Return a file of a committed round, if it is as it was written.

        Raises:
            UserError: it is missing or changed.
        """
        name = str(path.relative_to(self.path))
        digests = {name: digest for record in self.manifest.rounds for name, digest in record.files.items()}
        if not os.path.lexists(path):
            raise UserError(f"{path}: missing; `easy2hard verify {self.path}` names all that is")
        if name in digests and file_digest(path, self.path) != digests[name]:
            raise UserError(f"{path}: damaged: it was changed after it was written; see `easy2hard verify {self.path}`")
        return path

    def weights_path(self, number: int) -> Path:
        """Return the file of the weights after round ``number``."""
        return self.path / "weights" / f"round-{number:03d}.safetensors"

    def ledger_path(self, number: int) -> Path:
        """Return the file of the labels of round ``number``."""
        return self.path / "ledger" / f"round-{number:03d}.parquet"

    def relabelled_path(self, number: int) -> Path:
        """Return the file of the labels that round ``number`` gave the prompts of older rounds."""
        return self.path / "ledger" / f"round-{number:03d}-relabelled.parquet"

    def training_path(self, number: int) -> Path:
        """Return the file of the training steps of round ``number``."""
        return self.path / "training" / f"round-{number:03d}.csv"

    @property
    def checkpoint_folder(self) -> Path:
        """The folder of what is kept within a round."""
        return self.path / "checkpoint"

    def labels_path(self, number: int) -> Path:
        """Return the file of what the label phase of round ``number`` came to."""
        return self.checkpoint_folder / f"round-{number:03d}.json"

    def restarts_path(self, number: int) -> Path:
        """Return the file of the restarts in the training of round ``number``."""
        return self.checkpoint_folder / f"round-{number:03d}-restarts.json"

    def answers_path(self, number: int, key: str) -> Path:
        """Return the file of some answers in the label phase of round ``number``."""
        return self.checkpoint_folder / f"round-{number:03d}-answers-{key}.safetensors"

    def member_path(self, number: int, member: int) -> Path:
        """Return the file of a member in the training of round ``number``."""
        return self.checkpoint_folder / f"round-{number:03d}-member-{member}.safetensors"


def refuse_twice(paths: Iterable[Path]) -> None:
    """Refuse a run that is given twice, under whatever name: it would count as two.

    Raises:
        UserError: naming it.
    """
    for path, count in Counter(path.resolve() for path in paths).items():
        if count > 1:
            raise UserError(f"{path}: is given {count} times")


def state_of(run: RunDirectory, manifest: Manifest) -> str:
    """Return what a run is doing: its status, or ``killed`` where that says ``running`` and no process is."""
    return "killed" if manifest.status == "running" and not run.held else printable(manifest.status)

"""What a report reads of a run: its manifest, training logs and ledgers, and a line for each damage it finds.

Nothing here fails for a damaged file: the rest is read and the damage is a line of ``problems``.
"""

import csv
import json
import os
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import ValidationError

from easy2hard.errors import UserError
from easy2hard.evaluation.audit import audit_labels, judge
from easy2hard.files import read_inside, read_table
from easy2hard.report.examples import Example, pick
from easy2hard.runs.evaluations import measured
from easy2hard.runs.integrity import problems as damage_of
from easy2hard.runs.manifest import (
    MANIFEST_BYTES,
    Manifest,
    RoundRecord,
    RunDirectory,
    round_record,
    runs_below,
    state_of,
)
from easy2hard.settings.recipes import SETTINGS_BYTES
from easy2hard.settings.schema import Settings
from easy2hard.tasks.base import Task, difficulty_text, hardest, parse_difficulty
from easy2hard.tasks.oracle import Oracle
from easy2hard.tasks.registry import load_oracle, load_task

LOG_BYTES = 1 << 25
"""No log of a round's training has more: a million steps have thirty million."""
LABELS = 120_000
"""Labels of a run that are judged, the same number in each round and evenly spread over its ledger."""


@dataclass
class RoundData:
    """One committed round."""

    record: RoundRecord
    training: NDArray[np.float64]
    """(steps, 4): step, loss, share of the peak learning rate, tokens; no rows where the log is missing."""
    audit: dict[str, Any] | None = None
    """Label quality (evaluation/audit.py); None without labels or without an oracle."""
    label_tokens: int | None = None
    """Tokens of the round's prompts and labels, times the number of members; None where they cannot be counted."""
    picked: list[Example] = field(default_factory=list)


@dataclass
class RunData:
    """A run as far as it can be read."""

    path: Path
    settings: Settings | None
    settings_text: str
    manifest: Manifest
    rounds: list[RoundData]
    problems: list[str]
    task: Task | None
    judged: str | None
    """Why there is no label quality; None where there is."""
    sampled: bool
    """Whether only a sample of the labels was judged."""
    state: str
    """The manifest's status; ``killed`` where it says ``running`` and no process is."""

    @property
    def name(self) -> str:
        """The name of the run's directory."""
        return self.path.resolve().name

    @property
    def unit(self) -> str:
        """The unit of a difficulty, such as ``digits``."""
        return self.task.unit if self.task else "level"

    @property
    def supervised(self) -> int:
        """The hardest supervised difficulty; 0 where it is not known."""
        if self.settings:
            return self.settings.supervised.difficulty
        first = [each.record for each in self.rounds if each.record.round == 0]
        return max((hardest(d) for record in first for d in record.difficulties), default=0)

    @property
    def newest(self) -> RoundRecord | None:
        """The last committed round."""
        return self.rounds[-1].record if self.rounds else None

    @property
    def reach(self) -> int:
        """How far the run came, by the evaluation that is chosen (``runs.evaluations``)."""
        return self.newest.reach if self.newest else 0

    @property
    def pairs(self) -> bool:
        """Whether difficulties are pairs."""
        return any("x" in text for each in self.rounds for text in each.record.accuracy)

    def extent(self, hardest: int) -> str:
        """Return a greatest difficulty in words: ``10 digits``, or ``6x6`` where difficulties are pairs."""
        if not self.pairs and self.task is None:
            return f"difficulty {hardest}"
        if not self.pairs:
            return f"{hardest} {self.unit if hardest != 1 else self.unit.removesuffix('s')}"
        of_range = self.task.evaluated_difficulties(hardest) if self.task else []
        return difficulty_text(of_range[-1] if of_range else (hardest, hardest))

    @property
    def seconds(self) -> float:
        """Seconds of all rounds."""
        return sum(each.record.seconds for each in self.rounds)


def read_run(path: Path, labels: bool = True) -> RunData:
    """Return all that a report needs of a run, running, finished or damaged.

    Args:
        path: the run directory.
        labels: False leaves the ledgers unread.

    Raises:
        UserError: ``path`` is no run directory.
    """
    parts = ("manifest.json", "settings.toml", "training", "ledger")
    if not any(os.path.lexists(path / part) for part in parts):
        raise UserError(f"{path}: not a run directory (it has none of {', '.join(parts)}){runs_below(path)}")
    problems: list[str] = []
    settings, text = _settings(path, problems)
    manifest = _measured(path, _manifest(path, settings, problems), problems)
    task, oracle, judged = _oracle(manifest, settings)
    rounds, sampled = [], False
    most = LABELS // max(len(manifest.rounds) - 1, 1)
    for record in manifest.rounds:
        data = RoundData(record, _training(path, record.round, problems))
        if record.round and labels:
            table = _ledger(path, record.round, problems)
            if table is not None:
                every = -(-len(table) // most) or 1
                sampled |= every > 1
                judged = _judge(data, table.take(np.arange(0, len(table), every)), every, task, oracle) or judged
        rounds.append(data)
    state = state_of(RunDirectory(path, complete=False), manifest)
    return RunData(path, settings, text, manifest, rounds, problems, task, judged, sampled, state)


def _settings(path: Path, problems: list[str]) -> tuple[Settings | None, str]:
    file = path / "settings.toml"
    try:
        text = read_inside(file, path, SETTINGS_BYTES).decode(errors="replace")
    except OSError as error:
        problems.append(f"settings.toml: {error.strerror}")
        return None, ""
    except UserError as error:
        problems.append(str(error).removeprefix(f"{path}/"))
        return None, ""
    try:
        return RunDirectory(path, complete=False).settings, text
    except UserError as error:
        problems.append(f"settings.toml: {error}")
        return None, text


def _manifest(path: Path, settings: Settings | None, problems: list[str]) -> Manifest:
    try:
        run = RunDirectory(path)
        manifest = run.manifest
    except UserError as error:
        problems.append(str(error).removeprefix(f"{path}: ").removeprefix(f"{path}/"))
        return _salvaged(path, settings, problems)
    found = damage_of(run, manifest, weights=False)
    problems += [line for lines in found.values() for line in lines]
    return manifest


def _measured(path: Path, manifest: Manifest, problems: list[str]) -> Manifest:
    """Return the manifest with the scores that figures are taken from; its own where what is kept is damaged."""
    try:
        return measured(RunDirectory(path, complete=False), manifest)
    except (UserError, OSError) as error:
        line = str(error).removeprefix(f"{path}/")
        problems += [line] if line not in problems else []
        return manifest


def _salvaged(path: Path, settings: Settings | None, problems: list[str]) -> Manifest:
    """Return what can be read of a damaged manifest; where it has no rounds, take them from their files."""
    try:
        content = json.loads(read_inside(path / "manifest.json", path, MANIFEST_BYTES))
        if not isinstance(content, dict):
            raise ValueError("not an object")
    except (OSError, ValueError, RecursionError, UserError):  # what it is was said already
        content = {}
    kept = {}
    for key in ("task", "seed", "torch", "threads", "device", "status", "supervised_signals", "blindfold"):
        try:
            Manifest.model_validate({**_NOTHING, key: content[key]})
            kept[key] = content[key]
        except (KeyError, ValidationError):
            pass  # whatever is left of it says nothing
    named = {"task": settings.task.name, "seed": settings.seed} if settings else {}
    rounds = []
    listed = content.get("rounds")
    for value in listed if isinstance(listed, list) else []:
        try:
            rounds.append(round_record(value, content.get("format")))
        except ValueError:
            problems.append("manifest.json: the record of a round cannot be read; it is left out")
    if not rounds:
        rounds = _rounds_from_files(path, problems)
    return Manifest.model_validate({**_NOTHING, **named, **kept, "rounds": rounds})


_NOTHING = {"task": "unknown", "seed": 0, "torch": "unknown", "threads": 0, "device": "unknown", "status": "damaged"}


def _rounds_from_files(path: Path, problems: list[str]) -> list[RoundRecord]:
    numbers = sorted(
        int(file.stem.removeprefix("round-"))
        for file in (path / "training").glob("round-*.csv")
        if file.stem.removeprefix("round-").isdecimal()
    )
    if numbers:
        problems.append("manifest.json: nothing in it can be used; the rounds are put together from their files")
    records = []
    for number in numbers:
        training = _training(path, number, [])
        table = _ledger(path, number, []) if number else None
        why: Counter[str] = Counter(table["why"].to_pylist()) if table is not None else Counter()
        of = list(dict.fromkeys(table["difficulty"].to_pylist())) if table is not None else []
        records.append(
            RoundRecord(
                round=number,
                difficulties=[parse_difficulty(str(each)) for each in of],
                proposed=why.total(),
                kept=why["kept"],
                filters=[],
                steps=len(training),
                tokens=int(training[:, 3].sum()),
                seconds=0.0,
                phase_seconds={},
                loss=float(training[-20:, 1].mean()) if len(training) else 0.0,
                accuracy={},
                weights_sha256="",
            )
        )
    return records


def _oracle(manifest: Manifest, settings: Settings | None) -> tuple[Task | None, Oracle | None, str | None]:
    """Return the task and its oracle, or the reason why it has none."""
    options = settings.task.options if settings else {}
    try:
        task = load_task(manifest.task, options, reading=True)
        return task, load_oracle(task), None
    except UserError as error:
        return None, None, f"no oracle: {error}"


def _training(path: Path, number: int, problems: list[str]) -> NDArray[np.float64]:
    file = RunDirectory(path, complete=False).training_path(number)
    try:
        text = read_inside(file, path, LOG_BYTES).decode(errors="replace")
        _header, *rows = csv.reader(text.splitlines())
    except (OSError, ValueError, csv.Error, UserError):
        return np.empty((0, 4))  # that it is missing or empty is among the problems already
    values, bad = [], 0
    for row in rows:
        try:
            first, second, third, fourth = map(float, row)
            values.append((first, second, third, fourth))
        except ValueError:
            bad += 1
    if bad:
        problems.append(f"{file.relative_to(path)}: {bad} of {len(rows)} lines are no numbers; they are left out")
    return np.array(values, dtype=np.float64).reshape(-1, 4)


def _ledger(path: Path, number: int, problems: list[str]) -> pa.Table | None:
    file = RunDirectory(path, complete=False).ledger_path(number)
    try:
        table = read_table(file, path, _COLUMNS)
    except OSError as error:
        if os.path.lexists(file):
            problems.append(f"{file.relative_to(path)}: cannot be read: {error.strerror}")
        return None
    except UserError as error:
        problems.append(str(error).removeprefix(f"{path}/"))
        return None
    if set(table.column_names) != set(_COLUMNS):
        missing = ", ".join(sorted(set(_COLUMNS) - set(table.column_names)))
        problems.append(f"{file.relative_to(path)}: has no column {missing}")
        return None
    return table


_COLUMNS = ["difficulty", "prompt", "answer", "finished", "kept", "why", "votes", "members", "confidence"]


def _judge(data: RoundData, table: pa.Table, every: int, task: Task | None, oracle: Oracle | None) -> str | None:
    """Fill in the label quality of a round; return why it cannot be judged, or None.

    Args:
        data: the round.
        table: every ``every``-th label of it.
        every: the stride.
        task: counts tokens.
        oracle: judges.
    """
    if task:
        texts = [*table["prompt"].to_pylist(), *table["answer"].to_pylist()]
        members = table["members"].to_pylist()[0] if len(table) else 0
        data.label_tokens = int(task.vocabulary.lengths(texts).sum()) * every * members
    right = reason = None
    if task and oracle:
        try:
            right = judge(table, oracle)
            filters = [each.name for each in data.record.filters]
            data.audit = audit_labels(table, oracle, right, filters)
        except Exception as error:  # a third party's oracle, or prompts that are none: say so, show the rest
            reason = f"the oracle of task {task.name} fails on the labels of round {data.record.round}: {error}"
            right = None
    data.picked = pick(data.record.round, table, right, task, oracle if right is not None else None)
    return reason

"""Where a running run is within its round, for those who watch it: ``progress.json``, which nothing else reads."""

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from easy2hard.errors import UserError
from easy2hard.files import read_inside, write_file
from easy2hard.runs.records import Count, Number, Record, Seconds

if TYPE_CHECKING:
    from easy2hard.learning.trainer import Step
    from easy2hard.runs.listener import Listener
    from easy2hard.runs.manifest import Manifest

EVERY = 1.0
"""Seconds between two writings of the file."""


class RunProgress(Record):
    """What ``progress.json`` holds."""

    round: Number
    rounds: Number
    phase: str
    done: Count = 0
    total: Count
    loss: float | None = None
    """Of the last training step."""
    tokens: Count = 0
    """Read in this phase."""
    began: Seconds
    """When the phase began; seconds since the epoch, as is ``written``."""
    written: Seconds
    note: str = ""
    """The last thing the user should know."""


def read_progress(run: Path) -> RunProgress | None:
    """Return where a run is within its round; None between rounds, or where nothing is running."""
    try:
        return RunProgress.model_validate_json(read_inside(run / "progress.json", run, 1 << 20))
    except (OSError, ValidationError, UserError):  # a view of it is no reason to stop
        return None


@contextmanager
def shown(run: Path, listener: "Listener", main: bool = True) -> "Iterator[Listener]":
    """Give a listener that keeps ``progress.json`` as well; the file goes when it ends, however it does.

    Args:
        run: the run directory.
        listener: is told everything.
        main: False where another process writes the run.
    """
    if not main:
        yield listener
        return
    writer = _Writer(run / "progress.json", listener)
    try:
        yield writer
    finally:
        with suppress(OSError):
            writer.path.unlink(missing_ok=True)


class _Writer:
    """Passes everything on (implements ``listener.Listener``) and writes where the run is, about once a second.

    It is written without a flush, and a full disk is left to those who write what counts.
    """

    def __init__(self, path: Path, listener: "Listener") -> None:
        self.path = path
        self._listener = listener
        self._now: RunProgress | None = None
        self._note = ""

    def phase(self, number: int, rounds: int, name: str, total: int) -> None:
        self._listener.phase(number, rounds, name, total)
        now = time.time()
        self._now = RunProgress(round=number, rounds=rounds, phase=name, total=total, began=now, written=0.0)
        self._count(0)

    def step(self, step: "Step") -> None:
        self._listener.step(step)
        if self._now:
            self._now = self._now.model_copy(update={"loss": step.loss, "tokens": self._now.tokens + step.tokens})
        self._count(1)

    def advance(self, count: int) -> None:
        self._listener.advance(count)
        self._count(count)

    def note(self, text: str) -> None:
        self._listener.note(text)
        self._note = text

    def round(self, manifest: "Manifest") -> None:
        self._listener.round(manifest)

    def _count(self, count: int) -> None:
        if not self._now:
            return
        self._now = self._now.model_copy(update={"done": self._now.done + count})
        now = time.time()
        if now - self._now.written < EVERY:
            return
        self._now = self._now.model_copy(update={"written": now, "note": self._note})
        with suppress(OSError):
            write_file(self.path, self._now.model_dump_json().encode(), self.path.parent, flush=False)

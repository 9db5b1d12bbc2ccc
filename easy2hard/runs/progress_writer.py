"""Says where a run is while it runs: to its listener, and in ``progress.json``, which nothing but views reads."""

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from easy2hard.engines.compiling import COMPILING
from easy2hard.files import write_file
from easy2hard.learning.trainer import Step
from easy2hard.runs.listener import Listener
from easy2hard.runs.manifest import Manifest
from easy2hard.runs.progress_file import RunProgress
from easy2hard.runs.time_left import TimeLeft, Window

EVERY = 1.0
"""Seconds between two times that it is said."""


@contextmanager
def shown(run: Path, listener: Listener, time_left: TimeLeft | None = None) -> Iterator[Listener]:
    """Give a listener that keeps ``progress.json`` as well; the file goes when it ends, however it does.

    Args:
        run: the run directory.
        listener: is told everything, and about once a second where the run is.
        time_left: of the run; None where another process shows and writes the run.
    """
    if time_left is None:
        yield listener
        return
    writer = _Writer(run / "progress.json", listener, time_left)
    try:
        with COMPILING.telling(writer.compiling):
            yield writer
    finally:
        with suppress(OSError):
            writer.path.unlink(missing_ok=True)


class _Writer:
    """Passes everything on (implements ``listener.Listener``) and says where the run is, about once a second.

    It is written without a flush, and a full disk is left to those who write what counts.
    """

    def __init__(self, path: Path, listener: Listener, time_left: TimeLeft) -> None:
        self.path = path
        self._listener = listener
        self._time_left = time_left
        self._window = Window()
        self._now: RunProgress | None = None
        self._note = ""

    def phase(self, number: int, rounds: int, name: str, total: int) -> None:
        self._listener.phase(number, rounds, name, total)
        self._time_left.phase(name)
        self._window = Window()
        self._now = RunProgress(round=number, rounds=rounds, phase=name, total=total)
        self._count(0)

    def step(self, step: Step) -> None:
        self._listener.step(step)
        self._count(1, step)

    def advance(self, count: int) -> None:
        self._listener.advance(count)
        self._count(count)

    def note(self, text: str) -> None:
        self._listener.note(text)
        self._note = text

    def round(self, manifest: Manifest) -> None:
        self._listener.round(manifest)
        self._time_left.committed(manifest)

    def where(self, now: RunProgress) -> None:
        self._listener.where(now)

    def compiling(self) -> None:
        """Say that loops are compiled from now on."""
        if self._now:
            self._say(self._now.model_copy(update={"compiling": True}))

    def _count(self, count: int, step: Step | None = None) -> None:
        if not (now := self._now):
            return
        changes: dict[str, object] = {"done": now.done + count}
        if step:
            changes |= {"loss": step.loss, "tokens": now.tokens + step.tokens}
        self._now = now = now.model_copy(update=changes)
        if time.time() - now.written < EVERY:
            return
        rate = self._window.add(now.done, now.tokens)
        left = max(0, now.total - now.done) / rate.parts if rate else None
        share = min(1.0, now.done / now.total) if now.total else 0.0
        run_left = self._time_left.of_run(left, share)
        tokens = rate.tokens if rate and now.loss is not None else None
        self._now = now.model_copy(update={"written": time.time(), "left": left, "run_left": run_left, "rate": tokens})
        self._say(self._now)

    def _say(self, now: RunProgress) -> None:
        now = now.model_copy(update={"note": self._note})
        self._listener.where(now)
        with suppress(OSError):
            write_file(self.path, now.model_dump_json().encode(), self.path.parent, flush=False)

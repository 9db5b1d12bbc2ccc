"""What a run shows while it goes: live on a terminal, plain lines elsewhere."""

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from easy2hard.runs.manifest import Manifest
from easy2hard.tasks.base import hardest, parse_difficulty, span
from easy2hard.text import in_lines, printable

if TYPE_CHECKING:
    from easy2hard.learning.trainer import Step
    from easy2hard.runs.listener import Listener
    from easy2hard.runs.progress_file import RunProgress

PLAIN_SECONDS = 15.0
"""How often a phase says where it is when the output is no terminal."""


class ProgressListener:
    """Shows phases and rounds (implements ``runs.listener.Listener``).

    Args:
        console: where to; its own idea of whether it is a terminal decides between live and plain.
    """

    def __init__(self, console: Console) -> None:
        self.console = console
        self.live = console.is_terminal
        self._progress = Progress(
            BarColumn(bar_width=10), TextColumn("{task.description}", markup=False), console=console, transient=True
        )
        self._task: TaskID | None = None
        self._said = time.monotonic()
        self._compiling = False

    def __enter__(self) -> "ProgressListener":
        if self.live:
            self._progress.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if self.live:
            self._progress.stop()

    def phase(self, number: int, rounds: int, name: str, total: int) -> None:
        """Begin to count the seconds after which a phase says where it is."""
        self._said = time.monotonic()

    def step(self, step: "Step") -> None:
        """Leave it to :meth:`where`."""

    def advance(self, count: int) -> None:
        """Leave it to :meth:`where`."""

    def where(self, now: "RunProgress") -> None:
        """Show where the run is, and how long it takes from now on."""
        if self.live:
            if self._task is None:
                self._task = self._progress.add_task("")
            lines = in_lines(now.words, self.console.width - 11)
            self._progress.update(self._task, total=now.total, completed=now.done, description="\n".join(lines))
            return
        begins, self._compiling = now.compiling and not self._compiling, self._compiling or now.compiling
        if begins or (time.monotonic() - self._said >= PLAIN_SECONDS and not now.compiling):
            self._said = time.monotonic()
            self._print(now.words)

    def round(self, manifest: Manifest) -> None:
        """Show what a round brought."""
        self._print(round_parts(manifest))
        for mark in (*manifest.marks, *(manifest.remarks if len(manifest.rounds) == 1 else [])):
            self.note(mark)

    def note(self, text: str) -> None:
        """Show what the user should know."""
        self._line(text)

    def _print(self, parts: Sequence[str]) -> None:
        lines = in_lines(parts, self.console.width) if self.live else ["  ".join(parts)]
        for line in lines:
            self._line(line)

    def _line(self, text: str) -> None:
        # A terminal's words are kept whole; elsewhere a line stays a line.
        self.console.print(printable(text), highlight=False, markup=False, soft_wrap=not self.live)


def round_parts(manifest: Manifest) -> list[str]:
    """Return what the last round brought: difficulty, labels kept, accuracy at the frontier and beyond."""
    record = manifest.rounds[-1]
    kept = "supervised" if record.round == 0 else f"kept {record.kept:,} of {record.proposed:,}"
    shown = [d for d in record.accuracy if hardest(parse_difficulty(d)) >= manifest.frontier]
    if len(shown) > 8:  # pairs: those on the diagonal
        shown = [d for d in shown if len(set(d.split("x"))) == 1]
    scores = [f"{d}: {record.accuracy[d]:.3f}" for d in shown]
    if scores:
        scores[0] = f"exact match {scores[0]}"
    return [
        f"round {record.round}",
        f"difficulty {span(record.difficulties)}",
        kept,
        *scores,
        f"({record.seconds:.0f} s)",
    ]


def listening(progress: bool, work: "Callable[[Listener], object]") -> None:
    """Do work that tells a listener what happens, and show it where the user wants to see it."""
    with ProgressListener(Console(quiet=not progress)) as listener:
        work(listener)

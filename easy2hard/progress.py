"""What a run shows while it goes: live on a terminal, plain lines elsewhere."""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from easy2hard.runs.manifest import Manifest
from easy2hard.tasks.base import hardest, parse_difficulty, span
from easy2hard.text import printable

if TYPE_CHECKING:
    from easy2hard.learning.trainer import Step
    from easy2hard.runs.listener import Listener

PLAIN_SECONDS = 15.0
"""How often a phase says where it is when the output is no terminal."""


class ProgressListener:
    """Shows phases, steps and rounds (implements ``runs.listener.Listener``).

    Args:
        console: where to; its own idea of whether it is a terminal decides between live and plain.
    """

    def __init__(self, console: Console) -> None:
        self.console = console
        self.live = console.is_terminal
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[detail]}"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
        )
        self._task: TaskID | None = None
        self._label = ""
        self._total = 0
        self._done = 0
        self._tokens = 0
        self._detail = ""
        self._began = self._said = time.monotonic()

    def __enter__(self) -> "ProgressListener":
        if self.live:
            self._progress.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if self.live:
            self._progress.stop()

    def phase(self, number: int, rounds: int, name: str, total: int) -> None:
        """Show that a phase begins."""
        self._label = f"round {number}/{rounds} {name}"
        self._total, self._done, self._tokens, self._detail = total, 0, 0, ""
        self._began = self._said = time.monotonic()
        if self.live:
            if self._task is not None:
                self._progress.remove_task(self._task)
            self._task = self._progress.add_task(self._label, total=total, detail="")

    def step(self, step: "Step") -> None:
        """Show a training step."""
        self._tokens += step.tokens
        rate = self._tokens / max(time.monotonic() - self._began, 1e-9)
        self._detail = f"loss {step.loss:.4f}  {rate:,.0f} tokens/s"
        self.advance(1)

    def advance(self, count: int) -> None:
        """Show progress of the phase."""
        self._done += count
        now = time.monotonic()
        if self.live:
            assert self._task is not None
            self._progress.update(self._task, completed=self._done, detail=self._detail)
        elif now - self._said >= PLAIN_SECONDS:
            self._said = now
            left = (now - self._began) / self._done * (self._total - self._done)
            detail = f"  {self._detail}" if self._detail else ""
            self._print(f"{self._label} {self._done}/{self._total}{detail}  {left:.0f} s left")

    def round(self, manifest: Manifest) -> None:
        """Show what a round brought."""
        self._print(round_line(manifest))
        for mark in (*manifest.marks, *(manifest.remarks if len(manifest.rounds) == 1 else [])):
            self._print(mark)

    def note(self, text: str) -> None:
        """Show what the user should know."""
        self._print(text)

    def _print(self, text: str) -> None:
        self.console.print(printable(text), highlight=False, markup=False, soft_wrap=True)


def round_line(manifest: Manifest) -> str:
    """Return the last round in a line: difficulty, labels kept, accuracy at the frontier and beyond."""
    record = manifest.rounds[-1]
    what = span(record.difficulties)
    kept = "supervised" if record.round == 0 else f"kept {record.kept:,} of {record.proposed:,}"
    shown = [d for d in record.accuracy if hardest(parse_difficulty(d)) >= manifest.frontier]
    if len(shown) > 8:  # pairs: those on the diagonal
        shown = [d for d in shown if len(set(d.split("x"))) == 1]
    scores = "  ".join(f"{d}: {record.accuracy[d]:.3f}" for d in shown)
    return f"round {record.round}  difficulty {what}  {kept}  exact match {scores}  ({record.seconds:.0f} s)"


def listening(progress: bool, work: "Callable[[Listener], object]") -> None:
    """Do work that tells a listener what happens, and show it where the user wants to see it."""
    with ProgressListener(Console(quiet=not progress)) as listener:
        work(listener)

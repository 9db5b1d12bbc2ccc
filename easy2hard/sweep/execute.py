"""Brings the runs of a sweep to their end: each is the ordinary command line, in a process of its own.

Nothing is kept about a sweep but its run directories and what their processes print, so there is nothing that could
disagree with them: the same command goes on wherever it was stopped.
"""

import fcntl
import os
import shlex
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from easy2hard.errors import UserError
from easy2hard.files import write_file
from easy2hard.runs.attempts import CollapseError
from easy2hard.runs.experiment import Experiment
from easy2hard.runs.manifest import RunDirectory, state_of
from easy2hard.runs.preflight import check
from easy2hard.sweep.plan import Sweep, Trial, plugin_options

EVERY = 0.1
"""Seconds between two looks at the processes."""


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Put SIGINT and SIGTERM off to the end: a process must be known here before anything can end it."""
    asked: list[int] = []
    kinds = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(kind, lambda number, frame: asked.append(number)) for kind in kinds]
    try:
        yield
    finally:
        for kind, handler in zip(kinds, before, strict=True):
            signal.signal(kind, handler)
    if asked:
        signal.raise_signal(asked[0])


@dataclass(frozen=True)
class State:
    """What has become of a run."""

    status: str
    """``finished``, or ``stopped`` by the collapse watch; ``failed``; ``running`` in another process; ``open``: not
    begun, or interrupted."""
    reason: str = ""
    """Of ``stopped`` and ``failed``."""

    @property
    def ended(self) -> bool:
        """There is nothing left to do, and a result."""
        return self.status in ("finished", "stopped")


@dataclass(frozen=True)
class Laboratory:
    """The runs of a sweep and the directory they are in.

    Attributes:
        sweep: the file.
        runs: what it asks for.
        out: ``out/runs`` has the run directories, ``out/logs`` what their processes print.
        plugins: Python files that add what they use.
        device: where they compute (engines/choice.py).
    """

    sweep: Sweep
    runs: list[Trial]
    out: Path
    plugins: Sequence[Path] = ()
    device: str = "auto"

    def path(self, run: Trial) -> Path:
        """Return the directory of a run."""
        return self.out / "runs" / run.name

    def log(self, run: Trial) -> Path:
        """Return the file of what the last process of a run printed."""
        return self.out / "logs" / f"{run.name}.log"

    def check(self) -> None:
        """Refuse what cannot run, before anything is written.

        Raises:
            UserError: settings do not fit their task, or runs that are there were begun with others.
        """
        for run in self.runs:
            if run.seed == self.sweep.seeds[0]:
                try:
                    check(Experiment(run.settings))
                except UserError as error:
                    raise UserError(f"variant {run.variant}: {error}") from error
                if self.sweep.examples > (most := run.settings.evaluation.reserved):
                    raise UserError(
                        f"examples = {self.sweep.examples}: at most {most}; only so many of a difficulty are never "
                        "labelled"
                    )
            path = self.path(run)
            if path.exists() and RunDirectory(path).settings != run.settings:
                raise UserError(f"{path}: was begun with other settings; choose another --out")

    def state(self, run: Trial) -> State:
        """Return what has become of a run, by what is on the disk."""
        path, log = self.path(run), self.log(run)
        said = log.read_text(encoding="utf-8", errors="replace").split("\n") if log.exists() else []
        last = next((line.strip() for line in reversed(said) if line.strip()), "")
        if not path.exists():
            return State("failed", last) if last and not last.startswith("stopped and kept") else State("open")
        try:
            opened = RunDirectory(path)
            status = state_of(opened, opened.manifest)
        except UserError as error:
            return State("failed", str(error))
        kind, _, reason = status.removeprefix("stopped: ").partition(": ")
        if status == "finished":
            return State("finished")
        if kind == CollapseError.__name__:
            return State("stopped", reason)
        if status == "running":
            return State("running")
        if kind == "interrupted" and not last.startswith("error: "):
            return State("open")
        return State("failed", "killed" if status == "killed" else last or status)

    def left(self) -> list[Trial]:
        """Return the runs that have not ended and that no process is at."""
        states = {run.name: self.state(run) for run in self.runs}
        return [run for run in self.runs if not states[run.name].ended and states[run.name].status != "running"]

    def command(self, run: Trial) -> list[str]:
        """Return the arguments of ``easy2hard`` that begin a run, or go on with it."""
        path = self.path(run)
        device = [] if self.device == "auto" else ["--device", self.device]
        if not path.exists():
            return [*run.arguments(path, self.plugins), *device]
        return ["resume", str(path), *plugin_options(self.plugins), *device]

    def write_jobs(self, file: Path) -> int:
        """Write a command line for each run that is left, and return how many there are."""
        lines = [shlex.join(["easy2hard", *self.command(run)]) + "\n" for run in self.left()]
        write_file(file, "".join(lines).encode())
        return len(lines)

    def bring_to_end(self, processes: int, say: Callable[[str], None]) -> None:
        """Run what is left, ``processes`` at a time; one that fails stops no other.

        Args:
            processes: how many; each gets its share of the cores.
            say: is told a line when a run begins or ends.

        Raises:
            UserError: another process is at this sweep.
            KeyboardInterrupt: the user interrupted; every run has been asked to keep its state, and has ended.
        """
        from easy2hard.engines.choice import cores

        shared = {**os.environ, "OMP_NUM_THREADS": str(max(1, cores() // processes))}
        with self._alone() as lock:
            waiting, going = deque(self.left()), dict[str, tuple[Trial, subprocess.Popen[bytes]]]()
            count = len(waiting)
            try:
                while waiting or going:
                    while waiting and len(going) < processes:
                        run = waiting.popleft()
                        with _undisturbed():
                            going[run.name] = run, self._process(run, lock, shared if processes > 1 else None)
                        say(f"{run.name}: begins, {count - len(waiting)} of {count}")
                    time.sleep(EVERY)
                    for run, process in [each for each in going.values() if each[1].poll() is not None]:
                        del going[run.name]
                        say(f"{run.name}: {self._said(run, process.returncode)}")
            finally:
                for _, process in going.values():
                    process.terminate()
                for _, process in going.values():
                    process.wait()

    def _process(self, run: Trial, lock: int, environment: dict[str, str] | None) -> "subprocess.Popen[bytes]":
        self.log(run).parent.mkdir(parents=True, exist_ok=True)
        with self.log(run).open("wb") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "easy2hard", *self.command(run)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment,
                pass_fds=[lock],  # held for as long as one of them lives, whatever becomes of this process
                start_new_session=True,  # Ctrl-C is for this process, which passes it on once
            )

    def _said(self, run: Trial, code: int) -> str:
        state = self.state(run)
        ending = {"stopped": f"stopped by the collapse watch: {state.reason}", "finished": "finished"}
        return ending.get(state.status, f"failed with exit code {code}: {state.reason}")

    @contextmanager
    def _alone(self) -> Iterator[int]:
        self.out.mkdir(parents=True, exist_ok=True)
        handle = os.open(self.out / "lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield handle
        except BlockingIOError as error:
            raise UserError(f"{self.out}: another process is at this sweep, or at one of its runs") from error
        finally:
            os.close(handle)

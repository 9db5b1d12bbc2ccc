"""Brings the runs of a sweep to their end: each is the ordinary command line, in a process of its own.

Here, that is a process of this machine; cluster.py has them on others.

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
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from easy2hard.errors import UserError
from easy2hard.files import write_file
from easy2hard.runs.attempts import CollapseError
from easy2hard.runs.experiment import Experiment
from easy2hard.runs.manifest import RunDirectory, state_of
from easy2hard.runs.preflight import check
from easy2hard.sweep.forecast import Pace
from easy2hard.sweep.plan import Sweep
from easy2hard.sweep.trial import Base, Trial, Work, plugin_options

EVERY = 0.1
"""Seconds between two looks at the processes."""
MANY = 6
"""Runs from which it pays to measure one before they begin, so that the first line says how long they take."""


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


class Place(Protocol):
    """Where runs are brought to their end."""

    def opened(self) -> AbstractContextManager[None]:
        """Make it ready; in the end ask every run that goes on to keep its state, and wait until it has ended."""

    def room(self) -> bool:
        """Return whether it takes another run now."""

    def start(self, run: Work) -> None:
        """Take a run, to begin it or go on with it."""

    def news(self) -> list[tuple[Work, int | None]]:
        """Wait a moment, and return the runs that began since, with None, and that ended, with their exit codes."""


@dataclass(frozen=True)
class Laboratory:
    """The runs of a sweep and the directory they are in.

    Attributes:
        sweep: the file.
        runs: what it asks for.
        out: ``out/runs`` has the run directories, ``out/supervised`` the phases that they share, ``out/logs`` what
            their processes print.
        plugins: Python files that add what they use.
        device: where they compute (engines/choice.py).
    """

    sweep: Sweep
    runs: list[Trial]
    out: Path
    plugins: Sequence[Path] = ()
    device: str = "auto"

    def path(self, work: Work) -> Path:
        """Return the directory of a run, or of a supervised phase."""
        return self.out / ("supervised" if isinstance(work, Base) else "runs") / work.name

    def log(self, work: Work) -> Path:
        """Return the file of what its last process printed."""
        return self.out / "logs" / f"{work.name}.log"

    @property
    def bases(self) -> list[Base]:
        """The supervised phases that runs share."""
        return list({run.base.name: run.base for run in self.runs if run.base}.values())

    @property
    def works(self) -> list[Work]:
        """All that processes do: the supervised phases that runs share, and the runs."""
        return [*self.bases, *self.runs]

    def check(self) -> None:
        """Refuse what cannot run, before anything is written.

        Raises:
            UserError: settings do not fit their task, runs that are there were begun with others, or a run is in the
                place of the sweep.
        """
        if (self.out / "manifest.json").exists():
            raise UserError(f"--out {self.out}: a run is there; a sweep needs a directory of its own")
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
        for work in self.works:
            path = self.path(work)
            if path.exists() and RunDirectory(path).settings != work.settings:
                raise UserError(f"{path}: was begun with other settings; choose another --out")

    def state(self, work: Work) -> State:
        """Return what has become of a run, by what is on the disk."""
        path, log = self.path(work), self.log(work)
        said = log.read_text(encoding="utf-8", errors="replace").split("\n") if log.exists() else []
        last = next((line.strip() for line in reversed(said) if line.strip()), "")
        if not path.exists():
            if isinstance(work, Trial) and work.base and (state := self.state(work.base)).status == "failed":
                return State("failed", f"its supervised phase failed: {state.reason}")
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

    def left(self) -> list[Work]:
        """Return what has not ended and that no process is at: runs, each after the supervised phase that it needs."""
        found: dict[str, Work] = {}
        for run in self.runs:
            for work in ([run.base] if run.base and not self.path(run).exists() else []) + [run]:
                if work.name not in found and not (state := self.state(work)).ended and state.status != "running":
                    found[work.name] = work
        return list(found.values())

    def ready(self, work: Work) -> bool:
        """Return whether it can begin, or go on: the supervised phase that it begins with has ended."""
        needs = work.base if isinstance(work, Trial) and not self.path(work).exists() else None
        return needs is None or self.state(needs).ended

    def command(self, work: Work) -> list[str]:
        """Return the arguments of ``easy2hard`` that begin a run that is ready, or go on with it."""
        path = self.path(work)
        if path.exists():
            return self.resumption(work)
        if isinstance(work, Base):
            words = ["run", str(self._recipe(work)), "--out", str(path), *plugin_options(self.plugins)]
        elif work.base:
            changes = [part for each in work.changes for part in ("--set", each)]
            begin = ["branch", str(self.path(work.base)), "--from-round", "0", "--out", str(path)]
            words = [*begin, *changes, *plugin_options(self.plugins)]
        else:
            words = ["run", work.recipe, "--out", str(path), "--seed", str(work.seed), *work.options(self.plugins)]
        return [*words, *self._on_device()]

    def resumption(self, work: Work) -> list[str]:
        """Return the arguments of ``easy2hard`` that go on with a run."""
        return ["resume", str(self.path(work)), *plugin_options(self.plugins), *self._on_device()]

    def _on_device(self) -> list[str]:
        return [] if self.device == "auto" else ["--device", self.device]

    def _recipe(self, base: Base) -> Path:
        return self.path(base).with_suffix(".toml")

    def write_recipes(self) -> None:
        """Write the recipes of the supervised phases that runs share: no recipe has what they leave out."""
        for base in self.bases:
            self._recipe(base).parent.mkdir(parents=True, exist_ok=True)
            write_file(self._recipe(base), base.settings.to_toml().encode())

    def write_jobs(self, file: Path) -> tuple[int, int]:
        """Write a command line for what is left and can begin; return how many do, and how many wait."""
        left = self.left()
        ready = list(filter(self.ready, left))
        self.write_recipes()
        lines = [shlex.join(["easy2hard", *self.command(work)]) + "\n" for work in ready]
        write_file(file, "".join(lines).encode())
        return len(ready), len(left) - len(ready)

    def bring_to_end(self, processes: int, say: Callable[[str], None], ray: str | None = None) -> None:
        """Run what is left; a run that fails stops no other.

        Args:
            processes: how many at a time on a machine; each gets its share of the cores.
            say: is told a line when a run begins or ends.
            ray: the address of a Ray cluster (cluster.py), empty for what ``ray.init`` finds or starts; None for this
                machine alone.

        Raises:
            UserError: another process is at this sweep, or the cluster cannot be used.
            KeyboardInterrupt: the user interrupted; every run has been asked to keep its state, and has ended.
        """
        from easy2hard.sweep.cluster import Cluster

        with self._alone() as lock:
            self.write_recipes()
            waiting, pace, here = self.left(), Pace(self, processes), _Processes(self, lock, processes)
            count, begun, going = len(waiting), 0, 0
            if ray is None and count >= MANY:
                pace.measure(waiting, here.environment, say)
            place = here if ray is None else Cluster(self, ray, processes, say)
            with place.opened():
                while True:
                    for work in [*filter(self.ready, waiting)]:
                        if place.room():
                            waiting.remove(work)
                            place.start(work)
                            going += 1
                    if not going:
                        break
                    before = going
                    while going == before:
                        for work, code in place.news():
                            if code is None:
                                begun += 1
                                pace.begins(work)
                                say(f"{work.name}: begins, {begun} of {count}{pace.left(waiting)}")
                            else:
                                going -= 1
                                pace.ends(work)
                                say(f"{work.name}: {self._said(work, code)}")
                for work in waiting:
                    reason = self.state(work).reason or "another process is at its supervised phase"
                    say(f"{work.name}: not begun: {reason}")

    def _said(self, run: Work, code: int) -> str:
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


class _Processes:
    """This machine (implements :class:`Place`): a process for each run.

    Args:
        laboratory: the runs.
        lock: held by every process for as long as it lives, whatever becomes of this one.
        most: processes at a time.
    """

    def __init__(self, laboratory: Laboratory, lock: int, most: int) -> None:
        from easy2hard.engines.choice import cores

        self._laboratory, self._lock, self._most = laboratory, lock, most
        threads = {"OMP_NUM_THREADS": str(max(1, cores() // most))} if most > 1 else {}
        self.environment = {**os.environ, **threads}
        self._begun: list[Work] = []
        self._going: list[tuple[Work, subprocess.Popen[bytes]]] = []

    @contextmanager
    def opened(self) -> Iterator[None]:
        try:
            yield
        finally:
            for _, process in self._going:
                process.terminate()
            for _, process in self._going:
                process.wait()

    def room(self) -> bool:
        return len(self._going) < self._most

    def start(self, run: Work) -> None:
        log = self._laboratory.log(run)
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("wb") as file, _undisturbed():
            process = subprocess.Popen(
                [sys.executable, "-m", "easy2hard", *self._laboratory.command(run)],
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                env=self.environment,
                pass_fds=[self._lock],
                start_new_session=True,  # Ctrl-C is for this process, which passes it on once
            )
            self._going.append((run, process))
        self._begun.append(run)

    def news(self) -> list[tuple[Work, int | None]]:
        if self._begun:
            begun, self._begun = self._begun, []
            return [(run, None) for run in begun]
        time.sleep(EVERY)
        ended = [(run, process.returncode) for run, process in self._going if process.poll() is not None]
        self._going = [(run, process) for run, process in self._going if process.returncode is None]
        return [*ended]

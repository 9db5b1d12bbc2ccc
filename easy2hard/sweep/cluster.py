"""Brings the runs of a sweep to their end on the machines of a Ray cluster: a task for each run.

A task is the ordinary command line, in a process that Ray started for it alone. Where a machine is lost, Ray starts
its tasks again on others, and they resume their runs from the folder that all machines share. That needs no more than
locks: the system lets go of a lock when its holder is gone.

- A task holds the lock of its log for as long as it lives. One that is started again waits for it, so that two are
  never at one run, even where the first was only cut off and has not noticed yet.
- Whoever started the sweep holds the lock of the sweep. A task that finds it free is on a machine that sees another
  folder, or where locks do not hold across machines: nothing is run there.
"""

import fcntl
import logging
import os
import runpy
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from easy2hard import __version__
from easy2hard.errors import UserError

if TYPE_CHECKING:
    from easy2hard.sweep.execute import Laboratory
    from easy2hard.sweep.trial import Work

RETRIES = 5
"""How often a run is begun again where its machine or its process was lost, before it has failed."""
EVERY = 0.5
"""Seconds between two looks at the cluster, or at a lock."""
PATIENCE = 300.0
"""Seconds that a task waits for the one before it. A process that lost its cluster ends within one minute; a lock
that was held over NFS by a machine that is gone is let go of after one and a half."""


@dataclass(frozen=True)
class Task:
    """A run on its way to another machine: plain texts, with paths as they are in ``folder``."""

    folder: str
    """Where the sweep was started."""
    out: str
    """The sweep's directory."""
    path: str
    """The run's directory."""
    log: str
    begin: Sequence[str]
    """Arguments of ``easy2hard`` where the directory is not there yet."""
    resume: Sequence[str]
    """Those where it is."""
    threads: int
    version: str = __version__


class Cluster:
    """The machines of a Ray cluster (implements ``execute.Place``).

    Args:
        laboratory: the runs.
        address: of the cluster; empty for what ``ray.init`` finds, or else starts on this machine.
        most: runs at a time on a machine.
        say: is told a line about the machines.
    """

    def __init__(self, laboratory: "Laboratory", address: str, most: int, say: Callable[[str], None]) -> None:
        self._laboratory, self._address, self._most, self._say = laboratory, address, most, say
        self._queued: list[Work] = []
        self._tasks: dict[Any, Work] = {}
        self._submit: Any = None
        self._threads = 1

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Join or start the cluster, and see what each run can have of it.

        Raises:
            UserError: Ray is not installed, the cluster cannot be joined, or no machine of it has what a run needs.
        """
        self._ray = ray = _import_ray()
        ours = not ray.is_initialized()
        if ours:
            _join(ray, self._address)
        try:
            machines = [node["Resources"] for node in ray.nodes() if node["Alive"]]
            device = device_on(machines, self._laboratory.device)
            self._laboratory = replace(self._laboratory, device=device)
            self._threads = threads_on(machines, self._most, device)
            self._submit = ray.remote(
                num_cpus=self._threads, num_gpus=int(device == "cuda"), max_retries=RETRIES, max_calls=1
            )(bring_to_end)
            self._say(f"machines: {len(machines)}; cores for each run: {self._threads}; device: {device}")
            yield
        finally:
            for task in self._tasks:
                ray.cancel(task)
            if self._tasks:
                ray.wait([*self._tasks], num_returns=len(self._tasks))
            if ours:
                ray.shutdown()

    def room(self) -> bool:
        """Return that it takes another run: Ray knows which can begin, and a cluster may grow for those that wait."""
        return True

    def start(self, run: "Work") -> None:
        """Hand a run to Ray, which begins it, or goes on with it, once a machine has room."""
        made, path = self._laboratory, self._laboratory.path(run)
        log = made.log(run)
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_bytes(b"")  # the same file as before: a task of an earlier call may hold its lock
        task = Task(
            folder=str(Path.cwd()),
            out=str(made.out),
            path=str(path),
            log=str(log),
            begin=made.command(run),
            resume=made.resumption(run),
            threads=self._threads,
        )
        self._tasks[self._submit.options(name=run.name).remote(task)] = run
        self._queued.append(run)

    def news(self) -> "list[tuple[Work, int | None]]":
        """Wait a moment, and return the runs that began since, with None, and that ended, with their exit codes.

        Raises:
            UserError: nothing can be run on a machine of the cluster.
        """
        found, _ = self._ray.wait([*self._tasks], timeout=EVERY)
        ended: list[tuple[Work, int | None]] = [(self._tasks[task], self._code(task)) for task in found]
        done = [self._tasks.pop(task).name for task in found]
        # A task writes into its log, which was emptied, once it has begun.
        begun = [run for run in self._queued if run.name in done or self._laboratory.log(run).stat().st_size]
        self._queued = [run for run in self._queued if run not in begun]
        return [*((run, None) for run in begun), *ended]

    def _code(self, task: Any) -> int:
        """Return how a task ended, as the exit code of a process."""
        errors = self._ray.exceptions
        try:
            return int(self._ray.get(task))
        except errors.RayTaskError as error:
            cause = error.cause
            if isinstance(cause, UserError):
                raise UserError(str(cause)) from error
            raise UserError(
                f"--ray: a machine of the cluster cannot run easy2hard {__version__}; each must have it installed: "
                f"{' '.join(str(cause).split())[-300:]}"
            ) from error
        except errors.RayError as error:  # its machine or its process was lost more than RETRIES times
            with self._laboratory.log(self._tasks[task]).open("a", encoding="utf-8") as log:
                log.write(f"{type(error).__name__}: {' '.join(str(error).split())}\n")
            return -signal.SIGKILL


def device_on(machines: Sequence[Mapping[str, float]], asked: str) -> str:
    """Return the device for every run, which is the same on each machine.

    Args:
        machines: what each has, such as ``{"CPU": 8.0, "GPU": 1.0}``.
        asked: of ``--device``.

    Raises:
        UserError: there is none, or one of several GPUs was asked for.
    """
    gpus = any(each.get("GPU", 0) >= 1 for each in machines)
    if asked == "auto":
        return "cuda" if gpus else "cpu"
    if asked.startswith("cuda:"):
        raise UserError(f"--device {asked}: on a cluster Ray gives each run a GPU of its own; use cuda")
    if asked == "cuda" and not gpus:
        raise UserError("--device cuda: no machine of the cluster has a GPU; use auto or cpu")
    return asked


def threads_on(machines: Sequence[Mapping[str, float]], most: int, device: str) -> int:
    """Return the cores for every run: the share that the smallest machine has, so that each run fits anywhere.

    Args:
        machines: as for :func:`device_on`.
        most: runs at a time on a machine.
        device: of the runs; each on a GPU has that GPU alone.

    Raises:
        UserError: no machine has a core to give.
    """
    needed = ["CPU", "GPU"] if device == "cuda" else ["CPU"]
    fit = [each for each in machines if all(each.get(kind, 0) >= 1 for kind in needed)]
    if not fit:
        raise UserError("--ray: no machine of the cluster has a core to give; add one with `ray start`")
    return min(max(1, int(each["CPU"]) // max(most, int(each["GPU"]) if "GPU" in needed else 1)) for each in fit)


def _import_ray() -> Any:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # else Ray reports to its makers
    try:
        import ray
    except ImportError as error:
        raise UserError(f"--ray needs the package ray: pip install '.[cluster]' ({error})") from error
    return ray


def _join(ray: Any, address: str) -> None:
    """Join a cluster, or start one on this machine.

    Raises:
        UserError: it cannot be reached.
    """
    before = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(address=address or None, log_to_driver=False, logging_level=logging.WARNING)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise UserError(f"--ray {address}: {' '.join(str(error).split())}") from error
    finally:
        signal.signal(signal.SIGTERM, before)


def bring_to_end(task: Task) -> int:
    """Bring a run to its end on the machine where this is called, and return its exit code.

    What it prints is added to its log. It is called in a process of its own, which has not loaded torch yet.

    Raises:
        UserError: this machine is not one on which the run is safe.
    """
    os.environ["OMP_NUM_THREADS"] = str(task.threads)
    try:
        _refuse_unlike(task)
        with _printing_to(Path(task.log)), _alone(Path(task.log)) as alone:
            if not alone:
                print(f"error: {task.path}: after {PATIENCE:.0f} s another machine is still at this run")
                return 2
            print(f"begins on {socket.gethostname()}", flush=True)
            return _call(task.resume if Path(task.path).exists() else task.begin)
    except KeyboardInterrupt:  # before the command line has its own way to end
        return 130


def _refuse_unlike(task: Task) -> None:
    """Refuse a machine that has another easy2hard, or does not see the sweep's folder or its lock."""
    host = socket.gethostname()
    if task.version != __version__:
        raise UserError(f"--ray: {host} has easy2hard {__version__}, and {task.version} started the sweep")
    try:
        os.chdir(task.folder)
        with (Path(task.out) / "lock").open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return
    except OSError as error:
        why = f"{error.filename}: {error.strerror}"
    else:
        why = f"the lock of {Path(task.out).absolute()} is free there"
    raise UserError(
        f"--ray: {host} does not see what the sweep's machine does ({why}); all need one shared folder, where a "
        "lock holds for all of them"
    )


@contextmanager
def _alone(log: Path) -> Iterator[bool]:
    """Hold the lock of a run's log; give False where the task before this one does not let go of it."""
    with log.open("ab") as file:
        patient_until = time.monotonic() + PATIENCE
        while (held := _held(file)) and time.monotonic() < patient_until:
            time.sleep(EVERY)
        yield not held


def _held(file: BinaryIO) -> bool:
    """Return whether another process holds the lock of a file; else it is this one's from now on."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    return False


@contextmanager
def _printing_to(log: Path) -> Iterator[None]:
    """Add to a log what this process prints, and what libraries print past Python."""
    with log.open("a", encoding="utf-8", buffering=1) as file, ExitStack() as after:
        for number in (1, 2):
            before = os.dup(number)
            after.callback(os.close, before)
            after.callback(os.dup2, before, number)
            os.dup2(file.fileno(), number)
        with redirect_stdout(file), redirect_stderr(file):
            yield


def _call(words: Sequence[str]) -> int:
    """Call the command line in this process, and return its exit code."""
    kinds = (signal.SIGINT, signal.SIGTERM)
    before = [signal.getsignal(kind) for kind in kinds]
    sys.argv = ["easy2hard", *words]
    try:
        runpy.run_module("easy2hard", run_name="__main__")
    except SystemExit as end:
        return int(end.code or 0)
    except Exception:
        traceback.print_exc()
        return 1
    finally:
        for kind, handler in zip(kinds, before, strict=True):
            signal.signal(kind, handler)
    return 0

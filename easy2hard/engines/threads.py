"""Work side by side: one thread for each piece of work, because one operation is too small to be worth splitting.

At the sizes of a laptop a second thread inside an operation gave 1.3x, a second piece of work in a thread of its own
1.9x (LOG.md). A thread that computes alone also gives the same bits however many cores there are.
"""

import ctypes
import platform
import threading
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager
from typing import TypeVar

import torch
from typing_extensions import override

from easy2hard import processes

T = TypeVar("T")
R = TypeVar("R")

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8  # malloc.h


class StepError(Exception):
    """Ends the training of a crew, in all processes alike; the other crews are to be stopped and kept."""


class Workers(AbstractContextManager["Workers"]):
    """A pool of threads, each computing alone on its share of the caller's cores.

    Args:
        count: threads of the pool. With one, work is done by the calling thread and all of its cores.
        always: make a thread even for one, so that an interrupt of the calling thread leaves the work whole.
    """

    def __init__(self, count: int, always: bool = False) -> None:
        threads = max(1, torch.get_num_threads() // count)
        self._pool = None
        if count > 1 or always:
            self._pool = ThreadPoolExecutor(count, initializer=torch.set_num_threads, initargs=(threads,))

    def map(self, function: Callable[[T], R], items: Sequence[T], size: Callable[[T], float] | None = None) -> list[R]:
        """Return ``function`` of every item, in the order of the items; the largest by ``size`` are begun first.

        The first exception of any of them is raised at once; items that have not begun are dropped and the others are
        left to end by themselves.
        """
        if self._pool is None:
            return [function(item) for item in items]
        order = sorted(range(len(items)), key=lambda i: -size(items[i])) if size else range(len(items))
        begun = {i: self._pool.submit(function, items[i]) for i in order}
        futures = [begun[i] for i in range(len(items))]
        try:
            wait(futures, return_when=FIRST_EXCEPTION)
            for future in futures:
                if future.done():
                    future.result()  # raises what the item raised
        except BaseException:
            for future in futures:
                future.cancel()
            raise
        return [future.result() for future in futures]

    def finish(self) -> None:
        """Wait for the work that has begun."""
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)

    @override
    def __exit__(self, *error: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)


def side_by_side(
    works: Sequence[Generator[T, None, None]], told: Callable[[T], None], stop: Callable[[], None]
) -> None:
    """Bring works to their ends, each in a thread of its own; in several processes in turn, in all of them alike.

    In turn, so that all processes speak of the same work. The first exception of any, or an interrupt, is raised once
    the others have ended.

    Args:
        works: one for each crew.
        told: called with what each gives, by one work at a time.
        stop: called after the first exception; it has to make the other works end.
    """
    lock = threading.Lock()

    def run(own: Sequence[Generator[T, None, None]]) -> None:
        going, failure = list(own), None
        try:
            while going:
                for work in list(going):
                    try:
                        each = next(work)
                    except StopIteration:
                        going.remove(work)
                    except StepError as error:  # in all processes alike; the others are kept
                        going.remove(work)
                        failure = failure or error
                        if going:
                            stop()
                    else:
                        with lock:
                            told(each)
        finally:
            for work in own:
                work.close()
        if failure is not None:
            raise failure

    parts = [[work] for work in works] if processes.current().count == 1 else [works]
    with Workers(len(parts), always=True) as workers:
        try:
            workers.map(run, parts)
        except BaseException:
            stop()
            workers.finish()
            raise


def map_chunks(
    function: Callable[[T], R], items: Sequence[T], beside: bool, on_done: Callable[[T], None] = lambda item: None
) -> list[R]:
    """Return ``function`` of every item.

    Where there are several processes, each takes its share of the items, and all of them get all results.

    Args:
        function: the work, with one core to itself.
        items: what to call it with.
        beside: as many at a time as there are cores; else one after another.
        on_done: told about each item as soon as it is done, in any order; about those of other processes at the end.
    """
    world = processes.current()
    own = items[world.rank :: world.count]

    def work(item: T) -> R:
        result = function(item)
        on_done(item)
        return result

    def work_on_own() -> list[R]:
        with Workers(max(1, min(torch.get_num_threads() if beside else 1, len(own)))) as workers:
            return workers.map(work, own)

    parts = world.gather(work_on_own)
    for index, item in enumerate(items):
        if index % world.count != world.rank:
            on_done(item)
    return [parts[index % world.count][index // world.count] for index in range(len(items))]


def keep_freed_memory(threads: int) -> None:
    """Let the C library keep freed memory for the next step instead of giving it back to the system.

    Activations come and go in every step; fetching their pages from the system anew cost a fifth of a training step
    (LOG.md, 2026-11-24). What is kept is bounded by one pool for each of ``threads`` working threads and one for the
    main thread. Does nothing where the C library is not glibc.
    """
    if platform.libc_ver()[0] != "glibc":
        return
    libc = ctypes.CDLL("libc.so.6")
    libc.mallopt(_M_MMAP_THRESHOLD, 1 << 30)
    libc.mallopt(_M_TRIM_THRESHOLD, (1 << 31) - 1)
    libc.mallopt(_M_ARENA_MAX, threads + 1)


def give_back_freed_memory() -> None:
    """Give memory that is kept but not used back to the system; between phases, when its shapes change anyway."""
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL("libc.so.6").malloc_trim(0)

"""Members at work side by side: one thread each, so that k members keep the cores busy without waiting for each other.

At these sizes one operation is too small to be worth splitting over cores (a second intra-op thread gave 1.3x, a second
member in a thread of its own 1.9x), and a thread that computes alone gives the same bits however many cores there are.
"""

import ctypes
import platform
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from typing import TypeVar

import torch

T = TypeVar("T")
R = TypeVar("R")

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8  # malloc.h


def map_members(function: Callable[[T], R], items: Sequence[T]) -> list[R]:
    """Return ``function`` of every item, one item for each member, computed side by side.

    The first exception of any of them is raised at once; the others are left to end by themselves.
    """
    if len(items) == 1:
        return [function(items[0])]
    threads = max(1, torch.get_num_threads() // len(items))

    def work(item: T) -> R:
        torch.set_num_threads(threads)  # of this thread only
        return function(item)

    pool = ThreadPoolExecutor(len(items))
    try:
        futures = [pool.submit(work, item) for item in items]
        wait(futures, return_when=FIRST_EXCEPTION)
        for future in futures:
            if future.done():
                future.result()  # raises what the member raised
        return [future.result() for future in futures]
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def keep_freed_memory(members: int) -> None:
    """Let the C library keep freed memory for the next step instead of giving it back to the system.

    Activations come and go in every step; fetching their pages from the system anew cost a fifth of a training step
    (LOG.md, 2026-11-24). What is kept is bounded by one pool for each member and one for the main thread. Does nothing
    where the C library is not glibc.
    """
    if platform.libc_ver()[0] != "glibc":
        return
    libc = ctypes.CDLL("libc.so.6")
    libc.mallopt(_M_MMAP_THRESHOLD, 1 << 30)
    libc.mallopt(_M_TRIM_THRESHOLD, (1 << 31) - 1)
    libc.mallopt(_M_ARENA_MAX, members + 1)

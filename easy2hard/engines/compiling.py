"""When loops are compiled: about half a minute, once on a machine, in which nothing of a run is computed."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Compiling:
    """Knows whether loops are being compiled now; ``cpu/kernels.py`` tells it."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._depth = 0  # functions that call one another are compiled within one another
        self._since = 0.0
        self.seconds = 0.0
        """Spent on it so far."""
        self._told: list[Callable[[], None]] = []

    def begin(self) -> None:
        """Note that a loop is compiled from now on."""
        self._depth += 1
        if self._depth == 1:
            self._since = self._clock()
            for tell in self._told:
                tell()

    def end(self) -> None:
        """Note that it is compiled."""
        self._depth -= 1
        if not self._depth:
            self.seconds += self._clock() - self._since

    def clock(self) -> float:
        """Return the seconds of a clock that stands still while loops are compiled."""
        return (self._since if self._depth else self._clock()) - self.seconds

    @contextmanager
    def telling(self, tell: Callable[[], None]) -> Iterator[None]:
        """Call ``tell`` whenever it begins, in the thread that compiles."""
        self._told.append(tell)
        try:
            yield
        finally:
            self._told.remove(tell)


COMPILING = Compiling()
"""Of this process."""

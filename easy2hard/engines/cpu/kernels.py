"""What stands between the matrix products of a block, each as one pass over its memory.

Each is one float32 loop that numba compiles on its first use and keeps on disk. It holds no interpreter lock, so that
members in threads do not wait for each other.
"""

import fcntl
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, TypeVar, cast

import numba
import numpy as np
import torch
from numba.core import event
from numpy.typing import NDArray
from torch import Tensor
from typing_extensions import override

from easy2hard.engines.compiling import COMPILING
from easy2hard.engines.cpu.simd import exp, load, over, plus, spread, store, times
from easy2hard.models.transformer import NORM_EPS

Array = NDArray[np.float32]
_F = TypeVar("_F", bound=Callable[..., Any])
_f = np.float32


class _Told(event.Listener):  # type: ignore[misc]
    """Hears when numba compiles; what comes from disk is not compiled."""

    @override
    def on_start(self, event: Any) -> None:
        COMPILING.begin()

    @override
    def on_end(self, event: Any) -> None:
        COMPILING.end()


event.register("numba:compile", _Told())


def compiled(function: _F) -> _F:
    """Compile for the argument types of the first call; sums may be reordered, as in any vectorised library.

    What a compiled function calls becomes part of it. Left to itself numba keeps a copy of a callee in every module,
    each optimised in its own surroundings, and a process takes whichever was loaded first: then the last bits of a
    result depend on whether the loops were just compiled or came from disk.
    """
    options = {"nogil": True, "fastmath": True, "error_model": "numpy", "forceinline": True}
    try:
        dispatcher = numba.njit(cache=True, **options)(function)
    except RuntimeError as error:  # neither the package's folder nor the user's can be written to
        if "cannot cache" not in str(error):
            raise
        return cast(_F, numba.njit(**options)(function))
    if not numba.config.DISABLE_JIT:
        dispatcher.compile = _one_at_a_time(dispatcher)
    return cast(_F, dispatcher)


def not_kept() -> str | None:
    """Return why what is compiled is not kept for other processes; None where it is."""
    if numba.config.DISABLE_JIT or normed_loop.stats.cache_path is not None:  # type: ignore[attr-defined]
        return None
    return (
        "no folder can be written to for what is compiled, so every process compiles for about half a minute; "
        "NUMBA_CACHE_DIR names one"
    )


_compiling = threading.RLock()
_held: list[BinaryIO] = []
"""The lock on what other processes compile, while this one does."""


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keep other processes from compiling, where the folder of what is compiled lets them be kept."""
    with _compiling, ExitStack() as end:
        if not _held:  # functions that call one another are compiled within one another
            with suppress(OSError):
                folder.mkdir(parents=True, exist_ok=True)
                _held.append(end.enter_context((folder / "lock").open("ab")))
                end.callback(_held.clear)
                fcntl.flock(_held[0], fcntl.LOCK_EX)
        yield


def _one_at_a_time(dispatcher: Any) -> Callable[[Any], Any]:
    """Return what compiles a function, one process at a time: the others wait, and load what that one has kept.

    Numba's own cache is not safe for that: two processes that write one give the same name to different functions.
    """
    compile_ = dispatcher.compile

    def locked(signature: Any) -> Any:
        with _alone(Path(dispatcher.stats.cache_path)):
            try:
                return compile_(signature)
            except OSError:  # no room to keep what was compiled; here it is
                return compile_(signature)

    return locked


def flat(tensor: Tensor) -> Array:
    """Return a tensor as one row of memory, shared with it."""
    return cast(Array, tensor.detach().contiguous().view(-1).numpy())


def _array(tensor: Tensor) -> Array:
    return cast(Array, tensor.detach().contiguous().numpy())


def normed(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return (rows, width) ``x`` with a mean square of one in each row, and the (rows,) factors that did it."""
    n, r = torch.empty_like(x), x.new_empty(len(x))
    normed_loop(_array(x), n.numpy(), r.numpy())
    return n, r


@compiled
def normed_loop(x: Array, n: Array, r: Array) -> None:
    """See :func:`normed`."""
    width = x.shape[1]
    for i in range(len(x)):
        total = _f(0)
        for j in range(width):
            total += x[i, j] * x[i, j]
        factor = _f(1) / np.sqrt(total / _f(width) + _f(NORM_EPS))
        r[i] = factor
        for j in range(width):
            n[i, j] = x[i, j] * factor


def norm_backward(dn: Tensor, n: Tensor, r: Tensor, straight: Tensor, common: int, time: int, first: int) -> Tensor:
    """Return the gradient of x where n = x * r is the norm of x, all (rows, width) but r, (rows,).

    Args:
        dn: gradient of n.
        n: the normed rows.
        r: their factors.
        straight: gradient that reaches x past the norm, by the residual connection: of the rows after the first
            ``common``, those that stand at ``first`` or later among each ``time``.
        common: see ``straight``; so are ``time`` and ``first``.
    """
    dx = torch.empty_like(dn)
    norm_backward_loop(_array(dn), _array(n), _array(r), _array(straight), common, time, first, dx.numpy())
    return dx


@compiled
def norm_backward_loop(
    dn: Array, n: Array, r: Array, straight: Array, common: int, time: int, first: int, dx: Array
) -> None:
    """See :func:`norm_backward`."""
    width = dn.shape[1]
    below = 0
    for i in range(len(dn)):
        along = _f(0)
        for j in range(width):
            along += dn[i, j] * n[i, j]
        along /= _f(width)
        factor = r[i]
        if i < common or (i - common) % time < first:
            for j in range(width):
                dx[i, j] = (dn[i, j] - n[i, j] * along) * factor
        else:
            for j in range(width):
                dx[i, j] = (dn[i, j] - n[i, j] * along) * factor + straight[below, j]
            below += 1


def swiglu(gate_up: Tensor) -> Tensor:
    """Return (rows, hidden) silu(gate) * up of (rows, 2 * hidden) gates and ups; hidden is a multiple of 16."""
    out = gate_up.new_empty(len(gate_up), gate_up.shape[1] // 2)
    swiglu_loop(flat(gate_up), flat(out), *out.shape)
    return out


@compiled
def swiglu_loop(gate_up: Array, out: Array, rows: int, hidden: int) -> None:
    """See :func:`swiglu`; arrays are seen as one row of memory."""
    one = spread(_f(1))
    for i in range(rows):
        for j in range(0, hidden, 16):
            gate, up = load(gate_up, 2 * i * hidden + j), load(gate_up, (2 * i + 1) * hidden + j)
            sigmoid = over(one, plus(one, exp(times(gate, spread(_f(-1))))))
            store(out, i * hidden + j, times(times(gate, sigmoid), up))


def swiglu_backward(gate_up: Tensor, d: Tensor) -> tuple[Tensor, Tensor]:
    """Return the gradient of ``gate_up`` from that of :func:`swiglu`, and what swiglu gave."""
    d_gate_up, out = torch.empty_like(gate_up), torch.empty_like(d)
    swiglu_backward_loop(flat(gate_up), flat(d), flat(d_gate_up), flat(out), *out.shape)
    return d_gate_up, out


@compiled
def swiglu_backward_loop(gate_up: Array, d: Array, d_gate_up: Array, out: Array, rows: int, hidden: int) -> None:
    """See :func:`swiglu_backward`; arrays are seen as one row of memory."""
    one, minus = spread(_f(1)), spread(_f(-1))
    for i in range(rows):
        for j in range(0, hidden, 16):
            gate, up = load(gate_up, 2 * i * hidden + j), load(gate_up, (2 * i + 1) * hidden + j)
            sigmoid = over(one, plus(one, exp(times(gate, minus))))
            silu = times(gate, sigmoid)
            # d silu / d gate = sigmoid + silu * (1 - sigmoid)
            slope = plus(sigmoid, times(silu, plus(one, times(sigmoid, minus))))
            dy = load(d, i * hidden + j)
            store(d_gate_up, 2 * i * hidden + j, times(times(dy, up), slope))
            store(d_gate_up, (2 * i + 1) * hidden + j, times(dy, silu))
            store(out, i * hidden + j, times(silu, up))

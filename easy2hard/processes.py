"""Several processes that work as one, on one machine or more (docs/scale.md).

Every process runs the same code and comes to the same state: what is random is a function of the seed and of where a
run stands, never of the process. Work is dealt out by this module's few words, and whatever is written is written by
the main process. Everything else asks :func:`current`, which in an ordinary run is the one process there is.

Processes are started by ``accelerate launch`` or ``torchrun``; which is seen by the environment they set.
"""

import atexit
import os
import sys
from collections.abc import Callable, Sequence
from datetime import timedelta
from functools import cache
from typing import TYPE_CHECKING, TypeVar

from typing_extensions import override

from easy2hard.errors import UserError

if TYPE_CHECKING:
    import torch
    from torch.distributed.device_mesh import DeviceMesh

T = TypeVar("T")

TIMEOUT = timedelta(minutes=30)
"""How long a process waits for another one that neither answers nor ends."""


class ElsewhereError(Exception):
    """Another process failed, and says more about it."""


class Processes:
    """The processes of a run: here, the only one.

    Attributes:
        rank: this process, from 0.
        count: how many there are.
        sharded: members train in parts over the processes (huggingface/sharding.py).
    """

    rank = 0
    count = 1
    sharded = False

    @property
    def main(self) -> bool:
        """Whether this is the process that writes and prints."""
        return self.rank == 0

    def from_main(self, function: Callable[[], T]) -> T:
        """Return what ``function`` returns in the main process; it is not called in any other.

        Nobody goes on before the main process has called it, so it is also how others wait for a file.

        Raises:
            ElsewhereError: the main process raised something; there, it is what was raised.
        """
        return function()

    def gather(self, function: Callable[[], T]) -> list[T]:
        """Call ``function`` in every process, and return in each what it returned in all of them, by rank.

        Raises:
            ElsewhereError: another process raised something.
        """
        return [function()]

    def any(self, flag: bool) -> bool:
        """Return whether the flag is set in any process."""
        return flag

    def add_up(self, tensors: Sequence["torch.Tensor"]) -> None:
        """Put the sum over all processes in the place of each tensor; it has the same bits in each of them."""

    def copy_from_main(self, tensors: Sequence["torch.Tensor"]) -> None:
        """Put the main process's values in the place of each tensor."""


class LaunchedProcesses(Processes):
    """Processes that were launched together, in one process group.

    Raises:
        UserError: accelerate is missing, or asked to split the model in a way that there is not.
    """

    def __init__(self) -> None:
        import torch

        try:
            from accelerate import PartialState
        except ImportError as error:
            raise UserError("several processes need accelerate: pip install '.[scale]'") from error
        for name in ("DEEPSPEED", "MEGATRON_LM"):
            if _asked(name):
                raise UserError(
                    f"accelerate is set to use {name}, which is not supported; use --multi_gpu or --use_fsdp"
                )
        self.sharded = _asked("FSDP")
        # Else transformers leaves the weights of all processes but the first one empty, for accelerate to fill.
        os.environ["FSDP_CPU_RAM_EFFICIENT_LOADING"] = "false"
        gpu = torch.cuda.is_available()
        # Gradients go between GPUs, everything else between the processors: no step waits for a flag on a GPU.
        state = PartialState(cpu=not gpu, timeout=TIMEOUT, backend="cuda:nccl,cpu:gloo" if gpu else "gloo")
        atexit.register(state.destroy_process_group)
        self.rank = state.process_index
        self.count = state.num_processes

    @override
    def from_main(self, function: Callable[[], T]) -> T:
        import torch.distributed as distributed

        result: list[tuple[T | None, str | None]] = [(None, None)]
        if self.main:
            try:
                result = [(function(), None)]
            except BaseException as error:
                distributed.broadcast_object_list([(None, f"{type(error).__name__}: {error}")])
                raise
        distributed.broadcast_object_list(result)
        value, failure = result[0]
        if failure is not None:
            raise ElsewhereError(f"the main process: {failure}")
        return value  # type: ignore[return-value]

    @override
    def gather(self, function: Callable[[], T]) -> list[T]:
        import torch.distributed as distributed

        results: list[tuple[T | None, str | None]] = [(None, None)] * self.count
        try:
            own = function()
        except Exception as error:
            distributed.all_gather_object(results, (None, f"{type(error).__name__}: {error}"))
            raise
        distributed.all_gather_object(results, (own, None))
        for rank, (_, failure) in enumerate(results):
            if failure is not None:
                raise ElsewhereError(f"process {rank}: {failure}")
        return [value for value, _ in results]  # type: ignore[misc]

    @override
    def any(self, flag: bool) -> bool:
        import torch
        import torch.distributed as distributed

        flags = torch.tensor([int(flag)])
        distributed.all_reduce(flags)
        return bool(flags.item())

    @override
    def add_up(self, tensors: Sequence["torch.Tensor"]) -> None:
        import torch
        import torch.distributed as distributed

        # As one vector: a message for each tensor would cost more than its contents.
        total = torch.cat([tensor.flatten() for tensor in tensors])
        distributed.all_reduce(total)
        parts = torch.split(total, [tensor.numel() for tensor in tensors])
        for tensor, part in zip(tensors, parts, strict=True):
            tensor.copy_(part.view_as(tensor))

    @override
    def copy_from_main(self, tensors: Sequence["torch.Tensor"]) -> None:
        import torch.distributed as distributed

        for tensor in tensors:
            distributed.broadcast(tensor, 0)


def _asked(name: str) -> bool:
    """Return whether accelerate is set to split models in this way."""
    return os.environ.get(f"ACCELERATE_USE_{name}", "false").lower() == "true"


def launched() -> bool:
    """Return whether this process is one of several that were launched together."""
    return int(os.environ.get("WORLD_SIZE", 1)) > 1


def leave(code: int) -> None:
    """End this process now, if it was launched with others; else do nothing.

    The threads of a process group can end the interpreter's own way out with an abort, which the launcher takes for a
    failure. Whatever must be on the disk is there by now.
    """
    if current.cache_info().currsize and current().count > 1:
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def is_main() -> bool:
    """Return whether this process is the one that prints, without joining the others."""
    return not launched() or os.environ.get("RANK", "0") == "0"


@cache
def current() -> Processes:
    """Return the processes this one belongs to; the first call joins them.

    Raises:
        UserError: there are several, and accelerate is missing.
    """
    return LaunchedProcesses() if launched() else Processes()


def mesh(device: "torch.device") -> "DeviceMesh":
    """Return the processes as a row, over which torch lays a model on devices of such a kind in parts."""
    from torch.distributed.device_mesh import init_device_mesh

    return init_device_mesh(device.type, (current().count,))

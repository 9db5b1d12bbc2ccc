"""Which device a run computes on, and which engine: the one place where this is decided."""

import os
from collections.abc import Sequence

import torch

from easy2hard.engines.cpu.kernels import not_kept
from easy2hard.engines.cpu.runner import CpuRunner, why_not
from easy2hard.engines.cuda import engine as cuda
from easy2hard.engines.engine import Engine
from easy2hard.engines.reference import PIECE_TOKENS, ReferenceEngine
from easy2hard.engines.threads import keep_freed_memory
from easy2hard.errors import UserError
from easy2hard.models.member import Member

DEVICES = "auto, cpu, cuda, cuda:N, mps"


def has_gpu() -> bool:
    """Return whether ``auto`` takes a GPU here."""
    return torch.cuda.is_available()


def cores() -> int:
    """Return how many cores a run computes with where it computes on them; the last bits may depend on it."""
    return torch.get_num_threads()


def find_device(name: str = "auto") -> torch.device:
    """Return the device of a name.

    Args:
        name: ``auto`` is a GPU where there is one, else the CPU; ``cuda`` is the first GPU, or of several processes on
            a machine, each one's own.

    Raises:
        UserError: there is no such device.
    """
    if name == "auto":
        name = "cuda" if has_gpu() else "cpu"
    if name == "cpu":
        return torch.device("cpu")
    if name == "mps":
        if not torch.backends.mps.is_available():
            raise UserError("--device mps: this machine has none; use auto or cpu")
        return torch.device("mps")
    kind, colon, number = name.partition(":")
    if kind != "cuda" or (colon and not number.isdecimal()):
        raise UserError(f"--device {name}: expected one of {DEVICES}")
    if not has_gpu():
        raise UserError(f"--device {name}: torch {torch.__version__} finds no GPU here; use auto or cpu")
    index = int(number) if colon else int(os.environ.get("LOCAL_RANK", 0))
    if index >= torch.cuda.device_count():
        raise UserError(f"--device {name}: this machine has GPUs 0 to {torch.cuda.device_count() - 1}")
    return torch.device("cuda", index)


def in_main_memory(device: torch.device) -> bool:
    """Return whether what is computed there takes the machine's own memory."""
    return device.type != "cuda"


def held_gradients(tokens: int, device: torch.device) -> int:
    """Return how many gradients of a member a training step on so many tokens holds until it ends, at least.

    On a CPU there is one for each piece of the batch; on a GPU pieces are larger.
    """
    return tokens // PIECE_TOKENS if in_main_memory(device) else 0


def build_engine(members: Sequence[Member], precision: str = "float32") -> Engine:
    """Return the engine for the members of a run, on the device where they are.

    Args:
        members: all alike.
        precision: ``float32`` or ``bfloat16``, for the matrix products in training.
    """
    kind, reason = members[0].device.type, None
    if kind == "cuda" and (reason := cuda.why_not(members[0])) is None:
        return cuda.CudaEngine(members, precision)
    if kind == "cpu":
        keep_freed_memory(max(len(members), torch.get_num_threads()))
        if (reason := why_not(members[0])) is None:
            return ReferenceEngine(members, precision, CpuRunner, not_kept())
    missed = "captured steps" if kind == "cuda" else "the compiled loops"
    note = None if reason is None else f"{reason}: torch computes the members one by one, without {missed}"
    return ReferenceEngine(members, precision, note=note)

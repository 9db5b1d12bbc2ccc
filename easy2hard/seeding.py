"""Every random stream of a run, derived from one seed by hashing.

Streams are named by their purpose (``derive(seed, "labels", round, difficulty)``), never by adding indices to a
seed, so that neighbouring seeds and neighbouring purposes share nothing. No global generator is read or seeded.
"""

import hashlib
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch


def derive(seed: int, *purpose: str | int) -> int:
    """Return a 63-bit seed for ``purpose``; distinct purposes give independent streams.

    Args:
        seed: the run's seed.
        purpose: words and numbers naming the stream, for example ``"labels", 3, "12"``.
    """
    digest = hashlib.blake2b(repr((seed, *purpose)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def numpy_generator(seed: int, *purpose: str | int) -> np.random.Generator:
    """Return a NumPy generator for the stream ``purpose``."""
    return np.random.Generator(np.random.PCG64(derive(seed, *purpose)))


def torch_generator(seed: int, *purpose: str | int) -> "torch.Generator":
    """Return a CPU torch generator for the stream ``purpose``."""
    import torch  # here, so that sampling prompts does not wait for it

    return torch.Generator().manual_seed(derive(seed, *purpose))

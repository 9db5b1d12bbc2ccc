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


ODD = -7046029254386353131  # 0x9E3779B97F4A7C15 as a signed number
_FIRST, _SECOND = -4658895280553007687, -7723592293110705685  # those of SplitMix64


def mixed(values: "torch.Tensor") -> "torch.Tensor":
    """Return well mixed bits of int64, one to one: SplitMix64 (Steele, Lea, Flood 2014, "Fast splittable …")."""
    values = (values ^ ((values >> 30) & (1 << 34) - 1)) * _FIRST
    values = (values ^ ((values >> 27) & (1 << 37) - 1)) * _SECOND
    return values ^ ((values >> 31) & (1 << 33) - 1)


def uniform(hashes: "torch.Tensor") -> "torch.Tensor":
    """Return float64 between 0 and 1, neither of them."""
    return (((hashes >> 11) & (1 << 53) - 1).double() + 0.5) * 2.0**-53

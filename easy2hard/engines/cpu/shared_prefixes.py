"""Positions that examples of a batch have in common are computed once.

What a causal decoder computes at a position depends on the tokens up to there and on nothing else. All prompts begin
with BOS and only nine digits can follow, so in a batch of 256 the first three positions have about a hundred different
beginnings between them instead of 768. This is exact: the rows are the same numbers, and a shared row's gradient is the
sum over its examples. With easy prompts, ten tokens long, it saves a fifth of a training step.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Places = tuple[NDArray[np.int64], NDArray[np.int64], int, int]
"""``index``, ``owner``, ``common`` and ``shared`` of :class:`Rows`."""
MOST = 3
"""Positions that may be shared; later ones hardly ever are."""
WORTH = 0.8
"""Share of different beginnings from which a position is left to each example."""


@dataclass(frozen=True)
class Rows:
    """Where each position of a batch stands among the rows that are computed.

    The ``common`` rows of the first ``shared`` positions come first, then those of each example, one after another.
    """

    tokens: Tensor
    """(rows,) token of each row."""
    index: NDArray[np.int64]
    """(batch, time) row of each position."""
    owner: NDArray[np.int64]
    """(batch, time) 1 at the first example that has a row, else 0."""
    shared: int = 0
    common: int = 0

    @property
    def batch(self) -> int:
        """Examples."""
        return len(self.index)

    @property
    def time(self) -> int:
        """Positions of each example."""
        return int(self.index.shape[1])

    @property
    def places(self) -> Places:
        """What compiled loops need to know."""
        return self.index, self.owner, self.common, self.shared

    def asked(self, flat: Tensor, first: int) -> Tensor:
        """Return the rows of (rows, width) that belong to positions from ``first`` on, which is 0 or not shared."""
        if first == 0:
            return flat
        own = flat[self.common :].view(self.batch, -1, flat.shape[1])
        return own[:, first - self.shared :].flatten(0, 1)


def own_rows(tokens: Tensor) -> Rows:
    """Return the rows of (batch, time) tokens, a row for each."""
    index = np.arange(tokens.numel()).reshape(tokens.shape)
    return Rows(tokens.flatten(), index, np.ones_like(index))


def shared_rows(tokens: Tensor, first: int) -> Rows:
    """Return the rows of (batch, time) tokens on the CPU; beginnings before position ``first`` are shared."""
    plain = tokens.numpy()
    batch, time = plain.shape
    index, owner = np.empty((batch, time), dtype=np.int64), np.ones((batch, time), dtype=np.int64)
    beginning, rows, common, shared = np.zeros(batch, dtype=np.int64), [], 0, 0
    for t in range(min(first, MOST)):
        different, example, beginning = np.unique(
            beginning * (plain.max() + 1) + plain[:, t], return_index=True, return_inverse=True
        )
        if len(different) > WORTH * batch:
            break
        index[:, t] = common + beginning
        owner[:, t] = 0
        owner[example, t] = 1
        rows.append(plain[example, t])
        common += len(different)
        shared += 1
    if not shared:
        return own_rows(tokens)
    index[:, shared:] = common + np.arange(batch * (time - shared)).reshape(batch, -1)
    flat = np.concatenate([*rows, plain[:, shared:].ravel()])
    return Rows(torch.from_numpy(flat), index, owner, shared, common)

"""What every model is to the rest of the package: our own decoder, or one of transformers (huggingface/).

Tokens are those of the task's vocabulary everywhere. Training needs gradients of the logits, decoding a cache, and
storing ``state_dict``, which holds what training changes and nothing else. Who computes is an engine (engines/).
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

Place = Callable[[NDArray[Any], int, np.random.Generator], NDArray[np.int64]]
"""Draws the (batch, time) numbers of the places of (batch, time) tokens; also given: tokens of each prompt."""


class KeyValueCache(Protocol):
    """What a member remembers of the tokens seen so far."""

    def keep(self, rows: Tensor) -> None:
        """Drop the rows of the batch where the (batch,) mask ``rows`` is False."""


class Member(nn.Module, ABC):
    """One model that learns, answers and votes."""

    @abstractmethod
    def forward(
        self, tokens: Tensor, first: int = 0, cache: Any | None = None, positions: Tensor | None = None
    ) -> Tensor:
        """Return (batch, time - first, vocabulary) logits of the positions from ``first`` on.

        Args:
            tokens: (batch, time) token ids, int64; with a cache, the tokens after those it holds.
            first: first position whose next token is wanted: the last of the prompt, where a member makes use of its
                length.
            cache: one of :meth:`make_cache`, extended in place.
            positions: (batch, time) numbers of places, for members that have them drawn.
        """

    @abstractmethod
    def make_cache(self, capacity: int) -> KeyValueCache:
        """Return an empty cache with room for ``capacity`` tokens of each row."""

    @property
    @abstractmethod
    def cached_bytes(self) -> int:
        """Bytes that a cache takes for one token."""

    @property
    def place(self) -> Place | None:
        """What draws the places of training examples (positions/); None where nothing is drawn."""
        return None

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

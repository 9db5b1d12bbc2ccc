"""What a position scheme is: how a member knows the places of its tokens, beyond what the causal mask shows.

A scheme numbers the tokens of a batch (:meth:`Positions.ids`) and puts the numbers to use by one of three hooks: on the
embeddings, on queries and keys, or on the scores of the attention. What it does not need stays as it is here, where
nothing happens at all. models/transformer.py calls the hooks; docs/positions.md has a line for each scheme.

Numbers depend on the tokens so far and on the prompt, so that an answer does not depend on its batch, and decoding sees
the numbers that one pass over the whole answer sees. Only training may draw them, from a generator that it is given.
"""

from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from easy2hard.plugins import Extension
from easy2hard.settings.model import ModelSettings
from easy2hard.tasks.base import Task

Ids = NDArray[np.int64]
"""(batch, time) numbers of places, or (1, time) where they are the same for all rows."""

BASE = 10_000.0
"""Of the wavelengths of rotations and sinusoids (Vaswani et al. 2017, section 3.5; Su et al. 2021, section 3.2.2)."""


class Positions(nn.Module, Extension):
    """A scheme that counts tokens from 0 and makes no use of it. How to add one is in docs/extending.md."""

    kind = "position scheme"
    name: ClassVar[str]
    drawn = False
    """Whether training draws the numbers."""

    @classmethod
    def build(cls, model: ModelSettings, task: Task, **options: int) -> Self:
        """Return the scheme of a member; by default it is made with these.

        Args:
            model: the section ``model``.
            task: which it is for.
            options: whole-number arguments of the constructor that have a default (``model.position_options``).

        Raises:
            UserError: it does not fit the model or the task.
        """
        return cls(model, task, **options)

    @property
    def turns(self) -> bool:
        """Whether queries and keys are not what they are without a scheme."""
        return type(self).turn is not Positions.turn

    def initialise(self, generator: torch.Generator) -> None:
        """Draw the weights, if there are any."""

    def ids(self, tokens: NDArray[Any], prompt_length: int, generator: np.random.Generator | None = None) -> Ids:
        """Return the numbers of tokens.

        Args:
            tokens: (batch, time) prompts, perhaps with answers or their beginnings behind them.
            prompt_length: tokens of each prompt.
            generator: draws the numbers of a training batch, where they are drawn; without it they are fixed.

        Raises:
            UserError: there are not as many places as the tokens need.
        """
        return np.arange(tokens.shape[1])[None]

    def embed(self, x: Tensor, ids: Tensor) -> Tensor:
        """Return the (batch, time, width) embeddings with what they need to know of their places."""
        return x

    def turn(self, heads: Tensor, ids: Tensor) -> Tensor:
        """Return (batch, heads, time, head width) queries or keys with what they need to know of their places."""
        return heads

    def bias(self, block: int, queries: Tensor, keys: Tensor) -> Tensor | None:
        """Return (batch or 1, heads, queries, keys) numbers that are added to the scores of a block; None for none.

        Args:
            block: index of the block.
            queries: (batch or 1, queries) numbers of the queries' places.
            keys: (batch or 1, keys) numbers of the keys' places.
        """
        return None

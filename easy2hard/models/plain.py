"""Attention in torch's own operations, for members that the compiled loops do not know: position schemes and loops.

The one place where a scheme's hooks meet queries, keys and scores. Derivatives are torch's.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor
from typing_extensions import override

from easy2hard.models.block import Cache
from easy2hard.models.positions import Positions


@dataclass
class PlainCache(Cache):
    """Keys and values of each block in each loop, and the tokens that they belong to."""

    prompt_length: int = 0
    tokens: Tensor = field(default_factory=lambda: torch.zeros(0, 0, dtype=torch.int64))
    """(batch, length)."""

    def see(self, tokens: Tensor, prompt_length: int) -> None:
        """Take in (batch, new) tokens before their keys and values; the first ones are the prompts, whole."""
        if not self.length:
            self.tokens, self.prompt_length = tokens, prompt_length
        else:
            self.tokens = torch.cat([self.tokens, tokens], dim=1)

    @override
    def keep(self, rows: Tensor) -> None:
        super().keep(rows)
        self.tokens = self.tokens[rows]


@dataclass(frozen=True)
class Places:
    """The numbers that a scheme gives to the tokens of a batch."""

    scheme: Positions
    ids: Tensor
    """(batch or 1, time) of all tokens so far; the newest are those of the input."""


def attention(
    qkv: tuple[Tensor, Tensor, Tensor],
    first: int,
    places: Places | None,
    block: int,
    cache: Cache | None,
    slot: int,
) -> Tensor:
    """Return (batch, time - first, heads, head width): causal attention of the positions from ``first`` on.

    Args:
        qkv: queries, keys and values, each (batch, time, heads, head width).
        first: first position whose output is wanted.
        places: what the position scheme makes of the tokens; None without one.
        block: index of the block.
        cache: keys and values of earlier tokens, extended in place.
        slot: where those of this block and loop are in the cache.
    """
    queries, keys, values = (each.transpose(1, 2) for each in qkv)
    queries = queries[:, :, first:]
    time = keys.shape[2]
    past = 0 if cache is None else cache.length
    if places is not None:
        queries = places.scheme.turn(queries, places.ids[:, past + first :])
        keys = places.scheme.turn(keys, places.ids[:, past:])
    if cache is not None:
        keys, values = cache.extend(slot, keys, values)
    scores = queries @ keys.mT * queries.shape[-1] ** -0.5
    bias = None if places is None else places.scheme.bias(block, places.ids[:, past + first :], places.ids)
    if bias is not None:
        scores = scores + bias
    hidden = torch.ones(time - first, past + time, dtype=torch.bool, device=scores.device).triu(past + first + 1)
    weights = scores.masked_fill(hidden, float("-inf")).softmax(dim=-1)
    mixed: Tensor = weights.to(values.dtype) @ values
    return mixed.transpose(1, 2)

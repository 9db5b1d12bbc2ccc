"""Schemes that turn queries and keys: by the places of the tokens, or by the places that the task gives them."""

from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from typing_extensions import override

from easy2hard.errors import UserError
from easy2hard.models.positions.scheme import BASE, Ids, Positions
from easy2hard.settings.model import ModelSettings
from easy2hard.tasks.base import Task


class Rotary(Positions):
    """Pairs of features of queries and keys are turned by angles that grow with the number of their place.

    Su et al. 2021, "RoFormer", equation 34: pair i of d / 2 by ``place * 10000^(-2i/d)``. As in Llama the pairs are
    feature i and feature i + d/2. The scores of the attention see differences of numbers alone.

    Args:
        head_width: d.
    """

    rates: Tensor

    def __init__(self, head_width: int) -> None:
        super().__init__()
        self.register_buffer("rates", BASE ** -(torch.arange(0, head_width, 2) / head_width), persistent=False)

    @override
    def turn(self, heads: Tensor, ids: Tensor) -> Tensor:
        angles = ids[:, None, :, None] * self.rates
        cos, sin = angles.cos(), angles.sin()
        one, two = heads.chunk(2, dim=-1)
        return torch.cat([one * cos - two * sin, two * cos + one * sin], dim=-1)


class Rope(Rotary):
    """A token's number is its place in the text (Su et al. 2021)."""

    name = "rope"

    @override
    @classmethod
    def build(cls, model: ModelSettings, task: Task, **options: int) -> Self:
        return cls(_head_width(model))


class CoupledRope(Rotary):
    """Tokens that belong together have one number, which the task supplies, and are turned alike.

    The numbers are those of Cho et al. 2024, "Position Coupling", section 3, but for the prompt's last token. The
    answer begins from it, so it has the number before that of the answer's first token. The scores see differences
    alone: no offset is drawn, and no table ends. The combination is ours.
    """

    name = "coupled-rope"

    @override
    @classmethod
    def build(cls, model: ModelSettings, task: Task, **options: int) -> Self:
        return cls(_head_width(model), task)

    def __init__(self, head_width: int, task: Task) -> None:
        super().__init__(head_width)
        self.task = task

    @override
    def ids(self, tokens: NDArray[Any], prompt_length: int, generator: np.random.Generator | None = None) -> Ids:
        time = max(tokens.shape[1], prompt_length + 2)
        ids = self.task.coupled_ids(tokens[:, :prompt_length].astype(np.int32), time)
        first, second = ids[:, prompt_length], ids[:, prompt_length + 1]
        last = prompt_length - 1
        ids[:, last] = np.where(second > 0, 2 * first - second, ids[:, last])  # an answer of one token has no direction
        return ids[:, : tokens.shape[1]]


def _head_width(model: ModelSettings) -> int:
    width = model.size.width // model.size.heads
    if width % 2:
        raise UserError(
            f"model.positions = {model.positions!r} turns pairs of features: width / heads = {width} must be even"
        )
    return width

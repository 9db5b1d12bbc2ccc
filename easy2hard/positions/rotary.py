"""The scheme that turns queries and keys: RoPE."""

from typing import Self

import torch
from torch import Tensor
from typing_extensions import override

from easy2hard.errors import UserError
from easy2hard.positions.scheme import BASE, Positions
from easy2hard.settings.model import ModelSettings
from easy2hard.tasks.base import Task


class Rope(Positions):
    """Pairs of features of queries and keys are turned by angles that grow with the place.

    Su et al. 2021, "RoFormer", equation 34: pair i of d / 2 by ``place * 10000^(-2i/d)``. As in Llama the pairs are
    feature i and feature i + d/2.
    """

    name = "rope"
    rates: Tensor

    @override
    @classmethod
    def build(cls, model: ModelSettings, task: Task, **options: int) -> Self:
        width = model.size.width // model.size.heads
        if width % 2:
            raise UserError(f"model.positions = 'rope' turns pairs of features: width / heads = {width} must be even")
        return cls(width)

    def __init__(self, head_width: int) -> None:
        super().__init__()
        self.register_buffer("rates", BASE ** -(torch.arange(0, head_width, 2) / head_width), persistent=False)

    @override
    def turn(self, heads: Tensor, ids: Tensor) -> Tensor:
        angles = ids[:, None, :, None] * self.rates
        cos, sin = angles.cos(), angles.sin()
        one, two = heads.chunk(2, dim=-1)
        return torch.cat([one * cos - two * sin, two * cos + one * sin], dim=-1)

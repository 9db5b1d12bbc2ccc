"""The block's own forward and backward passes against the plain formulas and torch's derivatives."""

import pytest
import torch
from helpers import plain_block, properties
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from easy2hard.engines.cpu.block import BlockFunction, Layout, fold
from easy2hard.engines.cpu.shared_prefixes import own_rows
from easy2hard.models.transformer import Block
from easy2hard.seeding import torch_generator
from easy2hard.settings.model import ModelSize


def applied(block: Block, x: Tensor, first: int, low: torch.dtype | None = None) -> Tensor:
    """The block's outputs, one row for each position from ``first`` on."""
    rows = own_rows(torch.zeros(x.shape[:2], dtype=torch.int64))
    layout = Layout(block.heads, rows, first, low or x.dtype)
    weights = fold(tuple(block.parameters()), block.heads)
    return BlockFunction.apply(x.flatten(0, 1), layout, *weights)  # type: ignore[no-any-return, no-untyped-call]


def random_block(heads: int, width: int, hidden: int) -> Block:
    block = Block(ModelSize(width=width, layers=1, heads=heads, feed_forward=hidden)).double()
    generator = torch_generator(0, "block")
    with torch.no_grad():
        for weight in block.parameters():
            weight.normal_(1.0 if weight.dim() == 1 else 0.0, 0.5, generator=generator)
    return block


@properties
@given(batch=st.integers(1, 3), time=st.integers(1, 9), heads=st.integers(1, 3), data=st.data())
def test_values_and_gradients_are_those_of_the_plain_formulas(
    batch: int, time: int, heads: int, data: st.DataObject
) -> None:
    first = data.draw(st.integers(0, time - 1))
    block = random_block(heads, 4 * heads, data.draw(st.integers(1, 9)))
    generator = torch_generator(time, "inputs")
    x = torch.randn(batch, time, 4 * heads, dtype=torch.float64, generator=generator, requires_grad=True)
    dy = torch.randn(batch, time - first, 4 * heads, dtype=torch.float64, generator=generator)
    weights = list(block.parameters())
    ours = applied(block, x, first).view(batch, time - first, -1)
    plain = plain_block(x, first, heads, weights)
    torch.testing.assert_close(ours, plain, rtol=1e-9, atol=1e-9)
    names = ["x", *dict(block.named_parameters())]
    for name, mine, expected in zip(
        names,
        torch.autograd.grad(ours, [x, *weights], dy),
        torch.autograd.grad(plain, [x, *weights], dy),
        strict=True,
    ):
        torch.testing.assert_close(mine, expected, rtol=1e-7, atol=1e-9, msg=lambda text, name=name: f"{name}: {text}")


@pytest.mark.parametrize("first", [0, 3])
def test_bfloat16_is_near_float32(first: int) -> None:
    block = random_block(2, 8, 12).float()
    x = torch.randn(4, 6, 8, generator=torch_generator(0, "inputs"), requires_grad=True)
    full = applied(block, x, first)
    half = applied(block, x, first, torch.bfloat16)
    assert half.dtype == torch.float32
    assert 0 < (half - full).norm() / full.norm() < 0.02
    wanted = [x, *block.parameters()]
    for mine, expected in zip(
        torch.autograd.grad(half.sum(), wanted), torch.autograd.grad(full.sum(), wanted), strict=True
    ):
        assert mine.dtype == torch.float32
        assert (mine - expected).norm() / expected.norm() < 0.05

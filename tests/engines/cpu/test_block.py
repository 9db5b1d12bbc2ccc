"""Blocks with their own forward and backward passes against the plain formulas and torch's derivatives."""

import pytest
import torch
from helpers import new_member, plain_block, properties
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from easy2hard.engines.cpu.block import NO_BIAS, Kept, LowBlock, folded
from easy2hard.engines.cpu.compiled_block import CompiledBlock
from easy2hard.engines.cpu.shared_prefixes import own_rows
from easy2hard.models.transformer import Transformer
from easy2hard.seeding import torch_generator
from easy2hard.settings.model import ModelSize


def random_member(heads: int, hidden: int) -> Transformer:
    """A member of one block, heads 16 wide."""
    member = new_member(0, size=ModelSize(width=16 * heads, layers=1, heads=heads, feed_forward=hidden))
    generator = torch_generator(0, "block")
    with torch.no_grad():
        for weight in member.layers.parameters():
            mean, std = (1.0, 0.5) if weight.dim() == 1 else (0.0, weight.shape[1] ** -0.5)
            weight.normal_(mean, std, generator=generator)
    return member


def passed(
    block: CompiledBlock | LowBlock, member: Transformer, x: Tensor, first: int, dy: Tensor
) -> tuple[Tensor, Kept]:
    """The block's outputs, one row for each position from ``first`` on; gradients of inputs and weights."""
    rows = own_rows(torch.zeros(x.shape[:2], dtype=torch.int64))
    y, kept = block.forward(x.flatten(0, 1), rows, first, NO_BIAS)
    dx, of_folded = block.backward(dy.flatten(0, 1), rows, first, kept, NO_BIAS)
    weights = list(member.layers.parameters())
    return y.view(dy.shape), (dx.view(x.shape), *torch.autograd.grad(folded(member)[0], weights, of_folded))


@properties
@given(
    batch=st.integers(1, 3),
    time=st.integers(1, 9),
    heads=st.integers(1, 3),
    hidden=st.sampled_from([16, 48]),
    kind=st.sampled_from([CompiledBlock, LowBlock]),
    data=st.data(),
)
def test_values_and_gradients_are_those_of_the_plain_formulas(
    batch: int,
    time: int,
    heads: int,
    hidden: int,
    kind: type[CompiledBlock] | type[LowBlock],
    data: st.DataObject,
) -> None:
    first, member = data.draw(st.integers(0, time - 1)), random_member(heads, hidden)
    generator = torch_generator(time, "inputs")
    x = torch.randn(batch, time, 16 * heads, generator=generator)
    dy = torch.randn(batch, time - first, 16 * heads, generator=generator)
    ours, gradients = passed(kind(folded(member)[0], heads), member, x, first, dy)
    inputs = [each.detach().double().requires_grad_() for each in (x, *member.layers.parameters())]
    plain = plain_block(inputs[0], first, heads, inputs[1:])
    torch.testing.assert_close(ours.double(), plain, rtol=1e-4, atol=1e-4)
    names = ["x", *dict(member.layers.named_parameters())]
    for name, mine, right in zip(names, gradients, torch.autograd.grad(plain, inputs, dy.double()), strict=True):
        assert (mine - right).norm() <= 1e-5 * right.norm() + 1e-5, name


@pytest.mark.parametrize("first", [0, 3])
def test_bfloat16_is_near_float32(first: int) -> None:
    member = random_member(2, 48)
    weights = folded(member)[0]
    x = torch.randn(4, 6, 32, generator=torch_generator(0, "inputs"))
    dy = torch.ones(4, 6 - first, 32)
    full, expected = passed(CompiledBlock(weights, 2), member, x, first, dy)
    half, gradients = passed(LowBlock(weights, 2, torch.bfloat16), member, x, first, dy)
    assert half.dtype == torch.float32
    assert 0 < (half - full).norm() / full.norm() < 0.02
    for mine, right in zip(gradients, expected, strict=True):
        assert mine.dtype == torch.float32
        assert (mine - right).norm() / right.norm() < 0.05

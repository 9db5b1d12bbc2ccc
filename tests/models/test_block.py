"""The block's own forward and backward passes against the plain formulas and torch's derivatives."""

import pytest
import torch
import torch.nn.functional as F
from helpers import properties
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from easy2hard.config import ModelSize
from easy2hard.models.kernels import NORM_EPS
from easy2hard.models.prefixes import Rows, own_rows
from easy2hard.models.transformer import Block
from easy2hard.seeding import torch_generator


def plain_block(x: Tensor, first: int, heads: int, weights: list[Tensor]) -> Tensor:
    """The block as its papers write it: RMSNorm, causal softmax attention, SwiGLU."""
    norm1, wq, wk, wv, wo, norm2, gate, up, down = weights
    batch, time, width = x.shape

    def split(y: Tensor) -> Tensor:
        return y.view(batch, time, heads, width // heads).transpose(1, 2)

    h = F.rms_norm(x, (width,), norm1, NORM_EPS)
    o = F.scaled_dot_product_attention(split(h @ wq.T), split(h @ wk.T), split(h @ wv.T), is_causal=True)
    x = x + o.transpose(1, 2).reshape(batch, time, width) @ wo.T
    h = F.rms_norm(x, (width,), norm2, NORM_EPS)
    return (x + (F.silu(h @ gate.T) * (h @ up.T)) @ down.T)[:, first:]


def rows_of(batch: int, time: int) -> Rows:
    return own_rows(torch.zeros(batch, time, dtype=torch.int64))


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
    ours = block(x.flatten(0, 1), rows_of(batch, time), first, None, 0).view(batch, time - first, -1)
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
    full = block(x.flatten(0, 1), rows_of(4, 6), first, None, 0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = block(x.flatten(0, 1), rows_of(4, 6), first, None, 0)
    assert half.dtype == torch.float32
    assert 0 < (half - full).norm() / full.norm() < 0.02
    wanted = [x, *block.parameters()]
    for mine, expected in zip(
        torch.autograd.grad(half.sum(), wanted), torch.autograd.grad(full.sum(), wanted), strict=True
    ):
        assert mine.dtype == torch.float32
        assert (mine - expected).norm() / expected.norm() < 0.05

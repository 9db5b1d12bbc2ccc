"""Compiled passes against the same formulas as torch writes them, in double precision."""

import torch
import torch.nn.functional as F
from helpers import properties
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from easy2hard.engines.cpu.kernels import norm_backward, normed, swiglu, swiglu_backward
from easy2hard.models.transformer import NORM_EPS
from easy2hard.seeding import torch_generator


def both(*shape: int, purpose: str = "x") -> tuple[Tensor, Tensor]:
    """Return the same numbers in float32 and float64."""
    single = torch.randn(*shape, generator=torch_generator(sum(shape), purpose)) * 3
    return single, single.double()


def assert_near(mine: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(mine.double(), expected, rtol=1e-5, atol=1e-5)


@properties
@given(rows=st.integers(1, 20), width=st.integers(1, 70))
def test_norm(rows: int, width: int) -> None:
    x, plain = both(rows, width)
    factors = (plain.square().mean(dim=-1) + NORM_EPS).rsqrt()
    for mine, expected in zip(normed(x), (plain * factors[:, None], factors), strict=True):
        assert_near(mine, expected)


@properties
@given(data=st.data(), batch=st.integers(1, 4), time=st.integers(1, 6), common=st.integers(0, 5))
def test_gradient_of_the_norm(data: st.DataObject, batch: int, time: int, common: int) -> None:
    first = data.draw(st.integers(0, time - 1))
    rows = common + batch * time
    dn, n, straight = both(rows, 32), both(rows, 32, purpose="n"), both(batch * (time - first), 32, purpose="straight")
    r = (torch.rand(rows, generator=torch_generator(rows, "r")) + 0.5).float()
    mine = norm_backward(dn[0], n[0], r, straight[0], common, time, first)
    along = (dn[1] * n[1]).mean(dim=-1, keepdim=True)
    expected = (dn[1] - n[1] * along) * r.double()[:, None]
    expected[common:].view(batch, time, 32)[:, first:] += straight[1].view(batch, time - first, 32)
    assert_near(mine, expected)


@properties
@given(rows=st.integers(1, 9), hidden=st.sampled_from([16, 48]))
def test_swiglu_and_its_gradient(rows: int, hidden: int) -> None:
    x, plain = both(rows, 2 * hidden)
    d, plain_d = both(rows, hidden, purpose="d")
    gate, up = plain.requires_grad_().chunk(2, dim=-1)
    value = F.silu(gate) * up
    assert_near(swiglu(x), value)
    gradient, again = swiglu_backward(x, d)
    assert_near(gradient, torch.autograd.grad(value, plain, plain_d)[0])
    assert_near(again, value)


def test_swiglu_of_great_numbers_is_a_number() -> None:
    x = torch.tensor([[-1e30, -200.0, 200.0, 1e30] * 4 + [1.0] * 16])
    value = swiglu(x)
    assert value.isfinite().all()
    torch.testing.assert_close(value[0, :2], torch.zeros(2))
    torch.testing.assert_close(value[0, 2:4], x[0, 2:4])

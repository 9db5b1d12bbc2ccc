"""Sixteen floats at a time against numpy."""

import numpy as np
import pytest
from helpers import properties
from hypothesis import given
from hypothesis import strategies as st

from easy2hard.engines.cpu.kernels import Array, compiled
from easy2hard.engines.cpu.simd import LANES, exp, greater, greatest, load, over, plus, spread, store, times, total


@compiled
def _exps(x: Array, out: Array) -> None:
    for j in range(0, len(x), 16):
        store(out, j, exp(load(x, j)))


@compiled
def _reduced(x: Array, y: Array, out: Array) -> None:
    u, v = load(x, 0), load(y, 0)
    out[0] = total(plus(u, v))
    out[1] = greatest(greater(u, v))
    out[2] = total(times(u, over(v, spread(np.float32(4)))))


def exps(x: np.ndarray) -> np.ndarray:
    out = np.empty_like(x)
    _exps(x, out)
    return out


def test_exp_is_that_of_numpy() -> None:
    x = np.linspace(-79.9, 87.9, 1 << 16, dtype=np.float32)
    np.testing.assert_allclose(exps(x), np.exp(x.astype(np.float64)), rtol=3e-7)


@pytest.mark.parametrize(("x", "value"), [(-80.5, 0), (-1e30, 0), (-np.inf, 0), (0, 1)])
def test_exp_far_below_is_nothing(x: float, value: float) -> None:
    assert exps(np.full(LANES, x, dtype=np.float32)).tolist() == [value] * LANES


def test_exp_is_never_infinite() -> None:
    assert np.isfinite(exps(np.full(LANES, 1e30, dtype=np.float32))).all()


@properties
@given(st.lists(st.floats(-1000, 1000, width=32), min_size=2 * LANES, max_size=2 * LANES))
def test_lanes_are_added_compared_and_divided(numbers: list[float]) -> None:
    x, y = np.array(numbers, dtype=np.float32).reshape(2, LANES)
    out = np.empty(3, dtype=np.float32)
    _reduced(x, y, out)
    size = np.abs(x).sum() + np.abs(y).sum() + (np.abs(x) * np.abs(y)).sum() + 1
    np.testing.assert_allclose(out[0], (x + y).sum(), atol=1e-5 * size)
    assert out[1] == np.maximum(x, y).max()
    np.testing.assert_allclose(out[2], (x * (y / 4)).sum(), atol=1e-5 * size)

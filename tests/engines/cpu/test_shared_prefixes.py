"""Rows that examples share stand for the right beginnings."""

import numpy as np
import torch
from helpers import properties
from hypothesis import given
from hypothesis import strategies as st

from easy2hard.engines.cpu.shared_prefixes import MOST, own_rows, shared_rows


@properties
@given(
    batch=st.integers(1, 40),
    time=st.integers(1, 7),
    symbols=st.integers(1, 12),
    seed=st.integers(0, 99),
    data=st.data(),
)
def test_a_row_is_shared_by_equal_beginnings_alone(
    batch: int, time: int, symbols: int, seed: int, data: st.DataObject
) -> None:
    first = data.draw(st.integers(0, time - 1))
    plain = np.random.default_rng(seed).integers(0, symbols, (batch, time))
    rows = shared_rows(torch.from_numpy(plain), first)
    assert rows.shared <= min(first, MOST)
    assert (rows.tokens.numpy()[rows.index] == plain).all()
    beginnings = [[tuple(row[: t + 1]) for t in range(time)] for row in plain.tolist()]
    seen: dict[int, tuple[int, ...]] = {}
    for b in range(batch):
        for t in range(time):
            row = int(rows.index[b, t])
            assert (row < rows.common) == (t < rows.shared)
            if t < rows.shared:
                assert seen.setdefault(row, beginnings[b][t]) == beginnings[b][t]
    assert len(set(seen.values())) == len(seen) == rows.common
    # Every row has one owner.
    assert sorted(rows.index[rows.owner == 1].tolist()) == list(range(len(rows.tokens)))
    asked = rows.asked(torch.arange(len(rows.tokens))[:, None], first)
    if first:
        assert asked[:, 0].tolist() == rows.index[:, first:].ravel().tolist()


def test_a_batch_of_numbers_shares_its_first_digits() -> None:
    generator = np.random.default_rng(0)
    tokens = np.concatenate([np.full((256, 1), 1), generator.integers(5, 14, (256, 9))], axis=1)
    rows = shared_rows(torch.from_numpy(tokens), 9)
    assert (rows.shared, rows.common) == (3, 1 + 9 + len(np.unique(tokens[:, 1:3], axis=0)))
    assert len(rows.tokens) < len(own_rows(torch.from_numpy(tokens)).tokens) - 600

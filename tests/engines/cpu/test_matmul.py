"""Compiled matrix products against numpy's."""

import numpy as np
from helpers import properties
from hypothesis import given
from hypothesis import strategies as st

from easy2hard.engines.cpu.matmul import DEEP, product


@properties
@given(
    rows=st.integers(0, 70),
    terms=st.sampled_from([1, 3, 17, DEEP, DEEP + 5]),
    columns=st.integers(1, 5).map(lambda count: 16 * count),
    turned=st.booleans(),
    add=st.booleans(),
    margin=st.sampled_from([0, 3]),
)
def test_every_shape_is_that_of_numpy(
    rows: int, terms: int, columns: int, turned: bool, add: bool, margin: int
) -> None:
    generator = np.random.default_rng(rows * 1000 + terms + columns)
    a, b, out = (
        generator.standard_normal(shape).astype(np.float32)
        for shape in ((rows, terms), (terms, columns + margin), (rows, columns + margin))
    )
    expected = out.copy()
    expected[:, :columns] = a @ b[:, :columns] + (out[:, :columns] if add else 0)
    first = np.ascontiguousarray(a.T if turned else a).ravel()
    a_row, a_term = (1, rows) if turned else (terms, 1)
    flat = np.concatenate([np.full(5, 7, np.float32), out.ravel()])
    wide = columns + margin
    product(first, 0, a_row, a_term, b.ravel(), 0, wide, rows, terms, columns, flat, 5, wide, add)
    np.testing.assert_allclose(flat[5:].reshape(expected.shape), expected, rtol=1e-4, atol=1e-4)
    assert (flat[:5] == 7).all()


@properties
@given(rows=st.integers(1, 40), kept=st.integers(1, 40))
def test_a_row_does_not_depend_on_the_rows_beside_it(rows: int, kept: int) -> None:
    """As long as both are taken eight at a time; the decoder rounds its rows up to that."""
    rows, kept = -(-rows // 8) * 8, -(-kept // 8) * 8
    rows, kept = max(rows, kept), min(rows, kept)
    generator = np.random.default_rng(rows)
    a, b = generator.standard_normal((rows, 24)).astype(np.float32), generator.standard_normal(24 * 48)
    whole, part = np.empty(rows * 48, np.float32), np.empty(kept * 48, np.float32)
    for count, out in ((rows, whole), (kept, part)):
        product(a.ravel(), 0, 24, 1, b.astype(np.float32), 0, 48, count, 24, 48, out, 0, 48, False)
    assert whole[: kept * 48].tobytes() == part.tobytes()

"""Matrix products for compiled loops: small ones, where a library spends as long in its call as in the product."""

import numpy as np

from easy2hard.engines.cpu.kernels import Array, compiled
from easy2hard.engines.cpu.simd import fma, fma_panel, load, load_panel, spread_at, store, store_panel, zero, zero_panel

DEEP = 256
"""Terms of a sum that are taken at a time: the panel that they come from stays in the nearest cache."""


@compiled
def product(
    a: Array, a0: int, a_row: int, a_term: int, b: Array, b0: int, b_term: int, rows: int, terms: int, columns: int,
    out: Array, out0: int, out_row: int, add: bool,
) -> None:  # fmt: skip
    """Set (or add to) ``out[r, c]`` the sum over j of ``a[r, j] * b[j, c]``; arrays are seen as one row of memory.

    Args:
        a: its element (r, j) stands at ``a0 + r * a_row + j * a_term``.
        b: its element (j, c) stands at ``b0 + j * b_term + c``.
        rows: rows of a and out.
        terms: columns of a, rows of b.
        columns: of b and out, a multiple of 16.
        out: its element (r, c) stands at ``out0 + r * out_row + c``.
        add: to what is there.
    """
    panels = columns // 32 * 32
    whole = rows // 8 * 8
    packed = np.empty(DEEP * 32 if rows > 32 else 0, np.float32)
    for start in range(0, max(terms, 1), DEEP):
        deep = min(terms - start, DEEP)
        more = add or start > 0
        for p in range(0, panels, 32):
            if rows > 32:
                for j in range(deep):
                    at = b0 + (start + j) * b_term + p
                    store(packed, j * 32, load(b, at))
                    store(packed, j * 32 + 16, load(b, at + 16))
                _panel(a, a0 + start * a_term, a_row, a_term, packed, 0, 32, whole, deep, out, out0 + p, out_row, more)
            else:
                at = b0 + start * b_term + p
                _panel(a, a0 + start * a_term, a_row, a_term, b, at, b_term, whole, deep, out, out0 + p, out_row, more)
        for r in range(rows):
            for p in range(0 if r >= whole else panels, columns, 16):
                s = load(out, out0 + r * out_row + p) if more else zero()
                i, at = a0 + r * a_row + start * a_term, b0 + start * b_term + p
                for _ in range(deep):
                    s = fma(s, spread_at(a, i), load(b, at))
                    i += a_term
                    at += b_term
                store(out, out0 + r * out_row + p, s)


@compiled
def _panel(
    a: Array, a0: int, ra: int, ja: int, b: Array, b0: int, jb: int, rows: int, terms: int, out: Array, o: int, ro: int,
    add: bool,
) -> None:  # fmt: skip
    """The same for 32 columns and a multiple of 8 rows: sixteen sums that never leave the registers."""
    for r in range(0, rows, 8):
        sums = load_panel(out, o, ro) if add else zero_panel()
        i, at = a0 + r * ra, b0
        for _ in range(terms):
            sums = fma_panel(sums, a, i, ra, load(b, at), load(b, at + 16))
            i += ja
            at += jb
        store_panel(out, o, ro, sums)
        o += 8 * ro

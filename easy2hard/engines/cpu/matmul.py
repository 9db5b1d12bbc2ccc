"""Matrix products for compiled loops: small ones, where a library spends as long in its call as in the product."""

import numpy as np

from easy2hard.engines.cpu.kernels import Array, compiled
from easy2hard.engines.cpu.simd import fma, load, spread_at, store, zero

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
        if add:
            a1, b1, a2, b2 = load(out, o), load(out, o + 16), load(out, o + ro), load(out, o + ro + 16)
            a3, b3 = load(out, o + 2 * ro), load(out, o + 2 * ro + 16)
            a4, b4 = load(out, o + 3 * ro), load(out, o + 3 * ro + 16)
            a5, b5 = load(out, o + 4 * ro), load(out, o + 4 * ro + 16)
            a6, b6 = load(out, o + 5 * ro), load(out, o + 5 * ro + 16)
            a7, b7 = load(out, o + 6 * ro), load(out, o + 6 * ro + 16)
            a8, b8 = load(out, o + 7 * ro), load(out, o + 7 * ro + 16)
        else:
            a1, a2, a3, a4, a5, a6, a7, a8 = zero(), zero(), zero(), zero(), zero(), zero(), zero(), zero()
            b1, b2, b3, b4, b5, b6, b7, b8 = zero(), zero(), zero(), zero(), zero(), zero(), zero(), zero()
        i, at = a0 + r * ra, b0
        for _ in range(terms):
            u, v = load(b, at), load(b, at + 16)
            s = spread_at(a, i)
            a1, b1 = fma(a1, s, u), fma(b1, s, v)
            s = spread_at(a, i + ra)
            a2, b2 = fma(a2, s, u), fma(b2, s, v)
            s = spread_at(a, i + 2 * ra)
            a3, b3 = fma(a3, s, u), fma(b3, s, v)
            s = spread_at(a, i + 3 * ra)
            a4, b4 = fma(a4, s, u), fma(b4, s, v)
            s = spread_at(a, i + 4 * ra)
            a5, b5 = fma(a5, s, u), fma(b5, s, v)
            s = spread_at(a, i + 5 * ra)
            a6, b6 = fma(a6, s, u), fma(b6, s, v)
            s = spread_at(a, i + 6 * ra)
            a7, b7 = fma(a7, s, u), fma(b7, s, v)
            s = spread_at(a, i + 7 * ra)
            a8, b8 = fma(a8, s, u), fma(b8, s, v)
            i += ja
            at += jb
        store(out, o, a1)
        store(out, o + 16, b1)
        store(out, o + ro, a2)
        store(out, o + ro + 16, b2)
        store(out, o + 2 * ro, a3)
        store(out, o + 2 * ro + 16, b3)
        store(out, o + 3 * ro, a4)
        store(out, o + 3 * ro + 16, b4)
        store(out, o + 4 * ro, a5)
        store(out, o + 4 * ro + 16, b5)
        store(out, o + 5 * ro, a6)
        store(out, o + 5 * ro + 16, b6)
        store(out, o + 6 * ro, a7)
        store(out, o + 6 * ro + 16, b7)
        store(out, o + 7 * ro, a8)
        store(out, o + 7 * ro + 16, b8)
        o += 8 * ro

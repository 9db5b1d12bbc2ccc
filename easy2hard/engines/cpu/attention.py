"""Causal attention of a whole batch as one compiled pass forwards and one backwards, read and written where it stands.

Queries, keys and values stay in the rows that the matrix product made; nothing is rearranged, masked or computed only
to be hidden. Positions that several examples share (shared_prefixes.py) are computed once. :func:`attend_one` is for
decoding. For heads whose width is a multiple of 16.
"""

import numpy as np
from numpy.typing import NDArray

from easy2hard.engines.cpu.kernels import Array, compiled
from easy2hard.engines.cpu.simd import (
    exp,
    fma,
    greater,
    greatest,
    load,
    plus,
    spread,
    spread_at,
    store,
    times,
    total,
    zero,
)

Index = NDArray[np.int64]

_f = np.float32


@compiled
def _turned(flat: Array, at: Index, time: int, padded: int, column: int, head: int, tile: Array) -> None:
    """Write (head, padded) columns of one head from its (time, head) rows."""
    for t in range(time):
        row = at[t] + column
        for d in range(head):
            tile[d * padded + t] = flat[row + d]


@compiled
def _along(tile: Array, padded: int, head: int, flat: Array, at: int, j: int) -> object:
    """Return the products of a row of ``flat`` with sixteen columns of a tile."""
    a, b = zero(), zero()
    for d in range(0, head, 2):
        a = fma(a, spread_at(flat, at + d), load(tile, d * padded + j))
        b = fma(b, spread_at(flat, at + d + 1), load(tile, (d + 1) * padded + j))
    return plus(a, b)


@compiled
def attend(
    qkv: Array, rows: Index, owner: Index, first: int, heads: int, head: int, bias: Array, p: Array, o: Array
) -> None:
    """Write the weighted values ``o`` and the probabilities ``p``.

    Args:
        qkv: (rows, 3 * width) seen as one row: queries, scaled, then keys, then values, each head after head.
        rows: (batch, time) row of each position.
        owner: (batch, time) 1 where the position is computed for its row, 0 where another example does it.
        first: first position asked for.
        heads: number of heads.
        head: width of a head.
        bias: (batch or 1, heads, time - first, time up to a multiple of 16) seen as one row, which is added to the
            scores; or empty.
        p: (batch, heads, time - first, time up to a multiple of 16) seen as one row.
        o: (rows asked, width) seen as one row: in ``rows`` from position 0 on, else example after example.
    """
    batch, time = rows.shape
    width, asked, padded = heads * head, time - first, (time + 15) // 16 * 16
    wide = 3 * width
    keys, greatests = np.zeros(head * padded, np.float32), np.empty(time, np.float32)
    at, biased = np.empty(time, np.int64), bias.size > 0
    for b in range(batch):
        for t in range(time):
            at[t] = rows[b, t] * wide
        for h in range(heads):
            column = h * head
            _turned(qkv, at, time, padded, width + column, head, keys)
            start = (b * heads + h) * asked * padded
            # In three passes, so that the processor finds several rows at a time to work at.
            for t in range(first, time):
                row, whole, most = start + (t - first) * padded, (t + 16) // 16 * 16, spread(_f(-1e30))
                for j in range(0, whole, 16):
                    store(p, row + j, _along(keys, padded, head, qkv, at[t] + column, j))
                if biased:
                    shift = row % bias.size
                    for j in range(0, whole, 16):
                        store(p, row + j, plus(load(p, row + j), load(bias, shift + j)))
                for j in range(t + 1, whole):
                    p[row + j] = _f(-1e30)
                for j in range(row, row + whole, 16):
                    most = greater(most, load(p, j))
                greatests[t] = greatest(most)
            for t in range(first, time):
                row, whole, least, sums = start + (t - first) * padded, (t + 16) // 16 * 16, -greatests[t], zero()
                for j in range(row, row + whole, 16):
                    e = exp(plus(load(p, j), spread(least)))
                    sums = plus(sums, e)
                    store(p, j, e)
                share = spread(_f(1) / total(sums))
                for j in range(row, row + whole, 16):
                    store(p, j, times(load(p, j), share))
            for t in range(first, time):
                if owner[b, t] == 0:
                    continue
                i = rows[b, t] if first == 0 else b * asked + t - first
                row, seen = start + (t - first) * padded, t + 1
                for d in range(0, head, 16):
                    v = 2 * width + column + d
                    a, c = zero(), zero()
                    for j in range(0, seen - 1, 2):
                        a = fma(a, spread_at(p, row + j), load(qkv, at[j] + v))
                        c = fma(c, spread_at(p, row + j + 1), load(qkv, at[j + 1] + v))
                    if seen % 2:
                        a = fma(a, spread_at(p, row + seen - 1), load(qkv, at[seen - 1] + v))
                    store(o, i * width + column + d, plus(a, c))


@compiled
def attend_backward(
    qkv: Array, rows: Index, owner: Index, shared: int, first: int, heads: int, head: int, p: Array, do: Array,
    d_bias: Array, d_qkv: Array,
) -> None:  # fmt: skip
    """Write the gradients of queries, keys and values from that of the weighted values.

    Args:
        shared: positions whose rows may belong to several examples; the rows' gradients are zero at the beginning.
        do: gradient of ``o``, in its order.
        d_bias: as ``bias``; its gradient is added to it.
        d_qkv: as ``qkv``.

    The others are those of :func:`attend`.
    """
    batch, time = rows.shape
    width, asked, padded = heads * head, time - first, (time + 15) // 16 * 16
    values, slopes = np.zeros(head * padded, np.float32), np.zeros(asked * padded, np.float32)
    wide = 3 * width
    at, o_at, biased = np.empty(time, np.int64), np.empty(time, np.int64), d_bias.size > 0
    for b in range(batch):
        for t in range(time):
            at[t] = rows[b, t] * wide
            o_at[t] = (rows[b, t] if first == 0 else b * asked + t - first) * width
        for h in range(heads):
            column = h * head
            _turned(qkv, at, time, padded, 2 * width + column, head, values)
            for t in range(first):
                for d in range(0, head, 16):
                    store(d_qkv, at[t] + column + d, zero())
            for t in range(first, time):
                if owner[b, t] == 0:
                    continue
                seen = t + 1
                row, whole = ((b * heads + h) * asked + t - first) * padded, (seen + 15) // 16 * 16
                slope = (t - first) * padded
                sums = zero()
                for j in range(0, whole, 16):
                    dp = _along(values, padded, head, do, o_at[t] + column, j)
                    sums = plus(sums, times(dp, load(p, row + j)))
                    store(slopes, slope + j, dp)
                mean = spread(-total(sums))
                for j in range(0, whole, 16):
                    store(slopes, slope + j, times(plus(load(slopes, slope + j), mean), load(p, row + j)))
                if biased:
                    shift = row % d_bias.size
                    for j in range(0, whole, 16):
                        store(d_bias, shift + j, plus(load(d_bias, shift + j), load(slopes, slope + j)))
                for d in range(0, head, 16):
                    k = width + column + d
                    a, c = zero(), zero()
                    for j in range(0, seen - 1, 2):
                        a = fma(a, spread_at(slopes, slope + j), load(qkv, at[j] + k))
                        c = fma(c, spread_at(slopes, slope + j + 1), load(qkv, at[j + 1] + k))
                    if seen % 2:
                        a = fma(a, spread_at(slopes, slope + seen - 1), load(qkv, at[seen - 1] + k))
                    store(d_qkv, at[t] + column + d, plus(a, c))
            for j in range(time):
                out = at[j] + column
                for d in range(0, head, 16):
                    dk, dv = zero(), zero()
                    for t in range(max(j, first), time):
                        if owner[b, t] == 0:
                            continue
                        dk = fma(dk, spread_at(slopes, (t - first) * padded + j), load(qkv, at[t] + column + d))
                        row = ((b * heads + h) * asked + t - first) * padded
                        dv = fma(dv, spread_at(p, row + j), load(do, o_at[t] + column + d))
                    if j < shared:
                        dk = plus(dk, load(d_qkv, out + width + d))
                        dv = plus(dv, load(d_qkv, out + 2 * width + d))
                    store(d_qkv, out + width + d, dk)
                    store(d_qkv, out + 2 * width + d, dv)


@compiled
def attend_one(
    qkv: Array, q0: int, keys: Array, values: Array, at: int, seen: int, capacity: int, head: int, row: Array,
    out: Array, o0: int,
) -> None:  # fmt: skip
    """Write what one query sees of the first ``seen`` tokens.

    Keys are (head, capacity) and values (capacity, head) from ``at`` on: both are read along their rows.
    """
    whole = (seen + 15) // 16 * 16
    most = spread(_f(-1e30))
    for j in range(0, whole, 16):
        a, b = zero(), zero()
        for d in range(0, head, 2):
            a = fma(a, spread_at(qkv, q0 + d), load(keys, at + d * capacity + j))
            b = fma(b, spread_at(qkv, q0 + d + 1), load(keys, at + (d + 1) * capacity + j))
        store(row, j, plus(a, b))
        if j + 16 > seen:
            for i in range(seen, whole):
                row[i] = _f(-1e30)
        most = greater(most, load(row, j))
    least = spread(-greatest(most))
    sums = zero()
    for j in range(0, whole, 16):
        e = exp(plus(load(row, j), least))
        sums = plus(sums, e)
        store(row, j, e)
    share = spread(_f(1) / total(sums))
    for d in range(0, head, 16):
        a, b, c, e = zero(), zero(), zero(), zero()
        v = at + d
        for j in range(0, whole, 4):
            a = fma(a, spread_at(row, j), load(values, v))
            b = fma(b, spread_at(row, j + 1), load(values, v + head))
            c = fma(c, spread_at(row, j + 2), load(values, v + 2 * head))
            e = fma(e, spread_at(row, j + 3), load(values, v + 3 * head))
            v += 4 * head
        store(out, o0 + d, times(share, plus(plus(a, b), plus(c, e))))

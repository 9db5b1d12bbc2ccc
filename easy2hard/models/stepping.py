"""Greedy decoding as one compiled loop: a few rows at a time, their keys and values beside the weights in the cache.

With large batches the keys and values of a step are read from far away, and with small ones an interpreter spends
longer between two operations than in them. A compiled loop has neither cost: it takes so few rows that all it touches
stays in the core's own cache, and holds no interpreter lock, so that threads are enough. A row's numbers do not depend
on the rows beside it. models/decoding.py decides when it is used; tests/models/test_stepping.py compares it with the
plain decoder.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from easy2hard.models.block import Folded
from easy2hard.models.kernels import NORM_EPS, Array, compiled
from easy2hard.models.vectors import (
    LANES,
    added,
    exp,
    greater,
    greatest,
    load,
    over,
    plus,
    spread,
    store,
    times,
    total,
    zero,
)
from easy2hard.vocabulary import EOS

ROWS = 8
"""Rows that a matrix product takes at a time."""
PANEL = 2 * LANES
"""Columns that a matrix product takes at a time."""
CACHED_BYTES = 1_200_000
"""Of keys and values at a time, or as many as the weights have: both stay in a core's own cache (LOG.md)."""

_f = np.float32


@dataclass(frozen=True)
class Packed:
    """A member's weights as the loop reads them: matrices in panels of 32 columns, blocks one after another."""

    embedding: Array
    qkv: Array
    o: Array
    gate_up: Array
    down: Array
    head: Array
    vocabulary: int
    width: int
    hidden: int
    layers: int
    heads: int

    @property
    def bytes(self) -> int:
        """Bytes of the matrices."""
        return sum(each.nbytes for each in (self.qkv, self.o, self.gate_up, self.down))


def pack(embedding: torch.Tensor, blocks: list[Folded], head: torch.Tensor, heads: int) -> Packed:
    """Return the weights of a member for the loop.

    Args:
        embedding: (vocabulary, width).
        blocks: folded weights of each block.
        head: (vocabulary, width), the gains of the last norm folded in.
        heads: heads of the attention; their width is a multiple of 16.
    """

    def panels(*weights: torch.Tensor) -> Array:
        packed = []
        for weight in weights:
            columns, width = weight.shape
            padded = np.zeros((-(-columns // PANEL) * PANEL, width), dtype=np.float32)
            padded[:columns] = weight.detach().numpy()
            packed.append(padded.reshape(-1, PANEL, width).transpose(0, 2, 1).ravel())
        return np.concatenate(packed)

    return Packed(
        embedding.detach().numpy().ravel(),
        panels(*(each.qkv for each in blocks)),
        panels(*(each.o for each in blocks)),
        panels(*(each.gate_up for each in blocks)),
        panels(*(each.down for each in blocks)),
        panels(head),
        len(embedding),
        embedding.shape[1],
        blocks[0].down.shape[1],
        len(blocks),
        heads,
    )


def rows_at_a_time(weights: Packed, length: int) -> int:
    """Return how many rows of ``length`` tokens are answered together."""
    row = 2 * 4 * weights.width * weights.layers * _up(length, LANES)
    return max(ROWS, CACHED_BYTES // row // ROWS * ROWS)


def _up(count: int, multiple: int) -> int:
    return -(-count // multiple) * multiple


def answer(
    weights: Packed, prompts: NDArray[np.int32], bounds: NDArray[np.int64], pad: int
) -> tuple[NDArray[np.int32], Array, Array]:
    """Answer (count, length) prompts greedily.

    Returns:
        (count, longest) answers ended by EOS where they finished, padded; (count,) the smallest log-probability of a
        token of each answer, and the sum of them.
    """
    count, longest = len(prompts), int(bounds.max())
    chosen = np.full((count, longest), pad, dtype=np.int32)
    least, total = np.full(count, np.inf, dtype=np.float32), np.zeros(count, dtype=np.float32)
    width, hidden, layers = weights.width, weights.hidden, weights.layers
    capacity = _up(prompts.shape[1] + longest, LANES)
    together = rows_at_a_time(weights, capacity)
    # Columns of a matrix product come in whole panels.
    wide = _up(max(3 * width, 2 * hidden, weights.vocabulary), PANEL)
    x, n, act = (np.zeros(together * size, dtype=np.float32) for size in (width, _up(width, PANEL), hidden))
    out, row = np.zeros(together * wide, dtype=np.float32), np.zeros(capacity, dtype=np.float32)
    keys, values = np.zeros((2, together * layers * width * capacity), dtype=np.float32)
    for start in range(0, count, together):
        part = slice(start, start + together)
        _answer(
            np.ascontiguousarray(prompts[part]),
            bounds[part],
            weights.embedding,
            weights.qkv,
            weights.o,
            weights.gate_up,
            weights.down,
            weights.head,
            weights.vocabulary,
            hidden,
            layers,
            weights.heads,
            capacity,
            x,
            n,
            act,
            out,
            row,
            keys,
            values,
            chosen[part],
            least[part],
            total[part],
        )
    return chosen, least, total


@compiled
def _product(a: Array, rows: int, inner: int, w: Array, w0: int, first: int, columns: int, out: Array) -> None:
    """Write a @ w of (rows, inner) a and the panels from column ``first`` on; a row of out holds whole panels."""
    stride = (columns + 31) // 32 * 32
    for p in range(first // 32 * 32, columns, 32):
        for r in range(0, rows, 8):
            a0, a1, a2, a3, a4, a5, a6, a7 = zero(), zero(), zero(), zero(), zero(), zero(), zero(), zero()
            b0, b1, b2, b3, b4, b5, b6, b7 = zero(), zero(), zero(), zero(), zero(), zero(), zero(), zero()
            at, i = w0 + p * inner, r * inner
            for _ in range(inner):
                u, v = load(w, at), load(w, at + 16)
                at += 32
                a0, b0 = added(a0, a[i], u), added(b0, a[i], v)
                a1, b1 = added(a1, a[i + inner], u), added(b1, a[i + inner], v)
                a2, b2 = added(a2, a[i + 2 * inner], u), added(b2, a[i + 2 * inner], v)
                a3, b3 = added(a3, a[i + 3 * inner], u), added(b3, a[i + 3 * inner], v)
                a4, b4 = added(a4, a[i + 4 * inner], u), added(b4, a[i + 4 * inner], v)
                a5, b5 = added(a5, a[i + 5 * inner], u), added(b5, a[i + 5 * inner], v)
                a6, b6 = added(a6, a[i + 6 * inner], u), added(b6, a[i + 6 * inner], v)
                a7, b7 = added(a7, a[i + 7 * inner], u), added(b7, a[i + 7 * inner], v)
                i += 1
            o = r * stride + p
            store(out, o, a0)
            store(out, o + 16, b0)
            store(out, o + stride, a1)
            store(out, o + stride + 16, b1)
            store(out, o + 2 * stride, a2)
            store(out, o + 2 * stride + 16, b2)
            store(out, o + 3 * stride, a3)
            store(out, o + 3 * stride + 16, b3)
            store(out, o + 4 * stride, a4)
            store(out, o + 4 * stride + 16, b4)
            store(out, o + 5 * stride, a5)
            store(out, o + 5 * stride + 16, b5)
            store(out, o + 6 * stride, a6)
            store(out, o + 6 * stride + 16, b6)
            store(out, o + 7 * stride, a7)
            store(out, o + 7 * stride + 16, b7)


@compiled
def _norm(x: Array, rows: int, width: int, n: Array) -> None:
    for r in range(rows):
        total = _f(0)
        for j in range(r * width, (r + 1) * width):
            total += x[j] * x[j]
        scale = _f(1) / np.sqrt(total / _f(width) + _f(NORM_EPS))
        for j in range(r * width, (r + 1) * width):
            n[j] = x[j] * scale


@compiled
def _attend(
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
            a = added(a, qkv[q0 + d], load(keys, at + d * capacity + j))
            b = added(b, qkv[q0 + d + 1], load(keys, at + (d + 1) * capacity + j))
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
            a = added(a, row[j], load(values, v))
            b = added(b, row[j + 1], load(values, v + head))
            c = added(c, row[j + 2], load(values, v + 2 * head))
            e = added(e, row[j + 3], load(values, v + 3 * head))
            v += 4 * head
        store(out, o0 + d, times(share, plus(plus(a, b), plus(c, e))))


@compiled
def _swiglu(gate_up: Array, rows: int, hidden: int, act: Array) -> None:
    stride = (2 * hidden + 31) // 32 * 32
    one = spread(_f(1))
    for r in range(rows):
        for j in range(0, hidden, 16):
            gate, up = load(gate_up, r * stride + j), load(gate_up, r * stride + hidden + j)
            sigmoid = over(one, plus(one, exp(times(gate, spread(_f(-1))))))
            store(act, r * hidden + j, times(times(gate, sigmoid), up))


@compiled
def _add(x: Array, y: Array, rows: int, width: int) -> None:
    stride = (width + 31) // 32 * 32
    for r in range(rows):
        for j in range(width):
            x[r * width + j] += y[r * stride + j]


@compiled
def _answer(
    prompts: NDArray[np.int32], bounds: NDArray[np.int64], embedding: Array, qkv: Array, o: Array, gate_up: Array,
    down: Array, head_weights: Array, vocabulary: int, hidden: int, layers: int, heads: int, capacity: int, x: Array,
    n: Array, act: Array, out: Array, row: Array, keys: Array, values: Array, chosen: NDArray[np.int32], least: Array,
    total: Array,
) -> None:  # fmt: skip
    """Answer up to as many prompts as the buffers hold rows; all arrays of floats are seen as one row."""
    count, length = prompts.shape
    width = embedding.size // vocabulary
    head = width // heads
    qkv_size, o_size = (3 * width + 31) // 32 * 32 * width, (width + 31) // 32 * 32 * width
    up_size, down_size = (2 * hidden + 31) // 32 * 32 * width, (width + 31) // 32 * 32 * hidden
    qkv_stride, head_stride = (3 * width + 31) // 32 * 32, (vocabulary + 31) // 32 * 32
    active = np.arange(count)
    going = count
    for t in range(length + chosen.shape[1] - 1):
        answering = t >= length - 1
        for i in range(going):
            r = active[i]
            token = prompts[r, t] if t < length else chosen[r, t - length]
            for j in range(width):
                x[i * width + j] = embedding[token * width + j]
        for layer in range(layers):
            asked = answering or layer < layers - 1  # nothing reads what the last block says of a prompt
            _norm(x, going, width, n)
            _product(n, going, width, qkv, layer * qkv_size, 0 if asked else width, 3 * width, out)
            for i in range(going):
                for h in range(heads):
                    at = ((active[i] * layers + layer) * heads + h) * head * capacity
                    q0 = i * qkv_stride + h * head
                    for d in range(head):
                        keys[at + d * capacity + t] = out[q0 + width + d]
                        values[at + t * head + d] = out[q0 + 2 * width + d]
                    if asked:
                        _attend(out, q0, keys, values, at, t + 1, capacity, head, row, n, i * width + h * head)
            if not asked:
                break
            _product(n, going, width, o, layer * o_size, 0, width, out)
            _add(x, out, going, width)
            _norm(x, going, width, n)
            _product(n, going, width, gate_up, layer * up_size, 0, 2 * hidden, out)
            _swiglu(out, going, hidden, act)
            _product(act, going, hidden, down, layer * down_size, 0, width, out)
            _add(x, out, going, width)
        if not answering:
            continue
        _norm(x, going, width, n)
        _product(n, going, width, head_weights, 0, 0, vocabulary, out)
        step, still = t - length + 1, 0
        for i in range(going):
            r, at = active[i], i * head_stride
            best = EOS
            most = out[at]
            for j in range(vocabulary):
                most = max(most, out[at + j])
                if j > best and out[at + j] > out[at + best]:
                    best = j
            summed = _f(0)
            for j in range(vocabulary):
                summed += np.exp(out[at + j] - most)
            probability = out[at + best] - most - np.log(summed)
            chosen[r, step] = best
            least[r] = min(least[r], probability)
            total[r] += probability
            if best != EOS and step + 1 < bounds[r]:
                active[still] = r
                still += 1
        going = still
        if going == 0:
            break

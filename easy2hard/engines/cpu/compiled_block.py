"""Blocks of a small model, and what stands before and behind them, as one compiled call forwards and one backwards.

Products by torch would wait for the interpreter's lock, so that a second thread gained a third instead of doubling the
speed (LOG.md, 2026-11-25). These calls hold no lock at all.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from easy2hard.engines.cpu.attention import attend, attend_backward
from easy2hard.engines.cpu.kernels import (
    Array,
    compiled,
    flat,
    norm_backward_loop,
    normed_loop,
    swiglu_backward_loop,
    swiglu_loop,
)
from easy2hard.engines.cpu.matmul import product
from easy2hard.engines.cpu.shared_prefixes import Places, Rows
from easy2hard.engines.cpu.simd import LANES
from easy2hard.models.transformer import BlockWeights
from easy2hard.vocabulary import PAD

Arrays = tuple[Array, ...]


TOGETHER = 128
"""Rows that go through the feed-forward layer at a time: four times as wide, they stay in the core's own cache."""


class CompiledBlock:
    """A block as one compiled call forwards and one backwards."""

    def __init__(self, weights: BlockWeights, heads: int) -> None:
        self.heads = heads
        self._weights = tuple(map(flat, weights))
        self._turned = tuple(flat(each.T) for each in weights)

    def forward(self, x: Tensor, rows: Rows, first: int, bias: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Return the outputs, one row for each position asked for, and what :meth:`backward` needs.

        Args:
            x: (rows, width) inputs.
            rows: where each position stands.
            first: first position whose output is wanted; 0, or not shared between examples.
            bias: of the scores, as :func:`attend` takes it.
        """
        count, width = x.shape
        hidden = self._weights[3].size // width
        asked = rows.batch * (rows.time - first) if first else count
        probabilities = rows.batch * self.heads * (rows.time - first) * (-(-rows.time // LANES) * LANES)
        kept = (
            x.new_empty(count, width),
            x.new_empty(count),
            *map(x.new_empty, (count * 3 * width, probabilities, asked * width)),
            x.new_empty(asked, width),
            x.new_empty(asked),
            x.new_empty(asked * 2 * hidden),
        )
        x2, y = x.new_empty(asked, width), x.new_empty(asked, width)
        _forward(
            x.numpy(), rows.places, first, self.heads, flat(bias), self._turned, _arrays(kept), x2.numpy(), flat(y)
        )
        return y, kept

    def backward(
        self, dy: Tensor, rows: Rows, first: int, kept: tuple[Tensor, ...], d_bias: Tensor
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Return the gradients of the (rows, width) inputs and of the folded weights, from that of the outputs.

        That of the bias is added to ``d_bias``.
        """
        width, dx = dy.shape[1], torch.empty_like(kept[0])
        gradients = tuple(dx.new_empty(each.size) for each in self._weights)
        dy = dy.contiguous()
        own = self._weights, _arrays(kept), _arrays(gradients)
        _backward(dy.numpy(), rows.places, first, self.heads, *own, flat(d_bias), dx.numpy())
        qkv, o, gate_up, down = (each.view(width, -1) for each in gradients)
        return dx, (qkv.T, o.T, gate_up.T, down)


def _arrays(tensors: tuple[Tensor, ...]) -> tuple[Array, ...]:
    return tuple(each.numpy() for each in tensors)


@compiled
def _copy(x: Array, of: int, y: Array, to: int, rows: int) -> None:
    """Copy rows; for ``y[...] = x[...]`` the compiler would first make the text of an error, for five seconds."""
    for i in range(rows):
        for j in range(x.shape[1]):
            y[to + i, j] = x[of + i, j]


@compiled
def _forward(
    x: Array, places: Places, first: int, heads: int, bias: Array, weights: Arrays, kept: Arrays, x2: Array, y: Array
) -> None:
    """See :class:`CompiledBlock`; ``weights`` are transposed, ``y`` and all but the norms are seen as one row."""
    index, owner, common, shared = places
    qkv_t, o_t, gate_up_t, down_t = weights
    n1, r1, qkv, p, o, n2, r2, gate_up = kept
    count, width = x.shape
    hidden = down_t.size // width
    batch, time = index.shape
    asked, own = time - first, time - shared
    normed_loop(x, n1, r1)
    n1_flat, x2_flat = n1.reshape(n1.size), x2.reshape(x2.size)
    if first == 0:
        product(n1_flat, 0, width, 1, qkv_t, 0, 3 * width, count, width, 3 * width, qkv, 0, 3 * width, False)
        _copy(x, 0, x2, 0, count)
    else:
        product(n1_flat, 0, width, 1, qkv_t, width, 3 * width, count, width, 2 * width, qkv, width, 3 * width, False)
        for b in range(batch):
            i = common + b * own + first - shared
            at = i * 3 * width
            product(n1_flat, i * width, width, 1, qkv_t, 0, 3 * width, asked, width, width, qkv, at, 3 * width, False)
            _copy(x, i, x2, b * asked, asked)
    attend(qkv, index, owner, first, heads, width // heads, bias, p, o)
    product(o, 0, width, 1, o_t, 0, width, len(x2), width, width, x2_flat, 0, width, True)
    normed_loop(x2, n2, r2)
    n2_flat = n2.reshape(n2.size)
    for i in range(len(y)):
        y[i] = x2_flat[i]
    two, act = 2 * hidden, np.empty(TOGETHER * hidden, np.float32)
    for start in range(0, len(x2), TOGETHER):
        some, at = min(TOGETHER, len(x2) - start), start * width
        product(n2_flat, at, width, 1, gate_up_t, 0, two, some, width, two, gate_up, start * two, two, False)
        swiglu_loop(gate_up[start * two :], act, some, hidden)
        product(act, 0, hidden, 1, down_t, 0, width, some, hidden, width, y, at, width, True)


@compiled
def _backward(
    dy: Array, places: Places, first: int, heads: int, weights: Arrays, kept: Arrays, gradients: Arrays,
    d_bias: Array, dx: Array,
) -> None:  # fmt: skip
    """See :class:`CompiledBlock`; gradients are of transposed weights but for the last one."""
    index, owner, common, shared = places
    qkv_w, o_w, gate_up_w, down_w = weights
    n1, r1, qkv, p, o, n2, r2, gate_up = kept
    d_qkv_w, d_o_w, d_gate_up_w, d_down = gradients
    count, width = n1.shape
    hidden = down_w.size // width
    rows, three, two = len(dy), 3 * width, 2 * hidden
    dy_flat, n1_flat, n2_flat = dy.reshape(dy.size), n1.reshape(n1.size), n2.reshape(n2.size)
    # Feed-forward
    dn, dx2 = np.empty((rows, width), np.float32), np.empty((rows, width), np.float32)
    d_act, act = np.empty(TOGETHER * hidden, np.float32), np.empty(TOGETHER * hidden, np.float32)
    d_gate_up, dn_flat = np.empty(TOGETHER * two, np.float32), dn.reshape(dn.size)
    for start in range(0, rows, TOGETHER):
        some, at, more = min(TOGETHER, rows - start), start * width, start > 0
        product(dy_flat, at, width, 1, down_w, 0, hidden, some, width, hidden, d_act, 0, hidden, False)
        swiglu_backward_loop(gate_up[start * two :], d_act, d_gate_up, act, some, hidden)
        product(dy_flat, at, 1, width, act, 0, hidden, width, some, hidden, d_down, 0, hidden, more)
        product(n2_flat, at, 1, width, d_gate_up, 0, two, width, some, two, d_gate_up_w, 0, two, more)
        product(d_gate_up, 0, two, 1, gate_up_w, 0, width, some, two, width, dn_flat, at, width, False)
    norm_backward_loop(dn, n2, r2, dy, 0, 1, 0, dx2)
    # Attention
    dx2_flat, do = dx2.reshape(dx2.size), dn_flat
    product(o, 0, 1, width, dx2_flat, 0, width, width, rows, width, d_o_w, 0, width, False)
    product(dx2_flat, 0, width, 1, o_w, 0, width, rows, width, width, do, 0, width, False)
    d_qkv = np.empty(count * three, np.float32)
    d_qkv[: common * three] = np.float32(0)
    attend_backward(qkv, index, owner, shared, first, heads, width // heads, p, do, d_bias, d_qkv)
    product(n1_flat, 0, 1, width, d_qkv, 0, three, width, count, three, d_qkv_w, 0, three, False)
    dn1 = np.empty((count, width), np.float32)
    product(d_qkv, 0, three, 1, qkv_w, 0, width, count, three, width, dn1.reshape(dn1.size), 0, width, False)
    if first:
        norm_backward_loop(dn1, n1, r1, dx2, common, index.shape[1] - shared, first - shared, dx)
    else:
        norm_backward_loop(dn1, n1, r1, dx2, 0, 1, 0, dx)


class CompiledEnd:
    """What stands behind the blocks, in float32: norm, head and cross-entropy.

    ``head`` is (vocabulary, width), the gains of the norm folded in.
    """

    def __init__(self, head: Tensor) -> None:
        self.vocabulary = len(head)
        padded = torch.nn.functional.pad(head.detach(), (0, 0, 0, -self.vocabulary % LANES))
        self._head, self._turned = flat(padded), flat(padded.T)

    def loss(self, y: Tensor, targets: Tensor, scale: float) -> tuple[float, Tensor, Tensor]:
        """Return ``scale`` times the summed cross-entropy, and the gradients of the outputs and of the head.

        Of the (rows, width) outputs of the last block and (rows,) next tokens; padding does not count.
        """
        dy, d_head = torch.empty_like(y), y.new_empty(y.shape[1], self._head.size // y.shape[1])
        loss = _head(
            y.numpy(), self._turned, self._head, self.vocabulary, targets.numpy(), scale, dy.numpy(), flat(d_head)
        )
        return float(loss), dy, d_head[:, : self.vocabulary].T


@compiled
def _head(
    y: Array, head_t: Array, head: Array, vocabulary: int, targets: NDArray[np.int64], scale: float, dy: Array,
    d_head: Array,
) -> float:  # fmt: skip
    """Return the loss of the last block's outputs; write their gradients and the head's, (width, vocabulary)."""
    rows, width = y.shape
    wide = head_t.size // width
    n, r, logits = np.empty((rows, width), np.float32), np.empty(rows, np.float32), np.empty(rows * wide, np.float32)
    normed_loop(y, n, r)
    n_flat = n.reshape(n.size)
    product(n_flat, 0, width, 1, head_t, 0, wide, rows, width, wide, logits, 0, wide, False)
    loss, share = 0.0, np.float32(scale)
    for i in range(rows):
        row = logits[i * wide : (i + 1) * wide]
        if targets[i] == PAD:
            row[:] = np.float32(0)
            continue
        most, total = row[:vocabulary].max(), np.float32(0)
        right = row[targets[i]] - most
        for j in range(vocabulary):
            row[j] = np.exp(row[j] - most)
            total += row[j]
        loss += np.log(total) - right
        for j in range(vocabulary):
            row[j] *= share / total
        row[targets[i]] -= share
        row[vocabulary:] = np.float32(0)
    product(n_flat, 0, 1, width, logits, 0, wide, width, rows, wide, d_head, 0, wide, False)
    dn, none = np.empty((rows, width), np.float32), np.zeros((rows, width), np.float32)
    product(logits, 0, wide, 1, head, 0, width, rows, wide, width, dn.reshape(dn.size), 0, width, False)
    norm_backward_loop(dn, n, r, none, 0, 1, 0, dy)
    return loss * scale

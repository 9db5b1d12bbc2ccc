"""Whole blocks of a small model as one compiled call forwards and one backwards, and a training step made of them.

At the widths of a laptop a matrix product takes as long as its launch, and launches wait for the interpreter's lock, so
that a second thread gained a third instead of doubling the speed (LOG.md, 2026-11-25). These calls hold no lock at all.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from easy2hard.engines.cpu.attention import Index, attend, attend_backward
from easy2hard.engines.cpu.kernels import (
    Array,
    compiled,
    flat,
    fused,
    norm_backward_loop,
    normed_loop,
    swiglu_backward_loop,
    swiglu_loop,
)
from easy2hard.engines.cpu.matmul import product
from easy2hard.engines.cpu.shared_prefixes import Rows, shared_rows
from easy2hard.engines.cpu.simd import LANES
from easy2hard.vocabulary import PAD

Weights = tuple[Tensor, Tensor, Tensor, Tensor]
"""Folded weights of a block, or their gradients: queries with keys and values, output, gate with up, down."""

WIDEST = 256
"""Width up to which blocks are compiled whole; for wider ones the matrix library is worth its launches."""


TOGETHER = 128
"""Rows that go through the feed-forward layer at a time: four times as wide, they stay in the core's own cache."""


def applies(width: int, hidden: int, heads: int, *tensors: Tensor) -> bool:
    """Return whether blocks of this size are compiled whole for these tensors."""
    return fused(*tensors) and width <= WIDEST and (width // heads) % LANES == 0 and hidden % LANES == 0


def turned(weights: Weights) -> Weights:
    """Return the weights transposed, as :func:`forward` takes them."""
    return _mapped(lambda each: each.T.contiguous(), weights)


def _mapped(function: Callable[[Tensor], Tensor], weights: Weights) -> Weights:
    qkv, o, gate_up, down = weights
    return function(qkv), function(o), function(gate_up), function(down)


def forward(x: Tensor, rows: Rows, first: int, heads: int, weights: Weights) -> tuple[Tensor, ...]:
    """Return a block's outputs and what :func:`backward` needs.

    Args:
        x: (rows, width) inputs.
        rows: where each position stands.
        first: first position whose output is wanted.
        heads: heads of the attention.
        weights: folded weights, transposed: (width, 3 * width), (width, width), (width, 2 * hidden), (hidden, width).
    """
    count, width = x.shape
    hidden = len(weights[3])
    asked = rows.batch * (rows.time - first) if first else count
    n1, r1, qkv = x.new_empty(count, width), x.new_empty(count), x.new_empty(count, 3 * width)
    p = x.new_empty(rows.batch, heads, rows.time - first, -(-rows.time // LANES) * LANES)
    o, x2, n2, r2 = x.new_empty(asked, width), x.new_empty(asked, width), x.new_empty(asked, width), x.new_empty(asked)
    gate_up, y = x.new_empty(asked, 2 * hidden), x.new_empty(asked, width)
    _forward(
        x.numpy(), rows.index, rows.owner, rows.common, rows.shared, first, heads,
        flat(weights[0]), flat(weights[1]), flat(weights[2]), flat(weights[3]),
        n1.numpy(), r1.numpy(), flat(qkv), flat(p), flat(o), x2.numpy(), n2.numpy(), r2.numpy(), flat(gate_up),
        flat(y), hidden,
    )  # fmt: skip
    return y, n1, r1, qkv, p, o, n2, r2, gate_up


@compiled
def _copy(x: Array, of: int, y: Array, to: int, rows: int) -> None:
    """Copy rows; for ``y[...] = x[...]`` the compiler would first make the text of an error, for five seconds."""
    for i in range(rows):
        for j in range(x.shape[1]):
            y[to + i, j] = x[of + i, j]


@compiled
def _forward(
    x: Array, index: Index, owner: Index, common: int, shared: int, first: int, heads: int, qkv_t: Array, o_t: Array,
    gate_up_t: Array, down_t: Array, n1: Array, r1: Array, qkv: Array, p: Array, o: Array, x2: Array, n2: Array,
    r2: Array, gate_up: Array, y: Array, hidden: int,
) -> None:  # fmt: skip
    count, width = x.shape
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
    attend(qkv, index, owner, first, heads, width // heads, p, o)
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


def backward(
    dy: Tensor, rows: Rows, first: int, heads: int, weights: Weights, kept: tuple[Tensor, ...]
) -> tuple[Tensor, Weights]:
    """Return the gradients of a block's input and of its folded weights.

    Args:
        dy: gradient of the output.
        rows: as in :func:`forward`; so are ``first`` and ``heads``.
        first: see above.
        heads: see above.
        weights: folded weights: (3 * width, width), (width, width), (2 * hidden, width), (width, hidden).
        kept: what :func:`forward` returned beside the output.
    """
    n1, r1, qkv, p, o, n2, r2, gate_up = kept
    hidden = gate_up.shape[1] // 2
    gradients = tuple(torch.empty_like(weight.T, memory_format=torch.contiguous_format) for weight in weights[:3])
    d_down, dx = torch.empty_like(weights[3]), torch.empty_like(n1)
    _backward(
        flat(dy).reshape(dy.shape), rows.index, rows.owner, rows.common, rows.shared, first, heads,
        flat(weights[0]), flat(weights[1]), flat(weights[2]), flat(weights[3]), n1.numpy(), r1.numpy(), flat(qkv),
        flat(p), flat(o), n2.numpy(), r2.numpy(),
        flat(gate_up), flat(gradients[0]), flat(gradients[1]), flat(gradients[2]), flat(d_down), dx.numpy(), hidden,
    )  # fmt: skip
    return dx, (gradients[0].T, gradients[1].T, gradients[2].T, d_down)


@compiled
def _backward(
    dy: Array, index: Index, owner: Index, common: int, shared: int, first: int, heads: int, qkv_w: Array, o_w: Array,
    gate_up_w: Array, down_w: Array, n1: Array, r1: Array, qkv: Array, p: Array, o: Array, n2: Array, r2: Array,
    gate_up: Array, d_qkv_w: Array, d_o_w: Array, d_gate_up_w: Array, d_down: Array, dx: Array, hidden: int,
) -> None:  # fmt: skip
    count, width = n1.shape
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
    attend_backward(qkv, index, owner, shared, first, heads, width // heads, p, do, d_qkv)
    product(n1_flat, 0, 1, width, d_qkv, 0, three, width, count, three, d_qkv_w, 0, three, False)
    dn1 = np.empty((count, width), np.float32)
    product(d_qkv, 0, three, 1, qkv_w, 0, width, count, three, width, dn1.reshape(dn1.size), 0, width, False)
    if first:
        norm_backward_loop(dn1, n1, r1, dx2, common, index.shape[1] - shared, first - shared, dx)
    else:
        norm_backward_loop(dn1, n1, r1, dx2, 0, 1, 0, dx)


class Pass:
    """Loss and gradients of a model's folded weights on examples, without anybody else's help.

    Args:
        embedding: (vocabulary, width).
        blocks: each block's folded weights: (3 * width, width), (width, width), (2 * hidden, width), (width, hidden).
        head: (vocabulary, width), the gains of the last norm folded in.
        heads: heads of the attention.
    """

    def __init__(self, embedding: Tensor, blocks: Sequence[Weights], head: Tensor, heads: int) -> None:
        self.embedding = embedding.detach()
        self.blocks = [_mapped(lambda each: each.detach().contiguous(), block) for block in blocks]
        self.turned = [turned(block) for block in self.blocks]
        self.vocabulary = len(head)
        self.head = torch.nn.functional.pad(head.detach(), (0, 0, 0, -self.vocabulary % LANES))
        self.head_turned = self.head.T.contiguous()
        self.heads = heads

    def __call__(self, tokens: Tensor, prompt_length: int, scale: float) -> tuple[float, list[Tensor]]:
        """Return ``scale`` times the summed cross-entropy of the answers, and its gradients.

        Args:
            tokens: (batch, time) prompts and answers, padded on the right.
            prompt_length: tokens of each prompt.
            scale: of loss and gradients.

        Returns:
            The loss, and the gradients of the embedding, of every block's weights and of the head.
        """
        first = prompt_length - 1
        rows = shared_rows(tokens[:, :-1], first)
        inputs, kept = [self.embedding[rows.tokens]], []
        for index, weights in enumerate(self.turned):
            start = first if index == len(self.turned) - 1 else 0
            y, *rest = forward(inputs[-1], rows, start, self.heads, weights)
            inputs.append(y)
            kept.append((start, tuple(rest)))
        targets = tokens[:, prompt_length:].contiguous().view(-1)
        dx, d_head = torch.empty_like(inputs[-1]), torch.empty_like(self.head_turned)
        loss = _head(
            inputs[-1].numpy(), flat(self.head_turned), flat(self.head), self.vocabulary, targets.numpy(), scale,
            dx.numpy(), flat(d_head),
        )  # fmt: skip
        gradients: list[Tensor] = [d_head[:, : self.vocabulary].T]
        for (start, saved), weights in zip(reversed(kept), reversed(self.blocks), strict=True):
            dx, of_block = backward(dx, rows, start, self.heads, weights, saved)
            gradients[:0] = of_block
        d_embedding = torch.zeros_like(self.embedding)
        _scatter(rows.tokens.numpy(), dx.numpy(), d_embedding.numpy())
        return float(loss), [d_embedding, *gradients]


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


@compiled
def _scatter(tokens: NDArray[np.int64], dx: Array, d_embedding: Array) -> None:
    for i in range(len(tokens)):
        for j in range(dx.shape[1]):
            d_embedding[tokens[i], j] += dx[i, j]

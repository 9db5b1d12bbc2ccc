"""One block of the decoder with a backward pass of its own.

Written out by hand because at these widths more than half of a step went into small operations around the matrix
products: the gains of the norms and the scale of the attention are folded into the (small) weights instead of the
(large) activations, heads are rearranged once, and what stands between two products is one pass over memory
(models/kernels.py; LOG.md, 2026-11-24 and 25). tests/models/test_block.py compares values and gradients with the plain
formulas.
"""

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from typing_extensions import override

from easy2hard.models.attention import attend, attend_backward
from easy2hard.models.kernels import flat, fused, norm_backward, normed, swiglu, swiglu_backward
from easy2hard.models.prefixes import Rows
from easy2hard.models.vectors import LANES


@dataclass(frozen=True)
class Folded:
    """A block's weights as its matrix products take them: gains of the norms and scale of the attention folded in."""

    qkv: Tensor
    """(3 * width, width)"""
    o: Tensor
    gate_up: Tensor
    """(2 * feed-forward, width)"""
    down: Tensor


@dataclass
class Cache:
    """Keys and values of the tokens seen so far; room for ``capacity`` tokens.

    ``keys[i]`` and ``values[i]`` of block i are (batch, heads, capacity, head width). ``folded[i]`` are the block's
    weights, folded once.
    """

    capacity: int
    length: int = 0
    keys: list[Tensor] = field(default_factory=list)
    values: list[Tensor] = field(default_factory=list)
    folded: list[Folded] = field(default_factory=list)

    def extend(self, block: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Store new keys and values (batch, heads, new, head width) of a block; return all of them so far."""
        batch, heads, new, width = keys.shape
        if block == len(self.keys):
            self.keys.append(keys.new_empty(batch, heads, self.capacity, width))
            self.values.append(values.new_empty(batch, heads, self.capacity, width))
        end = self.length + new
        self.keys[block][:, :, self.length : end] = keys
        self.values[block][:, :, self.length : end] = values
        return self.keys[block][:, :, :end], self.values[block][:, :, :end]

    def keep(self, rows: Tensor) -> None:
        """Drop the rows of the batch where the (batch,) mask ``rows`` is False."""
        self.keys = [keys[rows] for keys in self.keys]
        self.values = [values[rows] for values in self.values]


@dataclass(frozen=True)
class Layout:
    """What a block needs to know besides its input and weights."""

    heads: int
    rows: Rows
    """The rows of the input."""
    first: int
    """First position whose output is wanted; 0, or not shared between examples."""
    dtype: torch.dtype
    """In which the matrix products are computed; the rest is float32."""


class BlockFunction(torch.autograd.Function):
    """``BlockFunction.apply(x, layout, *weights)``: see :func:`block_forward`."""

    @staticmethod
    @override
    def forward(ctx: Any, x: Tensor, layout: Layout, *weights: Tensor) -> Tensor:
        ctx.layout = layout
        ctx.folded = fold(weights, layout.heads, layout.dtype)
        y, kept = block_forward(x, layout, ctx.folded)
        ctx.save_for_backward(*kept, *weights)
        return y

    @staticmethod
    @override
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        layout: Layout = ctx.layout
        folded: Folded = ctx.folded
        n1, r1, q, kv, p, o, n2, r2, gate_up, *weights = ctx.saved_tensors
        norm1, wq, wk, wv, _, norm2, gate_weight, up_weight, _ = weights
        rows, first, full, low = layout.rows, layout.first, dy.dtype, layout.dtype
        width = dy.shape[1]

        # Feed-forward: y = x2 + (silu(gate) * up) @ down.T
        dy_low = dy.to(low)
        d_gate_up, act = swiglu_backward(gate_up, dy_low @ folded.down)
        d_down = dy_low.T @ act
        d_folded = (d_gate_up.T @ n2).to(full)
        d_norm2 = (d_folded * torch.cat([gate_weight, up_weight])).sum(dim=0)
        d_gate_weight, d_up_weight = (d_folded * norm2).chunk(2)
        dx2 = norm_backward(d_gate_up @ folded.gate_up, n2, r2, dy, 0, 1, 0)

        # Attention: x2 = x + softmax(q k') v @ o.T
        dx2_low = dx2.to(low)
        d_o = dx2_low.T @ o
        backward = _compiled_backward if _is_compiled(q, layout.heads) else _plain_backward
        d_qkv = backward(q, kv, p, dx2_low @ folded.o, layout)
        d_folded = (d_qkv.T @ n1).to(full)
        d_folded[:width] *= (width // layout.heads) ** -0.5
        d_norm1 = (d_folded * torch.cat([wq, wk, wv])).sum(dim=0)
        common, time = (rows.common, rows.time - rows.shared) if first else (0, 1)
        dx = norm_backward(d_qkv @ folded.qkv, n1, r1, dx2, common, time, max(0, first - rows.shared))
        return (
            dx,
            None,
            d_norm1,
            *(d_folded * norm1).chunk(3),
            d_o.to(full),
            d_norm2,
            d_gate_weight,
            d_up_weight,
            d_down.to(full),
        )


def fold(weights: tuple[Tensor, ...], heads: int, dtype: torch.dtype) -> Folded:
    """Return a block's weights ready for its matrix products in ``dtype``.

    Args:
        weights: first norm, query, key, value, output; second norm, gate, up, down.
        heads: heads of the attention.
        dtype: of the result.
    """
    norm1, wq, wk, wv, wo, norm2, gate, up, down = weights
    width = wq.shape[0]
    qkv = torch.cat([wq * (width // heads) ** -0.5, wk, wv]) * norm1
    return Folded(qkv.to(dtype), wo.to(dtype), (torch.cat([gate, up]) * norm2).to(dtype), down.to(dtype))


def block_forward(
    x: Tensor, layout: Layout, weights: Folded, cache: Cache | None = None, block: int = 0
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Return the outputs of a block, one row for each position asked for, and what backward needs.

    Args:
        x: (rows, width) inputs, float32.
        layout: heads, rows, first position, precision.
        weights: the block's weights, folded.
        cache: keys and values of earlier tokens, extended in place.
        block: index of the block in the cache.
    """
    rows, first, low = layout.rows, layout.first, layout.dtype
    width = x.shape[1]
    n1, r1 = normed(x)
    n1 = n1.to(low)
    if first:
        q = rows.asked(n1, first) @ weights.qkv[:width].T
        kv = n1 @ weights.qkv[width:].T
    else:
        q = kv = n1 @ weights.qkv.T
    if cache is None and _is_compiled(q, layout.heads):
        o, p = _compiled_attention(q, kv, layout)
    else:
        o, p = _plain_attention(q, kv, layout, cache, block)
    x2 = _added(rows.asked(x, first), o, weights.o)
    n2, r2 = normed(x2)
    n2 = n2.to(low)
    gate_up = n2 @ weights.gate_up.T
    y = _added(x2, swiglu(gate_up), weights.down)
    return y, (n1, r1, q, kv, p, o, n2, r2, gate_up)


def _added(x: Tensor, y: Tensor, weight: Tensor) -> Tensor:
    """Return x + y @ weight.T, in the precision of x."""
    return torch.addmm(x, y, weight.T) if x.dtype == y.dtype else x + y @ weight.T


# Attention: queries are the first ``width`` columns of ``q``, keys and values the last two of ``kv``.


def _is_compiled(q: Tensor, heads: int) -> bool:
    """Return whether models/attention.py takes these queries, (rows, width) or (rows, 3 * width)."""
    return fused(q) and q.shape[1] % (heads * LANES) == 0


def _compiled_attention(q: Tensor, kv: Tensor, layout: Layout) -> tuple[Tensor, Tensor]:
    rows, width = layout.rows, kv.shape[1] // (2 if layout.first else 3)
    asked = rows.time - layout.first
    p = q.new_empty(rows.batch, layout.heads, asked, -(-rows.time // LANES) * LANES)
    o = q.new_empty(len(q), width)
    attend(
        flat(q), q.shape[1], flat(kv), kv.shape[1], kv.shape[1] - 2 * width, layout.heads, width // layout.heads,
        rows.index, rows.owner, layout.first, flat(p), flat(o),
    )  # fmt: skip
    return o, p


def _compiled_backward(q: Tensor, kv: Tensor, p: Tensor, do: Tensor, layout: Layout) -> Tensor:
    rows, width = layout.rows, kv.shape[1] // (2 if layout.first else 3)
    d_qkv = q.new_empty(len(kv), 3 * width)
    d_qkv[: rows.common] = 0
    attend_backward(
        flat(q), q.shape[1], flat(kv), kv.shape[1], kv.shape[1] - 2 * width, layout.heads, width // layout.heads,
        rows.index, rows.owner, rows.shared, layout.first, flat(p), flat(do), flat(d_qkv),
    )  # fmt: skip
    return d_qkv


def _plain_attention(q: Tensor, kv: Tensor, layout: Layout, cache: Cache | None, block: int) -> tuple[Tensor, Tensor]:
    width, past = kv.shape[1] // (2 if layout.first else 3), 0
    queries = _heads(q[:, :width], layout)
    keys, values = _heads(kv[:, -2 * width : -width], layout), _heads(kv[:, -width:], layout)
    if cache is not None:
        past = cache.length
        keys, values = cache.extend(block, keys, values)
    scores = queries @ keys.mT
    hidden = torch.ones(scores.shape[-2:], dtype=torch.bool, device=q.device).triu(past + layout.first + 1)
    p = scores.masked_fill_(hidden, float("-inf")).softmax(dim=-1)
    return _rows(p @ values), p


def _plain_backward(q: Tensor, kv: Tensor, p: Tensor, do: Tensor, layout: Layout) -> Tensor:
    width = kv.shape[1] // (2 if layout.first else 3)
    queries, d = _heads(q[:, :width], layout), _heads(do, layout)
    keys, values = _heads(kv[:, -2 * width : -width], layout), _heads(kv[:, -width:], layout)
    ds = torch._softmax_backward_data(d @ values.mT, p, -1, p.dtype)
    d_qkv = q.new_zeros(layout.rows.batch, layout.rows.time, 3 * width)
    d_qkv[:, layout.first :, :width] = _rows(ds @ keys).view(layout.rows.batch, -1, width)
    d_qkv = d_qkv.flatten(0, 1)
    d_qkv[:, width : 2 * width] = _rows(ds.mT @ queries)
    d_qkv[:, 2 * width :] = _rows(p.mT @ d)
    return d_qkv


def _heads(rows: Tensor, layout: Layout) -> Tensor:
    """Return (batch * time, width) as (batch, heads, time, head width)."""
    batch, head = layout.rows.batch, rows.shape[1] // layout.heads
    return rows.reshape(batch, -1, layout.heads, head).transpose(1, 2)


def _rows(heads: Tensor) -> Tensor:
    """Return (batch, heads, time, head width) as (batch * time, width)."""
    return heads.transpose(1, 2).flatten(2).flatten(0, 1)

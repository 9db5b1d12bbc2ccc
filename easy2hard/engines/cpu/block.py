"""One block of the decoder with a backward pass of its own.

Written out by hand because at these widths more than half of a step went into small operations around the matrix
products: the gains of the norms and the scale of the attention are folded into the (small) weights instead of the
(large) activations, heads are rearranged once, and what stands between two products is one pass over memory
(kernels.py; LOG.md, 2026-11-24 and 25). tests/engines/cpu/test_block.py compares values and gradients with the plain
formulas.
"""

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor
from typing_extensions import override

from easy2hard.engines.cpu import compiled_block
from easy2hard.engines.cpu.attention import attend, attend_backward
from easy2hard.engines.cpu.kernels import flat, fused, norm_backward, normed, swiglu, swiglu_backward
from easy2hard.engines.cpu.shared_prefixes import Rows
from easy2hard.engines.cpu.simd import LANES
from easy2hard.models.transformer import KeysAndValues


class Folded(NamedTuple):
    """A block's weights as its matrix products take them: gains of the norms and scale of the attention folded in."""

    qkv: Tensor
    """(3 * width, width)"""
    o: Tensor
    """(width, width)"""
    gate_up: Tensor
    """(2 * feed-forward, width)"""
    down: Tensor
    """(width, feed-forward)"""


@dataclass
class FoldedCache(KeysAndValues):
    """Keys and values of the tokens so far, and each block's weights, folded once."""

    folded: list[Folded] = field(default_factory=list)


@dataclass(frozen=True)
class Layout:
    """What a block needs to know besides its input and weights."""

    heads: int
    rows: Rows
    """The rows of the input."""
    first: int
    """First position whose output is wanted; 0, or not shared between examples."""
    dtype: torch.dtype
    """In which the matrix products are computed; norms and residuals are float32."""

    def between(self, x: Tensor) -> Tensor:
        """Return the result of a product as what comes after it takes it: float32, for compiled loops."""
        return x.float() if self.dtype == torch.bfloat16 else x


def fold(weights: tuple[Tensor, ...], heads: int) -> Folded:
    """Return a block's weights ready for its matrix products.

    Args:
        weights: first norm, query, key, value, output; second norm, gate, up, down.
        heads: heads of the attention.
    """
    norm1, wq, wk, wv, wo, norm2, gate, up, down = weights
    scale = (wq.shape[0] // heads) ** -0.5
    return Folded(torch.cat([wq * scale, wk, wv]) * norm1, wo, torch.cat([gate, up]) * norm2, down)


class BlockFunction(torch.autograd.Function):
    """``BlockFunction.apply(x, layout, *folded)``: :func:`block_forward` with its gradients."""

    @staticmethod
    @override
    def forward(ctx: Any, x: Tensor, layout: Layout, *weights: Tensor) -> Tensor:
        ctx.layout = layout
        y, *kept = block_forward(x, layout, Folded(*weights))
        ctx.save_for_backward(*kept, *weights)
        return y

    @staticmethod
    @override
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        *kept, qkv, o, gate_up, down = ctx.saved_tensors
        dx, gradients = _backward(dy, ctx.layout, Folded(qkv, o, gate_up, down), tuple(kept))
        return dx, None, *gradients


def block_forward(
    x: Tensor, layout: Layout, weights: Folded, cache: FoldedCache | None = None, block: int = 0
) -> tuple[Tensor, ...]:
    """Return the outputs of a block, one row for each position asked for, and what its gradients need.

    Args:
        x: (rows, width) inputs, float32.
        layout: heads, rows, first position, precision.
        weights: the block's weights, folded.
        cache: keys and values of earlier tokens, extended in place.
        block: index of the block in the cache.
    """
    rows, first, low = layout.rows, layout.first, layout.dtype
    width = x.shape[1]
    if cache is None and _is_whole(x, layout, weights):
        return compiled_block.forward(x, rows, first, layout.heads, compiled_block.turned(weights))
    qkv_w, o_w, gate_up_w, down_w = (each.to(low) for each in weights)
    n1, r1 = normed(x)
    n1 = n1.to(low)
    qkv = layout.between(n1 @ qkv_w.T)
    if cache is None and _is_compiled(qkv, layout.heads):
        p = qkv.new_empty(rows.batch, layout.heads, rows.time - first, -(-rows.time // LANES) * LANES)
        o = qkv.new_empty(rows.batch * (rows.time - first) if first else len(x), width)
        attend(flat(qkv), rows.index, rows.owner, first, layout.heads, width // layout.heads, flat(p), flat(o))
    else:
        o, p = _plain_attention(qkv, layout, cache, block)
    o = o.to(low)
    x2 = _added(rows.asked(x, first), o, o_w)
    n2, r2 = normed(x2)
    n2 = n2.to(low)
    gate_up = layout.between(n2 @ gate_up_w.T)
    y = _added(x2, swiglu(gate_up).to(low), down_w)
    return y, n1, r1, qkv, p, o, n2, r2, gate_up


def _backward(
    dy: Tensor, layout: Layout, weights: Folded, kept: tuple[Tensor, ...]
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Return the gradients of a block's input and of its folded weights."""
    rows, first, full, low = layout.rows, layout.first, dy.dtype, layout.dtype
    if _is_whole(dy, layout, weights):
        return compiled_block.backward(dy, rows, first, layout.heads, weights, kept)
    n1, r1, qkv, p, o, n2, r2, gate_up = kept
    qkv_w, o_w, gate_up_w, down_w = (each.to(low) for each in weights)

    # Feed-forward: y = x2 + (silu(gate) * up) @ down.T
    dy_low = dy.to(low)
    d_gate_up, act = (each.to(low) for each in swiglu_backward(gate_up, layout.between(dy_low @ down_w)))
    dx2 = norm_backward((d_gate_up @ gate_up_w).to(full), n2.to(full), r2, dy, 0, 1, 0)

    # Attention: x2 = x + softmax(q k') v @ o.T
    dx2_low = dx2.to(low)
    do = layout.between(dx2_low @ o_w)
    if _is_compiled(qkv, layout.heads):
        d_qkv = torch.empty_like(qkv)
        d_qkv[: rows.common] = 0
        head = dy.shape[1] // layout.heads
        attend_backward(
            flat(qkv), rows.index, rows.owner, rows.shared, first, layout.heads, head, flat(p), flat(do), flat(d_qkv)
        )
    else:
        d_qkv = _plain_attention_backward(qkv, p, do, layout)
    d_qkv = d_qkv.to(low)
    common, time, hidden = (rows.common, rows.time - rows.shared, first - rows.shared) if first else (0, 1, 0)
    dx = norm_backward((d_qkv @ qkv_w).to(full), n1.to(full), r1, dx2, common, time, hidden)
    products = (d_qkv.T @ n1, dx2_low.T @ o, d_gate_up.T @ n2, dy_low.T @ act)
    return dx, tuple(each.to(full) for each in products)


def _is_whole(x: Tensor, layout: Layout, weights: Folded) -> bool:
    """Return whether engines/cpu/compiled_block.py takes a block with this input or gradient."""
    width, hidden = weights.down.shape
    return layout.dtype == torch.float32 and compiled_block.applies(width, hidden, layout.heads, x, weights.down)


def _is_compiled(qkv: Tensor, heads: int) -> bool:
    """Return whether engines/cpu/attention.py takes these queries, keys and values."""
    return fused(qkv) and qkv.shape[1] % (3 * heads * LANES) == 0


def _added(x: Tensor, y: Tensor, weight: Tensor) -> Tensor:
    """Return x + y @ weight.T, in the precision of x."""
    return torch.addmm(x, y, weight.T) if x.dtype == y.dtype else x + y @ weight.T


def _plain_attention(qkv: Tensor, layout: Layout, cache: FoldedCache | None, block: int) -> tuple[Tensor, Tensor]:
    queries, keys, values = (_heads(each, layout) for each in qkv.chunk(3, dim=1))
    past = 0
    if cache is not None:
        past = cache.length
        keys, values = cache.extend(block, keys, values)
    scores = queries[:, :, layout.first :] @ keys.mT
    hidden = torch.ones(scores.shape[-2:], dtype=torch.bool, device=qkv.device).triu(past + layout.first + 1)
    p = scores.masked_fill_(hidden, float("-inf")).softmax(dim=-1)
    return _rows(p @ values), p


def _plain_attention_backward(qkv: Tensor, p: Tensor, do: Tensor, layout: Layout) -> Tensor:
    queries, keys, values = (_heads(each, layout) for each in qkv.chunk(3, dim=1))
    d = _heads(do, layout)
    ds = torch._softmax_backward_data(d @ values.mT, p, -1, p.dtype)
    d_qkv = torch.empty_like(qkv)
    dq, dk, dv = (_heads(each, layout) for each in d_qkv.chunk(3, dim=1))
    dq[:, :, : layout.first] = 0
    dq[:, :, layout.first :] = ds @ keys
    dk.copy_(ds.mT @ queries[:, :, layout.first :])
    dv.copy_(p.mT @ d)
    return d_qkv


def _heads(rows: Tensor, layout: Layout) -> Tensor:
    """Return (batch * time, width) as a view (batch, heads, time, head width)."""
    batch, head = layout.rows.batch, rows.shape[1] // layout.heads
    view: Tensor = rows.unflatten(0, (batch, -1)).unflatten(2, (layout.heads, head))
    return view.transpose(1, 2)


def _rows(heads: Tensor) -> Tensor:
    """Return (batch, heads, time, head width) as (batch * time, width)."""
    return heads.transpose(1, 2).flatten(2).flatten(0, 1)

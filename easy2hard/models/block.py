"""One block of the decoder with a backward pass of its own.

Written out by hand because at these widths a third of a step went into small operations around the matrix products:
the gains of the norms and the scale of the attention are folded into the (small) weights instead of the (large)
activations, heads are rearranged once, and nothing is kept that is cheap to compute again (LOG.md, 2026-11-24).
tests/models/test_block.py compares values and gradients with the plain formulas.
"""

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from typing_extensions import override

NORM_EPS = 1e-6


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

    ``keys[i]`` of block i are (batch, heads, head width, capacity), transposed because a query meets them as columns;
    ``values[i]`` are (batch, heads, capacity, head width). ``folded[i]`` are the block's weights, folded once.
    """

    capacity: int
    length: int = 0
    attended: int = 0
    """Tokens that queries meet: ``length`` and the new ones, or more where the rest is masked."""
    keys: list[Tensor] = field(default_factory=list)
    values: list[Tensor] = field(default_factory=list)
    folded: list[Folded] = field(default_factory=list)

    def extend(self, block: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Store new keys and values (batch, heads, new, head width) of a block.

        Returns:
            All keys so far, transposed, and all values, each with batch and heads as one dimension.
        """
        batch, heads, new, width = keys.shape
        if block == len(self.keys):
            capacity = max(self.capacity, self.attended)
            self.keys.append(keys.new_empty(batch, heads, width, capacity))
            self.values.append(values.new_empty(batch, heads, capacity, width))
            # Masked, but still added up: anything but a number would spread.
            self.keys[block][..., : self.attended] = 0
            self.values[block][:, :, : self.attended] = 0
        end = self.length + new
        self.keys[block][..., self.length : end] = keys.mT
        self.values[block][:, :, self.length : end] = values
        seen = self.attended
        return self.keys[block][..., :seen].flatten(0, 1), self.values[block][:, :, :seen].flatten(0, 1)

    def keep(self, rows: Tensor) -> None:
        """Drop the rows of the batch where the (batch,) mask ``rows`` is False."""
        self.keys = [keys[rows] for keys in self.keys]
        self.values = [values[rows] for values in self.values]


@dataclass(frozen=True)
class Layout:
    """What a block needs to know besides its input and weights."""

    heads: int
    first: int
    """First position whose output is wanted."""
    mask: Tensor | None
    """(time - first, past + time) zeros and minus infinities; None where everything may be seen."""
    dtype: torch.dtype
    """In which the matrix products are computed; the rest is float32."""


class BlockFunction(torch.autograd.Function):
    """``BlockFunction.apply(x, layout, *weights)``: see :func:`block_forward`."""

    @staticmethod
    @override
    def forward(ctx: Any, x: Tensor, layout: Layout, *weights: Tensor) -> Tensor:
        y, kept = block_forward(x, layout, fold(weights, layout), None, 0)
        ctx.layout = layout
        ctx.save_for_backward(x, *kept, *weights)
        return y

    @staticmethod
    @override
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        layout: Layout = ctx.layout
        x, r1, q, k, v, p, o, x2, r2, fused, *weights = ctx.saved_tensors
        norm1, wq, wk, wv, _, norm2, gate_weight, up_weight, _ = weights
        folded = fold(tuple(weights), layout)
        first, heads = layout.first, layout.heads
        batch, time, width = x.shape
        asked = time - first
        dy = dy.reshape(-1, width)

        # Feed-forward: y = x2 + (silu(gate) * up) @ down.T
        gate, up = fused.chunk(2, dim=-1)
        sigmoid = torch.sigmoid(gate)
        silu = gate * sigmoid
        dy_low = dy.to(layout.dtype)
        d_act = dy_low @ folded.down
        d_down = dy_low.T @ (silu * up)
        d_fused = torch.empty_like(fused)
        d_gate, d_up = d_fused.chunk(2, dim=-1)
        torch.mul(d_act, silu, out=d_up)
        # d silu / d gate = sigmoid + silu * (1 - sigmoid)
        slope = torch.addcmul(sigmoid, silu, 1 - sigmoid)
        torch.mul(slope.mul_(up), d_act, out=d_gate)
        n2 = (x2 * r2).to(layout.dtype)
        d_gate_up = (d_fused.T @ n2).to(x.dtype)
        d_norm2 = (d_gate_up * torch.cat([gate_weight, up_weight])).sum(dim=0)
        d_gate_weight, d_up_weight = (d_gate_up * norm2).chunk(2)
        dx2 = _norm_backward(d_fused @ folded.gate_up, n2, r2).add_(dy)

        # Attention: x2 = x + softmax(q k' + mask) v @ o.T
        dx2_low = dx2.to(layout.dtype)
        d_o = dx2_low.T @ o
        do = _heads(dx2_low @ folded.o, batch, asked, heads)
        ds = torch._softmax_backward_data(do @ v.mT, p, -1, p.dtype)
        d_qkv = ds.new_empty(batch, time, 3, heads, width // heads)
        if first:
            d_qkv[:, :first, 0] = 0
        d_qkv[:, first:, 0].transpose(1, 2).copy_((ds @ k).view(batch, heads, asked, -1))
        d_qkv[:, :, 1].transpose(1, 2).copy_((ds.mT @ q).view(batch, heads, time, -1))
        d_qkv[:, :, 2].transpose(1, 2).copy_((p.mT @ do).view(batch, heads, time, -1))
        d_qkv = d_qkv.view(-1, 3 * width)
        n1 = (x.reshape(-1, width) * r1).to(layout.dtype)
        d_folded = (d_qkv.T @ n1).to(x.dtype)
        d_folded[:width] *= (width // heads) ** -0.5
        d_norm1 = (d_folded * torch.cat([wq, wk, wv])).sum(dim=0)
        dx = _norm_backward(d_qkv @ folded.qkv, n1, r1).view(batch, time, width)
        dx[:, first:] += dx2.view(batch, asked, width)
        return (
            dx,
            None,
            d_norm1,
            *(d_folded * norm1).chunk(3),
            d_o.to(x.dtype),
            d_norm2,
            d_gate_weight,
            d_up_weight,
            d_down.to(x.dtype),
        )


def fold(weights: tuple[Tensor, ...], layout: Layout) -> Folded:
    """Return a block's weights ready for its matrix products.

    Args:
        weights: first norm, query, key, value, output; second norm, gate, up, down.
        layout: heads and precision.
    """
    norm1, wq, wk, wv, wo, norm2, gate, up, down = weights
    width = wq.shape[0]
    qkv = torch.cat([wq * (width // layout.heads) ** -0.5, wk, wv]) * norm1
    dtype = layout.dtype
    return Folded(qkv.to(dtype), wo.to(dtype), (torch.cat([gate, up]) * norm2).to(dtype), down.to(dtype))


def block_forward(
    x: Tensor, layout: Layout, weights: Folded, cache: Cache | None, block: int
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Return (batch, time - first, width) outputs of (batch, time, width) inputs, and what backward needs.

    Args:
        x: inputs, float32.
        layout: heads, first position, mask, precision.
        weights: the block's weights, folded.
        cache: keys and values of earlier tokens, extended in place.
        block: index of the block in the cache.
    """
    first, heads = layout.first, layout.heads
    batch, time, width = x.shape
    asked = time - first
    flat = x.reshape(-1, width)
    r1 = _inverse_norm(flat)
    n1 = (flat * r1).to(layout.dtype)
    if first:
        q = _heads(_asked(n1, batch, first) @ weights.qkv[:width].T, batch, asked, heads)
        k, v = _split(n1 @ weights.qkv[width:].T, batch, time, 2, heads)
    else:
        q, k, v = _split(n1 @ weights.qkv.T, batch, time, 3, heads)
        q = q.flatten(0, 1)
    if cache is None:
        k, v = k.flatten(0, 1), v.flatten(0, 1)
        columns = k.mT
    else:
        columns, v = cache.extend(block, k, v)
    scores = q @ columns if layout.mask is None else torch.baddbmm(layout.mask.to(layout.dtype), q, columns)
    p = scores.softmax(dim=-1)
    o = (p @ v).view(batch, heads, asked, -1).transpose(1, 2).reshape(-1, width)
    x2 = _asked(flat, batch, first) + o @ weights.o.T
    r2 = _inverse_norm(x2)
    fused = (x2 * r2).to(layout.dtype) @ weights.gate_up.T
    gate, up = fused.chunk(2, dim=-1)
    y = x2 + torch.nn.functional.silu(gate).mul_(up) @ weights.down.T
    return y.view(batch, asked, width), (r1, q, k, v, p, o, x2, r2, fused)


def _inverse_norm(x: Tensor) -> Tensor:
    """Return (rows, 1) factors that give each row of (rows, width) a mean square of one."""
    norm: Tensor = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    return norm.square_().div_(x.shape[-1]).add_(NORM_EPS).rsqrt_()


def _norm_backward(dn: Tensor, n: Tensor, r: Tensor) -> Tensor:
    """Return the gradient of x where n = x * r and ``dn`` is that of n; all (rows, width)."""
    along = (dn * n).mean(dim=-1, keepdim=True, dtype=r.dtype)
    return torch.addcmul(dn.to(r.dtype), n.to(r.dtype), along, value=-1).mul_(r)


def _heads(flat: Tensor, batch: int, time: int, heads: int) -> Tensor:
    """Return (batch * time, width) as (batch * heads, time, head width)."""
    return flat.view(batch, time, heads, -1).transpose(1, 2).reshape(batch * heads, time, -1)


def _split(fused: Tensor, batch: int, time: int, parts: int, heads: int) -> tuple[Tensor, ...]:
    """Return the parts of (batch * time, parts * width) as (batch, heads, time, head width) each."""
    by_part = fused.view(batch, time, parts, heads, -1).permute(2, 0, 3, 1, 4)
    return by_part.contiguous().unbind(0)


def _asked(flat: Tensor, batch: int, first: int) -> Tensor:
    """Return the rows of (batch * time, width) that belong to positions from ``first`` on."""
    if first == 0:
        return flat
    width = flat.shape[-1]
    return flat.view(batch, -1, width)[:, first:].reshape(-1, width)

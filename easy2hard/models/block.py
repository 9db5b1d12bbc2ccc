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


@dataclass
class Cache:
    """Keys and values of the tokens seen so far; room for ``capacity`` tokens.

    ``keys[i]`` and ``values[i]`` of block i are (batch, heads, capacity, head width).
    """

    capacity: int
    length: int = 0
    keys: list[Tensor] = field(default_factory=list)
    values: list[Tensor] = field(default_factory=list)

    def extend(self, block: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Store new keys and values (batch, heads, new, head width) of a block; return all so far."""
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
        y, kept = block_forward(x, layout, weights, None, 0)
        ctx.layout = layout
        ctx.save_for_backward(x, *kept, *weights)
        return y

    @staticmethod
    @override
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        layout: Layout = ctx.layout
        x, r1, q, k, v, p, o, x2, r2, fused, *weights = ctx.saved_tensors
        norm1, wq, wk, wv, wo, norm2, gate_weight, up_weight, down_weight = weights
        dtype, first, heads = layout.dtype, layout.first, layout.heads
        batch, time, width = x.shape
        asked = time - first
        dy = dy.reshape(-1, width)

        # Feed-forward: y = x2 + (silu(gate) * up) @ down.T
        gate, up = fused.chunk(2, dim=-1)
        sigmoid = torch.sigmoid(gate)
        silu = gate * sigmoid
        dy_low = dy.to(dtype)
        d_act = dy_low @ down_weight.to(dtype)
        d_down = dy_low.T @ (silu * up)
        d_fused = torch.empty_like(fused)
        d_gate, d_up = d_fused.chunk(2, dim=-1)
        torch.mul(d_act, silu, out=d_up)
        # d silu / d gate = sigmoid + silu * (1 - sigmoid)
        slope = torch.addcmul(sigmoid, silu, 1 - sigmoid)
        torch.mul(slope.mul_(up), d_act, out=d_gate)
        n2 = x2 * r2
        d_folded = (d_fused.T @ n2.to(dtype)).to(x.dtype)
        gate_up = torch.cat([gate_weight, up_weight])
        d_norm2 = (d_folded * gate_up).sum(dim=0)
        d_gate_weight, d_up_weight = (d_folded * norm2).chunk(2)
        dx2 = _norm_backward(d_fused @ (gate_up * norm2).to(dtype), n2, r2).add_(dy)

        # Attention: x2 = x + softmax(q k' + mask) v @ o.T
        dx2_low = dx2.to(dtype)
        d_o = dx2_low.T @ o
        do = _heads(dx2_low @ wo.to(dtype), batch, asked, heads)
        dp = do @ v.mT
        d_kv = dp.new_empty(batch, time, 2, heads, width // heads)
        _head_view(d_kv, 1).copy_((p.mT @ do).view(batch, heads, time, -1))
        ds = torch._softmax_backward_data(dp, p, -1, p.dtype)
        dq = _flat(ds @ k, batch, heads)
        _head_view(d_kv, 0).copy_((ds.mT @ q).view(batch, heads, time, -1))
        d_kv = d_kv.view(-1, 2 * width)
        n1 = (x.reshape(-1, width) * r1).to(dtype)
        n1_asked = _asked(n1, batch, first)
        scale = (width // heads) ** -0.5
        kv_weight = torch.cat([wk, wv])
        d_folded_q = (dq.T @ n1_asked).to(x.dtype)
        d_folded_kv = (d_kv.T @ n1).to(x.dtype)
        d_norm1 = (d_folded_q * wq).sum(dim=0).mul_(scale) + (d_folded_kv * kv_weight).sum(dim=0)
        dn1 = d_kv @ (kv_weight * norm1).to(dtype)
        dn1_asked = dq @ (wq * (norm1 * scale)).to(dtype)
        dn1 = dn1.view(batch, time, width)
        dn1[:, first:] += dn1_asked.view(batch, asked, width)
        dx = _norm_backward(dn1.view(-1, width), n1, r1).view(batch, time, width)
        dx[:, first:] += dx2.view(batch, asked, width)
        d_k_weight, d_v_weight = (d_folded_kv * norm1).chunk(2)
        return (
            dx,
            None,
            d_norm1,
            d_folded_q * (norm1 * scale),
            d_k_weight,
            d_v_weight,
            d_o.to(x.dtype),
            d_norm2,
            d_gate_weight,
            d_up_weight,
            d_down.to(x.dtype),
        )


def block_forward(
    x: Tensor, layout: Layout, weights: tuple[Tensor, ...], cache: Cache | None, block: int
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Return (batch, time - first, width) outputs of (batch, time, width) inputs, and what backward needs.

    Args:
        x: inputs, float32.
        layout: heads, first position, mask, precision.
        weights: first norm, query, key, value, output; second norm, gate, up, down.
        cache: keys and values of earlier tokens, extended in place.
        block: index of the block in the cache.
    """
    norm1, wq, wk, wv, wo, norm2, gate_weight, up_weight, down_weight = weights
    dtype, first, heads = layout.dtype, layout.first, layout.heads
    batch, time, width = x.shape
    asked = time - first
    flat = x.reshape(-1, width)
    r1 = _inverse_norm(flat)
    n1 = (flat * r1).to(dtype)
    q = _heads(_asked(n1, batch, first) @ (wq * (norm1 * (width // heads) ** -0.5)).to(dtype).T, batch, asked, heads)
    kv = (n1 @ (torch.cat([wk, wv]) * norm1).to(dtype).T).view(batch, time, 2, heads, width // heads)
    k, v = kv.permute(2, 0, 3, 1, 4).contiguous().unbind(0)  # (batch, heads, time, head width) each
    if cache is not None:
        k, v = cache.extend(block, k, v)
    k, v = k.flatten(0, 1), v.flatten(0, 1)
    scores = q @ k.mT if layout.mask is None else torch.baddbmm(layout.mask.to(dtype), q, k.mT)
    p = scores.softmax(dim=-1)
    o = _flat(p @ v, batch, heads)
    x2 = _asked(flat, batch, first) + o @ wo.to(dtype).T
    r2 = _inverse_norm(x2)
    fused = (x2 * r2).to(dtype) @ (torch.cat([gate_weight, up_weight]) * norm2).to(dtype).T
    gate, up = fused.chunk(2, dim=-1)
    act = torch.nn.functional.silu(gate).mul_(up)
    y = x2 + act @ down_weight.to(dtype).T
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


def _flat(by_head: Tensor, batch: int, heads: int) -> Tensor:
    """Return (batch * heads, time, head width) as (batch * time, width)."""
    _, time, width = by_head.shape
    return by_head.view(batch, heads, time, width).transpose(1, 2).reshape(batch * time, heads * width)


def _head_view(fused: Tensor, part: int) -> Tensor:
    """Return one part of (batch, time, parts, heads, head width) as a (batch, heads, time, head width) view."""
    return fused[:, :, part].transpose(1, 2)


def _asked(flat: Tensor, batch: int, first: int) -> Tensor:
    """Return the rows of (batch * time, width) that belong to positions from ``first`` on."""
    if first == 0:
        return flat
    width = flat.shape[-1]
    return flat.view(batch, -1, width)[:, first:].reshape(-1, width)

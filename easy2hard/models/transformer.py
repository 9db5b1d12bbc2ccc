"""The whole model: a Llama-style decoder without positional encoding (NoPE).

RMSNorm, SwiGLU, no biases; names of the weights are those of Llama in transformers, so that the two can be compared
tensor by tensor (method.md, "Model and optimiser"). Order is visible to the model through the causal mask alone.

Prompts of one batch have one length, so there is no padding on the left and no mask but the causal one. The last
block computes queries, feed-forward and logits only from position ``first`` on: earlier positions are prompt, and
nothing reads what the last block would say there.
"""

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from typing_extensions import override

from easy2hard.config import ModelSize

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


class SwiGLU(torch.autograd.Function):
    """silu(gate) * up of a fused (…, 2 * width) tensor; the backward pass writes one fused gradient, no copies."""

    @staticmethod
    @override
    def forward(ctx: torch.autograd.function.FunctionCtx, fused: Tensor) -> Tensor:
        ctx.save_for_backward(fused)
        gate, up = fused.chunk(2, dim=-1)
        return F.silu(gate).mul_(up)

    @staticmethod
    @override
    def backward(ctx: torch.autograd.function.FunctionCtx, gradient: Tensor) -> Tensor:
        (fused,) = ctx.saved_tensors  # type: ignore[attr-defined]
        gate, up = fused.chunk(2, dim=-1)
        result = torch.empty_like(fused)
        gate_gradient, up_gradient = result.chunk(2, dim=-1)
        sigmoid = torch.sigmoid(gate)
        silu = gate * sigmoid
        torch.mul(silu, gradient, out=up_gradient)
        # d silu / d gate = sigmoid + silu - silu * sigmoid
        slope = silu.addcmul_(silu.clone(), sigmoid, value=-1).add_(sigmoid)
        torch.mul(slope.mul_(up), gradient, out=gate_gradient)
        return result


class Attention(nn.Module):
    """Causal multi-head self-attention."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q_proj = nn.Linear(width, width, bias=False)
        self.k_proj = nn.Linear(width, width, bias=False)
        self.v_proj = nn.Linear(width, width, bias=False)
        self.o_proj = nn.Linear(width, width, bias=False)

    def forward(self, x: Tensor, first: int, mask: Tensor | None, cache: Cache | None, block: int) -> Tensor:
        """Return (batch, time - first, width) attention outputs of (batch, time, width) inputs."""
        batch, time, width = x.shape
        if first == 0:
            weight = torch.cat([self.q_proj.weight, self.k_proj.weight, self.v_proj.weight])
            q, k, v = self._split(F.linear(x, weight), 3)
        else:
            (q,) = self._split(self.q_proj(x[:, first:]), 1)
            k, v = self._split(F.linear(x, torch.cat([self.k_proj.weight, self.v_proj.weight])), 2)
        if cache is not None:
            k, v = cache.extend(block, k, v)
        scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)
        if mask is not None:
            scores = scores + mask
        attended = scores.softmax(dim=-1) @ v
        return self.o_proj(attended.transpose(1, 2).reshape(batch, time - first, width))  # type: ignore[no-any-return]

    def _split(self, fused: Tensor, parts: int) -> tuple[Tensor, ...]:
        batch, time, width = fused.shape
        heads = fused.view(batch, time, parts, self.heads, width // parts // self.heads)
        return heads.permute(2, 0, 3, 1, 4).unbind(0)


class FeedForward(nn.Module):
    """SwiGLU feed-forward layer."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(width, hidden, bias=False)
        self.up_proj = nn.Linear(width, hidden, bias=False)
        self.down_proj = nn.Linear(hidden, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, time, width) to the same shape."""
        fused = F.linear(x, torch.cat([self.gate_proj.weight, self.up_proj.weight]))
        return self.down_proj(SwiGLU.apply(fused))  # type: ignore[no-any-return, no-untyped-call]


class Block(nn.Module):
    """Attention and feed-forward, each behind a norm and a residual connection."""

    def __init__(self, size: ModelSize) -> None:
        super().__init__()
        self.input_layernorm = nn.RMSNorm(size.width, eps=NORM_EPS)
        self.self_attn = Attention(size.width, size.heads)
        self.post_attention_layernorm = nn.RMSNorm(size.width, eps=NORM_EPS)
        self.mlp = FeedForward(size.width, size.feed_forward)

    def forward(self, x: Tensor, first: int, mask: Tensor | None, cache: Cache | None, block: int) -> Tensor:
        """Map (batch, time, width) to (batch, time - first, width)."""
        x = x[:, first:] + self.self_attn(self.input_layernorm(x), first, mask, cache, block)
        return x + self.mlp(self.post_attention_layernorm(x))  # type: ignore[no-any-return]


class Transformer(nn.Module):
    """One member.

    Args:
        size: width, depth, heads, feed-forward width.
        vocabulary: number of token ids.
        generator: draws the initial weights.
    """

    def __init__(self, size: ModelSize, vocabulary: int, generator: torch.Generator) -> None:
        super().__init__()
        self.size = size
        self.embed_tokens = nn.Embedding(vocabulary, size.width)
        self.layers = nn.ModuleList(Block(size) for _ in range(size.layers))
        self.norm = nn.RMSNorm(size.width, eps=NORM_EPS)
        self.lm_head = nn.Linear(size.width, vocabulary, bias=False)
        self._initialise(generator)

    def _initialise(self, generator: torch.Generator) -> None:
        """Normal weights of variance 1 / inputs; what writes into the residual stream is scaled down by its depth."""
        with torch.no_grad():
            for name, weight in self.named_parameters():
                if weight.dim() < 2:
                    continue  # norms stay at one
                std = 1.0 if weight is self.embed_tokens.weight else weight.shape[1] ** -0.5
                if name.endswith(("o_proj.weight", "down_proj.weight")):
                    std *= (2 * self.size.layers) ** -0.5
                weight.normal_(0.0, std, generator=generator)

    def forward(self, tokens: Tensor, first: int = 0, cache: Cache | None = None) -> Tensor:
        """Return (batch, time - first, vocabulary) logits of the positions from ``first`` on.

        Args:
            tokens: (batch, time) token ids, int64; with a cache, the tokens after those it holds.
            first: first position whose next token is wanted.
            cache: keys and values of earlier tokens, extended in place.
        """
        time = tokens.shape[1]
        past = cache.length if cache is not None else 0
        x = self.embed_tokens(tokens)
        mask = _causal_mask(time, past, x) if time > 1 else None
        for index, block in enumerate(self.layers):
            last = index == len(self.layers) - 1
            start = first if last else 0
            x = block(x, start, mask[start:] if mask is not None else None, cache, index)
        if cache is not None:
            cache.length += time
        return self.lm_head(self.norm(x))  # type: ignore[no-any-return]


def _causal_mask(time: int, past: int, like: Tensor) -> Tensor:
    """Return (time, past + time) zeros where a query may look and minus infinity where it may not."""
    mask = torch.full((time, past + time), float("-inf"), dtype=like.dtype, device=like.device)
    return mask.triu_(past + 1)

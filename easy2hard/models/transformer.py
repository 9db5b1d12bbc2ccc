"""The whole model: a Llama-style decoder without positional encoding (NoPE).

RMSNorm, SwiGLU, no biases; names of the weights are those of Llama in transformers, so that the two can be compared
tensor by tensor (method.md, "Model and optimiser"). Order is visible to the model through the causal mask alone.

Prompts of one batch have one length, so there is no padding on the left and no mask but the causal one. The last
block computes queries, feed-forward and logits only from position ``first`` on: earlier positions are prompt, and
nothing reads what the last block would say there.
"""

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn
from typing_extensions import override

from easy2hard.config import ModelSize
from easy2hard.models import whole
from easy2hard.models.block import BlockFunction, Cache, Folded, Layout, block_forward, fold
from easy2hard.models.kernels import NORM_EPS, fused
from easy2hard.models.member import Gradients, Member, answer_loss
from easy2hard.models.prefixes import Rows, own_rows, shared_rows
from easy2hard.models.stepping import Packed, pack
from easy2hard.models.vectors import LANES


class Attention(nn.Module):
    """Weights of causal multi-head self-attention."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.q_proj = nn.Linear(width, width, bias=False)
        self.k_proj = nn.Linear(width, width, bias=False)
        self.v_proj = nn.Linear(width, width, bias=False)
        self.o_proj = nn.Linear(width, width, bias=False)


class FeedForward(nn.Module):
    """Weights of a SwiGLU feed-forward layer."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(width, hidden, bias=False)
        self.up_proj = nn.Linear(width, hidden, bias=False)
        self.down_proj = nn.Linear(hidden, width, bias=False)


class Block(nn.Module):
    """Attention and feed-forward, each behind a norm and a residual connection; computed in models/block.py."""

    def __init__(self, size: ModelSize) -> None:
        super().__init__()
        self.heads = size.heads
        self.input_layernorm = nn.RMSNorm(size.width, eps=NORM_EPS)
        self.self_attn = Attention(size.width)
        self.post_attention_layernorm = nn.RMSNorm(size.width, eps=NORM_EPS)
        self.mlp = FeedForward(size.width, size.feed_forward)

    def fold(self) -> Folded:
        """Return the weights ready for their products."""
        return fold(tuple(self.parameters()), self.heads)  # in the order of their definition

    def forward(
        self, x: Tensor, rows: Rows, first: int, cache: Cache | None, block: int, folded: Folded | None = None
    ) -> Tensor:
        """Map (rows, width) to one row for each position from ``first`` on."""
        kind = x.device.type
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype
        layout = Layout(self.heads, rows, first, dtype)
        with torch.autocast(kind, enabled=False):
            if cache is None and torch.is_grad_enabled():
                weights = folded or self.fold()
                return BlockFunction.apply(x, layout, *weights)  # type: ignore[no-any-return, no-untyped-call]
            if cache is None:
                return block_forward(x, layout, folded or self.fold())[0]
            if block == len(cache.folded):
                cache.folded.append(Folded(*(each.to(dtype) for each in self.fold())))
            return block_forward(x, layout, cache.folded[block], cache, block)[0]


class Transformer(Member):
    """A member of our own making.

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

    @override
    def make_cache(self, capacity: int) -> Cache:
        return Cache(capacity)

    @property
    @override
    def cached_bytes(self) -> int:
        return 2 * 4 * self.size.width * self.size.layers

    @override
    def forward(
        self, tokens: Tensor, first: int = 0, cache: Cache | None = None, folded: Sequence[Folded] | None = None
    ) -> Tensor:
        """The same; ``folded`` are the blocks' weights where they have been folded already."""
        batch, time = tokens.shape
        plain = cache is not None or self._head_width % LANES
        rows = own_rows(tokens) if plain or not fused(self.lm_head.weight) else shared_rows(tokens, first)
        x = self.embed_tokens(rows.tokens)
        for index, block in enumerate(self.layers):
            start = first if index == len(self.layers) - 1 else 0
            x = block(x, rows, start, cache, index, folded[index] if folded else None)
        if cache is not None:
            cache.length += time
        return self.lm_head(self.norm(x)).view(batch, time - first, -1)  # type: ignore[no-any-return]

    @property
    def _head_width(self) -> int:
        return self.size.width // self.size.heads

    @override
    def packed(self) -> Packed | None:
        size, weight = self.size, self.lm_head.weight
        if not whole.applies(size.width, size.feed_forward, size.heads, weight):
            return None
        return pack(self.embed_tokens.weight, self.fold(), weight * self.norm.weight, self.size.heads)

    def fold(self) -> list[Folded]:
        """Return the blocks' weights ready for their products."""
        return [block.fold() for block in self.layers if isinstance(block, Block)]

    @override
    def gradients(self, precision: str) -> Gradients:
        size, weight = self.size, self.lm_head.weight
        if precision == "float32" and whole.applies(size.width, size.feed_forward, size.heads, weight):
            return WholeGradients(self)
        return FoldedGradients(self, precision)


class FoldedGradients(Gradients):
    """The same with weights that are folded once for all examples of a step."""

    def __init__(self, model: Transformer, precision: str) -> None:
        super().__init__(model, precision)
        with torch.enable_grad():
            self._blocks = model.fold()
        self._leaves = [Folded(*(each.detach().requires_grad_() for each in block)) for block in self._blocks]
        self._wanted = [each for block in self._leaves for each in block]
        self._rest = [model.embed_tokens.weight, model.norm.weight, model.lm_head.weight]

    @override
    def of(self, tokens: Tensor, prompt_length: int, scale: float) -> tuple[float, Sequence[Tensor]]:
        with self.autocast():
            loss = answer_loss(partial(self.model, folded=self._leaves), tokens, prompt_length) * scale
        return float(loss.detach()), torch.autograd.grad(loss, [*self._rest, *self._wanted])

    @override
    def of_parameters(self, sums: Sequence[Tensor]) -> Sequence[Tensor]:
        embedding, norm, head, *of_blocks = sums
        folded = [each for block in self._blocks for each in block]
        gradients = torch.autograd.grad(folded, self.parameters[1:-2], of_blocks)
        return [embedding, *gradients, norm, head]


class WholeGradients(Gradients):
    """The same by compiled passes over the folded weights (models/whole.py)."""

    def __init__(self, model: Transformer) -> None:
        super().__init__(model, "float32")
        with torch.enable_grad():
            blocks, head = model.fold(), model.lm_head.weight * model.norm.weight
        self._folded = [each for block in blocks for each in block] + [head]
        self._pass = whole.Pass(model.embed_tokens.weight, blocks, head, model.size.heads)

    @override
    def of(self, tokens: Tensor, prompt_length: int, scale: float) -> tuple[float, Sequence[Tensor]]:
        return self._pass(tokens, prompt_length, scale)

    @override
    def of_parameters(self, sums: Sequence[Tensor]) -> Sequence[Tensor]:
        rest = self.parameters[1:]  # all but the embedding, which is the first to be defined
        gradients = torch.autograd.grad(self._folded, rest, list(sums[1:]))
        # Fused AdamW reads a gradient as if it lay in memory as its parameter does.
        return [sums[0], *(each.contiguous() for each in gradients)]

"""The whole model: a Llama-style decoder, by default without positional encoding (NoPE).

RMSNorm, SwiGLU, no biases; names of the weights are those of Llama in transformers, so that the two can be compared
tensor by tensor (method.md, "Model and optimiser"). Order is visible to the model through the causal mask, and through
a scheme of models/positions.py where it has one. With a scheme that changes the attention, or with blocks that are
applied several times, a member is *plain*: computed by torch's operations and derivatives (models/plain.py) instead of
the compiled loops. With a scheme that changes the embeddings alone only its decoding is.

Prompts of one batch have one length, so there is no padding on the left and no mask but the causal one. The last
block computes queries, feed-forward and logits only from position ``first`` on: earlier positions are prompt, and
nothing reads what the last block would say there.
"""

from collections.abc import Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from typing_extensions import override

from easy2hard.config import ModelSettings, ModelSize
from easy2hard.models import whole
from easy2hard.models.block import BlockFunction, Cache, Folded, Layout, block_forward, fold
from easy2hard.models.kernels import NORM_EPS, fused
from easy2hard.models.member import Gradients, Member, Place, answer_loss
from easy2hard.models.plain import Places, PlainCache, attention
from easy2hard.models.positions import Positions, Tabled, build_positions
from easy2hard.models.prefixes import Rows, own_rows, shared_rows
from easy2hard.models.stepping import Packed, pack
from easy2hard.models.vectors import LANES
from easy2hard.tasks.base import Task


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

    def plain(self, x: Tensor, first: int, places: Places | None, block: int, cache: Cache | None, slot: int) -> Tensor:
        """Map (batch, time, width) to (batch, time - first, width) in torch's operations."""
        normed, own = self.input_layernorm(x), self.self_attn
        query, key, value = (
            each(normed).unflatten(-1, (self.heads, -1)) for each in (own.q_proj, own.k_proj, own.v_proj)
        )
        x = x[:, first:] + own.o_proj(attention((query, key, value), first, places, block, cache, slot).flatten(2))
        normed = self.post_attention_layernorm(x)
        added: Tensor = self.mlp.down_proj(F.silu(self.mlp.gate_proj(normed)) * self.mlp.up_proj(normed))
        return x + added


class Transformer(Member):
    """A member of our own making.

    Args:
        size: width, depth, heads, feed-forward width.
        vocabulary: number of token ids.
        generator: draws the initial weights.
        positions: the position scheme; None for the causal mask alone.
        loops: times that the blocks are applied; each time the embeddings are added to what they gave before (Yang et
            al. 2024, "Looped Transformers are Better at Learning Learning Algorithms", section 4).
        loops_per: tokens of a prompt for each of which there is one loop more; None for the same number for all. So the
            number grows with the difficulty, of which decoding knows the prompt alone (Fan et al. 2024, "Looped
            Transformers for Length Generalization").
    """

    def __init__(
        self,
        size: ModelSize,
        vocabulary: int,
        generator: torch.Generator,
        positions: Positions | None = None,
        loops: int = 1,
        loops_per: int | None = None,
    ) -> None:
        super().__init__()
        self.size = size
        self.loops = loops
        self.loops_per = loops_per
        looped = loops > 1 or loops_per is not None
        self.plain = looped or not (positions is None or isinstance(positions, Tabled))
        self.plain_decoding = looped or positions is not None
        self.embed_tokens = nn.Embedding(vocabulary, size.width)
        self.layers = nn.ModuleList(Block(size) for _ in range(size.layers))
        self.norm = nn.RMSNorm(size.width, eps=NORM_EPS)
        self.lm_head = nn.Linear(size.width, vocabulary, bias=False)
        self._initialise(generator)
        # Last, so that all other weights are those that a member without a scheme begins with.
        self.positions = positions
        if positions is not None:
            positions.initialise(generator)

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
        return PlainCache(capacity) if self.plain_decoding else Cache(capacity)

    @property
    @override
    def cached_bytes(self) -> int:
        return 2 * 4 * self.size.width * self.size.layers * self.loops  # of a short prompt

    @property
    @override
    def place(self) -> Place | None:
        return self.positions.ids if self.positions is not None and self.positions.drawn else None

    @override
    def forward(
        self,
        tokens: Tensor,
        first: int = 0,
        cache: Cache | None = None,
        folded: Sequence[Folded] | None = None,
        positions: Tensor | None = None,
    ) -> Tensor:
        """The same; ``folded`` are the blocks' weights where they have been folded already.

        ``positions`` are (batch, time) numbers of places that were drawn for training.
        """
        if self.plain or (cache is not None and self.plain_decoding):
            return self._plain(tokens, first, cache, positions)
        batch, time = tokens.shape
        own = cache is not None or self._head_width % LANES or self.positions is not None
        rows = own_rows(tokens) if own or not fused(self.lm_head.weight) else shared_rows(tokens, first)
        x = self.embed_tokens(rows.tokens)
        if self.positions is not None:
            ids = self._ids(tokens, first + 1) if positions is None else positions
            x = self.positions.embed(x.view(batch, time, -1), ids).flatten(0, 1)
        for index, block in enumerate(self.layers):
            start = first if index == len(self.layers) - 1 else 0
            x = block(x, rows, start, cache, index, folded[index] if folded else None)
        if cache is not None:
            cache.length += time
        return self.lm_head(self.norm(x)).view(batch, time - first, -1)  # type: ignore[no-any-return]

    def _plain(self, tokens: Tensor, first: int, cache: Cache | None, positions: Tensor | None) -> Tensor:
        """Return the logits by models/plain.py; the prompt is what comes before ``first``, and the token there."""
        time, prompt_length, past = tokens.shape[1], first + 1, 0
        seen = tokens
        if isinstance(cache, PlainCache):
            cache.see(tokens, prompt_length)
            seen, prompt_length, past = cache.tokens, cache.prompt_length, cache.length
        x = embedded = self.embed_tokens(tokens)
        places = None
        if self.positions is not None:
            if positions is None:
                positions = self._ids(seen, prompt_length)
            places = Places(self.positions, positions)
            x = embedded = self.positions.embed(embedded, positions[:, past:])
        loops = self.loops + (prompt_length // self.loops_per if self.loops_per else 0)
        last = loops * len(self.layers) - 1
        for slot in range(last + 1):
            index = slot % len(self.layers)
            if slot and not index:
                x = x + embedded
            block = self.layers[index]
            assert isinstance(block, Block)
            x = block.plain(x, first if slot == last else 0, places, index, cache, slot)
        if cache is not None:
            cache.length += time
        return self.lm_head(self.norm(x))  # type: ignore[no-any-return]

    def _ids(self, tokens: Tensor, prompt_length: int) -> Tensor:
        """Return the numbers of the tokens' places, as they are where nothing is drawn."""
        assert self.positions is not None
        return torch.from_numpy(self.positions.ids(tokens.cpu().numpy(), prompt_length)).to(tokens.device)

    @property
    def _head_width(self) -> int:
        return self.size.width // self.size.heads

    @override
    def packed(self) -> Packed | None:
        size, weight = self.size, self.lm_head.weight
        if self.plain_decoding or not whole.applies(size.width, size.feed_forward, size.heads, weight):
            return None
        return pack(self.embed_tokens.weight, self.fold(), weight * self.norm.weight, self.size.heads)

    def fold(self) -> list[Folded]:
        """Return the blocks' weights ready for their products."""
        return [block.fold() for block in self.layers if isinstance(block, Block)]

    @override
    def gradients(self, precision: str) -> Gradients:
        if self.plain:
            return PlainGradients(self, precision)
        size, weight = self.size, self.lm_head.weight
        compiled = precision == "float32" and whole.applies(size.width, size.feed_forward, size.heads, weight)
        if compiled and self.positions is None:
            return WholeGradients(self)
        return FoldedGradients(self, precision)


def build_transformer(model: ModelSettings, task: Task, generator: torch.Generator) -> Transformer:
    """Return an untrained member of the settings, for a task.

    Raises:
        UserError: the position scheme does not fit the task.
    """
    scheme = build_positions(model, task)
    return Transformer(model.size, len(task.vocabulary), generator, scheme, model.loops, model.loops_per)


class PlainGradients(Gradients):
    """The same for numbers of places that were drawn."""

    @override
    def of(
        self, tokens: Tensor, prompt_length: int, scale: float, positions: Tensor | None = None
    ) -> tuple[float, Sequence[Tensor]]:
        with self.autocast():
            loss = answer_loss(partial(self.model, positions=positions), tokens, prompt_length) * scale
        return float(loss.detach()), torch.autograd.grad(loss, self.parameters)


class FoldedGradients(Gradients):
    """The same with weights that are folded once for all examples of a step."""

    def __init__(self, model: Transformer, precision: str) -> None:
        super().__init__(model, precision)
        with torch.enable_grad():
            self._blocks = model.fold()
        self._leaves = [Folded(*(each.detach().requires_grad_() for each in block)) for block in self._blocks]
        self._wanted = [each for block in self._leaves for each in block]
        ends = [model.embed_tokens.weight, model.norm.weight, model.lm_head.weight]
        self._rest = [*ends, *(model.positions.parameters() if model.positions is not None else [])]

    @override
    def of(
        self, tokens: Tensor, prompt_length: int, scale: float, positions: Tensor | None = None
    ) -> tuple[float, Sequence[Tensor]]:
        with self.autocast():
            model = partial(self.model, folded=self._leaves, positions=positions)
            loss = answer_loss(model, tokens, prompt_length) * scale
        return float(loss.detach()), torch.autograd.grad(loss, [*self._rest, *self._wanted])

    @override
    def of_parameters(self, sums: Sequence[Tensor]) -> Sequence[Tensor]:
        (embedding, norm, head, *table), of_blocks = sums[: len(self._rest)], sums[len(self._rest) :]
        folded = [each for block in self._blocks for each in block]
        # Parameters in the order of their definition: the embedding, the blocks, norm and head, the scheme's.
        gradients = torch.autograd.grad(folded, self.parameters[1 : 1 - len(self._rest)], of_blocks)
        return [embedding, *gradients, norm, head, *table]


class WholeGradients(Gradients):
    """The same by compiled passes over the folded weights (models/whole.py)."""

    def __init__(self, model: Transformer) -> None:
        super().__init__(model, "float32")
        with torch.enable_grad():
            blocks, head = model.fold(), model.lm_head.weight * model.norm.weight
        self._folded = [each for block in blocks for each in block] + [head]
        self._pass = whole.Pass(model.embed_tokens.weight, blocks, head, model.size.heads)

    @override
    def of(
        self, tokens: Tensor, prompt_length: int, scale: float, positions: Tensor | None = None
    ) -> tuple[float, Sequence[Tensor]]:
        return self._pass(tokens, prompt_length, scale)

    @override
    def of_parameters(self, sums: Sequence[Tensor]) -> Sequence[Tensor]:
        rest = self.parameters[1:]  # all but the embedding, which is the first to be defined
        gradients = torch.autograd.grad(self._folded, rest, list(sums[1:]))
        # Fused AdamW reads a gradient as if it lay in memory as its parameter does.
        return [sums[0], *(each.contiguous() for each in gradients)]

"""The whole decoder in torch's own operations: Llama-style, by default without positional encoding (NoPE).

RMSNorm, SwiGLU, no biases; names of the weights are those of Llama in transformers, so that the two can be compared
tensor by tensor (method.md, "Model and optimiser"). Order is visible to the model through the causal mask, and through
a scheme of positions/ where it has one.

This is the reference: it runs on any device, with any scheme and any number of loops, and its derivatives are torch's.
Its formulas are written for several members of one shape at once, their weights stacked on a first axis, of which an
ordinary member is a stack of one. The engines compute the same, faster (engines/).
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from typing_extensions import override

from easy2hard.models.member import Member, Place
from easy2hard.positions import Positions, build_positions
from easy2hard.settings.model import Loops, ModelSettings, ModelSize
from easy2hard.settings.training import TrainingSettings
from easy2hard.tasks.base import Task

NORM_EPS = 1e-6
ONE_TARGET = TrainingSettings()
"""Training on the next token alone."""
ONCE = Loops()


class BlockWeights(NamedTuple):
    """Weights of one block, the gains of its norms folded into the matrices that follow them.

    A gain costs nothing there; on rows it costs a pass over memory, and its derivative several. Those of stacked
    members have the members first.
    """

    qkv: Tensor
    """(3 * width, width): queries, keys, values."""
    o: Tensor
    """(width, width)"""
    gate_up: Tensor
    """(2 * feed-forward, width)"""
    down: Tensor
    """(width, feed-forward)"""


class Weights(NamedTuple):
    """Weights of stacked members."""

    embedding: Tensor
    """(members, vocabulary, width)"""
    blocks: Sequence[BlockWeights]
    head: Tensor
    """(members, vocabulary, width), the last norm's gains folded in."""


def embed(tokens: Tensor, embedding: Tensor) -> Tensor:
    """Return (members, rows, width) vectors of (members, rows) tokens from (members, vocabulary, width)."""
    members, vocabulary, _ = embedding.shape
    own = torch.arange(0, members * vocabulary, vocabulary, device=tokens.device)[:, None]
    return F.embedding(tokens + own, embedding.flatten(0, 1))


def normed(x: Tensor) -> Tensor:
    """Return (members, rows, width) with a mean square of one in each row."""
    return F.rms_norm(x, x.shape[-1:], eps=NORM_EPS)


def swiglu(gate_up: Tensor) -> Tensor:
    """Return (members, rows, hidden) silu(gate) * up of (members, rows, 2 * hidden) gates and ups."""
    gate, up = gate_up.chunk(2, dim=-1)
    return F.silu(gate) * up


def product(rows: Tensor, matrix: Tensor) -> Tensor:
    """Return (members, rows, outputs) of (members, rows, inputs) and (members, outputs, inputs)."""
    return rows @ matrix.mT


def every(rows: Tensor) -> Tensor:
    """Return all rows."""
    return rows


OfRows = Callable[[Tensor], Tensor]


def apply_block(
    x: Tensor,
    weights: BlockWeights,
    attend: OfRows,
    asked: OfRows = every,
    norm: OfRows = normed,
    gate: OfRows = swiglu,
    times: Callable[[Tensor, Tensor], Tensor] = product,
) -> Tensor:
    """Return the outputs of a block for the rows asked for.

    Args:
        x: (members, rows, width) inputs; a row is a token of an example. They keep their precision.
        weights: of the block; products are computed in the precision of its matrices.
        attend: maps (members, rows, 3 * width) queries, keys and values to what the queries of the rows asked for see.
        asked: chooses these rows.
        norm: norms rows, where an engine has a way of its own.
        gate: so does this.
        times: multiplies rows with a matrix; so does this.
    """
    row = norm(x).to(weights.qkv.dtype)
    x = asked(x) + times(attend(times(row, weights.qkv)), weights.o)
    row = norm(x).to(weights.qkv.dtype)
    return x + times(gate(times(row, weights.gate_up)), weights.down)


def logits_of(x: Tensor, weights: Weights, times: Callable[[Tensor, Tensor], Tensor] = product) -> Tensor:
    """Return (members, rows, vocabulary) logits of the last block's (members, rows, width) outputs."""
    return times(normed(x).to(weights.head.dtype), weights.head)


def in_heads(qkv: Tensor, batch: int, heads: int) -> list[Tensor]:
    """Return queries, keys and values of (members, batch * time, 3 * width), each as a view.

    Its shape is (members * batch, heads, time, head width).
    """
    views = (each.unflatten(-1, (heads, -1)).unflatten(1, (batch, -1)) for each in qkv.chunk(3, dim=-1))
    return [each.flatten(0, 1).transpose(1, 2) for each in views]


def in_rows(heads: Tensor, members: int) -> Tensor:
    """Return (members * batch, heads, time, head width) as (members, batch * time, width)."""
    rows: Tensor = heads.transpose(1, 2).flatten(2).unflatten(0, (members, -1))
    return rows.flatten(1, 2)


@dataclass
class Cache:
    """Keys and values of the tokens so far, for each block in each loop; room for ``capacity`` tokens."""

    capacity: int
    length: int = 0
    keys: list[Tensor] = field(default_factory=list)
    """Each (batch, heads, capacity, head width)."""
    values: list[Tensor] = field(default_factory=list)
    weights: Any = None
    """As they are while it is in use, and as whoever computes takes them."""
    prompt_length: int = 0
    tokens: Tensor | None = None
    """(batch, length), where a position scheme looks at them."""

    def extend(self, slot: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Store new keys and values (batch, heads, new, head width); return all of this slot so far."""
        batch, heads, new, width = keys.shape
        if slot == len(self.keys):
            self.keys.append(keys.new_empty(batch, heads, self.capacity, width))
            self.values.append(values.new_empty(batch, heads, self.capacity, width))
        end = self.length + new
        self.keys[slot][:, :, self.length : end] = keys
        self.values[slot][:, :, self.length : end] = values
        return self.keys[slot][:, :, :end], self.values[slot][:, :, :end]

    def keep(self, rows: Tensor) -> None:
        """Drop the rows of the batch where the (batch,) mask ``rows`` is False."""
        self.keys = [keys[rows] for keys in self.keys]
        self.values = [values[rows] for values in self.values]
        self.tokens = None if self.tokens is None else self.tokens[rows]


def matrices(**shapes: tuple[int, int]) -> nn.ModuleDict:
    """Return linear layers without biases by their names, each from its inputs to its outputs."""
    return nn.ModuleDict({name: nn.Linear(*shape, bias=False) for name, shape in shapes.items()})


class Block(nn.Module):
    """Weights of causal multi-head self-attention and of a SwiGLU feed-forward layer, each behind a norm and a residual
    connection (:func:`apply_block`)."""

    def __init__(self, size: ModelSize) -> None:
        super().__init__()
        self.heads, width, hidden = size.heads, size.width, size.feed_forward
        square = width, width
        self.input_layernorm = nn.RMSNorm(width, eps=NORM_EPS)
        self.self_attn = matrices(q_proj=square, k_proj=square, v_proj=square, o_proj=square)
        self.post_attention_layernorm = nn.RMSNorm(width, eps=NORM_EPS)
        self.mlp = matrices(gate_proj=(width, hidden), up_proj=(width, hidden), down_proj=(hidden, width))

    def folded(self, scale: float = 1.0) -> BlockWeights:
        """Return the weights as products take them, the queries' times ``scale``."""
        norm1, q, k, v, o, norm2, gate, up, down = self.parameters()  # in the order of their definition
        return BlockWeights(torch.cat([q * scale, k, v]) * norm1, o, torch.cat([gate, up]) * norm2, down)


class SecondTarget(nn.Module):
    """A head of its own for a token further on than the next one, such as the node after next of a way.

    It shares all but itself with the first head, trains beside it, and is asked for nothing else ("the node after
    next": arXiv 2604.11912).

    Args:
        width: of the vectors it reads.
        vocabulary: number of token ids.
        weight: of its cross-entropy, the next token's having 1.
        offset: tokens from the next one to its own.
    """

    def __init__(self, width: int, vocabulary: int, weight: float, offset: int) -> None:
        super().__init__()
        self.head = nn.Linear(width, vocabulary, bias=False)
        self.weight = weight
        self.offset = offset


class Transformer(Member):
    """A member of our own making.

    Args:
        size: width, depth, heads, feed-forward width.
        vocabulary: number of token ids.
        generator: draws the initial weights.
        positions: the position scheme; None for the causal mask alone.
        loops: times that the blocks are applied; each time the embeddings are added to what they gave before.
        second: a second target of training; None for the next token alone.
    """

    def __init__(
        self,
        size: ModelSize,
        vocabulary: int,
        generator: torch.Generator,
        positions: Positions | None = None,
        loops: Loops = ONCE,
        second: SecondTarget | None = None,
    ) -> None:
        super().__init__()
        self.size, self.loops = size, loops
        self.embed_tokens = nn.Embedding(vocabulary, size.width)
        self.layers = nn.ModuleList(Block(size) for _ in range(size.layers))
        self.norm = nn.RMSNorm(size.width, eps=NORM_EPS)
        self.lm_head = nn.Linear(size.width, vocabulary, bias=False)
        self._initialise(generator)
        # Last, so that all other weights are those that a member without a scheme begins with.
        self.positions = positions
        if positions is not None:
            positions.initialise(generator)
        self.second = second
        if second is not None:
            with torch.no_grad():
                second.head.weight.normal_(0.0, size.width**-0.5, generator=generator)

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

    @property
    def blocks(self) -> Iterator[Block]:
        """The blocks, from the embeddings on."""
        for block in self.layers:
            assert isinstance(block, Block)
            yield block

    def folded_head(self, head: nn.Linear | None = None) -> Tensor:
        """Return the (vocabulary, width) weights of the head, or of another one, with the last norm's gains."""
        return (head or self.lm_head).weight * self.norm.weight

    def stacked(self) -> Weights:
        """Return the weights as a stack of one member."""
        blocks = [BlockWeights(*(each[None] for each in block.folded())) for block in self.blocks]
        return Weights(self.embed_tokens.weight[None], blocks, self.folded_head()[None])

    @override
    def make_cache(self, capacity: int) -> Cache:
        return Cache(capacity)

    @property
    @override
    def cached_bytes(self) -> int:
        return 2 * 4 * self.size.width * self.size.layers * self.loops.fixed  # of a short prompt

    @property
    @override
    def place(self) -> Place | None:
        return self.positions.ids if self.positions is not None and self.positions.drawn else None

    @override
    def forward(
        self, tokens: Tensor, first: int = 0, cache: Cache | None = None, positions: Tensor | None = None
    ) -> Tensor:
        """See :meth:`Member.forward`. The prompt, where its length matters, ends with the token at ``first``."""
        x, weights = self._outputs(tokens, first, cache, positions)
        return logits_of(x, weights).view(len(tokens), tokens.shape[1] - first, -1)

    def both_targets(self, tokens: Tensor, first: int, positions: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return what :meth:`forward` does, and the same of the second target."""
        assert self.second is not None
        x, weights = self._outputs(tokens, first, None, positions)
        heads = (weights, weights._replace(head=self.folded_head(self.second.head)[None]))
        logits, later = (logits_of(x, each).view(len(tokens), tokens.shape[1] - first, -1) for each in heads)
        return logits, later

    def _outputs(
        self, tokens: Tensor, first: int, cache: Cache | None, positions: Tensor | None
    ) -> tuple[Tensor, Weights]:
        """Return (1, batch * (time - first), width) outputs of the last block, and the stacked weights."""
        batch, time = tokens.shape
        weights = self.stacked() if cache is None or cache.weights is None else cache.weights
        prompt_length, past, seen = first + 1, 0, tokens
        if cache is not None:
            cache.weights = weights
            if not cache.length:  # the first tokens are the prompts, whole
                cache.prompt_length = prompt_length
            prompt_length, past = cache.prompt_length, cache.length
            if self.positions is not None:
                seen = cache.tokens = tokens if cache.tokens is None else torch.cat([cache.tokens, tokens], dim=1)
        x = embedded = embed(tokens.flatten()[None], weights.embedding)
        places = None
        if self.positions is not None:
            places = self.place_ids(seen, prompt_length) if positions is None else positions
            x = self.positions.embed(x.view(batch, time, -1), places[:, past:])
            x = embedded = x.flatten(0, 1)[None]
        last = self.loops.of(prompt_length) * len(self.layers) - 1
        for slot in range(last + 1):
            index, start = slot % len(self.layers), first if slot == last else 0
            if slot and not index:
                x = x + embedded

            def attend(qkv: Tensor, slot: int = slot, start: int = start) -> Tensor:
                heads = in_heads(qkv, batch, self.size.heads)
                return in_rows(self._attention(heads, slot, start, places, cache), 1)

            def asked(rows: Tensor, start: int = start) -> Tensor:
                return rows.view(1, batch, time, -1)[:, :, start:].flatten(1, 2)

            # The last block computes queries, feed-forward and logits only of what is asked for.
            x = apply_block(x, weights.blocks[index], attend, asked)
        if cache is not None:
            cache.length += time
        return x, weights

    def _attention(
        self, heads: Sequence[Tensor], slot: int, first: int, places: Tensor | None, cache: Cache | None
    ) -> Tensor:
        """Return (batch, heads, time - first, head width): causal attention of the positions from ``first`` on.

        Args:
            heads: queries, keys and values, each (batch, heads, time, head width).
            slot: of the block and loop, in the cache.
            first: first position whose output is wanted.
            places: (batch or 1, tokens so far) numbers that the scheme gives them; None without one.
            cache: keys and values of earlier tokens, extended in place.
        """
        (queries, keys, values), past = heads, 0 if cache is None else cache.length
        queries = queries[:, :, first:]
        bias = None
        if self.positions is not None and places is not None:
            queries = self.positions.turn(queries, places[:, past + first :])
            keys = self.positions.turn(keys, places[:, past:])
            bias = self.positions.bias(slot % len(self.layers), places[:, past + first :], places)
        if cache is not None:
            keys, values = cache.extend(slot, keys, values)
        asked, seen = queries.shape[2], keys.shape[2]
        if bias is None and asked in (1, seen):  # the last token sees all
            return F.scaled_dot_product_attention(queries, keys, values, is_causal=asked > 1)
        later = torch.ones(asked, seen, dtype=torch.bool, device=keys.device).triu(seen - asked + 1)
        mask = ~later if bias is None else bias.to(queries.dtype).masked_fill(later, float("-inf"))
        return F.scaled_dot_product_attention(queries, keys, values, attn_mask=mask)

    def place_ids(self, tokens: Tensor, prompt_length: int) -> Tensor:
        """Return the numbers of the tokens' places, (batch or 1, time), as they are where nothing is drawn."""
        assert self.positions is not None
        return torch.from_numpy(self.positions.ids(tokens.cpu().numpy(), prompt_length)).to(tokens.device)


def build_transformer(
    model: ModelSettings, task: Task, generator: torch.Generator, training: TrainingSettings = ONE_TARGET
) -> Transformer:
    """Return an untrained member of the settings, for a task.

    Raises:
        UserError: the position scheme does not fit the task.
    """
    scheme, vocabulary = build_positions(model, task), len(task.vocabulary)
    second = None
    if training.second_target:
        second = SecondTarget(model.size.width, vocabulary, training.second_target, training.second_offset)
    return Transformer(model.size, vocabulary, generator, scheme, model.looping, second)

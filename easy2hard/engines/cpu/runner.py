"""One member of our own making by compiled loops, where they are written for it.

A position scheme that changes the embeddings alone leaves training and scoring to the loops; its decoding, and
whatever they do not know, is the reference's (engines/reference.py).
"""

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor
from typing_extensions import override

from easy2hard.engines.cpu import compiled_block
from easy2hard.engines.cpu.block import BlockFunction, Folded, FoldedCache, Layout, block_forward, fold
from easy2hard.engines.cpu.compiled_decode import answer, pack
from easy2hard.engines.cpu.kernels import fused
from easy2hard.engines.cpu.shared_prefixes import own_rows, shared_rows
from easy2hard.engines.cpu.simd import LANES
from easy2hard.engines.decoding import Whole
from easy2hard.engines.engine import Group
from easy2hard.engines.reference import Gradients, Runner
from easy2hard.models.member import KeyValueCache, Member
from easy2hard.models.transformer import Transformer
from easy2hard.vocabulary import PAD


def why_not(member: Member) -> str | None:
    """Return what the loops do not know of a member; None where they know it."""
    if not isinstance(member, Transformer):
        return "a pretrained model"
    if member.looped:
        return "loops"
    if member.positions is not None and not member.positions.only_embeds:
        return f"positions ({type(member.positions).__name__.lower()})"
    return None


def folded(member: Transformer) -> list[Folded]:
    """Return the blocks' weights ready for their products."""
    return [fold(tuple(block.parameters()), block.heads) for block in member.blocks]  # in the order of their definition


def logits(
    member: Transformer,
    tokens: Tensor,
    first: int = 0,
    cache: FoldedCache | None = None,
    weights: Sequence[Folded] | None = None,
    positions: Tensor | None = None,
) -> Tensor:
    """Return the logits of the positions from ``first`` on, as the member's ``forward``.

    Args:
        member: has no scheme that changes the attention, and no loops.
        tokens: (batch, time).
        first: first position whose next token is wanted.
        cache: keys and values of earlier tokens.
        weights: the blocks' weights where they have been folded already.
        positions: (batch, time) numbers of places that were drawn for training.
    """
    batch, time = tokens.shape
    head = member.lm_head.weight
    own = cache is not None or (member.size.width // member.size.heads) % LANES or member.positions is not None
    rows = own_rows(tokens) if own or not fused(head) else shared_rows(tokens, first)
    low = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else head.dtype
    x = member.embed_tokens(rows.tokens)
    if member.positions is not None:
        ids = member.place_ids(tokens, first + 1) if positions is None else positions
        x = member.positions.embed(x.view(batch, time, -1), ids).flatten(0, 1)
    for index, block in enumerate(member.blocks):
        layout = Layout(block.heads, rows, first if index == len(member.layers) - 1 else 0, low)
        with torch.autocast("cpu", enabled=False):
            if cache is not None:
                if index == len(cache.folded):
                    cache.folded.append(
                        Folded(*(each.to(low) for each in fold(tuple(block.parameters()), block.heads)))
                    )
                x = block_forward(x, layout, cache.folded[index], cache, index)[0]
                continue
            own_weights = weights[index] if weights else fold(tuple(block.parameters()), block.heads)
            if torch.is_grad_enabled():
                x = cast(Tensor, BlockFunction.apply(x, layout, *own_weights))  # type: ignore[no-untyped-call]
            else:
                x = block_forward(x, layout, own_weights)[0]
    if cache is not None:
        cache.length += time
    return cast(Tensor, member.lm_head(member.norm(x))).view(batch, time - first, -1)


class FoldedGradients(Gradients):
    """Gradients with weights that are folded once for all examples of a step."""

    def __init__(self, model: Transformer, precision: str) -> None:
        super().__init__(model, precision)
        with torch.enable_grad():
            self._blocks = folded(model)
        self._leaves = [Folded(*(each.detach().requires_grad_() for each in block)) for block in self._blocks]
        ends = [model.embed_tokens.weight, model.norm.weight, model.lm_head.weight]
        self._rest = [*ends, *(model.positions.parameters() if model.positions is not None else [])]

    @override
    def logits(self, tokens: Tensor, first: int, positions: Tensor | None) -> Tensor:
        return logits(cast(Transformer, self.model), tokens, first, weights=self._leaves, positions=positions)

    @override
    def wanted(self) -> Sequence[Tensor]:
        return [*self._rest, *(each for block in self._leaves for each in block)]

    @override
    def of_parameters(self, sums: Sequence[Tensor]) -> Sequence[Tensor]:
        (embedding, norm, head, *table), of_blocks = sums[: len(self._rest)], sums[len(self._rest) :]
        blocks = [each for block in self._blocks for each in block]
        # Parameters in the order of their definition: the embedding, the blocks, norm and head, the scheme's.
        gradients = torch.autograd.grad(blocks, self.parameters[1 : 1 - len(self._rest)], of_blocks)
        return [embedding, *gradients, norm, head, *table]


class WholeGradients(Gradients):
    """Gradients by compiled passes over the folded weights (engines/cpu/compiled_block.py)."""

    def __init__(self, model: Transformer) -> None:
        super().__init__(model, "float32")
        with torch.enable_grad():
            blocks, head = folded(model), model.lm_head.weight * model.norm.weight
        self._folded = [each for block in blocks for each in block] + [head]
        self._pass = compiled_block.Pass(model.embed_tokens.weight, blocks, head, model.size.heads)

    @override
    def of(self, group: Group, scale: float) -> tuple[float, Sequence[Tensor]]:
        return self._pass(torch.from_numpy(group.tokens).to(torch.int64), group.prompt_length, scale)

    @override
    def of_parameters(self, sums: Sequence[Tensor]) -> Sequence[Tensor]:
        rest = self.parameters[1:]  # all but the embedding, which is the first to be defined
        gradients = torch.autograd.grad(self._folded, rest, list(sums[1:]))
        # Fused AdamW reads a gradient as if it lay in memory as its parameter does.
        return [sums[0], *(each.contiguous() for each in gradients)]


class CpuRunner(Runner):
    """One member by compiled loops.

    Args:
        member: one that :func:`why_not` has nothing against.
    """

    def __init__(self, member: Member) -> None:
        super().__init__(member)
        assert isinstance(member, Transformer)
        self.transformer = member
        size, weight = member.size, member.lm_head.weight
        self._whole = compiled_block.applies(size.width, size.feed_forward, size.heads, weight)

    @override
    def logits(self, tokens: Tensor, first: int = 0, cache: Any | None = None) -> Tensor:
        if cache is not None and not isinstance(cache, FoldedCache):
            return super().logits(tokens, first, cache)
        return logits(self.transformer, tokens, first, cache)

    @override
    def make_cache(self, capacity: int) -> KeyValueCache:
        return FoldedCache(capacity) if self.transformer.positions is None else super().make_cache(capacity)

    @override
    def whole(self) -> Whole | None:
        member = self.transformer
        if not self._whole or member.positions is not None:
            return None
        head = member.lm_head.weight * member.norm.weight
        packed = pack(member.embed_tokens.weight, folded(member), head, member.size.heads)
        return lambda prompts, bounds: answer(packed, prompts, bounds, PAD)

    @override
    def gradients(self, precision: str) -> Gradients:
        if self.transformer.second is not None:  # the loops know one target
            return super().gradients(precision)
        if self._whole and precision == "float32" and self.transformer.positions is None:
            return WholeGradients(self.transformer)
        return FoldedGradients(self.transformer, precision)

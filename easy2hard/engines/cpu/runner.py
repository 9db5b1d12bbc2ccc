"""One member of our own making by compiled loops, where they are written for it.

They train and score a member with a position scheme that turns no queries and keys, or whose blocks are applied several
times. The decoding of such a member, and whatever the loops do not know, is the reference's (engines/reference.py).
"""

from collections.abc import Sequence
from typing import Any

import numba
import torch
import torch.nn.functional as F
from torch import Tensor
from typing_extensions import override

from easy2hard.engines.cpu.block import NO_BIAS, Bias, Blocks, Kept, folded, no_bias
from easy2hard.engines.cpu.compiled_block import CompiledEnd
from easy2hard.engines.cpu.compiled_decode import answer, pack
from easy2hard.engines.cpu.shared_prefixes import Rows, own_rows, shared_rows
from easy2hard.engines.cpu.simd import LANES
from easy2hard.engines.decoding import Whole
from easy2hard.engines.engine import Group
from easy2hard.engines.reference import Gradients, Runner
from easy2hard.models.member import Member
from easy2hard.models.transformer import Transformer


def why_not(member: Member) -> str | None:
    """Return what the loops do not know of a member; None where they know it."""
    if not isinstance(member, Transformer):
        return "a pretrained model"
    if numba.config.DISABLE_JIT:
        return "NUMBA_DISABLE_JIT"
    if member.positions is not None and member.positions.turns:
        return f"positions ({member.positions.name})"
    if (head := member.size.width // member.size.heads) % LANES or member.size.feed_forward % LANES:
        hidden = member.size.feed_forward
        return f"heads {head} wide, feed-forward layers {hidden} wide (not multiples of {LANES} both)"
    if (dtype := member.lm_head.weight.dtype) != torch.float32:
        return f"weights of {dtype}"
    return None


def embedded(
    member: Transformer, tokens: Tensor, first: int, positions: Tensor | None = None
) -> tuple[Rows, Tensor, Bias]:
    """Return the rows of (batch, time) tokens and their (rows, width) embeddings, and what is added to scores.

    Equal beginnings are computed once, where places do not set them apart.

    Args:
        member: one that :func:`why_not` has nothing against.
        tokens: (batch, time).
        first: first position whose next token is wanted, and of which anything is asked of the last block.
        positions: (batch, time) numbers of places that were drawn for training.
    """
    scheme = member.positions
    rows = shared_rows(tokens, first) if scheme is None else own_rows(tokens)
    x: Tensor = member.embed_tokens(rows.tokens)
    if scheme is None:
        return rows, x, no_bias
    ids = member.place_ids(tokens, first + 1) if positions is None else positions

    def bias(block: int, first: int) -> Tensor:
        found = scheme.bias(block, ids[:, first:], ids)
        return NO_BIAS if found is None else F.pad(found.float(), (0, -rows.time % LANES)).contiguous()

    return rows, scheme.embed(x.view(*tokens.shape, -1), ids).flatten(0, 1), bias


class FoldedGradients(Gradients):
    """Gradients by passes over weights that are folded once for all examples of a step."""

    def __init__(self, model: Transformer, precision: str) -> None:
        super().__init__(model, precision)
        self.transformer = model
        weights, head = folded(model), model.folded_head()
        self._blocks = Blocks(weights, model.size.heads, torch.bfloat16 if precision == "bfloat16" else torch.float32)
        self._end = CompiledEnd(head)
        self._inputs = [model.embed_tokens.weight, *(model.positions.parameters() if model.positions else [])]
        self._roots = [*self._inputs, head, *(each for block in weights for each in block)]

    @override
    def of(self, group: Group, scale: float) -> tuple[float, Sequence[Tensor]]:
        tokens, positions = self.placed(group)
        targets, first = tokens[:, group.prompt_length :], group.prompt_length - 1
        kept: list[Kept] = []
        rows, x, bias = embedded(self.transformer, tokens[:, :-1], first, positions)
        biases: list[Tensor] = []

        def biased(block: int, first: int) -> Tensor:
            biases.append(bias(block, first))
            return biases[-1]

        loops = self.transformer.loops.of(first + 1)
        y = self._blocks.forward(x.detach(), rows, first, loops, kept, biased)
        loss, dy, of_head = self._end.loss(y, targets.flatten(), scale)
        d_biases = [torch.zeros_like(each) for each in biases]
        dx, of_blocks = self._blocks.backward(dy, rows, first, kept, d_biases)
        made = [(x, dx), *(pair for pair in zip(biases, d_biases, strict=True) if pair[0].requires_grad)]
        of_inputs = torch.autograd.grad([each for each, _ in made], self._inputs, [each for _, each in made])
        return loss, [*of_inputs, of_head, *of_blocks]

    @override
    def of_parameters(self, sums: Sequence[Tensor]) -> Sequence[Tensor]:
        return torch.autograd.grad(self._roots, self.parameters, list(sums))


class CpuRunner(Runner):
    """One member by compiled loops, which :func:`why_not` has nothing against."""

    def __init__(self, member: Member, blocks: Blocks | None = None) -> None:
        super().__init__(member)
        assert isinstance(member, Transformer)
        self.transformer, self._blocks = member, blocks

    @override
    @torch.no_grad()
    def fixed(self) -> "CpuRunner":
        return CpuRunner(self.member, Blocks(folded(self.transformer), self.transformer.size.heads))

    @override
    def logits(self, tokens: Tensor, first: int = 0, cache: Any | None = None) -> Tensor:
        member = self.transformer
        if cache is not None:
            return super().logits(tokens, first, cache)
        if self._blocks is None:
            return self.fixed().logits(tokens, first)
        rows, x, bias = embedded(member, tokens, first)
        x = self._blocks.forward(x, rows, first, member.loops.of(first + 1), bias=bias)
        logits: Tensor = member.lm_head(member.norm(x))
        return logits.view(len(tokens), tokens.shape[1] - first, -1)

    @override
    def whole(self) -> Whole | None:
        member = self.transformer
        if member.loops.several or member.positions is not None:
            return None
        packed = pack(member.embed_tokens.weight, folded(member), member.folded_head(), member.size.heads)
        return lambda prompts, bounds, sampling: answer(packed, prompts, bounds, sampling)

    @override
    def gradients(self, precision: str) -> Gradients:
        if self.transformer.second is not None:  # the loops know one target
            return super().gradients(precision)
        return FoldedGradients(self.transformer, precision)

"""Answers of all members at once: the prompt in one pass, then a token at a time by a captured step.

Keys and values have a place of their own for each member, row and token up to a capacity that stays. Rows that have
ended stay too; the host looks only now and then whether any is left.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from easy2hard.engines.cuda.stack import Captured, Stack, Stacked
from easy2hard.engines.decoding import Answers, Bounds, Sampling, fill_in, no_answers
from easy2hard.engines.reference import rows_in
from easy2hard.models.transformer import Weights, apply_block, embed, in_heads, in_rows, logits_of
from easy2hard.seeding import ODD, mixed, uniform
from easy2hard.vocabulary import EOS, PAD, Tokens

CACHED_BYTES = 12_000_000_000
"""Of keys and values at a time."""
PASSED_BYTES = 4_000_000_000
"""Of what a pass over many tokens keeps at a time, about."""
MOST_ROWS = 16_384
"""Answered at a time."""
LOOKS = 32
"""Tokens between two looks whether any row is left."""
ROWS, TOKENS = 64, 16
"""Rows and capacities are rounded up to multiples of these, so that shapes change seldom."""


def up(count: int, step: int) -> int:
    """Return a count, rounded up."""
    return -(-count // step) * step


def rows_at_a_time(stack: Stack, tokens: int, dtype: torch.dtype) -> int:
    """Return how many rows of so many tokens are answered at a time."""
    row = 2 * stack.count * stack.size.layers * stack.size.width * up(tokens, TOKENS) * dtype.itemsize
    return max(1, min(MOST_ROWS, CACHED_BYTES // row))


def passed_rows(stack: Stack, tokens: int) -> int:
    """Return how many rows of so many tokens go through one pass."""
    token = 4 * stack.count * (8 * stack.size.width + 4 * stack.size.feed_forward)
    return max(1, PASSED_BYTES // (token * tokens))


class Decoder:
    """Answers up to ``rows`` prompts, each with its answer of up to ``capacity`` tokens.

    Args:
        stack: the weights' shapes.
        folded: the weights (:meth:`Stack.folded`); they stay where they are. Keys and values have their precision.
        rows: prompts of one call.
        capacity: tokens of a prompt and its answer.
        sampled: draw tokens instead of taking the most probable ones.
    """

    def __init__(self, stack: Stack, folded: Stacked, rows: int, capacity: int, sampled: bool) -> None:
        self.stack, self.rows, self.sampled = stack, rows, sampled
        count, size, device = stack.count, stack.size, stack.device
        self.weights: Weights = stack.weights(folded)
        shape = (size.layers, count, rows, size.heads, capacity, size.width // size.heads)
        self.keys, self.values = (torch.zeros(shape, dtype=folded["qkv"].dtype, device=device) for _ in range(2))
        self.token = torch.zeros(count, rows, dtype=torch.int64, device=device)
        self.done = torch.ones(count, rows, dtype=torch.bool, device=device)
        self.least, self.total = (torch.zeros(count, rows, device=device) for _ in range(2))
        self.written = torch.full((count, rows, capacity), PAD, dtype=torch.int16, device=device)
        self.limits = torch.ones(rows, dtype=torch.int64, device=device)
        self.position, self.step = (torch.zeros(1, dtype=torch.int64, device=device) for _ in range(2))
        self.seeds = torch.zeros(count, rows, dtype=torch.int64, device=device)
        self.temperature = torch.ones(count, 1, 1, dtype=torch.float64, device=device)
        self._times = torch.arange(capacity, device=device)
        self._next = Captured(self._advance, device)

    def __call__(
        self, prompts: Tokens, bounds: Bounds, samplings: Sequence[Sampling] | None
    ) -> tuple[NDArray[np.int32], NDArray[np.float32], NDArray[np.float32]]:
        """Return (members, count, longest) answers, and (members, count) least and summed log-probabilities."""
        device, count = self.stack.device, len(prompts)
        padded = np.zeros((self.rows, prompts.shape[1]), dtype=np.int64)
        padded[:count] = prompts
        self.limits.fill_(1)
        self.limits[:count] = torch.from_numpy(bounds).to(device)
        self.done.fill_(False)
        self.done[:, count:] = True
        self.least.fill_(torch.inf)
        self.total.zero_()
        self.step.zero_()
        self.position.fill_(prompts.shape[1])
        if samplings is not None:
            self.seeds.zero_()
            self.seeds[:, :count] = torch.stack([each.keys(prompts) for each in samplings])
            self.temperature.copy_(torch.tensor([each.temperature for each in samplings])[:, None, None])
        longest = int(bounds.max())
        self.written[:, :, :longest] = PAD
        self._choose(self._read(torch.from_numpy(padded).to(device)))
        for step in range(1, longest):
            if step % LOOKS == 0 and bool(self.done.all()):
                break
            self._next()
        chosen = self.written[:, :count, :longest].cpu().numpy().astype(np.int32)
        return chosen, self.least[:, :count].cpu().numpy(), self.total[:, :count].cpu().numpy()

    def _read(self, prompts: Tensor) -> Tensor:
        """Take in (rows, time) prompts; return (members, rows, width) outputs of their last tokens."""
        count, (rows, time) = self.stack.count, prompts.shape
        together, last = passed_rows(self.stack, time), []
        for start in range(0, rows, together):
            part = slice(start, min(start + together, rows))

            def keep(layer: int, *new: Tensor, part: slice = part) -> None:
                for cache, each in zip((self.keys, self.values), new, strict=True):
                    cache[layer, :, part, :, :time] = each.unflatten(0, (count, -1))

            tokens = prompts[part].flatten().expand(count, -1)
            x = self.stack.outputs(tokens, self.weights, [(rows_in(part), time)], keep)
            last.append(x.view(count, -1, time, x.shape[-1])[:, :, -1])
        return torch.cat(last, dim=1)

    def _advance(self) -> None:
        count, heads = self.stack.count, self.stack.heads
        x = embed(self.token, self.weights.embedding)
        seen = (self._times <= self.position)[None, None, None]
        for layer, block in enumerate(self.weights.blocks):

            def attend(qkv: Tensor, layer: int = layer) -> Tensor:
                queries, keys, values = in_heads(qkv, self.rows, heads)
                all_keys, all_values = (cache[layer].flatten(0, 1) for cache in (self.keys, self.values))
                all_keys.index_copy_(2, self.position, keys)
                all_values.index_copy_(2, self.position, values)
                return in_rows(see(queries, all_keys, all_values, seen), count)

            x = apply_block(x, block, attend)
        self.position.add_(1)
        self._choose(x)

    def _choose(self, x: Tensor) -> None:
        """Write the next token of each row that goes on, from the (members, rows, width) outputs of its last one."""
        logits = logits_of(x, self.weights).float()
        said = logits[..., EOS:]
        token = (said + self._noise(said.shape[-1]) if self.sampled else said).argmax(dim=-1) + EOS
        log_probability = logits.log_softmax(dim=-1).gather(-1, token[..., None])[..., 0]
        self.least.copy_(torch.where(self.done, self.least, torch.minimum(self.least, log_probability)))
        self.total.add_(torch.where(self.done, 0.0, log_probability))
        token = torch.where(self.done, PAD, token)
        self.written.index_copy_(2, self.step, token.to(self.written.dtype)[..., None])
        self.step.add_(1)
        self.done.logical_or_((token == EOS) | (self.step >= self.limits))
        self.token.copy_(token)

    def _noise(self, tokens: int) -> Tensor:
        """Return (members, rows, tokens) numbers, those of ``Sampling.noise``."""
        of_step = mixed(self.seeds + (self.step + 1) * ODD)
        each = torch.arange(1, tokens + 1, device=self.seeds.device) * ODD
        noise = -torch.log(-torch.log(uniform(mixed(of_step[..., None] + each)))) * self.temperature
        return noise.float()


def see(queries: Tensor, keys: Tensor, values: Tensor, seen: Tensor) -> Tensor:
    """Return (batch, heads, 1, head width): what one query sees of the places where (1, 1, 1, time) ``seen`` is True.

    The fused kernel computes dozens of queries where there is one. Only bfloat16 products are so fast that it does not
    show; in float32 two products have the memory alone to wait for.
    """
    if queries.dtype != torch.float32:
        return F.scaled_dot_product_attention(queries, keys, values, attn_mask=seen)
    scores: Tensor = (queries * queries.shape[-1] ** -0.5) @ keys.mT
    return scores.masked_fill(~seen, -torch.inf).softmax(dim=-1) @ values


def as_answers(
    chosen: NDArray[np.int32], least: NDArray[np.float32], total: NDArray[np.float32], length: int, seconds: float
) -> Answers:
    """Return one member's (count, any) answers, padded to a length."""
    answers = no_answers(len(chosen), length)
    fill_in(answers, np.arange(len(chosen)), chosen, least, total)
    return replace(answers, seconds=seconds)

"""Batched decoding of one member with a key/value cache, greedy or sampled, bounded by the prompt alone."""

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from easy2hard.seeding import ODD, mixed, uniform
from easy2hard.vocabulary import EOS, PAD, Tokens

if TYPE_CHECKING:
    from easy2hard.engines.reference import Runner

CACHED_BYTES = 9_500_000
"""Of keys and values, decoded at a time on a CPU: with more, two processes leave the processor's cache (LOG.md)."""
FEWEST_TOKENS, MOST_TOKENS = 4096, 16384
"""Below the first a cache so small would cost more in short matrix products than it saves; then it is the second."""
PASSED_TOKENS = 2048
"""Tokens of one forward pass over whole answers on a CPU: their activations stay in the processor's cache."""
GPU_TOKENS, GPU_CACHED_BYTES = 1 << 19, 10_000_000_000
"""Either on a GPU, where only memory bounds them; and the memory of their keys and values, for large models."""

Bounds = NDArray[np.int64]
"""(count,) greatest number of answer tokens of each prompt, EOS included."""


@dataclass(frozen=True)
class Answers:
    """Answers to (count,) prompts."""

    tokens: Tokens
    """(count, length): each answer ended by EOS where it finished, padded on the right."""
    finished: NDArray[np.bool_]
    """(count,): EOS came within the bound. An answer without it is not a label."""
    confidence: NDArray[np.float32]
    """(count,): smallest probability of a token of the answer, EOS included; at temperature 1 where it was sampled."""
    mean_log_probability: NDArray[np.float32]
    """(count,): mean log-probability of the tokens of the answer, EOS included."""
    seconds: float = field(default=0.0, compare=False)
    """That they took: of a processor, or this member's share of a GPU's."""


@dataclass(frozen=True)
class Sampling:
    """Draws each token with its probability at a temperature, instead of taking the most probable one.

    The noise of a token is a hash of the seed, its prompt, its step and itself, and the token with the greatest sum of
    logit and noise is a draw from the softmax (Gumbel-max; Maddison, Tarlow, Minka 2014, arXiv 1411.0030). So an answer
    does not depend on the other prompts of its batch, their order, threads or processes.
    """

    temperature: float
    seed: int
    """Of one member's one sample (seeding.py)."""

    def keys(self, prompts: Tokens) -> Tensor:
        """Return (count,) hashes of the seed and each of the (count, length) prompts."""
        keys = torch.full((len(prompts),), self.seed)
        for column in torch.from_numpy(prompts.T.astype(np.int64)):
            keys = mixed(keys ^ column)
        return keys

    def noise(self, keys: Tensor, step: int, tokens: int) -> Tensor:
        """Return (count, tokens) temperature times Gumbel noise, float32, for the tokens from EOS on."""
        of_step = mixed(keys + torch.tensor(step + 1) * ODD)
        drawn = uniform(mixed(of_step[:, None] + torch.arange(1, tokens + 1) * ODD)).numpy()
        return torch.from_numpy((-np.log(-np.log(drawn)) * self.temperature).astype(np.float32))


def greedy(logits: Tensor) -> Tensor:
    """Return the most probable next tokens; padding and BOS are never answers."""
    return logits[..., EOS:].argmax(dim=-1) + EOS


Found = tuple[NDArray[np.integer[Any]], NDArray[np.float32], NDArray[np.float32]]
"""(rows, any) tokens of answers, and of each the smallest and the summed log-probability of a token."""
Whole = Callable[[Tokens, Bounds, Sampling | None], Found]
"""Answers (count, length) prompts."""


def decoded_tokens(runner: "Runner") -> int:
    """Return how many tokens' keys and values are held at a time on a CPU."""
    tokens = CACHED_BYTES // runner.member.cached_bytes
    return tokens if tokens >= FEWEST_TOKENS else MOST_TOKENS


def chunks(count: int, length: int, runner: "Runner", tokens: int) -> list[slice]:
    """Return ``count`` rows of ``length`` tokens in slices of at most ``tokens`` tokens on a CPU, or one row."""
    if runner.member.device.type != "cpu":
        tokens = min(GPU_TOKENS, GPU_CACHED_BYTES // runner.member.cached_bytes)
    rows = max(1, tokens // length)
    return [slice(start, min(start + rows, count)) for start in range(0, count, rows)]


def no_answers(count: int, length: int) -> Answers:
    """Return answers to be filled in."""
    return Answers(
        tokens=np.full((count, length), PAD, dtype=np.int32),
        finished=np.zeros(count, dtype=np.bool_),
        confidence=np.zeros(count, dtype=np.float32),
        mean_log_probability=np.zeros(count, dtype=np.float32),
    )


@torch.inference_mode()
def decode(
    runner: "Runner", prompts: Tokens, bounds: Bounds, draft: Tokens | None = None, sampling: Sampling | None = None
) -> Answers:
    """Answer prompts of one length, greedily or with sampled tokens.

    Args:
        runner: computes the member that answers.
        prompts: (count, length) token ids.
        bounds: of the answers.
        draft: (count, any) answers guessed by somebody else, padded on the right. They change no token of the answers:
            one pass over a draft shows whether it is exactly what decoding would give, and only where it is not the
            prompt is decoded (lossless speculative decoding with whole answers as drafts). Only for greedy answers.
        sampling: how tokens are drawn. Default: greedily.
    """
    began, length = time.thread_time(), int(bounds.max(initial=0))
    answers = no_answers(len(prompts), length)
    whole = prompts.shape[1] + length
    confirmed = np.zeros(len(prompts), dtype=np.bool_)
    if draft is not None and draft.shape[1]:
        for part in chunks(len(prompts), whole, runner, PASSED_TOKENS):
            confirmed[part] = _confirm_rows(runner, prompts[part], bounds[part], draft[part], answers, part)
    rest = np.flatnonzero(~confirmed)
    at_once = runner.whole()
    answer = at_once or (lambda *given: _decode_rows(runner, *given))
    for part in chunks(len(rest), whole, runner, sys.maxsize if at_once else decoded_tokens(runner)):
        rows = rest[part]
        fill_in(answers, rows, *answer(prompts[rows], bounds[rows], sampling))
    return replace(answers, seconds=time.thread_time() - began)


def fill_in(
    answers: Answers,
    rows: NDArray[np.int64],
    chosen: NDArray[np.integer[Any]],
    least: NDArray[np.float32],
    total: NDArray[np.float32],
) -> None:
    """Set the answers of some rows: (rows, any) tokens, their smallest and their summed log-probability."""
    answers.tokens[rows, : chosen.shape[1]] = chosen
    answers.finished[rows] = (chosen == EOS).any(axis=1)
    answers.confidence[rows] = np.exp(least)
    answers.mean_log_probability[rows] = total / (chosen != PAD).sum(axis=1)


def _decode_rows(runner: "Runner", prompts: Tokens, bounds: Bounds, sampling: Sampling | None) -> Found:
    """Answer prompts token by token."""
    device = runner.member.device
    keys = sampling.keys(prompts) if sampling else torch.zeros(len(prompts), dtype=torch.int64)
    tokens = torch.from_numpy(prompts).to(device, torch.int64)
    limit = torch.from_numpy(bounds).to(device)
    count, longest = len(prompts), int(bounds.max())
    cache = runner.member.make_cache(prompts.shape[1] + longest)
    chosen = torch.full((count, longest), PAD, dtype=torch.int64, device=device)
    total = torch.zeros(count, device=device)
    least = torch.full_like(total, torch.inf)
    at = torch.arange(count, device=device)  # of the rows that are still being answered
    for step in range(longest):
        logits = runner.logits(tokens, first=tokens.shape[1] - 1, cache=cache)[:, -1].float()
        token = greedy(logits) if sampling is None else _drawn(logits, sampling, keys, step)
        log_probability = logits.log_softmax(dim=-1).gather(1, token[:, None])[:, 0]
        chosen[at, step] = token
        least[at] = torch.minimum(least[at], log_probability)
        total[at] += log_probability
        going = (token != EOS) & (limit > step + 1)
        if not going.all():  # finished rows leave the batch
            at, token, limit = at[going], token[going], limit[going]
            keys = keys[going.cpu()]
            if not len(at):
                break
            cache.keep(going)
        tokens = token[:, None]
    return chosen.cpu().numpy(), least.cpu().numpy(), total.cpu().numpy()


def _drawn(logits: Tensor, sampling: Sampling, keys: Tensor, step: int) -> Tensor:
    """Return (count,) tokens drawn from (count, vocabulary) logits; padding and BOS are never drawn."""
    said = logits[:, EOS:]
    return (said + sampling.noise(keys, step, said.shape[1]).to(logits.device)).argmax(dim=-1) + EOS


def _confirm_rows(
    runner: "Runner", prompts: Tokens, bounds: Bounds, draft: Tokens, answers: Answers, rows: slice
) -> NDArray[np.bool_]:
    """Fill in the answers of the rows whose draft is what decoding would give; return (count,) which they are."""
    over = np.cumsum((draft == EOS) | (draft == PAD), axis=1) - (draft == EOS) > 0  # after the end, or after a hole
    over |= np.arange(draft.shape[1]) >= bounds[:, None]
    targets, logits = _passed(runner, prompts, np.where(over, PAD, draft))
    logits = logits.float()
    said = targets != PAD
    # An answer is whole when it ended, or ran to its bound.
    whole = (targets == EOS).any(dim=1) | (said.sum(dim=1) == torch.from_numpy(bounds).to(runner.member.device))
    confirmed = whole & ((greedy(logits) == targets) | ~said).all(dim=1)
    log_probability = logits.log_softmax(dim=-1).gather(2, targets[..., None])[..., 0].masked_fill(~said, 0)
    found = targets[:, : answers.tokens.shape[1]], log_probability.min(dim=1).values, log_probability.sum(dim=1)
    take: NDArray[np.bool_] = confirmed.cpu().numpy()
    fill_in(answers, np.flatnonzero(take) + rows.start, *(each[confirmed].cpu().numpy() for each in found))
    return take


def _passed(runner: "Runner", prompts: Tokens, answers: Tokens) -> tuple[Tensor, Tensor]:
    """Return the tokens of given answers, and the logits of one pass over prompts and answers where each is next."""
    targets = torch.from_numpy(answers).to(runner.member.device, torch.int64)
    tokens = torch.cat([torch.from_numpy(prompts).to(runner.member.device, torch.int64), targets[:, :-1]], dim=1)
    return targets, runner.logits(tokens, first=prompts.shape[1] - 1)


def is_match(runner: "Runner", prompts: Tokens, answers: Tokens) -> NDArray[np.bool_]:
    """Return (count,) whether greedy decoding of (count, length) prompts would give these answers."""
    targets, logits = _passed(runner, prompts, answers)
    matches: NDArray[np.bool_] = ((greedy(logits) == targets) | (targets == PAD)).all(dim=1).cpu().numpy()
    return matches

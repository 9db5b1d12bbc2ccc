"""Batched greedy decoding with a key/value cache, bounded by the prompt alone."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from easy2hard.models.transformer import Cache, Transformer
from easy2hard.vocabulary import EOS, PAD, Tokens

ROWS = 256
"""Prompts decoded at a time: larger batches were slower on a CPU (their cache leaves the processor's)."""


@dataclass(frozen=True)
class Answers:
    """Greedy answers to (count,) prompts."""

    tokens: Tokens
    """(count, length): each answer ended by EOS where it finished, padded on the right."""
    finished: NDArray[np.bool_]
    """(count,): EOS came within the bound. An answer without it is not a label."""
    confidence: NDArray[np.float32]
    """(count,): smallest probability of a token of the answer, EOS included."""
    mean_log_probability: NDArray[np.float32]
    """(count,): mean log-probability of the tokens of the answer, EOS included."""


def greedy(logits: Tensor) -> Tensor:
    """Return the most probable next tokens; padding and BOS are never answers."""
    return logits[..., EOS:].argmax(dim=-1) + EOS


@torch.inference_mode()
def decode(model: Transformer, prompts: Tokens, bounds: NDArray[np.int64]) -> Answers:
    """Answer prompts of one length greedily.

    Args:
        model: the member that answers.
        prompts: (count, length) token ids.
        bounds: (count,) greatest number of answer tokens of each prompt, EOS included.
    """
    length = int(bounds.max(initial=0))
    answers = Answers(
        tokens=np.full((len(prompts), length), PAD, dtype=np.int32),
        finished=np.zeros(len(prompts), dtype=np.bool_),
        confidence=np.zeros(len(prompts), dtype=np.float32),
        mean_log_probability=np.zeros(len(prompts), dtype=np.float32),
    )
    for start in range(0, len(prompts), ROWS):
        rows = slice(start, start + ROWS)
        _decode_rows(model, prompts[rows], bounds[rows], answers, rows)
    return answers


def _decode_rows(model: Transformer, prompts: Tokens, bounds: NDArray[np.int64], answers: Answers, rows: slice) -> None:
    device = model.lm_head.weight.device
    tokens = torch.from_numpy(prompts).to(device, torch.int64)
    limit = torch.from_numpy(bounds).to(device)
    count, longest = len(prompts), int(bounds.max())
    cache = Cache(capacity=prompts.shape[1] + longest)
    chosen = torch.full((count, longest), PAD, dtype=torch.int64, device=device)
    smallest = torch.full((count,), torch.inf, device=device)
    total = torch.zeros(count, device=device)
    steps = torch.zeros(count, dtype=torch.int64, device=device)
    active = torch.ones(count, dtype=torch.bool, device=device)
    for step in range(longest):
        logits = model(tokens, first=tokens.shape[1] - 1, cache=cache)[:, -1].float()
        token = greedy(logits)
        log_probability = logits.log_softmax(dim=-1).gather(1, token[:, None])[:, 0]
        chosen[:, step] = torch.where(active, token, PAD)
        smallest = torch.where(active, torch.minimum(smallest, log_probability), smallest)
        total = torch.where(active, total + log_probability, total)
        steps += active
        active = active & (token != EOS) & (step + 1 < limit)
        if not active.any():
            break
        tokens = token[:, None]
    answers.tokens[rows, :longest] = chosen.cpu().numpy()
    answers.finished[rows] = (chosen == EOS).any(dim=1).cpu().numpy()
    answers.confidence[rows] = smallest.exp().cpu().numpy()
    answers.mean_log_probability[rows] = (total / steps).cpu().numpy()

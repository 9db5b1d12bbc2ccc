"""Exact match by one teacher-forced pass.

A greedy answer equals the true one exactly when every arg-max of one pass over prompt and true answer equals the true
next token: as long as the prefix is right, decoding sees the same prefix. So evaluation costs one forward pass.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from easy2hard.improvement.labels import pad_answers, propose
from easy2hard.models.decoding import PASSED_TOKENS, chunks, greedy
from easy2hard.models.threads import map_chunks
from easy2hard.models.transformer import Transformer
from easy2hard.seeding import numpy_generator
from easy2hard.tasks.base import Difficulty, Task, difficulty_text
from easy2hard.tasks.oracle import Oracle
from easy2hard.vocabulary import PAD, Tokens


def evaluation_prompts(task: Task, seed: int, difficulty: Difficulty, count: int) -> Tokens:
    """Return the run's evaluation prompts of a difficulty; the first ``n`` are the same for every count >= n."""
    chunks = [
        task.sample(numpy_generator(seed, "evaluation", difficulty_text(difficulty), start), difficulty, _CHUNK)
        for start in range(0, count, _CHUNK)
    ]
    return np.concatenate(chunks)[:count]


_CHUNK = 100


def exact_matches(model: Transformer, prompts: Tokens, answers: Tokens) -> NDArray[np.bool_]:
    """Return (count,) whether the model's greedy answer to each prompt is the true one.

    Args:
        model: a member.
        prompts: (count, length) prompts.
        answers: (count, length) true answers, EOS included, padded on the right.
    """
    device = next(model.parameters()).device

    @torch.inference_mode()
    def right(rows: slice) -> NDArray[np.bool_]:
        targets = torch.from_numpy(answers[rows]).to(device, torch.int64)
        tokens = torch.cat([torch.from_numpy(prompts[rows]).to(device, torch.int64), targets[:, :-1]], dim=1)
        predicted = greedy(model(tokens, first=prompts.shape[1] - 1))
        matches: NDArray[np.bool_] = ((predicted == targets) | (targets == PAD)).all(dim=1).cpu().numpy()
        return matches

    parts = chunks(len(prompts), prompts.shape[1] + answers.shape[1], device, PASSED_TOKENS)
    return np.concatenate([np.zeros(0, np.bool_), *map_chunks(right, parts, device)])


def evaluate_run(
    members: Sequence[Transformer],
    task: Task,
    oracle: Oracle,
    seed: int,
    difficulties: Sequence[Difficulty],
    examples: int,
) -> tuple[dict[Difficulty, float], dict[Difficulty, float]]:
    """Return the members' mean exact match of each difficulty, and that of their vote."""
    mean, voted = {}, {}
    for difficulty in difficulties:
        prompts = evaluation_prompts(task, seed, difficulty, examples)
        answers = oracle.solve(prompts)
        right = _members_right(members, prompts, answers)
        mean[difficulty] = float(right.mean())
        # The vote is settled where most members are right or none is; only the rest must be decoded.
        votes = right.sum(axis=0)
        winner = votes * 2 > len(members)
        open_rows = np.flatnonzero((votes > 0) & ~winner)
        if len(open_rows):
            proposals = propose(members, task, difficulty, prompts[open_rows])
            winner[open_rows] = _equal(proposals.answers, answers[open_rows]) & proposals.finished
        voted[difficulty] = float(winner.mean())
    return mean, voted


def _members_right(members: Sequence[Transformer], prompts: Tokens, answers: Tokens) -> NDArray[np.bool_]:
    """Return (members, count) whether each member's greedy answer is the true one."""
    return np.stack([exact_matches(member, prompts, answers) for member in members])


def _equal(a: Tokens, b: Tokens) -> NDArray[np.bool_]:
    """Return (count,) whether answers of perhaps different padding are the same."""
    length = max(a.shape[1], b.shape[1])
    return (pad_answers(a, length) == pad_answers(b, length)).all(axis=1)  # type: ignore[no-any-return]


def accuracy(
    members: Sequence[Transformer],
    task: Task,
    oracle: Oracle,
    seed: int,
    difficulties: Sequence[Difficulty],
    examples: int,
) -> dict[Difficulty, float]:
    """Return the members' mean exact match on ``examples`` evaluation prompts of each difficulty."""
    result = {}
    for difficulty in difficulties:
        prompts = evaluation_prompts(task, seed, difficulty, examples)
        right = _members_right(members, prompts, oracle.solve(prompts))
        result[difficulty] = float(right.mean())
    return result

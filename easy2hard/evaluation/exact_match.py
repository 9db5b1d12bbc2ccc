"""Exact match by one teacher-forced pass.

A greedy answer equals the true one exactly when every arg-max of one pass over prompt and true answer equals the true
next token: as long as the prefix is right, decoding sees the same prefix. So evaluation costs one forward pass.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from easy2hard.evaluation.baseline import baseline_right
from easy2hard.improvement.labels import Proposals, pad_answers, propose
from easy2hard.models.decoding import PASSED_TOKENS, chunks, greedy
from easy2hard.models.member import Member
from easy2hard.models.threads import map_chunks
from easy2hard.seeding import numpy_generator
from easy2hard.tasks.base import Difficulty, Task, difficulty_text
from easy2hard.tasks.oracle import Oracle
from easy2hard.tasks.prompts import evaluation_prompts
from easy2hard.vocabulary import PAD, Tokens

Examples = tuple[Tokens, Tokens]
"""(count, length) prompts, and their (count, length) true answers, EOS included, padded on the right."""


def exact_matches(
    members: Sequence[Member], examples: Sequence[Examples], on_done: Callable[[int], None] = lambda count: None
) -> list[NDArray[np.bool_]]:
    """Return, for each set of examples, (members, count) whether each member's greedy answer is the true one.

    Args:
        members: the models.
        examples: sets of examples, the prompts of each of one length.
        on_done: told about (prompts x members) as they are done.
    """
    device = members[0].device

    @torch.inference_mode()
    def matches_of(work: tuple[int, int, slice]) -> NDArray[np.bool_]:
        index, member, rows = work
        prompts, answers = (each[rows] for each in examples[index])
        targets = torch.from_numpy(answers).to(device, torch.int64)
        tokens = torch.cat([torch.from_numpy(prompts).to(device, torch.int64), targets[:, :-1]], dim=1)
        predicted = greedy(members[member](tokens, first=prompts.shape[1] - 1))
        matches: NDArray[np.bool_] = ((predicted == targets) | (targets == PAD)).all(dim=1).cpu().numpy()
        return matches

    parts = [
        (index, member, rows)
        for index, (prompts, answers) in enumerate(examples)
        for member in range(len(members))
        for rows in chunks(len(prompts), prompts.shape[1] + answers.shape[1], members[0], PASSED_TOKENS)
    ]
    done = map_chunks(matches_of, parts, device, lambda part: on_done(part[2].stop - part[2].start))
    result = [np.zeros((len(members), len(prompts)), dtype=np.bool_) for prompts, _ in examples]
    for (index, member, rows), matches in zip(parts, done, strict=True):
        result[index][member, rows] = matches
    return result


def evaluate_run(
    members: Sequence[Member],
    task: Task,
    oracle: Oracle,
    seed: int,
    difficulties: Sequence[Difficulty],
    examples: int,
) -> tuple[dict[Difficulty, float], dict[Difficulty, float]]:
    """Return the members' mean exact match of each difficulty, and that of their vote."""
    sets = _evaluation_examples(task, oracle, seed, difficulties, examples)
    mean, voted = {}, {}
    for difficulty, (prompts, _), matches in zip(difficulties, sets, exact_matches(members, sets), strict=True):
        mean[difficulty] = float(matches.mean())
        # The vote is settled where most members are right or none is; only the rest must be decoded.
        votes = matches.sum(axis=0)
        winner = votes * 2 > len(members)
        open_rows = np.flatnonzero((votes > 0) & ~winner)
        if len(open_rows):
            winner[open_rows] = right(oracle, propose(members, task, difficulty, prompts[open_rows]))
        voted[difficulty] = float(winner.mean())
    return mean, voted


def accuracy(
    members: Sequence[Member],
    task: Task,
    oracle: Oracle,
    seed: int,
    difficulties: Sequence[Difficulty],
    examples: int,
    on_done: Callable[[int], None] = lambda count: None,
    hard: bool = False,
) -> dict[Difficulty, float]:
    """Return the members' mean exact match on ``examples`` evaluation prompts of each difficulty.

    Args:
        members: the models.
        task: samples the prompts.
        oracle: solves them.
        seed: the run's seed.
        difficulties: which.
        examples: prompts of each.
        on_done: told about (prompts x members) as they are done.
        hard: ask the prompts of the task's hard split.
    """
    sets = _evaluation_examples(task, oracle, seed, difficulties, examples, hard)
    matches = exact_matches(members, sets, on_done)
    return {difficulty: float(each.mean()) for difficulty, each in zip(difficulties, matches, strict=True)}


def baseline_accuracy(
    task: Task, oracle: Oracle, seed: int, difficulties: Sequence[Difficulty], examples: int
) -> dict[Difficulty, float]:
    """Return the exact match of the task's baseline on the same prompts; nothing where the task names none."""
    if task.baseline is None:
        return {}
    found = {}
    for difficulty in difficulties:
        prompts = evaluation_prompts(task, seed, difficulty, examples)
        generator = numpy_generator(seed, "baseline", difficulty_text(difficulty))
        found[difficulty] = float(baseline_right(oracle, prompts, generator).mean())
    return found


def _evaluation_examples(
    task: Task, oracle: Oracle, seed: int, difficulties: Sequence[Difficulty], count: int, hard: bool = False
) -> list[Examples]:
    prompts = [evaluation_prompts(task, seed, difficulty, count, hard) for difficulty in difficulties]
    return [(each, oracle.solve(each)) for each in prompts]


def right(oracle: Oracle, proposals: Proposals) -> NDArray[np.bool_]:
    """Return (count,) which proposals are the true answers, whatever their padding."""
    truth = oracle.solve(proposals.prompts)
    length = max(truth.shape[1], proposals.answers.shape[1])
    same = (pad_answers(truth, length) == pad_answers(proposals.answers, length)).all(axis=1)
    return same & proposals.finished  # type: ignore[no-any-return]

"""Exact match by one teacher-forced pass (``Engine.matches``), and that of the members' vote."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from easy2hard.engines.engine import Engine, Examples
from easy2hard.evaluation.baseline import baseline_right
from easy2hard.improvement.proposals import Proposals, pad_answers, propose
from easy2hard.seeding import numpy_generator
from easy2hard.tasks.base import Difficulty, Task, difficulty_text
from easy2hard.tasks.oracle import Oracle
from easy2hard.tasks.prompts import evaluation_prompts
from easy2hard.vocabulary import Tokens


def evaluate_run(
    engine: Engine,
    task: Task,
    oracle: Oracle,
    seed: int,
    difficulties: Sequence[Difficulty],
    examples: int,
) -> tuple[dict[Difficulty, float], dict[Difficulty, float]]:
    """Return the members' mean exact match of each difficulty, and that of their vote."""
    sets = _evaluation_examples(task, oracle, seed, difficulties, examples)
    mean, voted = {}, {}
    for difficulty, (prompts, _), matches in zip(difficulties, sets, _matches(engine, oracle, sets), strict=True):
        mean[difficulty] = float(matches.mean())
        # The vote is settled where most members are right or none is; only the rest must be decoded. Where several
        # answers are right, most members may be right and none of their answers win.
        votes = matches.sum(axis=0)
        winner = votes == len(engine.members) if oracle.several else votes * 2 > len(engine.members)
        open_rows = np.flatnonzero((votes > 0) & ~winner)
        if len(open_rows):
            winner[open_rows] = right(oracle, propose(engine, task, difficulty, prompts[open_rows]))
        voted[difficulty] = float(winner.mean())
    return mean, voted


def accuracy(
    engine: Engine,
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
        engine: the members.
        task: samples the prompts.
        oracle: solves them.
        seed: the run's seed.
        difficulties: which.
        examples: prompts of each.
        on_done: told about (prompts x members) as they are done.
        hard: ask the prompts of the task's hard split.
    """
    sets = _evaluation_examples(task, oracle, seed, difficulties, examples, hard)
    matches = _matches(engine, oracle, sets, on_done)
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


def _matches(
    engine: Engine, oracle: Oracle, sets: Sequence[Examples], on_done: Callable[[int], None] = lambda count: None
) -> list[NDArray[np.bool_]]:
    """Return, for each set of examples, (members, count) whether a member's greedy answer is right."""
    matches = engine.matches(sets, on_done)
    if oracle.several:  # what is not the given answer may be right too: it is decoded and judged
        for (prompts, truth), found in zip(sets, matches, strict=True):
            rows = np.flatnonzero(~found.all(axis=0))
            asked = engine.answer(prompts[rows], oracle.task.answer_bounds(prompts[rows])) if len(rows) else []
            for member, given in enumerate(asked):
                found[member, rows] |= _right(oracle, prompts[rows], truth[rows], given.tokens, given.finished)
    return matches


def right(oracle: Oracle, proposals: Proposals) -> NDArray[np.bool_]:
    """Return (count,) which proposals are right, whatever their padding."""
    truth = oracle.solve(proposals.prompts)
    return _right(oracle, proposals.prompts, truth, proposals.answers, proposals.finished)


def _right(
    oracle: Oracle, prompts: Tokens, truth: Tokens, answers: Tokens, finished: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    length = max(truth.shape[1], answers.shape[1])
    same: NDArray[np.bool_] = (pad_answers(truth, length) == pad_answers(answers, length)).all(axis=1) & finished
    if oracle.several:
        vocabulary, others = oracle.task.vocabulary, np.flatnonzero(finished & ~same)
        texts = zip(vocabulary.decode_prompts(prompts[others]), vocabulary.decode_answers(answers[others]), strict=True)
        same[others] = [oracle.accepts(*each) for each in texts]
    return same

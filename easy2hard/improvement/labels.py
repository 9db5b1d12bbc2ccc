"""Prompts -> the members' greedy answers, their votes and confidence. Nothing here can see a true answer."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from easy2hard.models.decoding import DECODED_TOKENS, Answers, chunks, decode
from easy2hard.models.threads import map_chunks
from easy2hard.models.transformer import Transformer
from easy2hard.tasks.base import Difficulty, Task
from easy2hard.vocabulary import PAD, Tokens


@dataclass(frozen=True)
class Proposals:
    """The members' joint answers to (count,) prompts of one difficulty."""

    difficulty: Difficulty
    prompts: Tokens
    """(count, length)."""
    answers: Tokens
    """(count, length): the answer that most members gave, EOS included, padded on the right."""
    finished: NDArray[np.bool_]
    """(count,): the answer ended within its bound. One that did not is not a label."""
    votes: NDArray[np.int64]
    """(count,): members that gave exactly this answer, cut at EOS; 0 where no member finished."""
    runner_up: NDArray[np.int64]
    """(count,): votes of the most frequent other answer; equal to ``votes`` in a tie."""
    members: int
    confidence: NDArray[np.float32]
    """(count,): smallest token probability of the answer, the least of the members that gave it."""
    mean_log_probability: NDArray[np.float32]
    """(count,): mean log-probability of the answer's tokens, over the members that gave it."""


DRAFTS_PAY = 0.8
"""Share of equal answers from which one member's answers are worth checking as drafts for the others: checking one
costs about three quarters of decoding it on a CPU, and only agreement spares the decoding."""


def propose(
    members: Sequence[Transformer],
    task: Task,
    difficulty: Difficulty,
    prompts: Tokens,
    on_done: Callable[[int], None] = lambda count: None,
) -> Proposals:
    """Answer (count, length) prompts with every member and count their votes.

    The first prompts are answered by every member for itself. Where the members agree often enough, one member's
    answers to the others are drafts for the rest, members taking turns; no answer depends on it. ``on_done`` is told
    about prompts as they are done.
    """
    if not len(prompts):
        return count_votes(difficulty, prompts, _answer(members, task, prompts, None))
    device = next(members[0].parameters()).device
    length = prompts.shape[1] + int(task.answer_bounds(prompts).max())
    rest = chunks(len(prompts), length, device, DECODED_TOKENS)
    parts, drafts = [], False
    if len(members) > 1:
        first = rest.pop(0)
        answers = map_chunks(lambda member: _answer([member], task, prompts[first], None)[0], members, device)
        parts = [count_votes(difficulty, prompts[first], answers)]
        drafts = float((parts[0].votes == len(members)).mean()) >= DRAFTS_PAY
        on_done(first.stop)

    def work(number: int) -> Proposals:
        own = prompts[rest[number]]
        drafter = number % len(members) if drafts else None
        return count_votes(difficulty, own, _answer(members, task, own, drafter))

    parts += map_chunks(work, range(len(rest)), device, lambda number: on_done(rest[number].stop - rest[number].start))
    return _join(parts)


def _answer(members: Sequence[Transformer], task: Task, prompts: Tokens, drafter: int | None) -> list[Answers]:
    """Return every member's answers; those of member ``drafter`` are drafts for the others."""
    bounds = task.answer_bounds(prompts)
    if drafter is None:
        return [decode(member, prompts, bounds) for member in members]
    draft = decode(members[drafter], prompts, bounds)
    return [
        draft if index == drafter else decode(member, prompts, bounds, draft.tokens)
        for index, member in enumerate(members)
    ]


def _join(parts: Sequence[Proposals]) -> Proposals:
    """Return proposals of one difficulty as one."""
    longest = max(part.answers.shape[1] for part in parts)

    def joined(name: str) -> Any:
        return np.concatenate([getattr(part, name) for part in parts])

    return Proposals(
        difficulty=parts[0].difficulty,
        prompts=joined("prompts"),
        answers=np.concatenate([pad_answers(part.answers, longest) for part in parts]),
        finished=joined("finished"),
        votes=joined("votes"),
        runner_up=joined("runner_up"),
        members=parts[0].members,
        confidence=joined("confidence"),
        mean_log_probability=joined("mean_log_probability"),
    )


def count_votes(difficulty: Difficulty, prompts: Tokens, answers: Sequence[Answers]) -> Proposals:
    """Join the members' answers: the most frequent one wins, the earliest member's among equals.

    Answers are padded after their EOS, so two rows are equal exactly when their texts are. An unfinished answer has no
    vote; the share of votes counts it all the same.
    """
    tokens = np.stack([each.tokens for each in answers])  # (members, count, length)
    finished = np.stack([each.finished for each in answers])
    same = (tokens[:, None] == tokens[None, :]).all(axis=-1) & finished[:, None] & finished[None, :]
    votes = same.sum(axis=1)  # (members, count): members that gave the same answer as this one
    winner = votes.argmax(axis=0)
    rows = np.arange(len(prompts))
    agree = same[winner, :, rows].T  # (members, count): gave the winning answer
    agree[winner, rows] = True  # an unfinished winner still has its own confidence
    confidence = np.stack([each.confidence for each in answers])
    mean = np.stack([each.mean_log_probability for each in answers])
    return Proposals(
        difficulty=difficulty,
        prompts=prompts,
        answers=tokens[winner, rows],
        finished=finished[winner, rows],
        votes=votes[winner, rows],
        runner_up=np.where(agree, 0, votes).max(axis=0),
        members=len(answers),
        confidence=np.where(agree, confidence, np.inf).min(axis=0).astype(np.float32),
        mean_log_probability=(np.where(agree, mean, 0).sum(axis=0) / agree.sum(axis=0)).astype(np.float32),
    )


def pad_answers(answers: Tokens, length: int) -> Tokens:
    """Return (count, length) answers with more padding on the right."""
    return np.pad(answers, ((0, 0), (0, length - answers.shape[1])), constant_values=PAD)

"""Prompts -> the members' answers, their votes and confidence. Nothing here can see a true answer."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from easy2hard.engines.decoding import Answers, Sampling
from easy2hard.engines.engine import Engine
from easy2hard.errors import UserError
from easy2hard.seeding import derive
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
    """(count,): members' answers that are exactly this one, cut at EOS; 0 where no member finished."""
    runner_up: NDArray[np.int64]
    """(count,): votes of the most frequent other answer; equal to ``votes`` in a tie."""
    members: int
    """How many answers each prompt got: one of each member, or ``samples`` of each."""
    confidence: NDArray[np.float32]
    """(count,): smallest token probability of the answer, the least of the members that gave it."""
    mean_log_probability: NDArray[np.float32]
    """(count,): mean log-probability of the answer's tokens, over the members that gave it."""
    twin: NDArray[np.bool_] | None = None
    """(count,): the answer to the prompt's twin says the same; None where nobody asked."""
    parts: NDArray[np.bool_] | None = None
    """(count,): the answer contains the answers to its parts, one at least; None where nobody asked."""
    questions: NDArray[np.int64] | None = None
    """(count,): how many parts were asked."""
    score: NDArray[np.float64] | None = None
    """(count,): the probability of being right, as a learned verifier sees it; None where there is none."""
    seconds: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0), compare=False)
    """(members,): processor time of each member's answers, those to twins and parts included."""
    ballots: NDArray[np.int32] | None = None
    """(count, members): 0 for this answer, one number for each other one, -1 for one without an end."""
    samples: int = 1
    """Answers of each member, drawn by chance where there are more than one."""

    @property
    def probability(self) -> NDArray[np.float64]:
        """(count,) the probability of the whole answer, 0 where it has no end: what the members expect to be right."""
        lengths = (self.answers != PAD).sum(axis=1)
        log_probability = self.mean_log_probability.astype(np.float64) * lengths
        found: NDArray[np.float64] = np.exp(log_probability) * self.finished
        return found

    @property
    def unanimous(self) -> NDArray[np.bool_]:
        """(count,) all members gave this answer."""
        same: NDArray[np.bool_] = self.votes == self.members
        return same

    @property
    def agreement(self) -> NDArray[np.float64]:
        """(count,) 1 where all members gave this answer, else 0; of several samples, the share that is this answer."""
        return self.unanimous.astype(np.float64) if self.samples == 1 else self.votes / self.members

    def rows(self, chosen: NDArray[np.int64]) -> "Proposals":
        """Return those of some rows; their seconds stay those of all."""
        arrays: dict[str, Any] = {name: each[chosen] for name, each in self._columns().items()}
        return replace(self, **arrays)

    def _columns(self) -> dict[str, NDArray[Any]]:
        """Return what has a row for each prompt."""
        named = {each.name: getattr(self, each.name) for each in fields(self) if each.name != "seconds"}
        return {name: value for name, value in named.items() if isinstance(value, np.ndarray)}


@dataclass(frozen=True)
class Draws:
    """How answers are sampled: several of each member, instead of its greedy one."""

    temperature: float
    samples: int
    """Answers of each member to each prompt."""
    seed: int
    """The run's seed."""
    stream: tuple[str | int, ...]
    """What the answers are for: another one gives others."""

    def of(self, member: int) -> list[Sampling]:
        """Return the sampling of each answer of a member."""
        return [
            Sampling(self.temperature, derive(self.seed, "samples", *self.stream, member, sample))
            for sample in range(self.samples)
        ]


Relation = Literal["twin", "parts", "compose"]
"""A relation between questions that a task declares: the same question asked otherwise, easier ones inside it, and an
answer that the answer to an easier one makes."""

Relations = frozenset[Relation]

Prefer = Callable[[Proposals], NDArray[np.bool_]]
"""Says which answers come before all others, whatever their votes; supervised (see :func:`propose`)."""


def propose(
    engine: Engine,
    task: Task,
    difficulty: Difficulty,
    prompts: Tokens,
    relations: Relations = frozenset(),
    on_done: Callable[[int], None] = lambda count: None,
    draws: Draws | None = None,
    prefer: Prefer | None = None,
) -> Proposals:
    """Answer (count, length) prompts with every member, count their votes, and ask what ``relations`` ask for.

    Args:
        engine: the members.
        task: bounds the answers.
        difficulty: of the prompts.
        prompts: (count, length).
        relations: of the task, whose questions are answered and compared too.
        on_done: told about prompts as they are done.
        draws: how answers are sampled, each of which has a vote (self-consistency); default: one greedy answer each.
        prefer: of sampled answers, choose these before those with more votes. Only the filter ``verifier``, which is
            supervised, has this: any right sample is the label (STaR, ReST-EM).

    Raises:
        UserError: the task has no twins, and they are asked for.
    """
    bounds = task.answer_bounds(prompts)
    if draws is None:
        each = [[answers] for answers in engine.answer(prompts, bounds, on_done)]
    else:
        samplings = [draws.of(member) for member in range(len(engine.members))]
        each = engine.sample(prompts, bounds, samplings, on_done)
    answers = [one for of_member in each for one in of_member]
    preferred = None
    if draws is not None and prefer is not None:
        preferred = np.stack([prefer(count_votes(difficulty, prompts, [one])) for one in answers])
    proposals = replace(
        count_votes(difficulty, prompts, answers, preferred),
        seconds=np.array([math.fsum(one.seconds for one in of_member) for of_member in each]),
        samples=1 if draws is None else draws.samples,
    )
    if "compose" in relations:
        proposals = _composed(proposals, engine, task, draws)
    if "twin" in relations:
        proposals = _with_twins(proposals, engine, task, draws)
    return with_parts(proposals, engine, task, draws) if "parts" in relations else proposals


def _composed(proposals: Proposals, engine: Engine, task: Task, draws: Draws | None) -> Proposals:
    """Return the proposals with the answers that the answers to their first such part make.

    Votes and confidence are those of the answers to the parts. An answer that has no such part stays.
    """
    parts = task.parts(proposals.prompts, proposals.answers) if len(proposals.prompts) else []
    composing = [(each, each.compose) for each in parts if each.compose is not None]
    if not composing:
        return proposals
    part, compose = composing[0]
    easier = propose(engine, task, part.difficulty, part.prompts, draws=draws)
    made = compose(easier.answers)
    length = max(proposals.answers.shape[1], made.shape[1])
    whole = replace(proposals, answers=pad_answers(proposals.answers, length))
    part_of = replace(easier, answers=pad_answers(made, length))
    columns: dict[str, Any] = {name: each.copy() for name, each in whole._columns().items() if name != "prompts"}
    for name, column in columns.items():
        column[part.rows] = getattr(part_of, name)
    return replace(whole, seconds=proposals.seconds + easier.seconds, **columns)


def with_parts(proposals: Proposals, engine: Engine, task: Task, draws: Draws | None = None) -> Proposals:
    """Return the proposals with their parts answered and compared.

    An answer without any part to ask about has nothing that speaks for it.
    """
    count = len(proposals.prompts)
    questions, agree = np.zeros(count, dtype=np.int64), proposals.finished.copy()
    seconds = proposals.seconds
    for part in task.parts(proposals.prompts, proposals.answers) if count else []:
        easier = propose(engine, task, part.difficulty, part.prompts, draws=draws)
        questions[part.rows] += 1
        agree[part.rows] &= part.agree(proposals.answers[part.rows], easier.answers) & easier.finished
        seconds = seconds + easier.seconds
    return replace(proposals, parts=agree & (questions > 0), questions=questions, seconds=seconds)


def _with_twins(proposals: Proposals, engine: Engine, task: Task, draws: Draws | None) -> Proposals:
    prompts = task.twin(proposals.prompts)
    if prompts is None:
        raise UserError(f"task {task.name}: has no twin prompts; leave out the filter and the readiness named twin")
    other = propose(engine, task, proposals.difficulty, prompts, draws=draws)
    length = max(proposals.answers.shape[1], other.answers.shape[1])
    same = task.agree(pad_answers(proposals.answers, length), pad_answers(other.answers, length))
    return replace(
        proposals, twin=same & proposals.finished & other.finished, seconds=proposals.seconds + other.seconds
    )


def join(parts: Sequence[Proposals]) -> Proposals:
    """Return proposals of one difficulty as one."""
    if len(parts) == 1:
        return parts[0]
    longest = max(part.answers.shape[1] for part in parts)
    joined: dict[str, Any] = {
        name: np.concatenate([getattr(part, name) for part in parts])
        for name in parts[0]._columns()
        if name != "answers"
    }
    return replace(
        parts[0],
        answers=np.concatenate([pad_answers(part.answers, longest) for part in parts]),
        seconds=np.sum([part.seconds for part in parts], axis=0),
        **joined,
    )


def count_votes(
    difficulty: Difficulty,
    prompts: Tokens,
    answers: Sequence[Answers],
    preferred: NDArray[np.bool_] | None = None,
) -> Proposals:
    """Join the members' answers: the most frequent one wins, the earliest member's among equals.

    Where (members, count) some are ``preferred``, the most frequent of these wins.

    Answers are padded after their EOS, so two rows are equal exactly when their texts are. An unfinished answer has no
    vote; the share of votes counts it all the same.
    """
    tokens = np.stack([each.tokens for each in answers])  # (members, count, length)
    finished = np.stack([each.finished for each in answers])
    same = np.stack([(each == tokens).all(axis=-1) for each in tokens]) & finished[:, None] & finished[None, :]
    votes = same.sum(axis=1)  # (members, count): members that gave the same answer as this one
    winner = (votes if preferred is None else votes + (len(answers) + 1) * preferred).argmax(axis=0)
    rows = np.arange(len(prompts))
    agree = same[winner, :, rows].T  # (members, count): gave the winning answer
    ballots = np.where(finished, np.where(agree, 0, 1 + same.argmax(axis=1)), -1)  # 1 + the first that gave the same
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
        ballots=np.ascontiguousarray(ballots.T, dtype=np.int32),
    )


def pad_answers(answers: Tokens, length: int) -> Tokens:
    """Return (count, length) answers with more padding on the right."""
    return np.pad(answers, ((0, 0), (0, length - answers.shape[1])), constant_values=PAD)

"""Addition with reversed numbers: ``1368+9661=`` (8631 + 1669) -> ``00301`` (difficulty = digits of each operand)."""

import re

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from easy2hard.tasks.base import Difficulty, Task, digits
from easy2hard.tasks.oracle import Oracle
from easy2hard.vocabulary import BOS, EOS, SPECIAL, Tokens, Vocabulary


class ReverseAddition(Task):
    """Least significant digits first; the sum is padded with zeros to one digit more than the longer operand.

    A difficulty is the pair (digits of a, digits of b); one number d stands for (d, d). Supervised operands have
    independent lengths, self-labelled ones equal lengths (method.md, "Tasks").
    """

    name = "reverse-addition"
    summary = "add two numbers written backwards, least significant digit first"
    vocabulary = Vocabulary("0123456789+=")
    grammar = re.compile(r"[0-9]*[1-9]\+[0-9]*[1-9]=")
    example = "1368+9661="

    @override
    def supervised_difficulties(self, hardest: int) -> list[Difficulty]:
        return [(a, b) for a in range(1, hardest + 1) for b in range(1, hardest + 1)]

    @override
    def sample(self, generator: np.random.Generator, difficulty: Difficulty, count: int) -> Tokens:
        a, b = (difficulty, difficulty) if isinstance(difficulty, int) else difficulty
        prompts = np.empty((count, a + b + 3), dtype=np.int32)
        prompts[:, 0] = BOS
        prompts[:, 1 : a + 1] = digits(generator, count, a)[:, ::-1] + SPECIAL
        prompts[:, a + 1] = self.vocabulary.id("+")
        prompts[:, a + 2 : -1] = digits(generator, count, b)[:, ::-1] + SPECIAL
        prompts[:, -1] = self.vocabulary.id("=")
        return prompts

    @override
    def answer_bounds(self, prompts: Tokens) -> NDArray[np.int64]:
        a = self.first_operand(prompts)
        b = prompts.shape[1] - 3 - a
        bounds: NDArray[np.int64] = np.maximum(a, b) + 2
        return bounds

    def first_operand(self, prompts: Tokens) -> NDArray[np.int64]:
        """Return (count,) numbers of digits of the first operand."""
        places: NDArray[np.int64] = (prompts == self.vocabulary.id("+")).argmax(axis=1)
        return places - 1


class ReverseAdditionOracle(Oracle):
    """Adds digit by digit, all rows at once."""

    task: ReverseAddition

    @override
    def solve(self, prompts: Tokens) -> Tokens:
        first = self.task.first_operand(prompts)
        longest = int(np.maximum(first, prompts.shape[1] - 3 - first).max(initial=0))
        answers = np.zeros((len(prompts), longest + 2), dtype=np.int32)
        for a in np.unique(first):
            rows = first == a
            answers[rows] = self._solve(prompts[rows], int(a), longest)
        return answers

    def _solve(self, prompts: Tokens, a: int, longest: int) -> Tokens:
        b = prompts.shape[1] - 3 - a
        length = max(a, b) + 1
        sums = np.zeros((len(prompts), length), dtype=np.int32)
        sums[:, :a] += prompts[:, 1 : a + 1] - SPECIAL
        sums[:, :b] += prompts[:, a + 2 : -1] - SPECIAL
        for position in range(length - 1):  # carries ripple towards the more significant digits
            carry = sums[:, position] >= 10
            sums[:, position] -= 10 * carry
            sums[:, position + 1] += carry
        answers = np.zeros((len(prompts), longest + 2), dtype=np.int32)
        answers[:, :length] = sums + SPECIAL
        answers[:, length] = EOS
        return answers

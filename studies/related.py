"""Two tasks that addition is made of, for studies/pretraining.py: copy a number, and add without carries.

Numbers are written least significant digit first, as in reverse addition, and symbols are those of addition. A
difficulty is a pair: digits, and 1 to copy (``421+=`` -> ``421``) or 2 to add (``81+34=`` -> ``15``).
"""

import re

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from easy2hard.tasks.base import Difficulty, Task, hardest
from easy2hard.tasks.oracle import Oracle
from easy2hard.vocabulary import EOS, Tokens, Vocabulary

COPY, ADD = 1, 2


class Related(Task):
    """Copies and sums without carries, half and half."""

    name = "related"
    summary = "copy a number, or add two digit by digit without carries"
    vocabulary = Vocabulary("0123456789+=")
    grammar = re.compile(r"[0-9]+\+[0-9]*=")
    example = "81+34="

    @override
    def supervised_difficulties(self, hardest: int) -> list[Difficulty]:
        return [(digits, kind) for digits in range(1, hardest + 1) for kind in (COPY, ADD)]

    @override
    def evaluated_difficulties(self, hardest: int) -> list[Difficulty]:
        return self.supervised_difficulties(hardest)

    @override
    def labelled_difficulties(self, hardest: int) -> list[list[Difficulty]]:
        return [[(hardest, COPY), (hardest, ADD)]]

    @override
    def sample(self, generator: np.random.Generator, difficulty: Difficulty, count: int) -> Tokens:
        digits, kind = difficulty if isinstance(difficulty, tuple) else (hardest(difficulty), ADD)
        zero = self.vocabulary.id("0")
        first, second = generator.integers(0, 10, (2, count, digits)) + zero
        return self.frame(first, "+", second, "=") if kind == ADD else self.frame(first, "+", "=")

    @override
    def answer_bounds(self, prompts: Tokens) -> NDArray[np.int64]:
        return np.full(len(prompts), _digits(prompts, self.vocabulary) + 1)


def _digits(prompts: Tokens, vocabulary: Vocabulary) -> int:
    """Return the digits of the first number of (count, length) prompts, which all have as many."""
    return int((prompts[0] == vocabulary.id("+")).argmax()) - 1 if len(prompts) else 0


class RelatedOracle(Oracle):
    """Copies and adds."""

    task_class = Related

    @override
    def solve(self, prompts: Tokens) -> Tokens:
        vocabulary = self.task.vocabulary
        digits, zero = _digits(prompts, vocabulary), vocabulary.id("0")
        answers = prompts[:, 1 : digits + 1]
        if prompts.shape[1] > digits + 3:
            answers = (answers + prompts[:, digits + 2 : -1] - 2 * zero) % 10 + zero
        return np.concatenate([answers, np.full((len(prompts), 1), EOS)], axis=1).astype(np.int32)

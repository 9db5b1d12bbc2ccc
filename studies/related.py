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
from easy2hard.vocabulary import EOS, PAD, Tokens, Vocabulary

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
        return digits_of(prompts) + 1


def digits_of(prompts: Tokens) -> NDArray[np.int64]:
    """Return (count,) digits of the first number of prompts; a copy may be as long as a sum of shorter numbers."""
    digits: NDArray[np.int64] = (prompts == Related.vocabulary.id("+")).argmax(axis=1) - 1
    return digits


class RelatedOracle(Oracle):
    """Copies and adds."""

    task_class = Related

    @override
    def solve(self, prompts: Tokens) -> Tokens:
        digits, zero = digits_of(prompts), Related.vocabulary.id("0")
        answers = np.full((len(prompts), int(digits.max(initial=0)) + 1), PAD, dtype=np.int32)
        for count in np.unique(digits):
            rows = digits == count
            own = prompts[rows, 1 : count + 1]
            if prompts.shape[1] > count + 3:
                own = (own + prompts[rows, count + 2 : -1] - 2 * zero) % 10 + zero
            answers[rows, :count] = own
            answers[rows, count] = EOS
        return answers

"""The contract of a task: what self-labelling may know. Nothing here can compute a true answer."""

import re
from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from easy2hard.errors import UserError
from easy2hard.vocabulary import Tokens, Vocabulary

Difficulty = int | tuple[int, int]
"""One number, or a pair for tasks with two (the digits of each operand). ``d`` stands for ``(d, d)`` there."""


class Task(ABC):
    """Samples prompts of a requested difficulty and bounds the length of their answers.

    Prompts of one difficulty all have the same length, so that batches need neither padding nor masks.
    """

    name: str
    summary: str
    vocabulary: Vocabulary
    grammar: re.Pattern[str]
    """What a whole prompt looks like, without BOS."""
    example: str
    """A prompt of the task, shown in help texts and error messages."""

    @abstractmethod
    def supervised_difficulties(self, hardest: int) -> list[Difficulty]:
        """Return the difficulties, all equally likely, that make up D0 when ``hardest`` is the greatest."""

    @abstractmethod
    def sample(self, generator: np.random.Generator, difficulty: Difficulty, count: int) -> Tokens:
        """Return (count, length) prompts of exactly ``difficulty``, each beginning with BOS."""

    @abstractmethod
    def answer_bounds(self, prompts: Tokens) -> NDArray[np.int64]:
        """Return (count,) greatest numbers of answer tokens, EOS included, computed from the prompts alone."""

    def encode(self, texts: Sequence[str]) -> list[tuple[NDArray[np.int64], Tokens]]:
        """Return prompts as token arrays grouped by length: pairs of (indices into ``texts``, prompts).

        Raises:
            UserError: a text is not a prompt of this task.
        """
        for text in texts:
            self.vocabulary.encode(text)
            if not self.grammar.fullmatch(text):
                raise UserError(
                    f"prompt {text!r}: not a prompt of task {self.name} (expected the form {self.example!r})"
                )
        lengths = np.array([len(text) for text in texts])
        groups = []
        for length in np.unique(lengths):
            rows = np.flatnonzero(lengths == length)
            groups.append((rows, self.vocabulary.encode_prompts([texts[int(i)] for i in rows])))
        return groups


def digits(generator: np.random.Generator, count: int, length: int) -> NDArray[np.int64]:
    """Return (count, length) decimal digits, most significant first and never 0 (method.md, "Tasks")."""
    numbers = generator.integers(0, 10, (count, length))
    numbers[:, 0] = generator.integers(1, 10, count)
    return numbers

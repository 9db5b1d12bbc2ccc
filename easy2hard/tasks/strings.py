"""Copy and reverse a string of digits: ``8631=`` -> ``8631`` or ``1368`` (difficulty = number of digits)."""

import re

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from easy2hard.tasks.base import Difficulty, Part, Task, digits, placed
from easy2hard.tasks.oracle import Oracle
from easy2hard.tasks.relations import same, without
from easy2hard.vocabulary import EOS, SPECIAL, Tokens, Vocabulary


class StringTask(Task):
    """A number is the prompt; the answer is as long as the number."""

    vocabulary = Vocabulary("0123456789=")
    grammar = re.compile(r"[1-9][0-9]*=")
    example = "8631="
    backwards = False
    """The answer begins with the number's last digit."""

    @override
    def sample(self, generator: np.random.Generator, difficulty: Difficulty, count: int) -> Tokens:
        if not isinstance(difficulty, int):
            raise TypeError(f"task {self.name}: difficulty {difficulty} is not one number")
        return self.frame(digits(generator, count, difficulty) + SPECIAL, "=")

    @override
    def answer_bounds(self, prompts: Tokens) -> NDArray[np.int64]:
        return np.full(len(prompts), prompts.shape[1] - 1)

    @override
    def parts(self, prompts: Tokens, answers: Tokens) -> list[Part]:
        """Return the prompts without their first digit, and without their last one."""
        length = prompts.shape[1] - 2
        if length < 2:
            return []
        first, last = (length - 1, 0) if self.backwards else (0, length - 1)  # where the answer has their copies
        return [
            part
            for name, digit, copy in (("all but the first digit", 1, first), ("all but the last digit", length, last))
            for part in self._without(prompts, name, digit, copy)
        ]

    def _without(self, prompts: Tokens, name: str, digit: int, copy: int) -> list[Part]:
        """Return the part without the token ``digit`` of a prompt, whose copy has the place ``copy`` in the answer."""
        shorter = np.delete(prompts, digit, axis=1)
        rows = np.flatnonzero(shorter[:, 1] != self.vocabulary.id("0"))
        if not len(rows):
            return []

        def agree(answers: Tokens, parts: Tokens) -> NDArray[np.bool_]:
            return same(without(answers, copy), parts)

        return [Part(name, prompts.shape[1] - 3, rows, shorter[rows], agree)]

    @override
    def coupled_ids(self, prompts: Tokens, length: int) -> NDArray[np.int64]:
        """A digit and its copy have one number; ``=`` has the one that comes before the answer's first (appendix)."""
        count, digits = len(prompts), prompts.shape[1] - 2
        numbers = np.arange(1, digits + 1)
        # Copy: 0 | 2 3 4 | 1 | 2 3 4. Reverse: 0 | 1 2 3 | 4 | 3 2 1.
        row = [0, *numbers, digits + 1] if self.backwards else [0, *(numbers + 1), 1]
        answer = numbers[::-1] if self.backwards else numbers + 1
        return placed(np.tile(np.array(row), (count, 1)), np.tile(answer, (count, 1)), length)


class Copy(StringTask):
    """The answer is the number."""

    name, summary = "copy", "repeat a number digit by digit"


class Reverse(StringTask):
    """The answer is the number's digits, the last one first."""

    name, summary, backwards = "reverse", "write a number backwards", True


class StringOracle(Oracle):
    """Answers with the prompt's digits, in their order or reversed."""

    task: StringTask

    @override
    def solve(self, prompts: Tokens) -> Tokens:
        ends = np.full((len(prompts), 1), EOS, dtype=np.int32)
        return np.concatenate([prompts[:, 1:-1][:, :: -1 if self.task.backwards else 1], ends], axis=1)


class CopyOracle(StringOracle):
    """Of :class:`Copy`."""

    task_class = Copy


class ReverseOracle(StringOracle):
    """Of :class:`Reverse`."""

    task_class = Reverse

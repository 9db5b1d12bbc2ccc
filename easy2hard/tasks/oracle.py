"""Oracles know true answers. Only supervised data, evaluation and audit may hold one (the oracle firewall)."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from easy2hard.errors import UserError
from easy2hard.memory import TOKEN_BYTES, afford
from easy2hard.plugins import Extension
from easy2hard.rules import check_array, require
from easy2hard.tasks.base import Task
from easy2hard.vocabulary import Tokens

AT_ONCE = 1 << 22
"""Tokens of prompts and answers that are solved at a time, about."""
TEXT_BYTES = 4
"""What a character of an answer takes while it is written."""


class Oracle(Extension, ABC):
    """Solves prompts of one task; the task is found by its oracle (tasks/registry.py)."""

    kind = "task"
    task_class: type[Task]
    """The task it belongs to."""
    several = False
    """Whether other answers than those of :meth:`solve` may be right: then :meth:`accepts` is asked about them."""

    def __init__(self, task: Task) -> None:
        self.task = task

    @override
    @classmethod
    def extension_name(cls) -> str | None:
        """Return the name of the task."""
        return getattr(getattr(cls, "task_class", None), "name", None)

    @override
    @classmethod
    def blamed(cls) -> set[str]:
        return {cls.__name__, cls.task_class.__name__}

    @abstractmethod
    def solve(self, prompts: Tokens) -> Tokens:
        """Return (count, length) true answers of (count, length) prompts, ended by EOS, padded on the right."""

    def accepts(self, prompt: str, answer: str) -> bool:
        """Return whether ``answer``, which is not that of :meth:`solve`, is right too."""
        return False

    def right(self, prompt: str, truth: str, answer: str) -> bool:
        """Return whether ``answer`` is right; ``truth`` is that of :meth:`solve`."""
        return answer == truth or (self.several and self.accepts(prompt, answer))

    def reason(self, prompt: str, truth: str, answer: str) -> str:
        """Return in a line what is wrong with ``answer``, which is not ``truth`` but made of the task's symbols."""
        for position, (true, given) in enumerate(zip(truth, answer, strict=False), start=1):
            if true != given:
                return f"wrong digit at position {position}: {given} instead of {true}"
        return f"wrong length: {len(answer)} instead of {len(truth)}"

    def solve_texts(self, prompts: Sequence[str]) -> list[str]:
        """Return the true answers of ``prompts`` as texts, in their order."""
        answers = [""] * len(prompts)
        groups = self.task.encode(prompts)
        bounds = [self._bounds(tokens) for _, tokens in groups]
        longest = max((int(each.max()) for each in bounds), default=0)
        needed = TOKEN_BYTES * max(AT_ONCE, longest) + TEXT_BYTES * sum(int(each.sum()) for each in bounds)
        if needed > TOKEN_BYTES * AT_ONCE * 2:
            afford(f"an answer of {longest:,} tokens, and {len(prompts)} in all:", needed)
        for (rows, tokens), bound in zip(groups, bounds, strict=True):
            step = max(1, AT_ONCE // (tokens.shape[1] + int(bound.max(initial=1))))
            for begin in range(0, len(rows), step):
                some = slice(begin, begin + step)
                for row, answer in zip(rows[some], self._texts(tokens[some]), strict=True):
                    answers[row] = answer
        return answers

    def _texts(self, prompts: Tokens) -> list[str]:
        """Return the true answers of (count, length) prompts as texts."""
        answers = self.solve(prompts)
        with self.task.kept():
            check_array(answers, (len(prompts), None), np.integer, "solve must return (count, length) token ids")
            require(((answers >= 0) & (answers < len(self.task.vocabulary))).all(), "answers must be made of tokens")
        return self.task.vocabulary.decode_answers(answers)

    def _bounds(self, prompts: Tokens) -> NDArray[np.int64]:
        bounds = self.task.answer_bounds(prompts)
        with self.task.kept():
            check_array(bounds, (len(prompts),), np.integer, "answer_bounds must return (count,) whole numbers")
        return bounds


class Checker:
    """Judges answers by an oracle and says what is wrong with them."""

    def __init__(self, oracle: Oracle) -> None:
        self.oracle = oracle

    def check(
        self, prompts: Sequence[str], answers: Sequence[str], finished: Sequence[bool] | None = None
    ) -> list[str | None]:
        """Return for every answer None where it is right, else the reason why it is wrong.

        Args:
            prompts: prompts of the task.
            answers: an answer to each.
            finished: False for an answer that had no end within its bound; all had one where this is not given.
        """
        return [
            "no end" if not ended else self._reason(prompt, truth, answer)
            for prompt, truth, answer, ended in zip(
                prompts, self.oracle.solve_texts(prompts), answers, finished or [True] * len(answers), strict=True
            )
        ]

    def _reason(self, prompt: str, truth: str, answer: str) -> str | None:
        if self.oracle.right(prompt, truth, answer):
            return None
        try:
            self.oracle.task.vocabulary.encode(answer)
        except UserError as error:
            return f"bad format: {str(error).removeprefix(repr(answer) + ': ')}"
        return self.oracle.reason(prompt, truth, answer)

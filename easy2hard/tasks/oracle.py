"""Oracles know true answers. Only supervised data, evaluation and audit may hold one (the oracle firewall)."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

from easy2hard.tasks.base import Task
from easy2hard.vocabulary import Tokens


class Oracle(ABC):
    """Solves prompts of one task."""

    def __init__(self, task: Task) -> None:
        self.task = task

    @abstractmethod
    def solve(self, prompts: Tokens) -> Tokens:
        """Return (count, length) true answers of (count, length) prompts, ended by EOS, padded on the right."""

    def solve_texts(self, prompts: Sequence[str]) -> list[str]:
        """Return the true answers of ``prompts`` as texts, in their order."""
        answers = [""] * len(prompts)
        for rows, tokens in self.task.encode(prompts):
            for row, answer in zip(rows, self.task.vocabulary.decode_answers(self.solve(tokens)), strict=True):
                answers[row] = answer
        return answers


class Checker:
    """Judges answers by an oracle and says what is wrong with them."""

    def __init__(self, oracle: Oracle) -> None:
        self.oracle = oracle

    def check(self, prompts: Sequence[str], answers: Sequence[str]) -> list[str | None]:
        """Return for every answer None where it is right, else the reason why it is wrong."""
        return [
            self._reason(truth, answer) for truth, answer in zip(self.oracle.solve_texts(prompts), answers, strict=True)
        ]

    def _reason(self, truth: str, answer: str) -> str | None:
        if answer == truth:
            return None
        stranger = next((c for c in answer if c not in self.oracle.task.vocabulary.symbols), None)
        if stranger is not None:
            return f"bad format: character {stranger!r} is not in the task's alphabet"
        for position, (true, given) in enumerate(zip(truth, answer, strict=False), start=1):
            if true != given:
                return f"wrong digit at position {position}: {given} instead of {true}"
        return f"wrong length: {len(answer)} instead of {len(truth)}"

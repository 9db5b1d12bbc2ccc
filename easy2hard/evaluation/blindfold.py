"""An oracle that cannot see beyond the supervised range: what a run under a blindfold holds."""

from typing_extensions import override

from easy2hard.errors import UserError
from easy2hard.seeding import numpy_generator
from easy2hard.tasks.base import difficulty_text
from easy2hard.tasks.oracle import Oracle
from easy2hard.vocabulary import PAD, Tokens

_PROBE = 1000


class BlindfoldError(AssertionError):
    """Somebody asked for a true answer beyond the supervised range."""


class Blindfold(Oracle):
    """Solves prompts of the supervised range and raises at any other.

    A prompt lies beyond it when it, or its true answer, is longer than any of the supervised range.

    Args:
        oracle: the seeing oracle.
        hardest: d0.
    """

    def __init__(self, oracle: Oracle, hardest: int) -> None:
        super().__init__(oracle.task)
        self._oracle = oracle
        self.several = oracle.several
        self._lengths: set[int] = set()
        self._longest = 0
        for difficulty in oracle.task.supervised_difficulties(hardest):
            for draw in (oracle.task.sample, oracle.task.sample_supervised):  # both are asked for: evaluation and D0
                prompts = draw(numpy_generator(0, "blindfold", difficulty_text(difficulty)), difficulty, _PROBE)
                self._lengths.add(prompts.shape[1])
                self._longest = max(self._longest, _longest(oracle.solve(prompts)))

    @override
    def accepts(self, prompt: str, answer: str) -> bool:
        self.solve_texts([prompt])  # raises beyond the supervised range
        return self._oracle.accepts(prompt, answer)

    @override
    def solve(self, prompts: Tokens) -> Tokens:
        if prompts.shape[1] not in self._lengths:
            raise BlindfoldError(f"a true answer to a prompt of {prompts.shape[1]} tokens was asked for")
        answers = self._oracle.solve(prompts)
        if _longest(answers) > self._longest:
            raise BlindfoldError(f"a true answer of {_longest(answers)} tokens was asked for")
        return answers


def refuse_supervised_signals(signals: list[str]) -> None:
    """Refuse a blindfold over settings that look at true answers.

    Raises:
        UserError: naming the setting.
    """
    if signals:
        raise UserError(f"--blindfold: {signals[0]} uses true answers beyond the supervised range")


def _longest(answers: Tokens) -> int:
    return int((answers != PAD).sum(axis=1).max(initial=0))

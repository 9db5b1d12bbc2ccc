"""What tasks with two operands share: where the operands are, and sums of digit arrays."""

from abc import abstractmethod
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from easy2hard.tasks.base import Difficulty, Part, Task
from easy2hard.tasks.oracle import Oracle
from easy2hard.vocabulary import EOS, PAD, SPECIAL, Tokens

Digits = NDArray[np.int32]
"""(count, length) decimal digits, least significant first unless said otherwise."""

PASSES = 16
"""Times that all digits are carried at once, before they are one by one."""


class TwoOperands(Task):
    """A prompt is two numbers with an operator between them and ``=`` at the end.

    A difficulty is the pair (digits of a, digits of b); one number d stands for (d, d).
    """

    operator: str
    backwards: bool = True
    """Least significant digits first."""

    @override
    def supervised_difficulties(self, hardest: int) -> list[Difficulty]:
        """Return all pairs: the operands' lengths are independent (method.md, "Tasks")."""
        return [(a, b) for a in range(1, hardest + 1) for b in range(1, hardest + 1)]

    @override
    def twin(self, prompts: Tokens) -> Tokens | None:
        """Return the prompts with their operands exchanged: b+a for a+b. The first operands have one length."""
        first = self.first_operand(prompts[:1])[0] if len(prompts) else 0
        a, b = prompts[:, 1 : first + 1], prompts[:, first + 2 : -1]
        return np.concatenate([prompts[:, :1], b, prompts[:, first + 1 : first + 2], a, prompts[:, -1:]], axis=1)

    def first_operand(self, prompts: Tokens) -> NDArray[np.int64]:
        """Return (count,) numbers of digits of the first operand."""
        places: NDArray[np.int64] = (prompts == self.vocabulary.id(self.operator)).argmax(axis=1)
        return places - 1

    def operand_lengths(self, prompts: Tokens) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return (count,) numbers of digits of both operands."""
        first = self.first_operand(prompts)
        return first, prompts.shape[1] - 3 - first

    def operands(self, prompts: Tokens) -> tuple[Tokens, Tokens]:
        """Return (count, a) and (count, b) tokens of both operands, least significant first. All have one ``a``."""
        first = int(self.first_operand(prompts[:1])[0])
        step = 1 if self.backwards else -1
        return prompts[:, 1 : first + 1][:, ::step], prompts[:, first + 2 : -1][:, ::step]

    def part(
        self, name: str, first: Tokens, second: Tokens, agree: Callable[[Tokens, Tokens], NDArray[np.bool_]]
    ) -> list[Part]:
        """Return the part that asks for shorter operands; none where no row has them.

        Args:
            name: what it leaves out.
            first: (count, any) tokens of shorter first operands, least significant first.
            second: (count, any) tokens of second ones.
            agree: the relation, of the rows in which neither operand begins with zero.
        """
        zero = self.vocabulary.id("0")
        rows = np.flatnonzero((first[:, -1] != zero) & (second[:, -1] != zero))
        if not len(rows):
            return []
        step = 1 if self.backwards else -1
        prompts = self.frame(first[rows][:, ::step], self.operator, second[rows][:, ::step], "=")
        a, b = first.shape[1], second.shape[1]
        return [Part(name, a if a == b else (a, b), rows, prompts, agree)]


class TwoOperandsOracle(Oracle):
    """Solves the prompts of one first operand's length together."""

    task: TwoOperands

    @override
    def solve(self, prompts: Tokens) -> Tokens:
        first = self.task.first_operand(prompts)
        pieces = [(np.flatnonzero(first == a), self.answers(prompts[first == a], int(a))) for a in np.unique(first)]
        return _joined(pieces, len(prompts))

    @abstractmethod
    def answers(self, prompts: Tokens, a: int) -> Tokens:
        """Return (count, length) answers to prompts whose first operand has ``a`` digits, padded, without EOS."""


def carry(numbers: Digits) -> Digits:
    """Turn (count, length) sums of digits into digits, in place, carrying towards the end of each row."""
    # Where there are more places than rows, all places at once: most carries go no further than a few.
    for _ in range(PASSES if numbers.shape[1] > len(numbers) else 0):
        tens = numbers[:, :-1] // 10
        if not tens.any():
            return numbers
        numbers[:, :-1] -= 10 * tens
        numbers[:, 1:] += tens
    for position in range(numbers.shape[1] - 1):
        tens = numbers[:, position] // 10
        numbers[:, position] -= 10 * tens
        numbers[:, position + 1] += tens
    return numbers


def _joined(rows: list[tuple[NDArray[np.int64], Tokens]], count: int) -> Tokens:
    """Return (count, longest + 1) answers from (indices, tokens without EOS) pieces; 0 in a piece is padding."""
    longest = max((tokens.shape[1] for _, tokens in rows), default=0)
    answers = np.full((count, longest + 1), PAD, dtype=np.int32)
    for index, tokens in rows:
        answers[index, : tokens.shape[1]] = tokens
        answers[index, (tokens != PAD).sum(axis=1)] = EOS
    return answers


def tokens_of(numbers: Digits) -> Tokens:
    """Return the token ids of digits, in vocabularies that begin with 0 to 9."""
    return numbers + np.int32(SPECIAL)

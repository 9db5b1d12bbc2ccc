"""Addition: ``8631+1669=`` -> ``10300``, or with both numbers and the sum written backwards (difficulty = digits)."""

import re

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from easy2hard.errors import UserError
from easy2hard.tasks.arithmetic import Digits, TwoOperands, TwoOperandsOracle, carry, tokens_of
from easy2hard.tasks.base import Difficulty, Part, digits, placed
from easy2hard.tasks.carries import carry_far, pass_on
from easy2hard.tasks.relations import widened
from easy2hard.vocabulary import EOS, PAD, SPECIAL, Tokens, Vocabulary


class Addition(TwoOperands):
    """Two numbers to add; supervised lengths are independent, self-labelled ones equal (method.md, "Tasks").

    Args:
        carry_share: percent of the prompts to learn from, supervised or labelled, that are enriched with carries.
        carry_density: percent of the columns of an enriched prompt whose digits are made to add up to 9.
    """

    operator = "+"
    vocabulary = Vocabulary("0123456789+=")
    hard_split = "a carry through half of the columns"
    padded: bool
    """The sum is padded with zeros to one digit more than the longer operand."""

    def __init__(self, carry_share: int = 0, carry_density: int = 40) -> None:
        for option, value in {"carry_share": carry_share, "carry_density": carry_density}.items():
            if not 0 <= value <= 100:
                raise UserError(f"task.options.{option} = {value}: must be 0 to 100 (percent)")
        self.carry_share = carry_share
        self.carry_density = carry_density
        number = r"[0-9]*[1-9]" if self.backwards else r"[1-9][0-9]*"
        self.grammar = re.compile(rf"{number}\+{number}=")
        self.example = "1368+9661=" if self.backwards else "8631+1669="
        self.summary = "add two numbers" + (
            " written backwards, least significant digit first"
            if self.backwards
            else ", the sum padded with zeros"
            if self.padded
            else ""
        )

    @override
    def sample(self, generator: np.random.Generator, difficulty: Difficulty, count: int) -> Tokens:
        return self._written(*_numbers(generator, difficulty, count))

    @override
    def sample_practice(self, generator: np.random.Generator, difficulty: Difficulty, count: int) -> Tokens:
        if not self.carry_share:
            return self.sample(generator, difficulty, count)
        first, second = _numbers(generator, difficulty, count)
        rows = generator.random((count, 1)) < self.carry_share / 100
        columns = generator.random((count, max(first.shape[1], second.shape[1]))) < self.carry_density / 100
        pass_on(generator, first, second, rows & columns)
        return self._written(first, second)

    @override
    def sample_hard(self, generator: np.random.Generator, difficulty: Difficulty, count: int) -> Tokens:
        first, second = _numbers(generator, difficulty, count)
        carry_far(generator, first, second)
        return self._written(first, second)

    def _written(self, first: Digits, second: Digits) -> Tokens:
        """Return the prompts of two (count, any) numbers, least significant digit first."""
        step = 1 if self.backwards else -1
        return self.frame(tokens_of(first[:, ::step]), "+", tokens_of(second[:, ::step]), "=")

    @override
    def answer_bounds(self, prompts: Tokens) -> NDArray[np.int64]:
        bounds: NDArray[np.int64] = np.maximum(*self.operand_lengths(prompts)) + 2
        return bounds

    @override
    def parts(self, prompts: Tokens, answers: Tokens) -> list[Part]:
        """Return the sums without the lowest digits, and without the highest ones (of the longer operand alone)."""
        if not len(prompts):
            return []
        x, y = self.operands(prompts)
        a, b = x.shape[1], y.shape[1]
        longer = max(a, b)
        found = []
        if min(a, b) > 1:
            carries = x[:, 0] + y[:, 0] - 2 * SPECIAL >= 10

            def agree_above(answers: Tokens, parts: Tokens) -> NDArray[np.bool_]:
                (whole, legible), (part, also) = self._sums(answers, longer + 1), self._sums(parts, longer)
                part[:, 0] += carries
                same: NDArray[np.bool_] = (whole[:, 1:] == carry(part)).all(axis=1)
                return same & legible & also

            # Every row has this part, so that the carries are those of its rows.
            found += self.part("all but the lowest digit", x[:, 1:], y[:, 1:], agree_above)
        if longer > 1:

            def agree_below(answers: Tokens, parts: Tokens) -> NDArray[np.bool_]:
                (whole, legible), (part, also) = self._sums(answers, longer + 1), self._sums(parts, longer)
                # The highest digit of the part's sum is a carry of its own.
                same: NDArray[np.bool_] = (whole[:, : longer - 1] == part[:, : longer - 1]).all(axis=1)
                return same & legible & also

            found += self.part("all but the highest digit", x[:, : longer - 1], y[:, : longer - 1], agree_below)
        return found

    def _sums(self, answers: Tokens, digits: int) -> tuple[Digits, NDArray[np.bool_]]:
        """Return (count, digits) digits of answers, least significant first, and (count,) which have their form."""
        numbers = widened(answers, digits + 1)[:, : digits + 1]
        ends = numbers == EOS
        length = np.where(ends.any(axis=1), ends.argmax(axis=1), -1)
        numbers = numbers - np.int32(SPECIAL)
        inside = np.arange(digits + 1) < length[:, None]
        legible = ((numbers >= 0) & (numbers < 10) | ~inside).all(axis=1)
        if self.padded:
            legible &= length == digits
            numbers = numbers[:, :digits]
        else:
            # A sum is one digit longer than the longer operand or as long: then a zero takes the place before it.
            legible &= (length == digits) | (length == digits - 1)
            legible &= (numbers[:, 0] != 0) & (length > 0)
            moved = np.pad(numbers[:, : digits - 1], ((0, 0), (1, 0)))
            numbers = np.where((length == digits)[:, None], numbers[:, :digits], moved)
        return numbers[:, :: 1 if self.backwards else -1], legible

    @override
    def coupled_ids(self, prompts: Tokens, length: int) -> NDArray[np.int64]:
        """Digits of one power of ten have one number, the more the less they are worth; the signs have the last one."""
        if not self.padded:
            raise UserError(
                f"model.positions = 'coupled' or 'coupled-bias': the digits of task {self.name} have their places only "
                f"once the sum's length is known; {self.name}-padded has them"
            )
        a, b = (each[:, None] for each in self.operand_lengths(prompts))
        signs = np.maximum(a, b) + 2
        at = np.arange(prompts.shape[1])
        in_first = at <= a
        power = np.where(in_first, at - 1, at - a - 2) if self.backwards else np.where(in_first, a, a + b + 1) - at
        ids = np.where((at == a + 1) | (at == a + b + 2), signs, signs - 1 - power)
        ids[:, 0] = 0
        number = np.arange(1, int(signs.max(initial=2)))  # of the digits of the longest sum
        answer = np.where(number < signs, signs - number if self.backwards else number, 0)
        return placed(ids, answer, length)


def _numbers(generator: np.random.Generator, difficulty: Difficulty, count: int) -> tuple[Digits, Digits]:
    """Return two (count, any) random numbers, least significant digit first."""
    a, b = (difficulty, difficulty) if isinstance(difficulty, int) else difficulty
    first = digits(generator, count, a)[:, ::-1]
    return first, digits(generator, count, b)[:, ::-1]


class AdditionOracle(TwoOperandsOracle):
    """Adds digit by digit, all rows at once."""

    task: Addition

    @override
    def answers(self, prompts: Tokens, a: int) -> Tokens:
        b = prompts.shape[1] - 3 - a
        step = 1 if self.task.backwards else -1
        sums = np.zeros((len(prompts), max(a, b) + 1), dtype=np.int32)
        sums[:, :a] += (prompts[:, 1 : a + 1] - SPECIAL)[:, ::step]
        sums[:, :b] += (prompts[:, a + 2 : -1] - SPECIAL)[:, ::step]
        sums = carry(sums)[:, ::step]
        if self.task.padded:
            return tokens_of(sums)
        # The only zero that can lead is the one digit more: move the sum over it.
        leading = sums[:, :1] == 0
        moved = np.concatenate([tokens_of(sums[:, 1:]), np.full((len(sums), 1), PAD, dtype=np.int32)], axis=1)
        return np.where(leading, moved, tokens_of(sums))


class ReverseAddition(Addition):
    """Both numbers and the sum are written backwards."""

    name, backwards, padded = "reverse-addition", True, True


class ForwardAddition(Addition):
    """Both numbers and the sum are written as always."""

    name, backwards, padded = "forward-addition", False, False


class ForwardAdditionPadded(Addition):
    """Written as always, but for the zeros before the sum."""

    name, backwards, padded = "forward-addition-padded", False, True


class ReverseAdditionOracle(AdditionOracle):
    """Of :class:`ReverseAddition`."""

    task_class = ReverseAddition


class ForwardAdditionOracle(AdditionOracle):
    """Of :class:`ForwardAddition`."""

    task_class = ForwardAddition


class ForwardAdditionPaddedOracle(AdditionOracle):
    """Of :class:`ForwardAdditionPadded`."""

    task_class = ForwardAdditionPadded

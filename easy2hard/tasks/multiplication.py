"""Worked multiplication, everything written backwards (method.md, "Tasks").

``1368*9661=`` (8631 x 1669) -> ``97677+068715(935595)+0068715(9314775)+00013680=93150441``: the partial products
``a * b_i * 10^i``, each padded to ``i + digits of a + 1``; the running sum in parentheses after every partial product
but the first and the last; the product padded to the digits of both operands.
"""

import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from easy2hard.errors import UserError
from easy2hard.tasks.arithmetic import TwoOperands, TwoOperandsOracle, carry, tokens_of
from easy2hard.tasks.base import Difficulty, digits, placed
from easy2hard.vocabulary import PAD, SPECIAL, Tokens, Vocabulary


@dataclass(frozen=True)
class Part:
    """A number or a symbol of a worked answer: where it begins, and what it is."""

    kind: str
    """``partial product``, ``running sum`` or ``product``; else the symbol itself."""
    index: int
    """Which partial product, from 0."""
    start: int
    length: int

    @property
    def is_number(self) -> bool:
        """Whether it is a number and not a symbol."""
        return self.kind not in "+()="


def layout(a: int, b: int) -> list[Part]:
    """Return the parts of the worked answer to operands of ``a`` and ``b`` digits; their places depend on nothing else.

    ``+``, parentheses and ``=`` are parts of length one.
    """
    parts: list[Part] = []

    def add(kind: str, index: int, length: int) -> None:
        parts.append(Part(kind, index, parts[-1].start + parts[-1].length if parts else 0, length))

    for i in range(b):
        if i:
            add("+", i, 1)
        add("partial product", i, i + a + 1)
        if 0 < i < b - 1:
            add("(", i, 1)
            add("running sum", i, i + a + 1)
            add(")", i, 1)
    add("=", b - 1, 1)
    add("product", b - 1, a + b)
    return parts


class Multiplication(TwoOperands):
    """Two numbers to multiply, with the work written out; the difficulty is the pair of their digits.

    The greatest difficulty h of a range is its greater side. The range is a square, or else a rectangle: cut at h where
    h is less than its greater side, and larger by as much on both sides where h is more. With a rectangle of 3 x 6 it
    is 3 x 4 for h = 4, 3 x 6 for h = 6 and 5 x 8 for h = 8.

    Args:
        first: digits of the first operand where the range is a rectangle; 0 for a square.
        second: those of the second.
        second_power: a supervised pair counts as often as the digits of its second operand to this power.
    """

    name = "multiplication"
    summary = "multiply two numbers written backwards, with the work"
    operator = "*"
    vocabulary = Vocabulary("0123456789*+()=")
    grammar = re.compile(r"[0-9]*[1-9]\*[0-9]*[1-9]=")
    example = "1368*9661="
    unit = "digits of a x digits of b"

    def __init__(self, first: int = 0, second: int = 0, second_power: int = 0) -> None:
        if min(first, second) < 0 or (first == 0) != (second == 0):
            raise UserError(
                f"task.options.first = {first}, task.options.second = {second}: needed are the digits of both "
                "operands, from 1 on, or of neither"
            )
        if not 0 <= second_power <= 10:
            raise UserError(f"task.options.second_power = {second_power}: must be 0 to 10")
        self.first = first
        self.second = second
        self.second_power = second_power

    def sides(self, hardest: int) -> tuple[int, int]:
        """Return the greatest digits of both operands in the range whose greater side is ``hardest``."""
        if not self.first:
            return hardest, hardest
        more = max(0, hardest - max(self.first, self.second))
        return min(hardest, self.first + more), min(hardest, self.second + more)

    @override
    def supervised_difficulties(self, hardest: int) -> list[Difficulty]:
        """Return all pairs of the range."""
        first, second = self.sides(hardest)
        return [(a, b) for a in range(1, first + 1) for b in range(1, second + 1)]

    @override
    def supervised_weight(self, difficulty: Difficulty) -> float:
        second = difficulty if isinstance(difficulty, int) else difficulty[1]
        return float(second**self.second_power)

    @override
    def labelled_difficulties(self, hardest: int) -> list[list[Difficulty]]:
        """Return the paper's order: (1,h)(h,1), then (2,h)(h,2), …, (h,h).

        Of a rectangle, what is new on one side and on the other comes in as many steps as the shorter side has, and the
        corner last; where one side alone grows, a pair a step.
        """
        first, second = self.sides(hardest)
        before = self.sides(hardest - 1)
        right: list[Difficulty] = [(a, second) for a in range(1, before[0] + 1)] if second > before[1] else []
        below: list[Difficulty] = [(first, b) for b in range(1, before[1] + 1)] if first > before[0] else []
        count = min(len(right), len(below)) or max(len(right), len(below))
        steps = [[*_nth(right, i, count), *_nth(below, i, count)] for i in range(count)]
        return [*steps, [(first, second)]] if bool(right) == bool(below) else steps

    @override
    def evaluated_difficulties(self, hardest: int) -> list[Difficulty]:
        return self.supervised_difficulties(hardest)

    @override
    def sample(self, generator: np.random.Generator, difficulty: Difficulty, count: int) -> Tokens:
        a, b = (difficulty, difficulty) if isinstance(difficulty, int) else difficulty
        first = tokens_of(digits(generator, count, a)[:, ::-1])
        return self.frame(first, "*", tokens_of(digits(generator, count, b)[:, ::-1]), "=")

    @override
    def agree(self, answers: Tokens, twins: Tokens) -> NDArray[np.bool_]:
        """Compare the products: the work of b*a is another than that of a*b."""
        return np.array([_product(self, a) == _product(self, b) for a, b in zip(answers, twins, strict=True)], np.bool_)

    @override
    def answer_bounds(self, prompts: Tokens) -> NDArray[np.int64]:
        a, b = self.operand_lengths(prompts)
        bounds = np.zeros(len(prompts), dtype=np.int64)
        for first in np.unique(a):
            last = layout(int(first), int(b[a == first][0]))[-1]
            bounds[a == first] = last.start + last.length + 1
        return bounds

    @override
    def coupled_ids(self, prompts: Tokens, length: int) -> NDArray[np.int64]:
        """Digits of one power of ten have one number, the more the less they are worth; all signs have the last one.

        So it is for operands and product in the source (N x 2 multiplication). That it is so for the work between them,
        which the source does not write out, is ours.
        """
        lengths = np.stack(self.operand_lengths(prompts), axis=1)
        ids = np.zeros((len(prompts), length), dtype=np.int64)
        for a, b in np.unique(lengths, axis=0).tolist():
            sign = a + b + 1
            down = sign - 1 - np.arange(a + b)
            prompt = [0, *down[:a], sign, *down[:b], sign]
            answer = [x for part in layout(a, b) for x in (down[: part.length] if part.is_number else [sign])]
            row = placed(np.array([prompt]), np.array([answer]), length)
            ids[(lengths == (a, b)).all(axis=1)] = row
        return ids


def _nth(pairs: list[Difficulty], index: int, count: int) -> list[Difficulty]:
    """Return one of ``count`` parts of the pairs, in their order and as equal as can be."""
    return pairs[len(pairs) * index // count : len(pairs) * (index + 1) // count]


def _product(task: Multiplication, answer: Tokens) -> list[int] | None:
    """Return what follows the last equals sign of an answer; None where there is none."""
    tokens = answer[answer != PAD].tolist()
    signs = [place for place, token in enumerate(tokens) if token == task.vocabulary.id("=")]
    return tokens[signs[-1] + 1 :] if signs else None


class MultiplicationOracle(TwoOperandsOracle):
    """Multiplies on paper, all rows at once."""

    task: Multiplication

    @override
    def answers(self, prompts: Tokens, a: int) -> Tokens:
        b = prompts.shape[1] - 3 - a
        x, y = prompts[:, 1 : a + 1] - SPECIAL, prompts[:, a + 2 : -1] - SPECIAL
        parts = layout(a, b)
        worked = np.empty((len(prompts), parts[-1].start + parts[-1].length), dtype=np.int32)
        total = np.zeros((len(prompts), a + b + 1), dtype=np.int32)
        for part in parts:
            columns = worked[:, part.start : part.start + part.length]
            if part.kind == "partial product":
                product = np.zeros((len(prompts), a + 1), dtype=np.int32)
                product[:, :a] = x * y[:, part.index, None]
                total[:, part.index : part.index + a + 1] += carry(product)
                carry(total)
                columns[:, : part.index] = SPECIAL
                columns[:, part.index :] = tokens_of(product)
            elif part.kind in ("running sum", "product"):
                columns[:] = tokens_of(total[:, : part.length])
            else:
                columns[:] = self.task.vocabulary.id(part.kind)
        return worked

    @override
    def reason(self, prompt: str, truth: str, answer: str) -> str:
        a = prompt.index("*")
        general = super().reason(prompt, truth, answer)
        wrong = next(
            (i for i, (t, g) in enumerate(zip(truth, answer, strict=False)) if t != g), min(len(truth), len(answer))
        )
        for part in layout(a, len(prompt) - 2 - a):
            if wrong < part.start + part.length:
                if not part.is_number:
                    return f"{general} (where {part.kind!r} stands)"
                return f"{general} (in the {_ordinal(part)})"
        return general


def _ordinal(part: Part) -> str:
    return part.kind if part.kind == "product" else f"{part.kind} {part.index + 1}"

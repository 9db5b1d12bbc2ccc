"""Worked multiplication, everything written backwards (method.md, "Tasks").

``1368*9661=`` (8631 x 1669) -> ``97677+068715(935595)+0068715(9314775)+00013680=93150441``: the partial products
``a * b_i * 10^i``, each padded to ``i + digits of a + 1``; the running sum in parentheses after every partial product
but the first and the last; the product padded to the digits of both operands.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from easy2hard.errors import UserError
from easy2hard.tasks.arithmetic import Digits, TwoOperands, TwoOperandsOracle, carry, tokens_of
from easy2hard.tasks.base import Difficulty, Part, digits, placed
from easy2hard.tasks.relations import widened
from easy2hard.vocabulary import EOS, PAD, SPECIAL, Tokens, Vocabulary


@dataclass(frozen=True)
class Piece:
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


@cache
def layout(a: int, b: int) -> tuple[Piece, ...]:
    """Return the pieces of the worked answer to operands of ``a`` and ``b`` digits: nothing else moves them.

    ``+``, parentheses and ``=`` are pieces of length one.
    """
    pieces: list[Piece] = []

    def add(kind: str, index: int, length: int) -> None:
        pieces.append(Piece(kind, index, pieces[-1].start + pieces[-1].length if pieces else 0, length))

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
    return tuple(pieces)


@dataclass(frozen=True)
class Work:
    """Worked answers as digits, least significant first."""

    partials: list[Digits]
    """(count, i + a + 1) of each partial product."""
    totals: list[Digits]
    """(count, i + a + 1), what they add up to so far: the first itself, the running sums, and the product at last."""
    legible: NDArray[np.bool_]
    """(count,) the answers that have the form of the work; the others' digits mean nothing."""


Equal = Iterator[tuple[Digits, Digits]]
"""What must be equal if one worked answer contains another: (count, any) digits of both."""


def _without_highest_of_b(whole: Work, part: Work) -> Equal:
    yield from zip(whole.partials, part.partials, strict=False)
    yield from zip(whole.totals, part.totals, strict=False)  # the part's product is a total on the way


def _without_lowest_of_b(whole: Work, part: Work) -> Equal:
    first = whole.partials[0]
    for i, (partial, total) in enumerate(zip(part.partials, part.totals, strict=True), start=1):
        yield whole.partials[i], _tenfold(partial)
        summed = _tenfold(total)
        summed[:, : first.shape[1]] += first
        yield whole.totals[i], carry(summed)


def _without_highest_of_a(whole: Work, part: Work) -> Equal:
    kept = part.partials[0].shape[1] - 1
    for i, (partial, total) in enumerate(zip(part.partials, part.totals, strict=True)):
        yield whole.partials[i][:, : i + kept], partial[:, : i + kept]
        yield whole.totals[i][:, :kept], total[:, :kept]


def _without_lowest_of_a(carries: Digits, whole: Work, part: Work) -> Equal:
    """``carries`` are those of the lowest digit of a times each digit of b: (count, b)."""
    # Other totals would need more than a carry; those are looked at where b is without its lowest digit.
    numbers = [(0, whole.totals[0], part.totals[0])]
    numbers += [(i, *each) for i, each in enumerate(zip(whole.partials, part.partials, strict=True))]
    for i, number, of_part in numbers:
        above = of_part[:, i:].copy()
        above[:, 0] += carries[:, i]
        yield number[:, i + 1 :], carry(above)


def _tenfold(numbers: Digits) -> Digits:
    return np.pad(numbers, ((0, 0), (1, 0)))


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
    def parts(self, prompts: Tokens, answers: Tokens) -> list[Part]:
        """Return the prompts with either operand without its highest digit, and without its lowest one."""
        if not len(prompts):
            return []
        x, y = self.operands(prompts)
        a, b = x.shape[1], y.shape[1]

        def shorter(name: str, x: Tokens, y: Tokens, equal: Callable[[Work, Work], Equal]) -> list[Part]:
            def agree(answers: Tokens, parts: Tokens) -> NDArray[np.bool_]:
                whole, part = self._read(answers, a, b), self._read(parts, x.shape[1], y.shape[1])
                agreed = whole.legible & part.legible
                for first, second in equal(whole, part):
                    agreed &= (first == second).all(axis=1)
                return agreed

            return self.part(f"all but the {name}", x, y, agree)

        found = []
        if b > 1:
            found += shorter("highest digit of b", x, y[:, :-1], _without_highest_of_b)
            found += shorter("lowest digit of b", x, y[:, 1:], _without_lowest_of_b)
        if a > 1:
            found += shorter("highest digit of a", x[:, :-1], y, _without_highest_of_a)
            # Every row has this part, so that the carries are those of its rows.
            carries = (x[:, :1] - SPECIAL) * (y - SPECIAL) // 10
            found += shorter("lowest digit of a", x[:, 1:], y, lambda *works: _without_lowest_of_a(carries, *works))
        return found

    def _read(self, answers: Tokens, a: int, b: int) -> Work:
        pieces = layout(a, b)
        length = pieces[-1].start + pieces[-1].length
        tokens = widened(answers, length + 1)
        legible = tokens[:, length] == EOS
        partials, totals = [], []
        for piece in pieces:
            columns = tokens[:, piece.start : piece.start + piece.length]
            if not piece.is_number:
                legible &= columns[:, 0] == self.vocabulary.id(piece.kind)
                continue
            numbers = columns - np.int32(SPECIAL)
            legible &= ((numbers >= 0) & (numbers < 10)).all(axis=1)
            if piece.kind == "partial product":
                partials.append(numbers)
            if piece.kind != "partial product" or (piece.index == 0 and b > 1):
                totals.append(numbers)
        return Work(partials, totals, legible)

    @override
    def answer_bounds(self, prompts: Tokens) -> NDArray[np.int64]:
        a, b = self.operand_lengths(prompts)
        # The sum of layout: partial products and their signs, running sums in parentheses, ``=``, the product, EOS.
        partials = b * (b - 1) // 2 + b * (a + 1) + b - 1
        sums = np.where(b > 2, (b - 2) * (b - 1) // 2 + (b - 2) * (a + 3), 0)
        bounds: NDArray[np.int64] = partials + sums + 1 + a + b + 1
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
            answer = [x for piece in layout(a, b) for x in (down[: piece.length] if piece.is_number else [sign])]
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
    task_class = Multiplication

    @override
    def answers(self, prompts: Tokens, a: int) -> Tokens:
        b = prompts.shape[1] - 3 - a
        x, y = prompts[:, 1 : a + 1] - SPECIAL, prompts[:, a + 2 : -1] - SPECIAL
        pieces = layout(a, b)
        worked = np.empty((len(prompts), pieces[-1].start + pieces[-1].length), dtype=np.int32)
        total = np.zeros((len(prompts), a + b + 1), dtype=np.int32)
        for piece in pieces:
            columns = worked[:, piece.start : piece.start + piece.length]
            if piece.kind == "partial product":
                product = np.zeros((len(prompts), a + 1), dtype=np.int32)
                product[:, :a] = x * y[:, piece.index, None]
                total[:, piece.index : piece.index + a + 1] += carry(product)
                carry(total)
                columns[:, : piece.index] = SPECIAL
                columns[:, piece.index :] = tokens_of(product)
            elif piece.kind in ("running sum", "product"):
                columns[:] = tokens_of(total[:, : piece.length])
            else:
                columns[:] = self.task.vocabulary.id(piece.kind)
        return worked

    @override
    def reason(self, prompt: str, truth: str, answer: str) -> str:
        a = prompt.index("*")
        general = super().reason(prompt, truth, answer)
        wrong = next(
            (i for i, (t, g) in enumerate(zip(truth, answer, strict=False)) if t != g), min(len(truth), len(answer))
        )
        for piece in layout(a, len(prompt) - 2 - a):
            if wrong < piece.start + piece.length:
                if not piece.is_number:
                    return f"{general} (where {piece.kind!r} stands)"
                return f"{general} (in the {_ordinal(piece)})"
        return general


def _ordinal(piece: Piece) -> str:
    return piece.kind if piece.kind == "product" else f"{piece.kind} {piece.index + 1}"

"""Sums with more carries than chance gives: what makes long additions hard, and what uniform digits hardly show.

A column whose digits add up to 9 passes a carry on, one whose digits add up to 10 or more begins a carry. Enriched
training data: Quirke et al. 2024 (arXiv 2402.02619) and Lee et al. 2023, "Teaching Arithmetic to Small Transformers".

All numbers here are (count, length) digits, least significant first.
"""

import numpy as np
from numpy.typing import NDArray

from easy2hard.tasks.arithmetic import Digits

_BEGINNING = np.array([(x, y) for x in range(1, 10) for y in range(10 - x, 10)], dtype=np.int32)
"""All pairs of digits that add up to 10 or more."""


def pass_on(generator: np.random.Generator, first: Digits, second: Digits, columns: NDArray[np.bool_]) -> None:
    """Replace digits, in place, so that each chosen column adds up to 9, and no number gets a leading zero.

    Where only one number has a digit, it becomes 9; the other columns have one of the possible pairs, all equally
    likely.

    Args:
        generator: draws the pairs.
        first: (count, a) digits.
        second: (count, b) digits.
        columns: (count, max(a, b)) which columns.
    """
    a, b = first.shape[1], second.shape[1]
    for column in range(max(a, b)):
        rows = np.flatnonzero(columns[:, column])
        if column >= a:
            second[rows, column] = 9
        elif column >= b:
            first[rows, column] = 9
        else:
            least, most = int(column == a - 1), 9 - int(column == b - 1)
            first[rows, column] = generator.integers(least, most + 1, len(rows), dtype=np.int32)
            second[rows, column] = 9 - first[rows, column]


def carry_far(generator: np.random.Generator, first: Digits, second: Digits) -> None:
    """Replace digits, in place, so that in each row one carry is passed on by half of the columns (rounded down)."""
    count, columns = len(first), max(first.shape[1], second.shape[1])
    through = columns // 2
    begin = generator.integers(0, min(first.shape[1], second.shape[1], columns - through), count)
    place = np.arange(columns) - begin[:, None]
    pass_on(generator, first, second, (place > 0) & (place <= through))
    rows = np.arange(count)
    pairs = _BEGINNING[generator.integers(0, len(_BEGINNING), count)]
    first[rows, begin], second[rows, begin] = pairs[:, 0], pairs[:, 1]

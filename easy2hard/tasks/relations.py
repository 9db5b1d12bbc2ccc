"""What relations between answers share: answers of different lengths side by side, compared token by token."""

import numpy as np
from numpy.typing import NDArray

from easy2hard.vocabulary import EOS, PAD, Tokens


def widened(answers: Tokens, width: int) -> Tokens:
    """Return (count, at least ``width``) answers, padded on the right."""
    return np.pad(answers, ((0, 0), (0, max(0, width - answers.shape[1]))), constant_values=PAD)


def without(answers: Tokens, place: int) -> Tokens:
    """Return (count, any) answers without the token at ``place``, counted from 0."""
    return np.delete(widened(answers, place + 1), place, axis=1)


def same(first: Tokens, second: Tokens) -> NDArray[np.bool_]:
    """Return (count,) whether (count, any) answers are the same ones, and have an end."""
    width = max(first.shape[1], second.shape[1])
    equal: NDArray[np.bool_] = (widened(first, width) == widened(second, width)).all(axis=1)
    equal &= (first == EOS).any(axis=1)
    return equal

"""Wrong labels on purpose: the paper's study of how errors grow (method.md, "What the paper shows").

Noise is drawn once for each label, changes nothing but its answer, and needs no true answer: it spoils what is kept.
"""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from easy2hard.improvement.filters import Filtered, Mask
from easy2hard.settings.rounds import NoiseSettings
from easy2hard.vocabulary import EOS, PAD, Tokens, Vocabulary


def inject(
    settings: NoiseSettings, filtered: Filtered, vocabulary: Vocabulary, generator: np.random.Generator
) -> tuple[Filtered, Mask]:
    """Return the labels with a share of the kept ones spoilt, and (count,) which they are.

    Args:
        settings: kind and share of the noise.
        filtered: labels of one difficulty.
        vocabulary: tells digits from other symbols; only digits are spoilt.
        generator: draws labels and digits.
    """
    kept = np.flatnonzero(filtered.kept)
    chosen = generator.permutation(kept)[: round(settings.share * len(kept))]
    answers = filtered.proposals.answers.copy()
    zero = vocabulary.id("0")
    for row in np.sort(chosen):
        answers[row] = _spoilt(settings, answers[row], zero, generator)
    spoilt = np.zeros(len(filtered.kept), dtype=np.bool_)
    spoilt[chosen] = True
    return replace(filtered, proposals=replace(filtered.proposals, answers=answers)), spoilt


def _spoilt(settings: NoiseSettings, answer: Tokens, zero: int, generator: np.random.Generator) -> Tokens:
    tokens = answer[(answer != PAD) & (answer != EOS)].copy()

    def last(count: int) -> NDArray[np.int64]:
        digits = np.flatnonzero((tokens >= zero) & (tokens < zero + 10))
        return digits[max(len(digits) - count, 0) :]

    if settings.kind == "random":
        digits = last(len(tokens))
        before = tokens.copy()
        tokens[digits] = zero + generator.integers(0, 10, len(digits))
        if (tokens == before).all():  # by chance
            tokens[digits[-1:]] = zero + (tokens[digits[-1:]] - zero + 1) % 10
    if settings.kind in ("drop", "drop-off-by-one"):
        # The first digit stays: an answer of nothing is another kind of mistake.
        dropped = min(int(generator.integers(1, settings.digits + 1)), len(tokens) - 1)
        tokens = np.delete(tokens, last(dropped))
    if settings.kind in ("off-by-one", "drop-off-by-one"):
        digits = last(int(generator.integers(1, settings.digits + 1)))
        tokens[digits] = zero + (tokens[digits] - zero + generator.choice([-1, 1], len(digits))) % 10
    spoilt = np.full_like(answer, PAD)
    spoilt[: len(tokens)] = tokens
    spoilt[len(tokens)] = EOS
    return spoilt

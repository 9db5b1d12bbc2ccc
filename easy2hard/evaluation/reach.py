"""Reach: how hard the instances are that a run answers, told apart from bad luck on the prompts that were asked."""

from collections.abc import Mapping
from math import exp, lgamma, log, log1p

from easy2hard.tasks.base import hardest, parse_difficulty

REACHED = 0.99
"""Exact match from which a difficulty counts as reached."""
SIGNIFICANCE = 0.05
"""Chance at most that a difficulty at the bar counts as missed."""


def is_missed(share: float, examples: int, bar: float = REACHED) -> bool:
    """Return whether an exact match is significantly below the bar: more than bad luck on the prompts asked.

    One-sided exact binomial test. With r = round(share * n) of n prompts right, and X right of n at the bar, it is
    missed where P(X <= r) = sum over k = 0 .. r of C(n, k) * bar^k * (1 - bar)^(n - k) is at most ``SIGNIFICANCE``.

    Args:
        share: exact match, 0 to 1. Members are asked the same prompts, so their mean counts as that of one member.
        examples: n, the prompts asked; 0 where a record does not say: then the share is taken at its word.
        bar: above 0 and at most 1.
    """
    if not examples or bar == 1:
        return share < bar
    wrong = examples - round(share * examples)
    fewer = 0.0  # probability of fewer wrong answers at the bar
    for k in range(wrong):
        ways = lgamma(examples + 1) - lgamma(k + 1) - lgamma(examples - k + 1)
        fewer += exp(ways + k * log1p(-bar) + (examples - k) * log(bar))
        if fewer >= 1 - SIGNIFICANCE:
            return True
    return False


def reach_of(scores: Mapping[str, float], examples: int, bar: float = REACHED) -> int:
    """Return the last evaluated difficulty before the first that is missed; 0 where the first is.

    A pair counts by its greater number, and one that is missed ends them all there. Difficulties that were not
    evaluated count neither way.

    Args:
        scores: exact match by difficulty.
        examples: prompts of each, as in :func:`is_missed`.
        bar: exact match from which a difficulty counts as reached.
    """
    asked = {text: hardest(parse_difficulty(text)) for text in scores}
    first = min((asked[text] for text, share in scores.items() if is_missed(share, examples, bar)), default=None)
    return max((each for each in asked.values() if first is None or each < first), default=0)

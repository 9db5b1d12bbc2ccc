"""A learned verifier: how likely is an answer right, judged by what the members think of it?

The smallest form of V-STaR (Hosseini et al. 2024, arXiv 2402.06457): where that trains a second language model on right
and wrong solutions, this is a logistic regression on the probabilities that the members give an answer, none of which
depends on its length alone. What is right it is told by its caller, for answers of the supervised range.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from easy2hard.vocabulary import PAD

if TYPE_CHECKING:
    from easy2hard.improvement.proposals import Proposals

FEATURES = ("least log-probability", "mean log-probability", "log-probability of the whole")
RIDGE = 1.0
"""Weight of half the squared coefficients beside the summed loss: keeps them finite where all answers are right."""
STEPS = 30
LEAST = 1e-30
"""Smallest probability whose logarithm is taken."""


@dataclass(frozen=True)
class Verifier:
    """A logistic regression on standardised features."""

    center: NDArray[np.float64]
    scale: NDArray[np.float64]
    weights: NDArray[np.float64]
    """(1 + features,): the constant first."""
    seen: int
    """Answers that it learned from."""
    right: int
    """Of them."""

    def score(self, proposals: "Proposals") -> NDArray[np.float64]:
        """Return (count,) probabilities that the answers are right."""
        return _probability(_design(features(proposals), self.center, self.scale) @ self.weights)

    def record(self) -> dict[str, Any]:
        """Return it for the manifest."""
        named = dict(zip(("constant", *FEATURES), self.weights.round(4).tolist(), strict=True))
        return {"truth": "of the supervised range", "seen": self.seen, "right": self.right, "weights": named}


def features(proposals: "Proposals") -> NDArray[np.float64]:
    """Return (count, features) what the members think of their answers."""
    mean = proposals.mean_log_probability.astype(np.float64)
    least = np.log(np.maximum(proposals.confidence.astype(np.float64), LEAST))
    return np.stack([least, mean, mean * (proposals.answers != PAD).sum(axis=1)], axis=1)


def learn(proposals: Sequence["Proposals"], right: Sequence[NDArray[np.bool_]]) -> Verifier:
    """Return a verifier fitted to answers that have an end.

    Args:
        proposals: answers of the supervised range.
        right: for each, (count,) which are right.
    """
    parts = [features(each)[each.finished] for each in proposals]
    rows = np.concatenate([np.zeros((0, len(FEATURES))), *parts])
    truth = np.concatenate([np.zeros(0), *(each[p.finished] for each, p in zip(right, proposals, strict=True))])
    center = rows.mean(axis=0) if len(rows) else np.zeros(len(FEATURES))
    scale = np.maximum(rows.std(axis=0), 1e-6) if len(rows) else np.ones(len(FEATURES))
    design = _design(rows, center, scale)
    weights = np.zeros(1 + len(FEATURES))
    for _ in range(STEPS):  # Newton's method; the ridge makes every step well defined
        said = _probability(design @ weights)
        slope = design.T @ (truth - said) - RIDGE * weights
        bend = (design * (said * (1 - said))[:, None]).T @ design + RIDGE * np.eye(len(weights))
        weights = weights + np.linalg.solve(bend, slope)
    return Verifier(center, scale, weights, len(truth), int(truth.sum()))


def _design(rows: NDArray[np.float64], center: NDArray[np.float64], scale: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.concatenate([np.ones((len(rows), 1)), (rows - center) / scale], axis=1)


def _probability(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    return 1 / (1 + np.exp(-np.clip(logits, -500, 500)))

"""Juries: votes that do not all count the same, and votes of the other members alone.

Members that train on the same labels come to share their mistakes. So a member that agrees more often with the rest can
count for more: without a truth, agreement is all there is to judge a judge by (Dawid and Skene 1979, the first step).
Or a member has no say in what it trains on itself (tri-training, Zhou and Li 2005: its two others must agree).
"""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:  # a filter that votes is loaded by reports, and never torch
    from easy2hard.improvement.proposals import Proposals

Weights = NDArray[np.float64]


def accepted(proposals: "Proposals", weights: Weights, threshold: float) -> NDArray[np.bool_]:
    """Return (count,) whether the answer has its share of the weight, and more than any other answer.

    Args:
        proposals: with their ballots.
        weights: (answers,) of each ballot of a prompt; 0 for those that have no say.
        threshold: the share.
    """
    counted = _counted(proposals, weights)
    votes, others = counted[:, 1], counted[:, 2:].max(axis=1)
    passed: NDArray[np.bool_] = (votes >= threshold * weights.sum() - 1e-9) & (votes > others + 1e-9)
    return passed


def agreement(proposals: "Proposals") -> Weights:
    """Return (answers,) how often the member of each ballot agrees with another member's, over all prompts.

    An answer without an end agrees with none. Members of one prompt's samples share their member's number.
    """
    ballots, owners = _ballots(proposals), _owners(proposals)
    weights = np.zeros(len(owners))
    for member in range(owners[-1] + 1):
        own = owners == member
        counted = _counted(proposals, (~own).astype(np.float64))
        met = np.take_along_axis(counted, ballots[:, own] + 1, axis=1)[ballots[:, own] >= 0]
        weights[own] = met.sum() / max(1, len(ballots) * own.sum() * (~own).sum())
    return weights


def students(proposals: "Proposals", weights: Weights, threshold: float) -> NDArray[np.bool_]:
    """Return (count, members) whether a member may train on the answer: it is accepted by the others alone."""
    owners = _owners(proposals)
    each = [accepted(proposals, weights * (owners != member), threshold) for member in range(owners[-1] + 1)]
    return np.stack(each, axis=1)


def as_bits(flags: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return (count,) numbers whose bit m is the flag of member m of (count, members), 63 at most."""
    bits: NDArray[np.int64] = (flags * (1 << np.arange(flags.shape[1]))).sum(axis=1)
    return bits


def _ballots(proposals: "Proposals") -> NDArray[np.int32]:
    assert proposals.ballots is not None
    return proposals.ballots


def _owners(proposals: "Proposals") -> NDArray[np.int64]:
    """Return (answers,) the member that gave each answer of a prompt."""
    return np.arange(proposals.members) // proposals.samples


def _counted(proposals: "Proposals", weights: Weights) -> Weights:
    """Return (count, 2 + answers) the weight of the answers without an end, of the joint answer, and of each other."""
    ballots = _ballots(proposals)
    count, answers = ballots.shape
    places = ballots + 1 + (answers + 2) * np.arange(count)[:, None]
    sums = np.bincount(places.ravel(), np.broadcast_to(weights, ballots.shape).ravel(), count * (answers + 2))
    return np.asarray(sums, dtype=np.float64).reshape(count, answers + 2)

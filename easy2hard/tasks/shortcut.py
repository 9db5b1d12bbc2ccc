"""What mazes can be answered by without looking for a way: the baseline that members must beat."""

import numpy as np
from numpy.typing import NDArray

from easy2hard.vocabulary import EOS, PAD, Tokens


def walk_past_leaves(
    generator: np.random.Generator, start: Tokens, end: Tokens, source: Tokens, target: Tokens, arrow: int
) -> Tokens:
    """Return the answers of somebody who sees no further than one step.

    Each step goes to the end where that is a neighbour, else to any neighbour that was not visited and is no leaf, else
    to a leaf. Where no neighbour is left, the answer ends.

    Args:
        generator: chooses among equals.
        start: (count,) token ids of the starts.
        end: (count,) those of the ends.
        source: (count, edges) token ids of the nodes that the edges go from, each edge in both directions.
        target: (count, edges) those of the nodes that they go to.
        arrow: token id between two nodes.
    """
    rows = np.arange(len(start))
    names = int(max(source.max(initial=0), end.max(initial=0))) + 1
    degree = np.zeros((len(start), names), dtype=np.int64)
    np.add.at(degree, (rows[:, None], source), 1)
    visited = np.zeros(degree.shape, dtype=np.bool_)
    visited[rows, start] = True
    inner = degree[rows[:, None], target] > 1
    at_end = target == end[:, None]
    ways, here, going = [start], start, start != end
    while going.any():
        possible = (source == here[:, None]) & ~visited[rows[:, None], target] & going[:, None]
        score: NDArray[np.float64] = np.where(possible, generator.random(source.shape) + inner + 2 * at_end, -1)
        going = going & possible.any(axis=1)
        here = np.where(going, target[rows, score.argmax(axis=1)], here)
        visited[rows, here] = True
        ways.append(np.where(going, here, PAD))
        going = going & (here != end)
    way = np.stack(ways, axis=1)
    answers = np.full((len(start), 2 * way.shape[1]), arrow, dtype=np.int32)
    answers[:, ::2] = way
    length = 2 * (way != PAD).sum(axis=1) - 1
    answers[np.arange(answers.shape[1]) > length[:, None]] = PAD
    answers[rows, length] = EOS
    return answers

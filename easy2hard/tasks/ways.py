"""Several ways through one tree: prompts that differ in start and end alone."""

import numpy as np
from numpy.typing import NDArray


def distances(edges: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return (count, nodes, nodes) hops between the nodes of trees.

    Args:
        edges: (count, nodes - 1, 2) edges, as ``random_trees`` gives them: from the last to the first, each adds the
            first of its nodes to those there are.
    """
    count, nodes = len(edges), edges.shape[1] + 1
    rows = np.arange(count)
    hops = np.zeros((count, nodes, nodes), dtype=np.int64)
    for new, there in edges.transpose(1, 2, 0)[::-1]:
        # What is said of nodes that are not there yet is wrong, and written over when they come.
        away = hops[rows, there] + 1
        away[rows, new] = 0
        hops[rows, new] = away
        hops[rows, :, new] = away
    return hops


def several_ways(
    generator: np.random.Generator, edges: NDArray[np.int64], hops: int, ways: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Return starts and ends that are ``hops`` apart, different ones of each tree; fewer where a tree has no more.

    Args:
        generator: draws them.
        edges: (count, nodes - 1, 2) edges; from node 0 to node ``hops`` it is so many hops, and this is the first way.
        hops: from start to end.
        ways: greatest number for one tree.

    Returns:
        (any,) trees, starts and ends, the ways of one tree after another.
    """
    count, nodes = len(edges), edges.shape[1] + 1
    order = np.where(distances(edges) == hops, generator.random((count, nodes, nodes)), np.inf).reshape(count, -1)
    order[:, hops] = -1  # the way from 0 to hops
    chosen = np.argsort(order, axis=1)[:, :ways]
    tree, place = np.nonzero(np.take_along_axis(order, chosen, axis=1) < 1)
    pair = chosen[tree, place]
    return tree, pair // nodes, pair % nodes

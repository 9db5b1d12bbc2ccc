"""Labelled trees: drawn uniformly, and read from the prompts of mazes (maze.py)."""

import numpy as np
from numpy.typing import NDArray

from easy2hard.vocabulary import SPECIAL, Tokens, Vocabulary

LABELS = 99
"""Names that nodes may have: 1 to this."""
HEADER = 5
"""Tokens of a prompt before its nodes: BOS, start, ``>``, end, ``#``."""

Trees = NDArray[np.int64]
"""(count, nodes - 1, 2) edges."""


def random_trees(generator: np.random.Generator, count: int, nodes: int, hops: int | None = None) -> Trees:
    """Return trees drawn uniformly among all labelled trees on 0 … nodes - 1.

    With ``hops``, among those in which 0, 1, …, hops is the way from node 0 to node ``hops``. A tree with that way is
    a forest rooted in its ``hops + 1`` nodes, and such a forest is a Prüfer code whose last entry is a root: all codes
    are equally likely, so all trees are. (With fresh random labels, uniform over trees and ways.)

    Returns:
        (count, nodes - 1, 2) edges.
    """
    roots = 1 if hops is None else hops + 1
    others = nodes - roots
    code = generator.integers(0, nodes, (count, others))
    if others:
        code[:, -1] = generator.integers(0, roots, count)
    rows = np.arange(count)
    waiting = np.ones(
        (count, nodes), dtype=np.int64
    )  # how often a node still comes in the code; + 1 until it is placed
    np.add.at(waiting, (rows[:, None], code), 1)
    waiting[:, :roots] += nodes  # roots are never placed
    edges = np.empty((count, nodes - 1, 2), dtype=np.int64)
    for step in range(others):
        leaf = (waiting == 1).argmax(axis=1)  # the smallest node that comes no more
        edges[:, step, 0], edges[:, step, 1] = leaf, code[:, step]
        waiting[rows, leaf] = 0
        waiting[rows, code[:, step]] -= 1
    for hop in range(roots - 1):
        edges[:, others + hop] = hop, hop + 1
    return edges


def neighbours_of(prompt: str) -> list[tuple[str, list[str]]]:
    """Return the nodes of a maze's prompt with their neighbours, in the order of the prompt."""
    entries = (entry.partition(":") for entry in prompt.removesuffix("=").partition("#")[2].split("-"))
    return [(node, names.split(",")) for node, _, names in entries]


def listed_under(prompts: Tokens, vocabulary: Vocabulary) -> tuple[NDArray[np.bool_], Tokens]:
    """Return which tokens behind the header are neighbours in a list, and the token id of the node whose list it is.

    Both are (count, length - HEADER); the second says nothing where the first is False.
    """
    body = prompts[:, HEADER:]
    is_node = np.zeros(body.shape, dtype=np.bool_)
    is_node[:, :-1] = body[:, 1:] == vocabulary.id(":")
    # The node that each neighbour is listed under: the last one before it.
    last_node = np.maximum.accumulate(np.where(is_node, np.arange(body.shape[1]), 0), axis=1)
    return (body < SPECIAL + LABELS) & ~is_node, np.take_along_axis(body, last_node, axis=1)


def edges_of(prompts: Tokens, vocabulary: Vocabulary) -> tuple[Tokens, Tokens]:
    """Return (count, 2 * edges) token ids of the nodes that edges go from, and of those that they go to.

    Every edge is there in both directions, in the order of the prompts.
    """
    count, (neighbours, nodes) = len(prompts), listed_under(prompts, vocabulary)
    per_row = int(neighbours[0].sum()) if count else 0
    return nodes[neighbours].reshape(count, per_row), prompts[:, HEADER:][neighbours].reshape(count, per_row)


def connected(nodes: dict[str, list[str]]) -> bool:
    """Return whether all nodes can be reached from the first one; ``nodes`` have their neighbours."""
    seen, open_nodes = set(), [next(iter(nodes))]
    while open_nodes:
        node = open_nodes.pop()
        if node not in seen:
            seen.add(node)
            open_nodes += nodes[node]
    return len(seen) == len(nodes)


def without_leaf(prompts: Tokens, vocabulary: Vocabulary) -> tuple[NDArray[np.int64], Tokens]:
    """Return (asked,) the mazes with a leaf other than start and end, and (asked, length) them without the last one."""
    body, place = prompts[:, HEADER:], np.arange(prompts.shape[1] - HEADER)
    is_node = np.roll(body, -1, axis=1) == vocabulary.id(":")
    is_leaf = is_node & np.isin(np.roll(body, -3, axis=1), [vocabulary.id("-"), vocabulary.id("=")])
    is_leaf &= (body != prompts[:, 1, None]) & (body != prompts[:, 3, None])
    rows = np.flatnonzero(is_leaf.any(axis=1))
    body, row = body[rows], np.arange(len(rows))
    leaf = np.where(is_leaf[rows], place, 0).max(axis=1)
    listed = ((body == body[row, leaf, None]) & (place != leaf[:, None])).argmax(axis=1)  # at its only neighbour
    # Four tokens go with the node, such as ``14:76-``, and two with its place at the neighbour, such as ``14,``. The
    # sign that goes too is the one before where nothing follows.
    block = leaf - (body[row, leaf + 3] == vocabulary.id("="))
    entry = listed - (body[row, listed + 1] != vocabulary.id(","))
    gone = np.concatenate([block[:, None] + np.arange(4), entry[:, None] + np.arange(2)], axis=1) + HEADER
    kept = np.ones((len(rows), prompts.shape[1]), dtype=np.bool_)
    kept[row[:, None], gone] = False
    return rows, prompts[rows][kept].reshape(len(rows), prompts.shape[1] - gone.shape[1])

"""Mazes: labelled trees to find a way through (method.md, "Tasks").

``50>78#58:90,35-99:98,56-…=`` -> ``50>56>78``: start and end, then every node with its neighbours, nodes and neighbours
in random order. Labels are distinct numbers, one token each. The difficulty is either the number of hops from
start to end, at a fixed number of nodes, or the number of nodes, at a fixed number of hops.
"""

import re
from collections.abc import Callable
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from easy2hard.errors import UserError
from easy2hard.tasks.base import Difficulty, Part, Task
from easy2hard.tasks.oracle import Oracle
from easy2hard.tasks.relations import same, widened
from easy2hard.tasks.shortcut import walk_past_leaves
from easy2hard.tasks.trees import (
    HEADER,
    LABELS,
    Trees,
    connected,
    edges_of,
    listed_under,
    neighbours_of,
    random_trees,
    without_leaf,
)
from easy2hard.tasks.ways import several_ways
from easy2hard.vocabulary import BOS, EOS, PAD, SPECIAL, Tokens, Vocabulary


class Maze(Task):
    """What both maze tasks share."""

    vocabulary = Vocabulary([*map(str, range(1, LABELS + 1)), *">#:,-="])
    grammar = re.compile(r"\d+>\d+#\d+:\d+(,\d+)*(-\d+:\d+(,\d+)*)*=")
    example = "3>1#1:2-2:3,1-3:2="
    baseline = "any unvisited neighbour, leaves last, and the end as soon as it is one"
    coupled_by_name = True

    def __init__(self, labels: int, ways: int) -> None:
        """Set what both tasks have.

        Args:
            labels: how many names there are for nodes, from 1 on.
            ways: prompts of one supervised batch that share a tree, with starts and ends of their own.
        """
        if not 2 <= labels <= LABELS:
            raise UserError(f"task.options.labels = {labels}: must be 2 to {LABELS}")
        if ways < 1:
            raise UserError(f"task.options.ways = {ways}: must be at least 1")
        self.labels = labels
        self.ways = ways

    def shape(self, difficulty: int) -> tuple[int, int]:
        """Return (nodes, hops) of a difficulty."""
        raise NotImplementedError

    @override
    def sample(self, generator: np.random.Generator, difficulty: Difficulty, count: int) -> Tokens:
        nodes, hops = self._checked_shape(difficulty)
        edges = random_trees(generator, count, nodes, hops)
        return self._write(generator, edges, self._names(generator, count, nodes), hops)

    @override
    def sample_supervised(self, generator: np.random.Generator, difficulty: Difficulty, count: int) -> Tokens:
        """Return prompts of which up to ``ways`` show the same tree, node by node, with other starts and ends."""
        if self.ways == 1:
            return self.sample_practice(generator, difficulty, count)
        nodes, hops = self._checked_shape(difficulty)
        prompts = self.sample(generator, difficulty, 0)
        while len(prompts) < count:
            trees = -(-(count - len(prompts)) // self.ways)
            edges, names = random_trees(generator, trees, nodes, hops), self._names(generator, trees, nodes)
            tree, start, end = several_ways(generator, edges, hops, self.ways)
            drawn = self._write(generator, edges, names, hops)[tree]
            drawn[:, 1], drawn[:, 3] = names[tree, start] + (SPECIAL - 1), names[tree, end] + (SPECIAL - 1)
            prompts = np.concatenate([prompts, drawn])
        return prompts[:count]

    def _checked_shape(self, difficulty: Difficulty) -> tuple[int, int]:
        if not isinstance(difficulty, int):
            raise TypeError(f"task {self.name}: difficulty {difficulty} is not one number")
        nodes, hops = self.shape(difficulty)
        if not 1 <= hops < nodes <= self.labels:
            raise UserError(
                f"task {self.name}: difficulty {difficulty} means {nodes} nodes and {hops} hops; "
                f"needed are at least one hop, more nodes than hops and at most {self.labels} nodes"
            )
        return nodes, hops

    def _names(self, generator: np.random.Generator, count: int, nodes: int) -> Tokens:
        """Return (count, nodes) different numbers for the nodes of each tree."""
        every = np.tile(np.arange(1, self.labels + 1, dtype=np.int32), (count, 1))
        return generator.permuted(every, axis=1)[:, :nodes]

    @override
    def baseline_answers(self, generator: np.random.Generator, prompts: Tokens) -> Tokens:
        source, target = edges_of(prompts, self.vocabulary)
        return walk_past_leaves(generator, prompts[:, 1], prompts[:, 3], source, target, self.vocabulary.id(">"))

    def _write(self, generator: np.random.Generator, edges: Trees, labels: Tokens, hops: int) -> Tokens:
        count, nodes = labels.shape
        ids = {symbol: self.vocabulary.id(symbol) for symbol in ">#:,-="}
        rows = np.arange(count)[:, None]
        place = generator.permuted(np.tile(np.arange(nodes), (count, 1)), axis=1)  # of each node in the prompt
        source = np.concatenate([edges[..., 0], edges[..., 1]], axis=1)
        target = np.concatenate([edges[..., 1], edges[..., 0]], axis=1)
        # Directed edges in the order of their source's place, neighbours of one node in random order.
        order = np.argsort(place[rows, source] + generator.random(source.shape), axis=1)
        source, target = source[rows, order], target[rows, order]
        block = place[rows, source]
        begins = np.ones(block.shape, dtype=np.bool_)
        begins[:, 1:] = block[:, 1:] != block[:, :-1]
        # Before edge number j of block p come j neighbours and p + 1 nodes, each with the symbol after it.
        column = HEADER + 2 * np.arange(block.shape[1]) + 2 * block + 2
        prompts = np.empty((count, HEADER + 2 * block.shape[1] + 2 * nodes), dtype=np.int32)
        prompts[rows, column] = labels[rows, target] + (SPECIAL - 1)
        prompts[rows, column + 1] = ids[","]
        at_row, at_edge = np.nonzero(begins)
        first = column[at_row, at_edge]
        prompts[at_row, first - 2] = labels[at_row, source[at_row, at_edge]] + (SPECIAL - 1)
        prompts[at_row, first - 1] = ids[":"]
        later = first > HEADER + 2
        prompts[at_row[later], first[later] - 3] = ids["-"]
        prompts[:, -1] = ids["="]
        prompts[:, 0] = BOS
        prompts[:, 1] = labels[:, 0] + (SPECIAL - 1)
        prompts[:, 2] = ids[">"]
        prompts[:, 3] = labels[:, hops] + (SPECIAL - 1)
        prompts[:, 4] = ids["#"]
        return prompts

    @override
    def answer_bounds(self, prompts: Tokens) -> NDArray[np.int64]:
        nodes: NDArray[np.int64] = (prompts == self.vocabulary.id(":")).sum(axis=1)
        return 2 * nodes  # a way through all nodes, a sign between two, EOS

    @override
    def coupled_ids(self, prompts: Tokens, length: int) -> NDArray[np.int64]:
        """Return for each neighbour the name of the node in whose list it stands; start and end have two more numbers.

        All other tokens have 0.
        """
        neighbours, nodes = listed_under(prompts, self.vocabulary)
        ids = np.zeros((len(prompts), max(length, prompts.shape[1])), dtype=np.int64)
        ids[:, HEADER : prompts.shape[1]] = np.where(neighbours, nodes - (SPECIAL - 1), 0)
        ids[:, 1], ids[:, 3] = LABELS + 1, LABELS + 2
        return ids[:, :length]

    @override
    def twin(self, prompts: Tokens) -> Tokens | None:
        """Return the same mazes from end to start."""
        twins = prompts.copy()
        twins[:, 1], twins[:, 3] = prompts[:, 3], prompts[:, 1]
        return twins

    @override
    def agree(self, answers: Tokens, twins: Tokens) -> NDArray[np.bool_]:
        """Compare a way with its twin, walked backwards."""
        lengths = (answers != PAD).sum(axis=1)
        place = np.arange(answers.shape[1])
        at = np.where(place < lengths[:, None] - 1, lengths[:, None] - 2 - place, place)  # EOS and padding stay
        backwards = np.take_along_axis(answers, at, axis=1)
        same: NDArray[np.bool_] = (backwards == twins).all(axis=1)
        return same

    @override
    def check_prompt(self, text: str) -> None:
        super().check_prompt(text)
        start, end = text.partition("#")[0].split(">")
        listed = neighbours_of(text)
        nodes = dict(listed)
        edges = {(node, other) for node, names in nodes.items() for other in names}
        problem = (
            "a node is listed twice"
            if len(nodes) != len(listed)
            else "start or end is not a node"
            if not {start, end} <= nodes.keys()
            else "a neighbour is listed twice"
            if len(edges) != sum(map(len, nodes.values()))
            else "an edge is listed from one of its ends only"
            if {(b, a) for a, b in edges} != edges
            else "not a tree"
            if len(edges) != 2 * (len(nodes) - 1) or not connected(nodes)
            else None
        )
        if problem:
            raise UserError(f"prompt {text!r}: not a maze ({problem})")


class MazeHops(Maze):
    """Difficulty = hops; ``nodes`` is fixed. In D0 a number of hops counts as often as itself to ``hops_power``."""

    name = "maze-hops"
    summary = "find the way through a tree; more hops are harder"
    composes = True
    unit = "hops"

    def __init__(self, nodes: int = 30, labels: int = LABELS, ways: int = 1, hops_power: int = 0) -> None:
        super().__init__(labels, ways)
        if not 0 <= hops_power <= 10:
            raise UserError(f"task.options.hops_power = {hops_power}: must be 0 to 10")
        if not 2 <= nodes <= labels:
            raise UserError(f"task.options.nodes = {nodes}: must be 2 to {labels}, the number of labels")
        self.nodes = nodes
        self.hops_power = hops_power
        self.greatest = nodes - 1

    @override
    def supervised_weight(self, difficulty: Difficulty) -> float:
        assert isinstance(difficulty, int)
        return float(difficulty**self.hops_power)

    @override
    def shape(self, difficulty: int) -> tuple[int, int]:
        return self.nodes, difficulty

    @override
    def parts(self, prompts: Tokens, answers: Tokens) -> list[Part]:
        """Return the ways from the answers' second nodes on, and those up to their last nodes but one.

        No edge is looked up: the one that either of them leaves out is in the other.
        """
        start, end, arrow = prompts[:, 1], prompts[:, 3], self.vocabulary.id(">")
        ways = widened(answers, 4)
        length = (ways == EOS).argmax(axis=1)  # 0 where there is no end
        second = np.where(length > 2, ways[:, 2], PAD)
        last_but_one = np.where(length > 2, ways[np.arange(len(ways)), length - 3], PAD)

        def from_second(rows: NDArray[np.int64]) -> Callable[[Tokens], Tokens]:
            def whole(parts: Tokens) -> Tokens:
                return np.concatenate([start[rows, None], np.full((len(rows), 1), arrow, np.int32), parts], axis=1)

            return whole

        def to_last_but_one(rows: NDArray[np.int64]) -> Callable[[Tokens], Tokens]:
            def whole(parts: Tokens) -> Tokens:
                longer, row = widened(parts, parts.shape[1] + 3), np.arange(len(rows))
                at = (longer == EOS).argmax(axis=1)
                # Where the part has no end, this begins with a sign, as no answer does that is asked about.
                longer[row, at], longer[row, at + 1], longer[row, at + 2] = arrow, end[rows], EOS
                return longer

            return whole

        def agreeing(whole: Callable[[Tokens], Tokens]) -> Callable[[Tokens, Tokens], NDArray[np.bool_]]:
            return lambda answers, parts: same(answers, whole(parts))

        found = []
        for name, place, node, other, whole in (
            ("from the second node on", 1, second, end, from_second),
            ("up to the last node but one", 3, last_but_one, start, to_last_but_one),
        ):
            known = (prompts[:, HEADER:] == node[:, None]).any(axis=1) & (node < SPECIAL + LABELS)
            rows = np.flatnonzero(known & (node != other))
            if len(rows):
                shorter = prompts[rows]
                shorter[:, place] = node[rows]
                # No prompt shows how many hops it takes. What most of the answers say is a name for it, no more.
                hops = int(np.bincount(length[rows] // 2).argmax())
                of_rows = whole(rows)
                found.append(Part(name, max(1, hops - 1), rows, shorter, agreeing(of_rows), of_rows))
        return found


class MazeNodes(Maze):
    """Difficulty = nodes; ``hops`` is fixed, and the easiest maze has ``smallest`` nodes."""

    name = "maze-nodes"
    summary = "find the way through a tree; more nodes are harder"
    unit = "nodes"

    def __init__(self, hops: int = 9, smallest: int = 10, labels: int = LABELS, ways: int = 1) -> None:
        super().__init__(labels, ways)
        if not 1 <= hops < smallest <= labels:
            raise UserError(
                f"task.options.hops = {hops}, task.options.smallest = {smallest}: "
                f"needed are at least one hop, and more nodes than hops, at most {labels}, the number of labels"
            )
        self.greatest = labels
        self.hops = hops
        self.smallest = smallest

    @override
    def shape(self, difficulty: int) -> tuple[int, int]:
        return difficulty, self.hops

    @override
    def parts(self, prompts: Tokens, answers: Tokens) -> list[Part]:
        """Return the mazes without a leaf: no way leads through one, so that the answer is the same."""
        nodes = int((prompts[:1] == self.vocabulary.id(":")).sum())
        if nodes <= self.smallest:
            return []
        rows, smaller = without_leaf(prompts, self.vocabulary)
        return [Part("all but a leaf", nodes - 1, rows, smaller, same)] if len(rows) else []

    @override
    def supervised_difficulties(self, hardest: int) -> list[Difficulty]:
        return list(range(self.smallest, hardest + 1))

    @override
    def evaluated_difficulties(self, hardest: int) -> list[Difficulty]:
        return self.supervised_difficulties(hardest)


class MazeOracle(Oracle):
    """Walks from every node towards the end; answers a prompt of either maze task."""

    @override
    def solve(self, prompts: Tokens) -> Tokens:
        arrow, count = self.task.vocabulary.id(">"), len(prompts)
        rows = np.arange(count)[:, None]
        source, target = edges_of(prompts, self.task.vocabulary)
        start, end = prompts[:, 1], prompts[:, 3]
        # towards[x] is the neighbour of x on the way to the end; 0 where not known yet.
        towards = np.zeros((count, SPECIAL + LABELS), dtype=np.int32)
        towards[rows[:, 0], end] = end
        fresh = np.zeros(towards.shape, dtype=np.bool_)
        fresh[rows[:, 0], end] = True
        for _ in range(source.shape[1] // 2):
            if towards[rows[:, 0], start].all():
                break
            step = fresh[rows, source] & (towards[rows, target] == 0)
            at, edge = np.nonzero(step)
            fresh[:] = False
            towards[at, target[at, edge]] = source[at, edge]
            fresh[at, target[at, edge]] = True
        ways = [start]
        while (ways[-1] != end).any():
            ways.append(towards[rows[:, 0], ways[-1]])
        # Rows that arrived stay at the end: what follows the first arrival is no part of the answer.
        way = np.stack(ways, axis=1)
        answers = np.full((count, 2 * way.shape[1]), arrow, dtype=np.int32)
        answers[:, ::2] = way
        length = 2 * (way == end[:, None]).argmax(axis=1) + 1
        answers[np.arange(answers.shape[1]) > length[:, None]] = PAD
        answers[rows[:, 0], length] = EOS
        return answers

    @override
    def reason(self, prompt: str, truth: str, answer: str) -> str:
        if not re.fullmatch(r"\d+(>\d+)*", answer):
            return f"bad format: {answer!r} is no way such as 3>2>1"
        way, right = answer.split(">"), truth.split(">")
        if way[0] != right[0]:
            return f"wrong start: {way[0]} instead of {right[0]}"
        neighbours = dict(neighbours_of(prompt))
        for here, there in pairwise(way):
            if there not in neighbours.get(here, []):
                return f"illegal move: {here}>{there} is no edge"
        if way[-1] != right[-1]:
            return f"wrong end: {way[-1]} instead of {right[-1]}"
        return f"not the shortest path: {len(way) - 1} hops instead of {len(right) - 1}"


class MazeHopsOracle(MazeOracle):
    """Of :class:`MazeHops`."""

    task_class = MazeHops


class MazeNodesOracle(MazeOracle):
    """Of :class:`MazeNodes`."""

    task_class = MazeNodes

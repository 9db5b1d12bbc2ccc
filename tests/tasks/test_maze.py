"""Mazes against networkx, and the uniformity of their trees."""

import re
from collections import Counter
from itertools import pairwise, permutations

import networkx as nx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from easy2hard.errors import UserError
from easy2hard.seeding import numpy_generator
from easy2hard.tasks.oracle import Checker
from easy2hard.tasks.registry import load_oracle, load_task
from easy2hard.tasks.trees import random_trees
from easy2hard.tasks.ways import distances, several_ways
from easy2hard.vocabulary import EOS

HOPS, NODES = load_task("maze-hops"), load_task("maze-nodes")
EXAMPLE = (
    "50>78#58:90,35-99:98,"
    "56-78:56-93:98,35-98:99,93-56:30,50,99,78-1:90-90:1,58-76:14,41-35:93,58-30:56-14:76,50-41:76-50:14,56="
)


def graph_of(text: str) -> tuple[nx.Graph, str, str, list[str]]:
    """Return the tree, start, end, and the nodes in the order of the prompt."""
    way, tree = text.removesuffix("=").split("#")
    start, end = way.split(">")
    graph, order = nx.Graph(), []
    for entry in tree.split("-"):
        node, names = entry.split(":")
        order.append(node)
        graph.add_edges_from((node, name) for name in names.split(","))
    return graph, start, end, order


def mazes(name: str, difficulty: int, count: int, **options: int) -> list[str]:
    task = load_task(name, options)
    return task.vocabulary.decode_prompts(task.sample(numpy_generator(0, name, difficulty), difficulty, count))


@pytest.mark.parametrize(
    ("name", "difficulty", "nodes", "hops"),
    [("maze-hops", 1, 30, 1), ("maze-hops", 9, 30, 9), ("maze-hops", 29, 30, 29), ("maze-nodes", 60, 60, 9)],
)
def test_ways_are_those_of_networkx_on_2_000_mazes(name: str, difficulty: int, nodes: int, hops: int) -> None:
    prompts = mazes(name, difficulty, 500)
    answers = load_oracle(load_task(name)).solve_texts(prompts)
    for prompt, answer in zip(prompts, answers, strict=True):
        graph, start, end, order = graph_of(prompt)
        assert nx.is_tree(graph)
        assert len(order) == len(set(order)) == len(graph) == nodes
        assert all(1 <= int(node) <= 99 for node in graph)
        assert answer == ">".join(nx.shortest_path(graph, start, end))
        assert answer.count(">") == hops


def test_either_task_answers_any_maze() -> None:
    prompts = mazes("maze-hops", 4, 5) + mazes("maze-nodes", 12, 5) + [EXAMPLE, "1>2#1:2-2:1="]
    assert load_oracle(HOPS).solve_texts(prompts) == load_oracle(NODES).solve_texts(prompts)
    assert load_oracle(HOPS).solve_texts(prompts)[-2:] == ["50>56>78", "1>2"]


def test_order_of_nodes_and_neighbours_is_random() -> None:
    prompts = mazes("maze-hops", 1, 3000, nodes=3)
    first_node = Counter(int(prompt.split("#")[1].split(":")[0]) > 50 for prompt in prompts)
    assert abs(first_node[True] / 3000 - 49 / 99) < 0.05
    middle = [m.group(1, 2) for prompt in prompts if (m := re.search(r":(\d+),(\d+)", prompt))]
    assert abs(np.mean([int(a) < int(b) for a, b in middle]) - 0.5) < 0.05
    starts = Counter(prompt.split(">")[0] for prompt in prompts)
    assert len(starts) == 99


def chi_square(counts: Counter[frozenset[frozenset[int]]], kinds: int) -> float:
    """Return how many standard deviations the chi-square statistic is above its mean."""
    expected = counts.total() / kinds
    statistic = sum((count - expected) ** 2 for count in counts.values()) / expected
    statistic += (kinds - len(counts)) * expected
    return float((statistic - (kinds - 1)) / np.sqrt(2 * (kinds - 1)))


def trees_seen(hops: int | None, count: int, relabel: bool) -> Counter[frozenset[frozenset[int]]]:
    generator = numpy_generator(0, "trees", str(hops))
    edges = random_trees(generator, count, 5, hops)
    if relabel:
        labels = generator.permuted(np.tile(np.arange(5), (count, 1)), axis=1)
        edges = labels[np.arange(count)[:, None, None], edges]
    return Counter(frozenset(map(frozenset, tree)) for tree in edges.tolist())


def test_trees_are_uniform_without_a_fixed_way() -> None:
    counts = trees_seen(None, 125 * 200, relabel=False)
    assert len(counts) == 5**3  # Cayley
    assert abs(chi_square(counts, 125)) < 4


@pytest.mark.parametrize("hops", [1, 2, 3, 4])
def test_trees_with_a_fixed_way_are_uniform(hops: int) -> None:
    """All trees that hold the way 0 … hops come equally often: there are (hops + 1) * 5 ** (3 - hops) of them."""
    way = {frozenset({i, i + 1}) for i in range(hops)}
    counts = trees_seen(hops, 10_000, relabel=False)
    kinds = round((hops + 1) * 5.0 ** (3 - hops))
    assert all(way <= tree for tree in counts)
    assert len(counts) == kinds
    if kinds > 1:
        assert abs(chi_square(counts, kinds)) < 4


def test_labelled_trees_come_as_often_as_they_have_ways_of_that_length() -> None:
    """Uniform over (tree, start, end): a tree's share is its number of pairs of nodes three hops apart."""
    counts = trees_seen(3, 60_000, relabel=True)
    ways = {}
    for tree in counts:
        graph = nx.Graph([tuple(edge) for edge in tree])
        ways[tree] = sum(nx.shortest_path_length(graph, a, b) == 3 for a, b in permutations(range(5), 2))
    total = sum(ways.values())
    statistic = sum((counts[t] - 60_000 * w / total) ** 2 / (60_000 * w / total) for t, w in ways.items())
    assert abs(statistic - (len(ways) - 1)) / np.sqrt(2 * (len(ways) - 1)) < 4


@given(st.integers(2, 40), st.data())
def test_every_tree_is_a_tree(nodes: int, data: st.DataObject) -> None:
    hops = data.draw(st.none() | st.integers(1, nodes - 1))
    for edges in random_trees(numpy_generator(0, nodes), 5, nodes, hops).tolist():
        graph = nx.Graph([tuple(edge) for edge in edges])
        assert nx.is_tree(graph)
        assert set(graph) == set(range(nodes))
        if hops is not None:
            assert nx.shortest_path(graph, 0, hops) == list(range(hops + 1))


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("50>56>78", None),
        ("50>56>", "bad format"),
        ("", "bad format"),
        ("50>100>78", "bad format: number '100'"),
        ("56>78", "wrong start: 56 instead of 50"),
        ("50>56>99", "wrong end: 99 instead of 78"),
        ("50>78", "illegal move: 50>78"),
        ("50>56>30>56>78", "not the shortest path: 4 hops instead of 2"),
        ("50>56>78>56>78", "not the shortest path: 4 hops instead of 2"),
    ],
)
def test_reasons(answer: str, reason: str | None) -> None:
    for task in (HOPS, NODES):
        (found,) = Checker(load_oracle(task)).check([EXAMPLE], [answer])
        assert found is None if reason is None else found is not None and found.startswith(reason)


@pytest.mark.parametrize(
    ("prompt", "problem"),
    [
        ("1>2#1:2-2:1-2:1=", "listed twice"),
        ("1>3#1:2-2:1=", "start or end is not a node"),
        ("1>2#1:2,2-2:1=", "a neighbour is listed twice"),
        ("1>2#1:2-2:1-3:2=", "one of its ends only"),
        ("1>2#1:2-2:1-3:4-4:3=", "not a tree"),
        ("1>2#1:2,3-2:1,3-3:1,2=", "not a tree"),
    ],
)
def test_what_is_no_maze_is_refused(prompt: str, problem: str) -> None:
    with pytest.raises(UserError, match=problem):
        HOPS.encode([prompt])


TASKS = [("maze-hops", {"nodes": 8}, 3), ("maze-nodes", {"hops": 3, "smallest": 5}, 8)]


@pytest.mark.parametrize(("name", "options", "difficulty"), TASKS)
def test_names_of_nodes_are_as_many_as_asked_for(name: str, options: dict[str, int], difficulty: int) -> None:
    names = {node for text in mazes(name, difficulty, 200, **options, labels=8) for node in graph_of(text)[3]}
    assert names == set(map(str, range(1, 9)))
    few, many = load_task(name, {**options, "labels": 8}), load_task(name, options)
    assert few.vocabulary.symbols == many.vocabulary.symbols
    assert (few.greatest, many.greatest) == ((7, 7) if name == "maze-hops" else (8, 99))
    assert mazes(name, difficulty, 5, **options, labels=99) == mazes(name, difficulty, 5, **options)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("maze-hops", {"labels": 29}, "nodes = 30: must be 2 to 29, the number of labels"),
        ("maze-hops", {"labels": 100}, "labels = 100: must be 2 to 99"),
        ("maze-nodes", {"labels": 9}, "smallest = 10.*at most 9"),
        ("maze-hops", {"hops_power": 11}, "hops_power = 11: must be 0 to 10"),
        ("maze-nodes", {"ways": 0}, "ways = 0: must be at least 1"),
    ],
)
def test_names_that_do_not_suffice_are_refused(name: str, options: dict[str, int], message: str) -> None:
    with pytest.raises(UserError, match=message):
        load_task(name, options)


@given(nodes=st.integers(2, 12), ways=st.integers(2, 40), count=st.integers(0, 60), data=st.data())
def test_prompts_of_one_tree_have_starts_and_ends_of_their_own(
    nodes: int, ways: int, count: int, data: st.DataObject
) -> None:
    hops = data.draw(st.integers(1, nodes - 1))
    task = load_task("maze-hops", {"nodes": nodes, "ways": ways})
    prompts = task.vocabulary.decode_prompts(task.sample_supervised(numpy_generator(nodes, ways), hops, count))
    assert len(prompts) == count
    trees: dict[str, list[tuple[str, str]]] = {}
    for text in prompts:
        task.check_prompt(text)
        graph, start, end, _ = graph_of(text)
        assert nx.shortest_path_length(graph, start, end) == hops
        trees.setdefault(text.split("#")[1], []).append((start, end))
    if nodes < 4:
        return  # the same tree may come again
    for number, (tree, asked) in enumerate(trees.items(), start=1):
        graph = graph_of(f"0>0#{tree}")[0]
        there = sum(nx.shortest_path_length(graph, a, b) == hops for a, b in permutations(graph, 2))
        assert len(asked) == len(set(asked))
        assert len(asked) == min(ways, there) or number == len(trees)  # the last one is cut


def test_all_ways_of_a_tree_come_equally_often() -> None:
    """Four nodes in a row: six ways of one hop, the first drawn with the tree and two of the others after it."""
    generator = numpy_generator(0, "ways")
    edges = np.tile(np.array([[3, 2], [2, 1], [0, 1]]), (6000, 1, 1))
    tree, start, end = several_ways(generator, edges, 1, 3)
    assert Counter(tree.tolist()) == dict.fromkeys(range(6000), 3)
    counts = Counter(zip(start.tolist(), end.tolist(), strict=True))
    assert counts.pop((0, 1)) == 6000
    assert set(counts) == {(1, 0), (1, 2), (2, 1), (2, 3), (3, 2)}
    assert all(count == pytest.approx(6000 * 2 / 5, rel=0.1) for count in counts.values())


@given(st.integers(2, 30), st.data())
def test_distances_are_those_of_networkx(nodes: int, data: st.DataObject) -> None:
    edges = random_trees(numpy_generator(0, nodes), 3, nodes, data.draw(st.none() | st.integers(1, nodes - 1)))
    for found, tree in zip(distances(edges).tolist(), edges.tolist(), strict=True):
        true = dict(nx.all_pairs_shortest_path_length(nx.Graph([tuple(edge) for edge in tree])))
        assert found == [[true[a][b] for b in range(nodes)] for a in range(nodes)]


@pytest.mark.parametrize(("name", "options", "difficulty"), TASKS)
def test_with_one_way_a_tree_supervised_prompts_are_drawn_as_all_others(
    name: str, options: dict[str, int], difficulty: int
) -> None:
    one, several = load_task(name, options), load_task(name, {**options, "ways": 5})
    for task, same in ((one, True), (several, False)):
        uniform, practice, supervised = (
            draw(numpy_generator(3), difficulty, 30)
            for draw in (one.sample, task.sample_practice, task.sample_supervised)
        )
        assert (uniform == practice).all()
        assert (uniform == supervised).all() == same


@pytest.mark.parametrize(
    ("nodes", "hops", "share"),
    [
        *[(3, 2, 1.00), (4, 2, 1.00), (5, 2, 0.93), (6, 2, 0.87), (8, 2, 0.81), (30, 9, 0.20)],
        *[(10, 2, 0.76), (10, 3, 0.66), (10, 5, 0.72), (16, 2, 0.70), (16, 3, 0.57), (16, 5, 0.46)],
    ],
)
def test_the_baseline_finds_as_many_ways_as_was_counted(nodes: int, hops: int, share: float) -> None:
    """The shares were counted apart from this code."""
    task = load_task("maze-hops", {"nodes": nodes})
    prompts = task.sample(numpy_generator(0, "baseline", nodes), hops, 2000)
    answers = task.vocabulary.decode_answers(task.baseline_answers(numpy_generator(0, "walk"), prompts))
    truth = load_oracle(task).solve_texts(task.vocabulary.decode_prompts(prompts))
    assert np.mean([a == b for a, b in zip(answers, truth, strict=True)]) == pytest.approx(share, abs=0.04)


@given(st.integers(2, 20), st.data())
def test_the_baseline_walks_along_edges_and_enters_a_leaf_only_where_nothing_else_is_left(
    nodes: int, data: st.DataObject
) -> None:
    task = load_task("maze-hops", {"nodes": nodes})
    prompts = task.sample(numpy_generator(0, nodes), data.draw(st.integers(1, nodes - 1)), 20)
    answers = task.baseline_answers(numpy_generator(1), prompts)
    assert ((answers == EOS).sum(axis=1) == 1).all()
    texts = task.vocabulary.decode_answers(answers)
    for prompt, answer in zip(task.vocabulary.decode_prompts(prompts), texts, strict=True):
        graph, start, end, _ = graph_of(prompt)
        way = answer.split(">")
        assert way[0] == start
        assert len(set(way)) == len(way)
        for place, (here, there) in enumerate(pairwise(way)):
            others = set(graph[here]) - set(way[:place])
            assert there in others
            assert (
                there == end
                if end in others
                else graph.degree(there) > 1 or all(graph.degree(each) == 1 for each in others)
            )
        assert way[-1] == end or not set(graph[way[-1]]) - set(way)


def test_the_baseline_chooses_by_the_generator_it_is_given() -> None:
    prompts = HOPS.sample(numpy_generator(0), 5, 50)
    first, again, other = (HOPS.baseline_answers(numpy_generator(seed), prompts) for seed in (1, 1, 2))
    assert first.tolist() == again.tolist() != other.tolist()

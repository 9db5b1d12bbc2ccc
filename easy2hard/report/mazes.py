"""A maze as a graph: the tree of its prompt, from start to end, and the way the model answered."""

from itertools import pairwise

from markupsafe import Markup, escape

from easy2hard.tasks.trees import neighbours_of

ACROSS, DOWN, RADIUS, EDGE = 46, 34, 13, 20
Place = tuple[float, float]


def draw_maze(prompt: str, answer: str, truth: str | None) -> Markup:
    """Return a picture of a maze and an answer to it.

    The tree hangs from its start, to the right; a column for each hop. Steps of the answer that the tree has are solid,
    others dashed and red; the true way, where it is another, is dotted.
    """
    start, end = prompt.partition("#")[0].split(">")
    places = _places(dict(neighbours_of(prompt)), start)
    given = answer.split(">")
    edges = {frozenset((a, b)) for a, names in neighbours_of(prompt) for b in names}
    body = [f'<path class="wall" d="{_path(places, *sorted(edge))}"/>' for edge in sorted(map(sorted, edges))]
    if truth is not None:
        body += [f'<path class="true-way" d="{_path(places, a, b)}"/>' for a, b in pairwise(truth.split(">"))]
    for a, b in pairwise(given):
        if a in places and b in places:
            there = frozenset((a, b)) in edges
            path = _path(places, a, b) if there else _arc(places, a, b)
            body.append(f'<path class="{"way" if there else "no-way"}" d="{path}"/>')
    for name, (x, y) in places.items():
        css = " ".join(["node", *(["start"] if name == start else []), *(["end"] if name == end else [])])
        visited = " visited" if name in given else ""
        body.append(
            f'<g class="{css}{visited}"><circle cx="{x:g}" cy="{y:g}" r="{RADIUS}"/>'
            f'<text x="{x:g}" y="{y + 4:g}" text-anchor="middle">{escape(name)}</text></g>'
        )
    width = max(x for x, _ in places.values()) + EDGE
    height = max(y for _, y in places.values()) + EDGE
    label = f"maze of {len(places)} nodes, from {start} to {end}; the answer goes {answer}"
    return Markup(  # every text in it went through escape
        f'<svg class="maze" viewBox="0 0 {width:g} {height:g}" style="max-width:{width * 1.2:.0f}px" role="img" '
        f'aria-label="{escape(label)}">{"".join(body)}</svg>'
    )


def _places(neighbours: dict[str, list[str]], start: str) -> dict[str, Place]:
    """Return where each node stands: its hops from the start, and a line of its own for every dead end."""
    hops, order, open_nodes = {start: 0}, [], [start]
    children: dict[str, list[str]] = {}
    while open_nodes:
        node = open_nodes.pop()
        order.append(node)
        children[node] = [other for other in neighbours[node] if other not in hops]
        for child in children[node]:
            hops[child] = hops[node] + 1
        open_nodes += reversed(children[node])
    lines: dict[str, float] = {}
    ends = 0
    for node in order:
        if not children[node]:
            lines[node] = ends
            ends += 1
    for node in reversed(order):
        if children[node]:
            lines[node] = sum(lines[child] for child in children[node]) / len(children[node])
    return {node: (EDGE + hops[node] * ACROSS, EDGE + lines[node] * DOWN) for node in order}


def _arc(places: dict[str, Place], a: str, b: str) -> str:
    """Return a bow from a to b: a straight line could cover edges of the tree."""
    (x1, y1), (x2, y2) = places[a], places[b]
    return f"M{x1:g} {y1:g}Q{(x1 + x2) / 2 - (y2 - y1) / 5:g} {(y1 + y2) / 2 + (x2 - x1) / 5:g} {x2:g} {y2:g}"


def _path(places: dict[str, Place], a: str, b: str) -> str:
    (x1, y1), (x2, y2) = places[a], places[b]
    return f"M{x1:g} {y1:g}L{x2:g} {y2:g}"

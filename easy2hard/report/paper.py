"""Charts on paper, by matplotlib: vectors in one style, readable in grey.

Lines differ in their dashes and marks, not in colour alone, and colours in their lightness.
"""

from itertools import pairwise
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import LinearSegmentedColormap

from easy2hard.report.chart import Chart, Line, Map
from easy2hard.tasks.base import difficulty_text, hardest

ROUNDS = LinearSegmentedColormap.from_list("rounds", ["#c9cdd4", "#5b8fd6", "#123a72"])  # lightness falls evenly
COLUMN, PAGE, HEIGHT = 3.5, 7.2, 2.7
"""Inches: one column of a paper, two of them, and the height of a panel."""
STYLE: dict[str, Any] = {
    "font.size": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.7,
    "lines.linewidth": 1.3,
    "lines.markersize": 3,
    "legend.frameon": False,
    "figure.titlesize": 8,
    "svg.fonttype": "none",
    "pdf.fonttype": 42,
}
_FRONTIER, _SOFT = "#d1495b", "#9ca3af"
_LINES = [
    ("#123a72", "-", "o"),
    ("#c2500b", "--", "s"),
    ("#8fa3bd", "-.", "^"),
    ("#2b9a6b", ":", "D"),
    ("#6b2d7a", (0, (5, 1, 1, 1)), "v"),
]
"""Colour, dashes and mark of each line."""
_WITHIN = 4
"""Names of lines that fit into a panel."""


def plain(text: str) -> str:
    """Return a text that matplotlib draws unchanged: a dollar sign would begin a formula."""
    return text.replace("$", r"\$")


def draw(panel: plt.Axes, chart: Chart) -> None:
    """Draw a chart of lines, or a map, into a panel."""
    panel.set(xlabel=plain(chart.x.label), ylabel=plain(chart.y.label))
    for drawn, axis in ((panel.xaxis, chart.x), (panel.yaxis, chart.y)):
        if axis.integers:
            drawn.set_major_locator(plt.MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    if chart.map:
        _draw_map(panel, chart.map)
        return
    for line in chart.lines:
        draw_line(panel, line)
    if chart.y.log:
        panel.set_yscale("log")
    for axis, ends, set_ends in ((chart.x, chart.x_ends, panel.set_xlim), (chart.y, chart.y_ends, panel.set_ylim)):
        room = 0.0 if axis.high is None else (ends[1] - ends[0]) / 50  # a line at the end of a share must show
        set_ends(None if axis.low is None else axis.low - room, None if axis.high is None else axis.high + room)
    _draw_references(panel, chart)
    if any(line.shade is not None for line in chart.lines):
        shades = plt.cm.ScalarMappable(plt.Normalize(0, max(*chart.rounds, 1)), ROUNDS)
        bar = panel.figure.colorbar(shades, ax=panel, fraction=0.05, pad=0.02)
        bar.set_label("round")
        bar.locator = plt.MaxNLocator(integer=True)
    named = panel.get_legend_handles_labels()[1]
    if named and (len(chart.lines) > 1 or any(line.band for line in chart.lines)):
        legend(panel)


def _draw_references(panel: plt.Axes, chart: Chart) -> None:
    if chart.supervised is not None:
        left = chart.x_ends[0] - 0.5
        panel.set_xlim(left=left)
        panel.axvspan(left, chart.supervised + 0.5, color="#e9edf2", zorder=0, linewidth=0)
        panel.annotate("supervised", (chart.x_ends[0], 0.02), color="#5b6470", va="bottom")
    if chart.level is not None:
        panel.axhline(chart.level, color=_SOFT, linewidth=0.6, linestyle=":")
    if chart.diagonal:
        panel.plot([0, 1], [0, 1], color=_SOFT, linewidth=0.7)
    middle, free = sum(chart.x_ends) / 2, -np.inf
    for mark in chart.marks:
        colour, dashes, width = (_FRONTIER, "--", 1.0) if mark.frontier else ("#5b6470", ":", 0.5)
        panel.axvline(mark.x, color=colour, linestyle=dashes, linewidth=width)
        if mark.x > free:
            side = ("right" if mark.x > middle else "left") if mark.frontier else "center"
            at = ("data", "axes fraction")
            panel.annotate(plain(mark.word), (mark.x, 1), xycoords=at, ha=side, va="bottom", color=colour)
            free = mark.x + (middle - chart.x_ends[0]) * (len(mark.word) + 1) / 20


def draw_line(panel: plt.Axes, line: Line) -> None:
    """Draw a line and its range."""
    if line.shade is not None:
        panel.plot(*zip(*line.points, strict=True), color=ROUNDS(line.shade), zorder=2)
        return
    again, at = divmod(line.style, len(_LINES))  # a colour that comes again has other dashes and another mark
    (colour, _, _), (_, dashes, mark) = _LINES[at], _LINES[(at + again) % len(_LINES)]
    marker = mark if line.dots and len(line.points) <= 40 else None
    panel.plot(*zip(*line.points, strict=True), color=colour, linestyle=dashes, marker=marker, label=plain(line.name))
    if line.band:
        xs, low, high = zip(*line.band, strict=True)
        panel.fill_between(xs, low, high, color=colour, alpha=0.2, linewidth=0)


def legend(panel: plt.Axes) -> None:
    """Name the lines: within the panel, or beside it where there are so many that the names would cover them."""
    if len(panel.get_legend_handles_labels()[1]) <= _WITHIN:
        panel.legend()
        return
    panel.figure.set_figwidth(PAGE)
    panel.legend(loc="upper left", bbox_to_anchor=(1, 1))


def _draw_map(panel: plt.Axes, shown: Map) -> None:
    """Draw values by round and difficulty: numbers at their own place, pairs side by side."""
    found = shown.difficulties
    place = {d: i if shown.pairs else hardest(d) for i, d in enumerate(found, start=1)}
    first, last = place[found[0]], place[found[-1]]
    values = np.full((max(shown.rows) + 1, last - first + 1), np.nan)
    for round_, row in shown.rows.items():
        for difficulty, value in row.items():
            values[round_, place[difficulty] - first] = value
    extent = (first - 0.5, last + 0.5, -0.5, len(values) - 0.5)
    image = panel.imshow(values, origin="lower", aspect="auto", cmap="viridis", vmin=0, vmax=1, extent=extent)
    ends = [
        (max((at for d, at in place.items() if hardest(d) <= trained), default=first) + 0.5, round_)
        for round_, trained in shown.frontier.items()
    ]
    for (x, round_), (above, _) in pairwise([*ends, (ends[-1][0], 0)]):
        way = ([x, x, above], [round_ - 0.5, round_ + 0.5, round_ + 0.5])
        panel.plot(*way, color="white", linewidth=2)
        panel.plot(*way, color=_FRONTIER, linestyle="--", linewidth=1)
    panel.figure.colorbar(image, ax=panel, fraction=0.05, pad=0.02).set_label("exact match (share)")
    if shown.pairs:
        named = found[:: max(1, -(-len(found) // 20))]
        panel.set_xticks([place[d] for d in named], list(map(difficulty_text, named)), rotation=90)

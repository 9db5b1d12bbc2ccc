"""Charts on paper, by matplotlib: vectors in one style, readable in grey.

Lines differ in their dashes and marks, not in colour alone, and colours in their lightness.
"""

import re
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.collections import QuadMesh
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont
from matplotlib.text import Text

from easy2hard.errors import UserError
from easy2hard.report.chart import Chart, Line, Map
from easy2hard.tasks.base import difficulty_text, hardest

ROUNDS = LinearSegmentedColormap.from_list("rounds", ["#c9cdd4", "#5b8fd6", "#123a72"])  # lightness falls evenly
COLUMN, PAGE, HEIGHT = 3.5, 7.2, 2.7
"""Inches: one column of a paper, two of them, and the height of a panel."""
BESIDE = 5.0
"""Inches from which on two panels are side by side; in a narrower figure one is below the other."""
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
INCHES = {"in": 1.0, "cm": 1 / 2.54, "mm": 1 / 25.4, "pt": 1 / 72.27}
"""Inches of a unit; points are those of TeX."""
WIDEST = 40.0
"""Inches of a figure at most."""
_TEX = {
    "\\": r"\textbackslash{}",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "$": r"\textdollar{}",  # matplotlib would take the backslash from an escaped one
    **{letter: f"\\{letter}" for letter in "{}%#&_"},
}
"""What stands in TeX for a letter that means something else there."""
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


@dataclass(frozen=True)
class Layout:
    """How a figure fits the paper that it is for.

    Attributes:
        width: of the whole figure, such as ``89mm`` or ``3.5in``; inches where it has no unit; default: a column of a
            paper for one panel, a page for two. The height goes with it, and two panels are stacked where it is narrow.
        font: a font family that is installed.
        font_size: in points.
        title: whether there is one. What must be said of a run is said without it, too.
    """

    width: str | None = None
    font: str | None = None
    font_size: float | None = None
    title: bool = True

    @property
    def inches(self) -> float | None:
        """The width in inches; None where it is the default."""
        if self.width is None:
            return None
        found = re.fullmatch(rf"\s*(\d+\.?\d*|\.\d+)\s*({'|'.join(INCHES)})?\s*", self.width)
        inches = float(found[1]) * INCHES[found[2] or "in"] if found else 0.0
        if not 1 <= inches <= WIDEST:
            raise UserError(f"--width {self.width}: expected such as 89mm, 8.9cm or 3.5in, from 1in to {WIDEST:g}in")
        return inches

    def style(self) -> dict[str, Any]:
        """Return the settings of matplotlib.

        Raises:
            UserError: there is no such font, or no such size.
        """
        style = dict(STYLE)
        if self.font is not None:
            try:
                findfont(self.font, fallback_to_default=False)
            except ValueError as error:
                raise UserError(f"--font {self.font}: is not installed; `fc-list : family` lists what is") from error
            style["font.family"] = self.font
        if self.font_size is not None:
            if not 1 <= self.font_size <= 100:
                raise UserError(f"--font-size {self.font_size:g}: expected 1 to 100 points")
            style |= {"font.size": self.font_size, "figure.titlesize": self.font_size}
        return style


USUAL = Layout()


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


def for_tex(sheet: Figure) -> None:
    """Make a figure fit for PGF: all of it vectors, since one file holds no pixels, and every text what it says.

    A run may be called whatever its author likes, and in TeX a name could read files.
    """
    for panel in sheet.axes:
        for image in list(panel.images):
            left, right, low, high = image.get_extent()
            values: Any = image.get_array()
            rows, columns = np.shape(values)
            xs, ys = np.linspace(left, right, columns + 1), np.linspace(low, high, rows + 1)
            panel.pcolormesh(
                xs, ys, values, cmap=image.get_cmap(), norm=plt.Normalize(*image.get_clim()), zorder=image.zorder
            )
            image.remove()
    for mesh in sheet.findobj(QuadMesh):
        mesh.set(rasterized=False, edgecolor="face")
    for text in sheet.findobj(Text):
        text.set_text("".join(_TEX.get(letter, letter) for letter in text.get_text().replace(r"\$", "$")))

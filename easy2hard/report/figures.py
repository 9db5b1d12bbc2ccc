"""Figures for a paper: vectors in one style, readable in grey, of one run or of several side by side.

Lines differ in their dashes and marks, not in colour alone, and colours in their lightness; every axis names its unit.
"""

import textwrap
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import LinearSegmentedColormap

from easy2hard.errors import UserError
from easy2hard.report.compare import Group, group_lines, groups_of, spread_line
from easy2hard.report.rundata import RunData, read_run
from easy2hard.report.series import (
    after_filter,
    frontiers,
    is_one_run,
    kept_shares,
    reliability,
    scores_by_difficulty,
    scores_by_round,
    stage_shares,
    step_means,
)
from easy2hard.report.svg import Line
from easy2hard.runs.manifest import REACHED
from easy2hard.tasks.base import Difficulty, hardest, parse_difficulty

FORMATS = (".pdf", ".svg", ".png")
ROUNDS = LinearSegmentedColormap.from_list("rounds", ["#c9cdd4", "#5b8fd6", "#123a72"])  # lightness falls evenly
STEP_POINTS = 300
_FRONTIER = "#d1495b"
_COLUMN, _PAGE, _HEIGHT = 3.5, 7.2, 2.7  # inches: one column of a paper, and two
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
_STYLE: dict[str, Any] = {
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

Groups = Sequence[Group]


def plot_runs(paths: Sequence[Path], figure: str, out: Path) -> list[str]:
    """Draw runs into a file whose ending chooses the format, and return what is damaged in them.

    Args:
        paths: run directories; those that differ in their seed alone are one line, the mean, with its range.
        figure: one of ``FIGURES``.
        out: the file.

    Raises:
        UserError: the ending is none of ``FORMATS``, there is no such figure, or a run has nothing to draw.
    """
    if out.suffix not in FORMATS:
        raise UserError(f"--out {out}: the file must end in one of {', '.join(FORMATS)}")
    if figure not in FIGURES:
        raise UserError(f"--figure {figure!r}: no such figure (known: {', '.join(FIGURES)})")
    runs = [read_run(path, labels=figure in _OF_LABELS) for path in paths]
    for run in runs:
        if not run.rounds:
            raise UserError(f"{run.path}: no round is committed yet, so there is nothing to draw")
        if figure in _OF_LABELS and run.judged:
            raise UserError(f"--figure {figure}: {run.judged}")
    groups = groups_of(runs)
    draw = FIGURES[figure]
    panels = 2 if draw in (_overview, _labels) else 1
    with plt.rc_context(_STYLE):
        size = (_PAGE if panels == 2 else _COLUMN, _HEIGHT)
        drawn, axes = plt.subplots(1, panels, figsize=size, layout="constrained", squeeze=False)
        try:
            draw(list(axes[0]), groups)
            drawn.suptitle(_title(groups, 120 if panels == 2 else 62))
            out.parent.mkdir(parents=True, exist_ok=True)
            drawn.savefig(out, dpi=220)
        finally:
            plt.close(drawn)
    return [f"{run.path}: {problem}" for run in runs for problem in run.problems]


def _title(groups: Groups, width: int) -> str:
    marks = dict.fromkeys(
        mark for group in groups for run in group.runs for mark in (*run.manifest.marks, *run.manifest.remarks)
    )
    run = groups[0].runs[0]
    title = run.manifest.task
    if is_one_run(groups):
        members = run.settings.model.members if run.settings else 0
        voters = {0: "", 1: "one member, "}.get(members, f"{members} members, ")
        taught = f"taught to {run.supervised}, taught itself to {run.manifest.frontier}"
        title = f"{title}: {taught} ({voters}seed {run.manifest.seed})"
    elif len(groups) == 1:
        title = f"{title}: mean and range of {len(groups[0].runs)} seeds"
    # A dollar would begin a formula.
    return "\n".join(line for text in [title, *marks] for line in textwrap.wrap(text, width)).replace("$", r"\$")


class _Axis:
    """Where difficulties stand: numbers at their own place, pairs side by side, the greater further right."""

    def __init__(self, runs: Sequence[RunData]) -> None:
        texts = {d for run in runs for each in run.rounds for d in each.record.accuracy}
        self.difficulties = sorted(
            map(parse_difficulty, texts), key=lambda d: (hardest(d), d if isinstance(d, tuple) else ())
        )
        if not self.difficulties:
            raise UserError(f"{runs[0].path}: nothing was evaluated, so there is nothing to draw")
        self.pairs = any(isinstance(d, tuple) for d in self.difficulties)
        self.label = f"difficulty ({runs[0].unit})"
        self.first = 1 if self.pairs else hardest(self.difficulties[0])
        self.last = len(self.difficulties) if self.pairs else hardest(self.difficulties[-1])
        self._places: dict[Difficulty, int] = {
            d: i if self.pairs else hardest(d) for i, d in enumerate(self.difficulties, start=1)
        }

    def place(self, text: str) -> int:
        """Return where the difficulty written as ``text`` stands."""
        return self._places[parse_difficulty(text)]

    def end_of(self, greatest: int) -> int:
        """Return the place of the last difficulty up to ``greatest``."""
        return max((place for d, place in self._places.items() if hardest(d) <= greatest), default=self.first)

    def name(self, axes: plt.Axes) -> None:
        """Label the axis; of many pairs only some."""
        axes.set_xlabel(self.label)
        if self.pairs:
            every = max(1, -(-len(self.difficulties) // 20))
            shown = self.difficulties[::every]
            axes.set_xticks([self._places[d] for d in shown], ["x".join(map(str, d)) for d in shown], rotation=90)  # type: ignore[arg-type]
        else:
            axes.xaxis.set_major_locator(plt.MaxNLocator(integer=True))


def _overview(axes: list[plt.Axes], groups: Groups) -> None:
    _accuracy([axes[0]], groups)
    (_map if is_one_run(groups) else _reach)([axes[1]], groups)


def _accuracy(axes: list[plt.Axes], groups: Groups) -> None:
    """Draw accuracy by difficulty: of one run a line a round, of several the last round."""
    [panel], runs = axes, [run for group in groups for run in group.runs]
    axis = _Axis(runs)
    run = runs[0]
    if is_one_run(groups):
        last = max(len(run.rounds) - 1, 1)
        for each in run.rounds:
            points = sorted((axis.place(d), value) for d, value in each.record.accuracy.items())
            if points:
                panel.plot(*zip(*points, strict=True), color=ROUNDS(each.record.round / last), zorder=2)
        shades = plt.cm.ScalarMappable(plt.Normalize(0, last), ROUNDS)
        bar = panel.figure.colorbar(shades, ax=panel, fraction=0.05, pad=0.02)
        bar.set_label("round")
        bar.locator = plt.MaxNLocator(integer=True)
        frontier = axis.end_of(run.manifest.frontier)
        panel.axvline(frontier, color=_FRONTIER, linestyle="--", linewidth=1)
        panel.annotate(
            f"trained to {run.manifest.frontier}",
            (frontier, 1),
            xycoords=("data", "axes fraction"),
            ha="right" if frontier > (axis.first + axis.last) / 2 else "left",
            va="bottom",
            color=_FRONTIER,
        )
    else:
        axis.pairs = False
        for style, group in enumerate(groups):
            scores = [scores_by_difficulty(each.newest) for each in group.runs if each.newest]
            _draw(panel, spread_line(group.name, style, scores))
        _legend(panel)
        axis.label = f"{'greater number of the pair' if run.pairs else 'difficulty'} ({run.unit})"
    supervised = (axis.end_of(run.supervised) if is_one_run(groups) else run.supervised) + 0.5
    panel.axvspan(axis.first - 0.5, supervised, color="#e9edf2", zorder=0, linewidth=0)
    panel.annotate("supervised", (axis.first, 0.02), color="#5b6470", va="bottom")
    panel.axhline(REACHED, color="#9ca3af", linewidth=0.6, linestyle=":")
    panel.set(ylabel="exact match (share)", ylim=(-0.02, 1.02))
    panel.set_xlim(left=axis.first - (0.5 if axis.first == supervised - 0.5 else 0))
    axis.name(panel)


def _map(axes: list[plt.Axes], groups: Groups) -> None:
    """Draw accuracy by round and difficulty: the mean of the first group's runs."""
    [panel], group = axes, groups[0]
    if len(groups) > 1:
        raise UserError("--figure map: of runs that differ in their seed alone; these have other settings, too")
    axis = _Axis(group.runs)
    scores = scores_by_round(group.runs)
    grid = np.full((max(scores) + 1, axis.last - axis.first + 1), np.nan)
    for round_, values in scores.items():
        for difficulty, each in values.items():
            grid[round_, axis.place(difficulty) - axis.first] = np.mean(each)
    extent = (axis.first - 0.5, axis.last + 0.5, -0.5, len(grid) - 0.5)
    image = panel.imshow(grid, origin="lower", aspect="auto", cmap="viridis", vmin=0, vmax=1, extent=extent)
    reached = [(axis.end_of(d) + 0.5, r) for r, d in frontiers(group.runs[0]).items()]
    for (x, r), (above, _) in pairwise([*reached, (reached[-1][0], 0)]):
        panel.plot([x, x, above], [r - 0.5, r + 0.5, r + 0.5], color="white", linewidth=2)
        panel.plot([x, x, above], [r - 0.5, r + 0.5, r + 0.5], color=_FRONTIER, linestyle="--", linewidth=1)
    panel.set(ylabel="round")
    axis.name(panel)
    panel.yaxis.set_major_locator(plt.MaxNLocator(integer=True))
    panel.figure.colorbar(image, ax=panel, fraction=0.05, pad=0.02).set_label("exact match (share)")


def _reach(axes: list[plt.Axes], groups: Groups) -> None:
    """Draw the greatest difficulty up to which every one is reached, by round."""
    [panel] = axes
    lines = group_lines(groups, lambda each: each.record.reach if each.record.accuracy else None)
    if is_one_run(groups):
        run = groups[0].runs[0]
        lines = [
            Line(f"exact match at least {REACHED}", lines[0].points),
            Line("trained to", [(float(r), float(d)) for r, d in frontiers(run).items()], 1),
        ]
    _draw_all(panel, lines, f"difficulty ({groups[0].runs[0].unit})")
    panel.yaxis.set_major_locator(plt.MaxNLocator(integer=True))
    panel.set_ylim(bottom=0)


def _labels(axes: list[plt.Axes], groups: Groups) -> None:
    """Draw label precision and the share of labels kept, after each filter, by round; of several runs, the last."""
    rounds = [each for group in groups for run in group.runs for each in run.rounds]
    names = list(dict.fromkeys(name for each in rounds for name in stage_shares("precision", each)))
    if is_one_run(groups):
        precision = [
            Line(after_filter(n), group_lines(groups, lambda e, n=n: stage_shares("precision", e).get(n))[0].points, i)  # type: ignore[misc]
            for i, n in enumerate(names)
        ]
        kept = [
            Line(after_filter(n), group_lines(groups, lambda e, n=n: kept_shares(e).get(n))[0].points, i)  # type: ignore[misc]
            for i, n in enumerate(names)
        ]
    else:
        precision = group_lines(groups, lambda each: each.audit["precision"] if each.audit else None)
        kept = group_lines(
            groups, lambda each: each.record.kept / each.record.proposed if each.record.proposed else None
        )
    _draw_all(axes[0], precision, "label precision (share)")
    _draw_all(axes[1], kept, "labels kept (share)")
    axes[1].set_ylim(-0.02, 1.02)


def _calibration(axes: list[plt.Axes], groups: Groups) -> None:
    """Draw the share of answers that is right by their confidence."""
    [panel] = axes
    panel.plot([0, 1], [0, 1], color="#9ca3af", linewidth=0.7)
    lines = [
        spread_line(group.name, style, [reliability([e for e in run.rounds if e.audit]) for run in group.runs])
        for style, group in enumerate(groups)
    ]
    _draw_all(panel, lines, "right answers (share)", "confidence (probability of the least sure token)", whole=False)
    panel.set(xlim=(0, 1), ylim=(-0.02, 1.02))


def _loss(axes: list[plt.Axes], groups: Groups) -> None:
    """Draw the loss over the steps of all rounds; dotted, where a round begins."""
    [panel] = axes
    total = max(sum(len(each.training) for each in run.rounds) for group in groups for run in group.runs)
    size = -(-total // STEP_POINTS) or 1
    lines = [
        spread_line(group.name, style, [step_means(run, 1, size) for run in group.runs], marked=False)
        for style, group in enumerate(groups)
    ]
    _draw_all(panel, lines, "loss (nats per token)", "optimiser step", whole=False)
    panel.set_yscale("log")
    begin = 0
    for each in groups[0].runs[0].rounds:
        if each.record.round:
            panel.axvline(begin, color="#9ca3af", linewidth=0.5, linestyle=":")
        begin += len(each.training)


def _draw_all(panel: plt.Axes, lines: Sequence[Line], y_label: str, x_label: str = "round", whole: bool = True) -> None:
    for line in lines:
        _draw(panel, line)
    panel.set(xlabel=x_label, ylabel=y_label)
    if whole:
        panel.xaxis.set_major_locator(plt.MaxNLocator(integer=True))
    if len(lines) > 1 or any(line.band for line in lines):
        _legend(panel)


def _draw(panel: plt.Axes, line: Line) -> None:
    if not line.points:
        return
    again, at = divmod(line.style, len(_LINES))  # a colour that comes again has other dashes and another mark
    (colour, _, _), (_, dashes, mark) = _LINES[at], _LINES[(at + again) % len(_LINES)]
    marked = mark if line.marked and len(line.points) <= 40 else None
    panel.plot(*zip(*line.points, strict=True), color=colour, linestyle=dashes, marker=marked, label=line.name)
    if line.band:
        xs, low, high = zip(*line.band, strict=True)
        panel.fill_between(xs, low, high, color=colour, alpha=0.2, linewidth=0)


def _legend(panel: plt.Axes) -> None:
    """Name the lines: within the panel, or beside it where there are so many that the names would cover them."""
    if len(panel.get_legend_handles_labels()[1]) <= _WITHIN:
        panel.legend()
        return
    panel.figure.set_figwidth(_PAGE)
    panel.legend(loc="upper left", bbox_to_anchor=(1, 1))


FIGURES: dict[str, Callable[[list[plt.Axes], Groups], None]] = {
    "overview": _overview,
    "accuracy": _accuracy,
    "map": _map,
    "reach": _reach,
    "labels": _labels,
    "calibration": _calibration,
    "loss": _loss,
}
_OF_LABELS = ("labels", "calibration")

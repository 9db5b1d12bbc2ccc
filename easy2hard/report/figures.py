"""The picture of a run: accuracy by difficulty, a line per round, and the same as a round x difficulty map."""

from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import LinearSegmentedColormap

from easy2hard.errors import UserError
from easy2hard.runs.manifest import Manifest, RunDirectory
from easy2hard.tasks.base import hardest, parse_difficulty
from easy2hard.tasks.registry import load_task, task_names

FORMATS = (".png", ".svg", ".pdf")
_ROUNDS = LinearSegmentedColormap.from_list("rounds", ["#c9cdd4", "#5b8fd6", "#123a72"])  # also readable in grey
_FRONTIER = "#d1495b"


def plot_run(run: RunDirectory, out: Path) -> None:
    """Draw a run into a file whose ending chooses the format.

    Raises:
        UserError: the ending is none of ``FORMATS``, or no round is committed yet.
    """
    if out.suffix not in FORMATS:
        raise UserError(f"--out {out}: the file must end in one of {', '.join(FORMATS)}")
    manifest = run.manifest
    if not manifest.rounds:
        raise UserError(f"{run.path}: no round is committed yet, so there is nothing to draw")
    with plt.rc_context({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "svg.fonttype": "none"}):
        figure, (lines, heat) = plt.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
        axis = _Axis(manifest, _unit(manifest.task))
        _draw_lines(lines, manifest, axis)
        _draw_heat(heat, manifest, axis)
        figure.suptitle(_title(run, manifest))
        out.parent.mkdir(parents=True, exist_ok=True)
        try:
            figure.savefig(out, dpi=160)
        finally:
            plt.close(figure)


def _unit(task: str) -> str:
    """Return what the difficulty of a task counts; a task that is not installed here has a number of its own."""
    return load_task(task).unit if task in task_names() else "level"


def _title(run: RunDirectory, manifest: Manifest) -> str:
    supervised = run.settings.supervised.difficulty
    members = run.settings.model.members
    voters = f"{members} members" if members > 1 else "one member"
    reach = f"taught to {supervised}, taught itself to {manifest.frontier}"
    return "\n".join([f"{manifest.task}: {reach} ({voters}, seed {manifest.seed})", *manifest.marks])


class _Axis:
    """Where difficulties stand: numbers at their own place, pairs side by side, the greater further right."""

    def __init__(self, manifest: Manifest, unit: str) -> None:
        texts = {d for record in manifest.rounds for d in record.accuracy}
        self.difficulties = sorted(
            map(parse_difficulty, texts), key=lambda d: (hardest(d), d if isinstance(d, tuple) else ())
        )
        self.pairs = any(isinstance(d, tuple) for d in self.difficulties)
        self.label = f"difficulty ({unit})"
        self.first = 1 if self.pairs else hardest(self.difficulties[0])
        self.last = len(self.difficulties) if self.pairs else hardest(self.difficulties[-1])
        self._places = {d: i if self.pairs else hardest(d) for i, d in enumerate(self.difficulties, start=1)}

    def place(self, text: str) -> int:
        """Return where the difficulty written as ``text`` stands."""
        return self._places[parse_difficulty(text)]

    def end_of(self, greatest: int) -> int:
        """Return the place of the last difficulty up to ``greatest``."""
        return max(place for d, place in self._places.items() if hardest(d) <= greatest)

    def name(self, axes: plt.Axes) -> None:
        """Label the axis; of many pairs only some."""
        axes.set_xlabel(self.label)
        if self.pairs:
            every = max(1, -(-len(self.difficulties) // 25))
            shown = self.difficulties[::every]
            axes.set_xticks([self._places[d] for d in shown], ["x".join(map(str, d)) for d in shown], rotation=90)  # type: ignore[arg-type]


def _draw_lines(axes: plt.Axes, manifest: Manifest, axis: _Axis) -> None:
    last = max(len(manifest.rounds) - 1, 1)
    for record in manifest.rounds:
        points = sorted((axis.place(d), value) for d, value in record.accuracy.items())
        places, values = zip(*points, strict=True)
        axes.plot(places, values, color=_ROUNDS(record.round / last), linewidth=1.4, zorder=2 + record.round)
    supervised = axis.end_of(max(map(hardest, manifest.rounds[0].difficulties)))
    frontier = axis.end_of(manifest.frontier)
    axes.axvspan(axis.first - 0.5, supervised + 0.5, color="#eef1f5", zorder=0)
    axes.text(0.98 * supervised, 0.02, "supervised", ha="right", va="bottom", color="#6b7280")
    axes.axvline(frontier, color=_FRONTIER, linestyle="--", linewidth=1.2)
    axes.text(frontier, 1.03, f"trained to {manifest.frontier}", ha="center", color=_FRONTIER)
    axes.axhline(0.99, color="#9ca3af", linewidth=0.7, linestyle=":")
    axes.set(ylabel="exact match", ylim=(-0.02, 1.02))
    axis.name(axes)
    axes.set_xlim(left=axis.first)
    bar = axes.figure.colorbar(plt.cm.ScalarMappable(plt.Normalize(0, last), _ROUNDS), ax=axes, fraction=0.04, pad=0.02)
    bar.set_label("round")
    bar.locator = plt.MaxNLocator(integer=True)


def _draw_heat(axes: plt.Axes, manifest: Manifest, axis: _Axis) -> None:
    grid = np.full((len(manifest.rounds), axis.last - axis.first + 1), np.nan)
    for row, record in zip(grid, manifest.rounds, strict=True):
        for difficulty, value in record.accuracy.items():
            row[axis.place(difficulty) - axis.first] = value
    extent = (axis.first - 0.5, axis.last + 0.5, -0.5, len(manifest.rounds) - 0.5)
    image = axes.imshow(grid, origin="lower", aspect="auto", cmap="viridis", vmin=0, vmax=1, extent=extent)
    reached, frontiers = 0, []
    for record in manifest.rounds:
        reached = max(reached, *map(hardest, record.difficulties))
        frontiers.append(axis.end_of(reached))
    axes.plot(
        [f + 0.5 for f in frontiers],
        range(len(frontiers)),
        color=_FRONTIER,
        marker="|",
        linestyle="--",
        linewidth=1,
    )
    axes.set(ylabel="round")
    axis.name(axes)
    axes.yaxis.set_major_locator(plt.MaxNLocator(integer=True))
    axes.figure.colorbar(image, ax=axes, fraction=0.04, pad=0.02).set_label("exact match")

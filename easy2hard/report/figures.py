"""The picture of a run: accuracy by difficulty, a line per round, and the same as a round x difficulty map."""

from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import LinearSegmentedColormap

from easy2hard.errors import UserError
from easy2hard.runs.manifest import Manifest, RunDirectory, hardest

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
        _draw_lines(lines, manifest)
        _draw_heat(heat, manifest)
        figure.suptitle(_title(run, manifest))
        out.parent.mkdir(parents=True, exist_ok=True)
        try:
            figure.savefig(out, dpi=160)
        finally:
            plt.close(figure)


def _title(run: RunDirectory, manifest: Manifest) -> str:
    supervised = run.settings.supervised.difficulty
    members = run.settings.model.members
    voters = f"{members} members" if members > 1 else "one member"
    reach = f"taught to {supervised}, taught itself to {manifest.frontier}"
    return f"{manifest.task}: {reach} ({voters}, seed {manifest.seed})"


def _draw_lines(axes: plt.Axes, manifest: Manifest) -> None:
    last = max(len(manifest.rounds) - 1, 1)
    for record in manifest.rounds:
        difficulties = [int(d) for d in record.accuracy]
        values = list(record.accuracy.values())
        axes.plot(difficulties, values, color=_ROUNDS(record.round / last), linewidth=1.4, zorder=2 + record.round)
    supervised = max(map(hardest, manifest.rounds[0].difficulties))
    axes.axvspan(0.5, supervised + 0.5, color="#eef1f5", zorder=0)
    axes.text(0.98 * supervised, 0.02, "supervised", ha="right", va="bottom", color="#6b7280")
    axes.axvline(manifest.frontier, color=_FRONTIER, linestyle="--", linewidth=1.2)
    axes.text(manifest.frontier, 1.03, f"trained to {manifest.frontier}", ha="center", color=_FRONTIER)
    axes.axhline(0.99, color="#9ca3af", linewidth=0.7, linestyle=":")
    axes.set(xlabel="difficulty (digits)", ylabel="exact match", ylim=(-0.02, 1.02))
    axes.set_xlim(left=1)
    bar = axes.figure.colorbar(plt.cm.ScalarMappable(plt.Normalize(0, last), _ROUNDS), ax=axes, fraction=0.04, pad=0.02)
    bar.set_label("round")
    bar.locator = plt.MaxNLocator(integer=True)


def _draw_heat(axes: plt.Axes, manifest: Manifest) -> None:
    last = max(int(d) for record in manifest.rounds for d in record.accuracy)
    grid = np.full((len(manifest.rounds), last), np.nan)
    for row, record in zip(grid, manifest.rounds, strict=True):
        for difficulty, value in record.accuracy.items():
            row[int(difficulty) - 1] = value
    extent = (0.5, last + 0.5, -0.5, len(manifest.rounds) - 0.5)
    image = axes.imshow(grid, origin="lower", aspect="auto", cmap="viridis", vmin=0, vmax=1, extent=extent)
    reached, frontiers = 0, []
    for record in manifest.rounds:
        reached = max(reached, *map(hardest, record.difficulties))
        frontiers.append(reached)
    axes.plot(
        [f + 0.5 for f in frontiers],
        range(len(frontiers)),
        color=_FRONTIER,
        marker="|",
        linestyle="--",
        linewidth=1,
    )
    axes.set(xlabel="difficulty (digits)", ylabel="round")
    axes.yaxis.set_major_locator(plt.MaxNLocator(integer=True))
    axes.figure.colorbar(image, ax=axes, fraction=0.04, pad=0.02).set_label("exact match")

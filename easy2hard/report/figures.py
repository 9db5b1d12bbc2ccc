"""Figures for a paper: charts of one run, or of several side by side, in a file."""

import io
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path

import matplotlib.pyplot as plt

from easy2hard.errors import UserError
from easy2hard.report import charts, paper
from easy2hard.report.chart import Chart
from easy2hard.report.compare import RunGroup, groups_of
from easy2hard.report.place import put
from easy2hard.report.rundata import read_run
from easy2hard.report.series import is_one_run, measured_by

FORMATS = (".pdf", ".svg", ".png")
Groups = Sequence[RunGroup]


def _accuracy(groups: Groups) -> Chart:
    return charts.accuracy_chart(groups, last=True)


def _map(groups: Groups) -> Chart:
    if len(groups) > 1:
        raise UserError("--figure map: of runs that differ in their seed alone; these have other settings, too")
    return charts.map_chart(groups[0])


FIGURES: dict[str, Callable[[Groups], list[Chart]]] = {
    "overview": lambda groups: [_accuracy(groups), (_map if is_one_run(groups) else charts.reach_chart)(groups)],
    "accuracy": lambda groups: [_accuracy(groups)],
    "map": lambda groups: [_map(groups)],
    "reach": lambda groups: [charts.reach_chart(groups)],
    "labels": lambda groups: [charts.share_chart(groups, charts.PRECISION), charts.share_chart(groups, charts.KEPT)],
    "calibration": lambda groups: [charts.calibration_chart(groups)],
    "loss": lambda groups: [charts.loss_chart(groups)],
}
_OF_LABELS = ("labels", "calibration")


def plot_runs(paths: Sequence[Path], figure: str, out: Path | None = None) -> tuple[Path, list[str]]:
    """Draw runs into a file whose ending chooses the format; return where it is, and what is damaged in them.

    Args:
        paths: run directories; those that differ in their seed alone are one line, the mean, with its range.
        figure: one of ``FIGURES``.
        out: the file; default: a PDF in the run, of several runs here.

    Raises:
        UserError: the ending is none of ``FORMATS``, there is no such figure, or a run has nothing to draw; or the
            file cannot be written into the run.
    """
    if out is not None and out.suffix not in FORMATS:
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
    drawn = FIGURES[figure](groups)
    for chart in drawn:
        if chart.empty:
            raise UserError(f"{runs[0].path}: nothing was measured for {chart.title!r}, so there is nothing to draw")
    wide = len(drawn) > 1
    with plt.rc_context(paper.STYLE):
        size = (paper.PAGE if wide else paper.COLUMN, paper.HEIGHT)
        sheet, panels = plt.subplots(1, len(drawn), figsize=size, layout="constrained", squeeze=False)
        try:
            for panel, chart in zip(panels[0], drawn, strict=True):
                paper.draw(panel, chart)
            by = "" if figure in (*_OF_LABELS, "loss") else measured_by(groups)
            sheet.suptitle(_title(groups, by, 120 if wide else 62))
            content = io.BytesIO()
            sheet.savefig(content, dpi=220, format=out.suffix[1:] if out else "pdf")
        finally:
            plt.close(sheet)
    place = put(content.getvalue(), out, paths, f"{figure}.pdf")
    return place, [f"{run.path}: {problem}" for run in runs for problem in run.problems]


def _title(groups: Groups, by: str, width: int) -> str:
    manifests = [run.manifest for group in groups for run in group.runs]
    marks = dict.fromkeys(mark for manifest in manifests for mark in (*manifest.marks, *manifest.remarks))
    run = groups[0].runs[0]
    title = run.manifest.task
    if is_one_run(groups):
        members = run.settings.model.members if run.settings else 0
        voters = {0: "", 1: "one member, "}.get(members, f"{members} members, ")
        taught = f"taught to {run.supervised}, taught itself to {run.manifest.frontier}"
        title = f"{title}: {taught} ({voters}seed {run.manifest.seed})"
    elif len(groups) == 1:
        title = f"{title}: mean and range of {len(groups[0].runs)} seeds"
    lines = [title, *([f"last round: {by}"] if by else []), *marks]
    return paper.plain("\n".join(line for text in lines for line in textwrap.wrap(text, width)))

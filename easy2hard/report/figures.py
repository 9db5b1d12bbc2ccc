"""Figures for a paper: charts of one run, or of several side by side, in a file."""

import io
import shutil
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.backends.backend_pgf import LatexError

from easy2hard.errors import UserError
from easy2hard.report import charts, paper
from easy2hard.report.chart import Chart
from easy2hard.report.compare import RunGroup, groups_of
from easy2hard.report.place import put
from easy2hard.report.rundata import read_run
from easy2hard.report.series import is_one_run, measured_by

FORMATS = (".pdf", ".svg", ".png", ".pgf")
GENERIC = ("serif", "sans-serif", "monospace")
TEX = ("xelatex", "lualatex", "pdflatex")
"""Programs that matplotlib can ask how wide a text is; a PGF is laid out by one of them."""
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


def plot_runs(
    paths: Sequence[Path], figure: str, out: Path | None = None, layout: paper.Layout = paper.USUAL
) -> tuple[Path, list[str]]:
    """Draw runs into a file whose ending chooses the format; return where it is, and what is damaged in them.

    Args:
        paths: run directories; those that differ in their seed alone are one line, the mean, with its range.
        figure: one of ``FIGURES``.
        out: the file; default: a PDF in the run, of several runs here.
        layout: its width and its text.

    Raises:
        UserError: the ending is none of ``FORMATS``, there is no such figure, or a run has nothing to draw; the layout
            is none; a PGF is wanted and there is no TeX; or the file cannot be written into the run.
    """
    if out is not None and out.suffix not in FORMATS:
        raise UserError(f"--out {out}: the file must end in one of {', '.join(FORMATS)}")
    kind = out.suffix[1:] if out else "pdf"
    style, inches = layout.style(), layout.inches
    if kind == "pgf":
        style |= _tex_style(layout)
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
    wide = len(drawn) > 1 and (inches is None or inches >= paper.BESIDE)
    rows = 1 if wide else len(drawn)
    with plt.rc_context(style):
        usual = paper.PAGE if wide else paper.COLUMN
        height = paper.HEIGHT * rows * (inches or usual) / usual
        form = (rows, len(drawn) // rows)
        sheet, panels = plt.subplots(*form, figsize=(usual, height), layout="constrained", squeeze=False)
        try:
            for panel, chart in zip(panels.flat, drawn, strict=True):
                paper.draw(panel, chart)
            by = "" if figure in (*_OF_LABELS, "loss") else measured_by(groups)
            if inches is not None:  # after the legend, which may widen a figure that has no width of its own
                sheet.set_figwidth(inches)
            letters = (120 if wide else 62) * (inches or usual) / usual * paper.STYLE["font.size"] / style["font.size"]
            if title := _title(groups, by, max(20, int(letters)), layout.title):
                sheet.suptitle(title)
            if kind == "pgf":
                paper.for_tex(sheet)
            content = io.BytesIO()
            sheet.savefig(content, dpi=220, format=kind)
        except (LatexError, ValueError) as error:
            cause = error if isinstance(error, LatexError) else error.__cause__  # a text that it cannot measure
            if not isinstance(cause, LatexError):
                raise
            lines = str(cause).strip().splitlines()
            said = next((line for line in lines if line.startswith("!")), lines[-1])
            raise UserError(f"--out {out}: {style['pgf.texsystem']} cannot lay the text out: {said}") from error
        finally:
            plt.close(sheet)
    place = put(content.getvalue(), out, paths, f"{figure}.pdf")
    return place, [f"{run.path}: {problem}" for run in runs for problem in run.problems]


def _tex_style(layout: paper.Layout) -> dict[str, object]:
    """Return the settings of matplotlib for PGF, whose font is that of the document that includes it."""
    if layout.font not in (None, *GENERIC):
        raise UserError(f"--font {layout.font}: a .pgf has the fonts of its document; allowed: {', '.join(GENERIC)}")
    found = next(filter(shutil.which, TEX), None)
    if found is None:
        raise UserError(
            f"--out: a .pgf needs TeX, which says how wide a text is, and none of {', '.join(TEX)} is installed: "
            "install TeX Live (on Debian: apt install texlive-xetex), or write .pdf or .svg"
        )
    return {"pgf.texsystem": found, "pgf.rcfonts": False}


def _title(groups: Groups, by: str, width: int, whole: bool = True) -> str:
    """Return the title, and what must be said of the runs; that alone where ``whole`` is false."""
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
    lines = [*([title, *([f"last round: {by}"] if by else [])] if whole else []), *marks]
    return paper.plain("\n".join(line for text in lines for line in textwrap.wrap(text, width)))

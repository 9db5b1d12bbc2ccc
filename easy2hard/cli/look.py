"""Commands that show runs: list, watch, report, plot, frame, du."""

from pathlib import Path
from typing import Annotated

import typer

from easy2hard.cli.app import LOOK, app
from easy2hard.cli.arguments import JsonOption, PluginOption, RunArgument, RunsArgument, load_plugins
from easy2hard.cli.output import results, say, say_json, say_table, tell, warn
from easy2hard.errors import UserError
from easy2hard.text import counted

LONGEST_PAUSE = 86_400
"""Seconds between two looks at most."""


@app.command("list", rich_help_panel=LOOK)
def list_runs(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="where to look, in all folders below")] = Path("runs"),
    as_json: JsonOption = False,
) -> None:
    """List runs, and how far each of them climbed.

    Task, state, rounds done, how far they answer at least 99 %, age since the last change.

    Example: easy2hard list runs --json
    """
    from dataclasses import asdict

    from easy2hard.report.terminal import list_table, listed, runs_in

    runs = [listed(path) for path in runs_in(folder)]
    if as_json:
        say_json([asdict(run) for run in runs])
    elif not runs:
        tell(f"{folder}: no runs")
    else:
        say_table(list_table(runs))


@app.command(rich_help_panel=LOOK)
def watch(
    run: RunArgument,
    every: Annotated[float, typer.Option(metavar="SECONDS", help="time between two looks")] = 1.0,
    once: Annotated[bool, typer.Option("--once", help="show the run as it is now, and return")] = False,
) -> None:
    """Watch a run live in the terminal.

    Ctrl-C ends the view, not the run.

    Example: easy2hard watch runs/copy-cpu-seed0
    """
    from easy2hard.report import terminal

    if not 0.1 <= every <= LONGEST_PAUSE:  # what is no number at all is in no range either
        raise UserError(f"--every {every:g}: expected 0.1 to {LONGEST_PAUSE:,} seconds")
    try:
        terminal.watch(run, results(), every, once)
    except KeyboardInterrupt:
        say("")


@app.command(rich_help_panel=LOOK)
def report(
    runs: RunsArgument,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE.html", help="the page; default: RUN/report.html, of several runs report.html"),
    ] = None,
    plugins: PluginOption = None,
) -> None:
    """Write one page about runs that opens offline.

    How far did it get, can the labels be trusted, what went wrong, what did it cost?

    Example: easy2hard report runs/copy-cpu-seed0 runs/copy-cpu-seed1 --out copy.html
    """
    load_plugins(plugins)

    from easy2hard.report.page import write_report

    say(str(write_report(runs, out)))


@app.command(rich_help_panel=LOOK)
def plot(
    runs: RunsArgument,
    figure: Annotated[
        str,
        typer.Option(metavar="NAME", help="overview, accuracy, map, reach, labels, calibration or loss"),
    ] = "overview",
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help=".pdf, .svg, .png or .pgf; default: RUN/NAME.pdf, of several NAME.pdf"),
    ] = None,
    width: Annotated[
        str | None,
        typer.Option(metavar="WIDTH", help="such as 89mm or 3.5in; default: 3.5in for one panel, 7.2in for two"),
    ] = None,
    font: Annotated[str | None, typer.Option(metavar="FAMILY", help="an installed font, such as serif")] = None,
    font_size: Annotated[float | None, typer.Option(metavar="POINTS", help="default: 8")] = None,
    no_title: Annotated[bool, typer.Option("--no-title", help="leave the title to the paper's caption")] = False,
    plugins: PluginOption = None,
) -> None:
    """Draw a chart of runs for a paper.

    Runs that differ in their seed alone become a mean with its range.

    Example: easy2hard plot runs/copy-cpu-seed0 --figure labels --width 89mm --no-title --out labels.pdf
    """
    load_plugins(plugins)

    from easy2hard.report.figures import plot_runs
    from easy2hard.report.paper import Layout

    place, problems = plot_runs(runs, figure, out, Layout(width, font, font_size, not no_title))
    for problem in problems:
        warn(f"warning: {problem}")
    say(str(place))


@app.command(rich_help_panel=LOOK)
def frame(
    runs: RunsArgument,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help=".parquet or .csv; default: CSV on standard output")
    ] = None,
    labels: Annotated[bool, typer.Option("--labels", help="a row for each label instead of each score")] = False,
    audit: Annotated[
        bool, typer.Option("--audit", help="add what the true answers say: precision and recall, or right of a label")
    ] = False,
    plugins: PluginOption = None,
) -> None:
    """Write runs as one tidy table.

    A row for each run, round and difficulty: scores, labels, signals. For pandas, R or a spreadsheet.

    Example: easy2hard frame runs/copy-cpu-seed0 runs/copy-cpu-seed1 --out copy.parquet
    """
    load_plugins(plugins)

    from easy2hard.runs.frames import csv_text, labels_table, opened, rounds_table, writer

    write = writer(out) if out else lambda table: say(*csv_text(table).rstrip("\n").split("\n"))
    table = (labels_table if labels else rounds_table)(opened(runs), audit)
    write(table)
    if out:
        say(f"{out}: {counted(len(table), 'row')}")


@app.command(rich_help_panel=LOOK)
def du(run: RunArgument, as_json: JsonOption = False) -> None:
    """Show what a run takes on disk.

    Weights, ledgers, training logs, checkpoints.

    Example: easy2hard du runs/copy-cpu-seed0
    """
    from easy2hard.api.opened import Run

    sizes = Run(run).du()
    if as_json:
        say_json(sizes)
    else:
        say(*(f"{name:>12}  {size / 1e6:>10.2f} MB" for name, size in sizes.items()))

"""The command sweep."""

from pathlib import Path
from typing import Annotated

import typer

from easy2hard.cli.app import TRAIN, app
from easy2hard.cli.arguments import DeviceOption, PluginOption, SetOption, SweepArgument
from easy2hard.cli.output import say, say_table, warn
from easy2hard.cli.run import on_interrupt


@app.command(rich_help_panel=TRAIN)
def sweep(
    file: SweepArgument,
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="where its runs go; default: runs/NAME")] = None,
    overrides: SetOption = None,
    at_once: Annotated[
        int,
        typer.Option(
            "--processes", metavar="N", min=1, max=1000, help="runs at a time, each with its share of the cores"
        ),
    ] = 1,
    jobs: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="run nothing: write a command line for each run that is left, for a cluster"),
    ] = None,
    device: DeviceOption = "auto",
    plugins: PluginOption = None,
) -> None:
    """Run an experiment's variants over several seeds, and compare them.

    The same command goes on where it was stopped.

    Example: easy2hard sweep filters-copy --processes 2
    """
    from rich.table import Table

    from easy2hard.api.opened import Run

    on_interrupt()
    try:
        results = Run.sweep(
            file, out, overrides=overrides or (), processes=at_once, jobs=jobs, device=device, plugins=plugins or ()
        )
    except KeyboardInterrupt:
        warn("stopped and kept: the same command goes on from here")
        raise typer.Exit(130) from None
    found = results.comparison
    table = Table(*found.head)
    for line in found.rows:
        table.add_row(*line)
    say_table(table)
    say(*found.notes, *map(str, results.written))
    if jobs is None and results.failed:
        raise typer.Exit(1)

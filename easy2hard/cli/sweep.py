"""The command sweep."""

from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand
from typing_extensions import override

from easy2hard.cli.app import TRAIN, app
from easy2hard.cli.arguments import DeviceOption, PluginOption, SetOption, SweepArgument
from easy2hard.cli.output import say, say_table, tell, warn
from easy2hard.cli.run import measuring, on_interrupt


class _BareRay(TyperCommand):
    """Takes ``--ray`` without an address, too."""

    @override
    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        following = [*args, "-"][1:]
        bare = [word == "--ray" and after.startswith("-") for word, after in zip(args, following, strict=True)]
        return super().parse_args(ctx, ["--ray=" if each else word for word, each in zip(args, bare, strict=True)])


@app.command(cls=_BareRay, rich_help_panel=TRAIN)
def sweep(
    file: SweepArgument,
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="where its runs go; default: runs/NAME")] = None,
    overrides: SetOption = None,
    at_once: Annotated[
        int,
        typer.Option(
            "--processes",
            metavar="N",
            min=1,
            max=1000,
            help="runs at a time, each with its share of the cores; with --ray: on each machine",
        ),
    ] = 1,
    ray: Annotated[
        str | None,
        typer.Option(
            metavar="[ADDRESS]",
            help="run on a Ray cluster, a task for each run; without an address, the one that is found or started here",
        ),
    ] = None,
    jobs: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="run nothing: write a command line for each run that is left, for a cluster"),
    ] = None,
    against: Annotated[
        str | None,
        typer.Option(metavar="oracle", help="add to each variant the same with labels that the oracle judges: the gap"),
    ] = None,
    estimate: Annotated[bool, typer.Option("--estimate", help="run nothing: say how long it will take")] = False,
    device: DeviceOption = "auto",
    plugins: PluginOption = None,
) -> None:
    """Run an experiment's variants over several seeds, and compare them.

    The same command goes on where it was stopped. A recipe is a sweep of one variant, over three seeds.

    Example: easy2hard sweep filters-copy --processes 2
    """
    from rich.table import Table

    from easy2hard.api.opened import Run

    if estimate:
        _estimate(file, out, against, overrides, device, plugins)
        return
    on_interrupt()
    try:
        results = Run.sweep(
            file,
            out,
            against=against,
            overrides=overrides or (),
            processes=at_once,
            jobs=jobs,
            ray=ray is not None and (ray or True),
            device=device,
            plugins=plugins or (),
        )
    except KeyboardInterrupt:
        warn("stopped and kept: the same command goes on from here")
        raise typer.Exit(130) from None
    found = results.comparison
    tell(*filter(None, (found.question, found.verdict)))
    table = Table()
    for at, name in enumerate(found.head):
        table.add_column(name, overflow="ellipsis" if at else "fold")
    for line in found.rows:
        table.add_row(*line)
    say_table(table)
    tell(*found.notes)
    say(*map(str, results.written))
    if jobs is None and results.failed:
        raise typer.Exit(1)


def _estimate(
    file: str,
    out: Path | None,
    against: str | None,
    overrides: list[str] | None,
    device: str,
    plugins: list[Path] | None,
) -> None:
    from easy2hard.api.sweeping import laboratory
    from easy2hard.sweep.forecast import estimated

    asked = laboratory(file, out, against=against, overrides=overrides or (), device=device, plugins=plugins or ())
    asked.check()
    with measuring() as on_phase:
        found = estimated(asked, on_phase)
    tell(*found.lines())

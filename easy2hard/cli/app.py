"""The application that commands register with, and how its help lists them."""

from typing import Annotated, Any

import typer
from typer.core import TyperGroup
from typing_extensions import override

from easy2hard import __version__
from easy2hard.cli.output import say

TRAIN, LOOK, JUDGE, DATA = "Train", "Look", "Judge and use", "Tasks and recipes"
"""The groups of the help, in its order."""


class Grouped(TyperGroup):
    """Lists the commands by group, a line each. A summary is never cut: where a terminal is narrow it is wrapped."""

    @override
    def get_params(self, ctx: Any) -> list[Any]:
        params: list[Any] = super().get_params(ctx)
        for each in params:
            if each.name == "show_completion":
                each.help = "Show what --install-completion installs."  # typer's own takes two lines
        return params

    @override
    def format_commands(self, ctx: Any, formatter: Any) -> None:
        commands = [command for name in self.list_commands(ctx) if (command := self.get_command(ctx, name))]
        widest = max(len(command.name or "") for command in commands)
        for panel in (TRAIN, LOOK, JUDGE, DATA):
            with formatter.section(panel):
                formatter.write_dl(
                    [
                        ((command.name or "").ljust(widest), command.get_short_help_str(limit=1000))
                        for command in commands
                        if getattr(command, "rich_help_panel", None) == panel
                    ]
                )


app = typer.Typer(
    cls=Grouped,
    help="Transformers that teach themselves harder problems than they were taught.",
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(asked: bool) -> None:
    if asked:
        say(f"easy2hard {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None: ...

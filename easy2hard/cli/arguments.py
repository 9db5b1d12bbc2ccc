"""Arguments and options that several commands share, with their shell completion."""

import os
from pathlib import Path
from typing import Annotated

import typer


def _recipes(incomplete: str) -> list[str]:
    """Return what a shell may complete a recipe to."""
    from easy2hard.settings.recipes import recipe_names

    return [name for name in [*recipe_names(), *map(str, Path().glob("*.toml"))] if name.startswith(incomplete)]


def _sweeps(incomplete: str) -> list[str]:
    """Return what a shell may complete a sweep to."""
    from easy2hard.settings.recipes import shipped

    return [name for name in shipped("sweeps") if name.startswith(incomplete)] + _recipes(incomplete)


def _tasks(incomplete: str) -> list[str]:
    """Return what a shell may complete a task to."""
    from easy2hard.tasks.registry import task_names

    return [name for name in task_names() if name.startswith(incomplete)]


def _runs(incomplete: str) -> list[str]:
    """Return what a shell may complete a run to: directories that are one, and those that may hold one."""
    folder = Path(incomplete) if incomplete.endswith(os.sep) else Path(incomplete).parent
    return [
        str(path) if (path / "manifest.json").is_file() else f"{path}{os.sep}"
        for path in (sorted(folder.iterdir()) if folder.is_dir() else [])
        if path.is_dir() and str(path).startswith(incomplete) and not path.name.startswith(".")
    ]


RunArgument = Annotated[Path, typer.Argument(metavar="RUN", help="a run directory", autocompletion=_runs)]
RunsArgument = Annotated[list[Path], typer.Argument(metavar="RUN...", help="run directories; several are compared")]
RecipeArgument = Annotated[
    str, typer.Argument(metavar="RECIPE", help="a shipped recipe or a TOML file", autocompletion=_recipes)
]
ShippedArgument = Annotated[
    str | None, typer.Argument(metavar="NAME", help="a shipped recipe to print", autocompletion=_recipes)
]
SweepArgument = Annotated[
    str, typer.Argument(metavar="NAME", help="a shipped sweep, a sweep file, or a recipe", autocompletion=_sweeps)
]
TaskArgument = Annotated[
    str, typer.Argument(metavar="TASK", help="a task, one of `easy2hard tasks`", autocompletion=_tasks)
]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", metavar="SECTION.KEY=VALUE", help="replace a setting; repeatable")
]
TaskOption = Annotated[
    list[str] | None, typer.Option("--option", metavar="NAME=VALUE", help="an option of the task; repeatable")
]
PluginOption = Annotated[
    list[Path] | None,
    typer.Option("--plugin", metavar="FILE.py", help="a Python file that adds a task, filter …; it is run as code"),
]
ScaleOption = Annotated[
    str | None,
    typer.Option(metavar="SIZE", help="shrink the recipe first; laptop: a tiny model, fewer steps and labels"),
]
DeviceOption = Annotated[
    str, typer.Option(metavar="DEVICE", help="auto, cpu, cuda, cuda:N or mps; auto takes a GPU where there is one")
]
JsonOption = Annotated[bool, typer.Option("--json", help="print JSON")]


def load_plugins(paths: list[Path] | None) -> None:
    """Load the plug-ins of ``--plugin``, if any are given."""
    if paths:
        from easy2hard.runs import request

        request.load_plugins(paths)

"""What a user asks for: settings from a recipe and what replaces them, plug-ins, and where a run goes."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from easy2hard.settings.recipes import load_recipe
from easy2hard.settings.schema import Settings

Plugins = str | Path | Sequence[str | Path]
"""Python files that add something (docs/extending.md); one, or several."""


def settings_of(
    recipe: str | Path,
    overrides: Sequence[str] = (),
    plugins: Plugins = (),
    values: dict[str, Any] | None = None,
    scale: str | None = None,
) -> Settings:
    """Return a recipe's settings with its replacements; plug-ins with one task bring that task's name.

    Args:
        recipe: a shipped recipe or the path of a TOML file.
        overrides: ``section.key=value`` texts.
        plugins: Python files that add something.
        values: values by setting, two underscores for a dot.
        scale: a size to bring the recipe to before anything is replaced.

    Raises:
        UserError: naming the setting that is not allowed.
    """
    names = load_plugins(plugins)
    own = [f"task.name={names[0]}"] if len(names) == 1 else []
    replaced = {name.replace("__", "."): value for name, value in (values or {}).items()}
    return load_recipe(str(recipe), [*own, *overrides], replaced, scale)


def default_out(recipe: str | Path, settings: Settings, scale: str | None = None) -> Path:
    """Return where a run of a recipe goes when nobody says."""
    return Path("runs") / f"{Path(recipe).stem}{f'-{scale}' if scale else ''}-seed{settings.seed}"


def as_paths(paths: Plugins) -> list[Path]:
    """Return one path or several as a list."""
    return [Path(paths)] if isinstance(paths, str | Path) else list(map(Path, paths))


def unused_plugins(settings: Settings, paths: Plugins) -> list[str]:
    """Return a line for each plug-in file of which settings do not use all: what it has, and what of it they use."""
    from easy2hard.plugins import load_file
    from easy2hard.runs.origins import origins_of

    used = {(origin.kind, origin.name) for origin in origins_of(settings)}
    lines = []
    for path in as_paths(paths):
        names = [(thing.kind, thing.extension_name()) for thing in load_file(path)]
        if not used.issuperset(names):
            said = (f"{kind} {name} ({'used' if (kind, name) in used else 'not used'})" for kind, name in names)
            lines.append(f"--plugin {path}: has {', '.join(said)}")
    return lines


def load_plugins(paths: Plugins) -> list[str]:
    """Run Python files that add something, and return the names of the tasks among what they define.

    Raises:
        UserError: a file is missing, fails, or defines nothing that can be added.
    """
    from easy2hard.plugins import load_file
    from easy2hard.tasks.oracle import Oracle
    from easy2hard.tasks.registry import TASKS

    things = [thing for path in as_paths(paths) for thing in load_file(path)]
    return [name for thing in things if issubclass(thing, Oracle) and (name := thing.extension_name()) in TASKS.names()]

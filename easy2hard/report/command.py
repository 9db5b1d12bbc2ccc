"""The command that makes a run again: a shipped recipe and what was set besides, or else the run's own settings."""

import re
import shlex
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from easy2hard.errors import UserError
from easy2hard.report.rundata import RunData
from easy2hard.settings.docs import inline
from easy2hard.settings.recipes import load_recipe, parse_settings, parse_toml, recipe_names
from easy2hard.settings.scaling import SCALES
from easy2hard.settings.schema import Settings

BARE = re.compile(r"[A-Za-z][\w-]*")
"""Text that needs no quotes after ``--set``."""


def command_of(run: RunData) -> str | None:
    """Return the command that makes a run again, in a new directory; None where its settings cannot be read.

    A recipe counts as the run's if it has the same description; of the sizes it can be brought to, the one with the
    fewest settings besides. It is returned only after it was tried: it gives the settings of the run, all of them.
    """
    if run.settings is None:
        return None
    found = [
        words
        for name in recipe_names()
        if _base(name, None).description == run.settings.description
        for scale in (None, *SCALES)
        if (words := _from_recipe(name, scale, run.settings)) is not None
    ]
    words = min(found, key=len, default=None) or _from_settings(run)
    if words is None:
        return None
    words += ["--blindfold"] * run.manifest.blindfold
    for file in dict.fromkeys(each.file for each in run.manifest.plugins):
        words += ["--plugin", file]
    return shlex.join(["easy2hard", "run", *words, "--out", f"{run.name}-again"])


@cache
def _base(name: str, scale: str | None) -> Settings:
    return load_recipe(name, scale=scale)


def _from_recipe(name: str, scale: str | None, settings: Settings) -> list[str] | None:
    base, wanted = (each.model_dump(exclude_none=True) for each in (_base(name, scale), settings))
    overrides = [f"{key}={_toml(value)}" for key, value in _changes(base, wanted) if key != "seed"]
    try:
        if load_recipe(name, overrides, {"seed": settings.seed}, scale) != settings:
            return None
    except UserError:  # a filter of a plug-in, or a key that --set cannot name
        return None
    words = [name, *(["--scale", scale] if scale else []), *(word for each in overrides for word in ("--set", each))]
    return words + (["--seed", str(settings.seed)] if settings.seed != base["seed"] else [])


def _from_settings(run: RunData) -> list[str] | None:
    """Return the run's own file, if it is a recipe: that of version 0.1 has other keys."""
    file = run.path / "settings.toml"
    try:
        same = parse_settings(parse_toml(run.settings_text.encode(), str(file)), reading=True) == run.settings
    except UserError:
        return None
    return [str(file)] if same else None


def _changes(before: Mapping[str, Any], after: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in after.items():
        old = before.get(key)
        if isinstance(value, dict) and value:
            yield from _changes(old if isinstance(old, dict) else {}, value, f"{prefix}{key}.")
        elif value != old:
            yield prefix + key, value


def _toml(value: Any) -> str:
    """Return a value as ``--set`` takes it: a name has no quotes."""
    return value if isinstance(value, str) and BARE.fullmatch(value) else inline(value)

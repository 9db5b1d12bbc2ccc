"""Reading settings: recipes (TOML files, shipped or of one's own), what replaces their values, and one-line errors."""

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from importlib import resources
from pathlib import Path
from types import MappingProxyType
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from easy2hard.errors import UserError
from easy2hard.files import read_inside
from easy2hard.plugins import FILTERS
from easy2hard.settings.filters import READING
from easy2hard.settings.renamed import renamed, translated
from easy2hard.settings.scaling import SCALES
from easy2hard.settings.schema import Settings
from easy2hard.text import decode, shown

GREATEST = 1 << 24
"""Bytes of a TOML file that are read at most."""

SETTINGS_BYTES = 1 << 20
"""No ``settings.toml`` has more."""


def shipped(folder: str) -> list[str]:
    """Return the names of the TOML files in a folder of the package, sorted."""
    items = (resources.files("easy2hard") / folder).iterdir()
    return sorted(item.name.removesuffix(".toml") for item in items if item.name.endswith(".toml"))


def close_to(name: str, folder: str) -> str:
    """Return the names in a folder of the package that are like one that is not there; all of them where none is."""
    names = shipped(folder)
    close = get_close_matches(name, names, 5, 0.5)
    return f"closest: {', '.join(close)}" if close else f"there are {', '.join(names)}"


def read_toml(kind: str, name: str) -> dict[str, Any]:
    """Return what a shipped TOML file or one of the user's holds.

    Args:
        kind: ``recipe`` or ``sweep``; the shipped ones are in the folder of the package that is called so, with an s.
        name: one of :func:`shipped`, or a path.

    Raises:
        UserError: there is no such file, or it is not TOML.
    """
    if name in shipped(f"{kind}s"):
        content = (resources.files("easy2hard") / f"{kind}s" / f"{name}.toml").read_bytes()
    elif Path(name).exists() and not Path(name).is_dir():  # a pipe, too: /dev/stdin, or what a shell makes of <(…)
        with Path(name).open("rb") as file:
            content = file.read(GREATEST + 1)
        if len(content) > GREATEST:
            raise UserError(f"{kind} {name!r}: more than {GREATEST >> 20} MiB is no {kind}")
    else:
        raise UserError(f"{kind} {name!r}: neither a TOML file nor a shipped {kind} ({close_to(name, f'{kind}s')})")
    return parse_toml(content, f"{kind} {name!r}")


def parse_toml(content: bytes, what: str) -> dict[str, Any]:
    """Return what a TOML file holds.

    Raises:
        UserError: it is not TOML; ``what`` it is stands first.
    """
    try:
        return tomllib.loads(decode(content))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{what}: not valid TOML: {error}") from error


def recipe_names() -> list[str]:
    """Return the names of the shipped recipes, sorted."""
    return shipped("recipes")


def load_recipe(
    recipe: str,
    overrides: Sequence[str] = (),
    replaced: Mapping[str, Any] = MappingProxyType({}),
    scale: str | None = None,
) -> Settings:
    """Return the settings of a shipped recipe or a TOML file.

    Args:
        recipe: a name of :func:`recipe_names`, or the path of a file that ends in ``.toml``.
        overrides: ``section.key=value`` texts, applied in order; a value is TOML, or else a plain string.
        replaced: values by ``section.key``, applied after the texts.
        scale: a size to bring the recipe to first (scaling.py); default: as it is.

    Raises:
        UserError: the recipe or the scale is unknown or a setting is not allowed.
    """
    values = read_toml("recipe", recipe)
    if scale is not None:
        if scale not in SCALES:
            raise UserError(f"--scale {scale}: unknown (allowed: {', '.join(SCALES)})")
        values = SCALES[scale](parse_settings(values).model_dump(exclude_none=True))
    for override in overrides:
        _override(values, override)
    for path, value in replaced.items():
        _replace(values, path, value, f"{path} = {shown(value)}")
    return parse_settings(values)


def replaced(settings: Settings, overrides: Sequence[str]) -> Settings:
    """Return settings with some replaced, as :func:`load_recipe` replaces those of a recipe.

    Raises:
        UserError: a setting is not allowed.
    """
    values = settings.model_dump(exclude_none=True)
    for override in overrides:
        _override(values, override)
    return parse_settings(values)


def settings_of_run(path: Path) -> Settings:
    """Return the settings of a run that is there, from its ``settings.toml``.

    A run of version 0.1 has the keys of that version. They are translated here, on reading, and only here: the file
    keeps its bytes, and so the digest in the manifest. Recipes and ``--set`` with old keys are refused instead.

    Raises:
        UserError: the file cannot be read, or a setting is not allowed.
    """
    content = read_inside(path, path.parent, SETTINGS_BYTES)
    return parse_settings(translated(parse_toml(content, f"recipe {str(path)!r}")), reading=True)


def parse_settings(values: dict[str, Any], reading: bool = False) -> Settings:
    """Return validated settings.

    Args:
        values: what a recipe holds.
        reading: let filters and schedules that are not there be, and run no code of a third party.

    Raises:
        UserError: one line naming the first setting that is not allowed, its value and what would be right; or the
            settings that have another name now.
    """
    if line := renamed(values):
        raise UserError(line)
    try:
        return Settings.model_validate(values, context=READING if reading else None)
    except ValidationError as error:
        raise UserError(one_line(error)) from error


def _override(values: dict[str, Any], override: str) -> None:
    path, equals, text = override.partition("=")
    if not equals or not all(path.strip().split(".")):
        raise UserError(f"--set {override!r}: expected section.key=value")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except (ValueError, RecursionError):
        value = text.strip()
    _replace(values, path.strip(), value, f"--set {override!r}")


def _replace(values: dict[str, Any], path: str, value: Any, what: str) -> None:
    *sections, last = path.split(".")
    for section in sections:
        values = values.setdefault(section, {})
        if not isinstance(values, dict):
            raise UserError(f"{what}: {section} is a value, not a section")
    values[last] = value


def one_line(error: ValidationError, root: type[BaseModel] = Settings) -> str:
    """Return what is wrong, and what would be right, of the first of the errors in a file of ``root``."""
    first = error.errors()[0]
    setting = ".".join(str(part) for part in first["loc"]) or root.__name__.lower()
    if first["type"] == "extra_forbidden":
        return f"{setting}: unknown setting (allowed: {', '.join(_known_keys(first['loc'][:-1], root))})"
    if first["type"] == "missing":
        return f"{setting}: missing"
    message = first["msg"].removeprefix("Value error, ")
    message = message[0].lower() + message[1:]
    if first["type"] == "value_error":
        return message if message.startswith(f"{setting} = ") else f"{setting}: {message}"
    if isinstance(first["input"], str) and first["input"].startswith(("[", "{")):  # it was meant as TOML, and is none
        message += ", and a text within it takes quotes: [{name='vote'}]"
    return f"{setting} = {shown(first['input'])}: {message}"


def _known_keys(location: tuple[int | str, ...], root: type[BaseModel]) -> list[str]:
    model = root
    for part in location:
        if root is Settings and (a_filter := FILTERS.loaded(str(part))):
            model = a_filter
        elif isinstance(part, str) and part in model.model_fields:
            model = next(_models_in(model.model_fields[part].annotation), model)
    return sorted(model.model_fields)


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """Yield the sections that an annotation names: its own, one that may be left out, those of a table of them."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for each in get_args(annotation):
        yield from _models_in(each)

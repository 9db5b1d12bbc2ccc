"""The settings in words, read from the schema: the page of all settings and the recipes of `init`."""

import types
import typing
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import tomli_w
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from easy2hard.plugins import FILTERS
from easy2hard.settings.schema import Settings


@dataclass(frozen=True)
class Setting:
    """One setting."""

    path: str
    """As `--set` and a recipe name it, such as ``rounds.count``."""
    kind: str
    """What its value is: ``int``, ``"adamw" | "muon"`` …"""
    default: str
    """As it is written in a recipe; ``required``, or ``not set``."""
    limits: str
    """What its value must keep to, such as ``> 0``; empty where that is all its kind says."""
    description: str

    @property
    def key(self) -> str:
        """The name within its section."""
        return self.path.rpartition(".")[2]


@dataclass(frozen=True)
class SettingsSection:
    """The settings of one section; the first has no name."""

    name: str
    summary: str
    settings: list[Setting]


def sections() -> list[SettingsSection]:
    """Return every setting there is, by section, in the order of a recipe; sections within sections follow theirs."""
    return list(_sections(Settings, ""))


def _sections(model: type[BaseModel], name: str) -> Iterator[SettingsSection]:
    yield SettingsSection(name, model.__doc__ or "", list(_own(model, f"{name}." if name else "")))
    for key, field in model.model_fields.items():
        inner = _model_of(field.annotation)
        if inner is not None:
            yield from _sections(inner, f"{name}.{key}" if name else key)


def filter_sections() -> list[SettingsSection]:
    """Return the settings of each filter of ``labels.filters``."""
    return [
        SettingsSection(name, model.__doc__ or "", [each for each in _own(model, "") if each.key != "name"])
        for name, model in FILTERS.built_in.items()
    ]


def flat(values: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """Return nested values as ``section.key`` and value."""
    return [
        pair
        for key, value in values.items()
        for pair in (flat(value, f"{prefix}{key}.") if isinstance(value, dict) else [(f"{prefix}{key}", value)])
    ]


def inline(value: Any) -> str:
    """Return a value as TOML in one line."""
    if isinstance(value, dict):
        # TOML says which names need quotes.
        parts = (tomli_w.dumps({key: 0}).removesuffix("0\n") + inline(each) for key, each in value.items())
        return f"{{ {', '.join(parts)} }}" if value else "{}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(inline(each) for each in value)}]"
    return tomli_w.dumps({"value": value}).removeprefix("value = ").strip()


def commented(settings: Settings, header: str) -> str:
    """Return settings as a recipe in which everything is explained; what is left at its default is commented out.

    A section that is left out is explained in comments alone.

    Args:
        settings: what the recipe gives.
        header: text above it.
    """
    values = settings.model_dump(exclude_none=True)
    lines = [f"# {line}".rstrip() for line in header.splitlines()]
    for section in sections():
        own: Any = values
        for key in section.name.split(".") if section.name else []:
            own = (own or {}).get(key)
        if own is None:
            lines += ["", f"# {_sentence(section.summary)} Left out here; [{section.name}] takes:"]
            lines += [f"#   {each.key} (default: {each.default}): {each.description}" for each in section.settings]
            continue
        if section.name:
            lines += ["", f"# {_sentence(section.summary)}", f"[{section.name}]"]
        for setting in section.settings:
            value = own.get(setting.key)
            text = "not set" if value is None else inline(value)
            lines.append(f"# {setting.description}" + (f" ({setting.limits})" if setting.limits else ""))
            lines.append(f"# {setting.key} = {text}" if text == setting.default else f"{setting.key} = {text}")
    return "\n".join(lines) + "\n"


def _sentence(text: str) -> str:
    return " ".join(text.split())


def _own(model: type[BaseModel], prefix: str) -> Iterator[Setting]:
    for name, field in model.model_fields.items():
        if _model_of(field.annotation) is None:
            yield Setting(
                f"{prefix}{name}",
                _kind(field.annotation),
                _default(field),
                _limits(field),
                _sentence(field.description or ""),
            )


def _model_of(annotation: Any) -> type[BaseModel] | None:
    """Return the section that a field is, also where it may be left out."""
    for each in (annotation, *typing.get_args(annotation)):
        if isinstance(each, type) and issubclass(each, BaseModel) and not _is_list(annotation):
            return each
    return None


def _is_list(annotation: Any) -> bool:
    return typing.get_origin(annotation) is list


def _kind(annotation: Any) -> str:
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Literal:
        return " | ".join(inline(each) for each in arguments)
    if origin in (types.UnionType, typing.Union):
        return " | ".join(_kind(each) for each in arguments if each is not type(None))
    if origin is list:
        inner = _kind(arguments[0])
        return f"list of {inner if inner in ('float', 'int', 'str') else 'tables'}"
    if origin is dict:
        return "table"
    if origin is typing.Annotated:
        return _kind(arguments[0])
    return getattr(annotation, "__name__", str(annotation))


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    default = field.get_default(call_default_factory=True)
    if default is None:
        return "not set"
    if isinstance(default, list):
        default = [each.model_dump() if isinstance(each, BaseModel) else each for each in default]
    return inline(default)


_SIGNS = {"gt": ">", "ge": ">=", "lt": "<", "le": "<="}


def _limits(field: FieldInfo) -> str:
    return ", ".join(
        f"{sign} {getattr(constraint, name)}"
        for constraint in field.metadata
        for name, sign in _SIGNS.items()
        if getattr(constraint, name, None) is not None
    )

"""Runs that differ in their seed alone are one group: a chart shows its mean and range."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

from easy2hard.report.chart import Line
from easy2hard.report.rundata import RoundData, RunData
from easy2hard.settings.schema import Settings


@dataclass(frozen=True)
class RunGroup:
    """Runs of the same settings."""

    name: str
    runs: list[RunData]


def groups_of(runs: Sequence[RunData]) -> list[RunGroup]:
    """Return the groups in the order of their first runs; a run whose settings cannot be read is alone."""
    found: dict[str, list[RunData]] = {}
    for index, run in enumerate(runs):
        key = str(index)
        if run.settings:
            key = run.settings.model_copy(update={"seed": 0, "description": ""}).to_toml()
        found.setdefault(key, []).append(run)
    groups: list[RunGroup] = []
    for members in found.values():
        name = _common_name([run.name for run in members])
        taken = [group.name for group in groups]
        groups.append(RunGroup(name if name not in taken else f"{name} ({len(groups) + 1})", members))
    return groups


def _common_name(names: Sequence[str]) -> str:
    if len(names) == 1:
        return names[0]
    same = takewhile(lambda letters: len(set(letters)) == 1, zip(*names, strict=False))
    common = (
        "".join(letters[0] for letters in same).rstrip("-_. ").removesuffix("seed").removesuffix("s").rstrip("-_. ")
    )
    return f"{common or names[0]} ({len(names)} seeds)"


def differing_settings(groups: Sequence[RunGroup]) -> list[tuple[str, list[str]]]:
    """Return the settings in which groups differ, and the value of each group."""
    return differing_texts([flattened(group.runs[0]) for group in groups])


def flattened(run: RunData) -> dict[str, str]:
    """Return the settings as ``section.key`` and text; nothing where they cannot be read."""
    return settings_text(run.settings) if run.settings else {}


def settings_text(settings: Settings) -> dict[str, str]:
    """Return settings as ``section.key`` and text."""

    def walk(prefix: str, values: Mapping[str, Any]) -> dict[str, str]:
        flat: dict[str, str] = {}
        for key, value in values.items():
            if isinstance(value, dict):
                flat |= walk(f"{prefix}{key}.", value)
            elif isinstance(value, list) and value and isinstance(value[0], dict):
                flat[prefix + key] = "; ".join(", ".join(f"{k} {v}" for k, v in each.items()) for each in value)
            else:
                flat[prefix + key] = str(value)
        return flat

    return walk("", settings.model_dump(exclude_none=True))


def differing_texts(flat: Sequence[Mapping[str, str]]) -> list[tuple[str, list[str]]]:
    """Return the settings that are not alike, and the value that each has."""
    keys = dict.fromkeys(key for each in flat for key in each)
    rows = [(key, [each.get(key, "-") for each in flat]) for key in keys if key not in ("seed", "description")]
    return [(key, values) for key, values in rows if len(set(values)) > 1]


def spread_line(name: str, style: int, series: Sequence[Mapping[float, float]], **more: Any) -> Line:
    """Return the mean of several runs' values, and their range where there are several runs."""
    places = sorted({x for each in series for x in each})
    at = {x: [each[x] for each in series if x in each] for x in places}
    points = [(x, sum(values) / len(values)) for x, values in at.items()]
    band = [(x, min(values), max(values)) for x, values in at.items()] if len(series) > 1 else []
    return Line(name, points, style, band=band, **more)


def by_round(run: RunData, value: Callable[[RoundData], float | None]) -> dict[float, float]:
    """Return a value of each round that has one."""
    found = {float(each.record.round): value(each) for each in run.rounds}
    return {x: y for x, y in found.items() if y is not None}


def group_lines(groups: Sequence[RunGroup], value: Callable[[RoundData], float | None]) -> list[Line]:
    """Return a line over rounds for each group."""
    return [
        spread_line(group.name, style, [by_round(run, value) for run in group.runs])
        for style, group in enumerate(groups)
    ]


def range_text(values: Sequence[float], unit: str = "", digits: int = 4) -> str:
    """Return a mean, with its range where there are several values."""
    if not values:
        return "-"

    def shown(value: float) -> str:
        return f"{value:,.{digits}f}".rstrip("0").rstrip(".") if digits else f"{value:,.0f}"

    mean = shown(sum(values) / len(values)) + unit
    return mean if len(values) == 1 else f"{mean} ({shown(min(values))} to {shown(max(values))})"

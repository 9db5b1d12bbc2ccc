"""The runs that a sweep plans, and the supervised phases that several of them go on from."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from easy2hard.errors import UserError
from easy2hard.runs.going_on import AFTER
from easy2hard.settings.docs import flat, inline
from easy2hard.settings.recipes import parse_settings
from easy2hard.settings.schema import Settings


@dataclass(frozen=True)
class Base:
    """A supervised phase that several runs go on from: a run without rounds."""

    name: str
    """Of the run and its directory."""
    settings: Settings


@dataclass(frozen=True)
class Trial:
    """One run of a sweep, before it is run: a variant and a seed."""

    variant: str
    """Names of its axes' variants, joined."""
    axes: dict[str, str]
    """Axis -> variant."""
    recipe: str
    scale: str | None
    overrides: tuple[str, ...]
    seed: int
    settings: Settings
    oracle: str | None = None
    """The variant that is as this one, but that the oracle judges its labels."""
    reference: bool = False
    """It is there for others to be compared with, and has no place among them."""
    base: Base | None = None
    """What it goes on from; None where it trains its supervised phase itself."""

    @property
    def name(self) -> str:
        """Of the run and its directory."""
        return f"{self.variant}-seed{self.seed}"

    def options(self, plugins: Sequence[Path]) -> list[str]:
        """Return what makes its settings of the recipe, as ``easy2hard run`` and ``estimate`` take it."""
        return [
            *(("--scale", self.scale) if self.scale else ()),
            *(part for each in self.overrides for part in ("--set", each)),
            *plugin_options(plugins),
        ]

    @property
    def changes(self) -> list[str]:
        """``section={...}`` texts that make its settings of those of its base."""
        before = self.base.settings.model_dump(exclude_none=True) if self.base else {}
        after = self.settings.model_dump(exclude_none=True)
        return [f"{name}={inline(value)}" for name, value in after.items() if value != before.get(name)]


Work = Trial | Base
"""What a process does for a sweep."""


def plugin_options(plugins: Sequence[Path]) -> list[str]:
    """Return plug-ins as the command line has them."""
    return [word for path in plugins for word in ("--plugin", str(path))]


def with_bases(runs: Sequence[Trial]) -> list[Trial]:
    """Return the runs; those with the same supervised phase, two or more, have one base together.

    Raises:
        UserError: no two have; it names the settings in which they differ.
    """
    groups: dict[str, list[Trial]] = {}
    for run in runs:
        groups.setdefault(_supervised(run.settings).to_toml(), []).append(run)
    if all(len(group) == 1 for group in groups.values()):
        differ = sorted(_differing(_supervised(run.settings) for run in runs) - {"seed"})
        raise UserError(
            "share = 'supervised': no two variants have the same supervised phase, since they differ in "
            + (", ".join(differ) if differ else "nothing: there is only one")
        )
    bases = {
        key: Base(f"{group[0].name}-supervised", _supervised(group[0].settings))
        for key, group in groups.items()
        if len(group) > 1
    }
    found = {run.name: bases.get(key) for key, group in groups.items() for run in group}
    return [replace(run, base=found[run.name]) for run in runs]


def _supervised(settings: Settings) -> Settings:
    """Return the settings of a run that ends after the supervised phase: what comes after it is as it is by default."""
    values = settings.model_dump(exclude_none=True, exclude=set(AFTER))
    return parse_settings({**values, "rounds": {"count": 0, "steps": 1}, "labels": {"count": 1}})


def _differing(settings: Iterable[Settings]) -> set[str]:
    found: dict[str, set[str]] = {}
    for each in settings:
        for key, value in flat(each.model_dump()):
            found.setdefault(key, set()).add(repr(value))
    return {key for key, values in found.items() if len(values) > 1}

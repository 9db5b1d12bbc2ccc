"""A sweep file, and the runs it asks for: every combination of its axes' variants, or its list of them, by seed."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from easy2hard.errors import UserError
from easy2hard.runs.request import settings_of
from easy2hard.settings.base import GREATEST_SEED
from easy2hard.settings.recipes import one_line, read_toml, shipped
from easy2hard.settings.schema import BudgetSettings, Settings

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]*")
"""What axes and variants may be called: run directories are named after them."""


class _File(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Variant(_File):
    """Settings that change together; another recipe, perhaps."""

    recipe: str | None = Field(None, description="instead of the sweep's")
    scale: str | None = Field(None, description="instead of the sweep's")
    set: list[str] = Field([], description="`section.key=value` texts, after the sweep's")


def _listed(value: Any) -> Any:
    """A variant that only replaces settings is written as their list."""
    if not isinstance(value, list | dict):
        raise ValueError("expected a list of settings, or a table with recipe, scale or set")
    return {"set": value} if isinstance(value, list) else value


Variants = dict[str, Annotated[Variant, BeforeValidator(_listed)]]


class Sweep(_File):
    """What a sweep file holds."""

    description: str = Field("", description="what it asks, in a line")
    recipe: str | None = Field(None, description="a shipped recipe or a TOML file; a variant may name another")
    scale: str | None = Field(None, description="brings the recipe to a size first; laptop")
    set: list[str] = Field([], description="`section.key=value` texts for every run")
    seeds: list[Annotated[int, Field(ge=0, le=GREATEST_SEED)]] = Field(
        min_length=1, description="of each variant, one run a seed"
    )
    budget: BudgetSettings | None = Field(None, description="of each run, minutes or steps")
    axes: dict[str, Variants] = Field({}, description="named lists of variants; all combinations are run")
    variants: Variants = Field({}, description="a list of variants instead of axes")
    examples: int = Field(1000, ge=1, le=1_000_000, description="evaluation prompts of each difficulty, for the table")
    bar: float = Field(0.99, gt=0, le=1, description="exact match from which a difficulty counts as reached")

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        if self.axes and self.variants:
            raise ValueError("axes and variants: a sweep has either")
        for axis, variants in self.axes.items():
            if not variants:
                raise ValueError(f"axes.{axis}: has no variants")
        names = [*self.axes, *(name for each in (*self.axes.values(), self.variants) for name in each)]
        for name in names:
            if not NAME.fullmatch(name):
                raise ValueError(
                    f"{name!r}: a name has letters, digits, _ . + and -, and begins with a letter or digit"
                )
        for seed, count in Counter(self.seeds).items():
            if count > 1:
                raise ValueError(f"seeds: {seed} is given {count} times")
        return self

    @property
    def columns(self) -> dict[str, Variants]:
        """The axes by name; a list of variants is the only one."""
        return self.axes or {"variant": self.variants or {"all": Variant()}}


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

    @property
    def name(self) -> str:
        """Of the run and its directory."""
        return f"{self.variant}-seed{self.seed}"

    def arguments(self, out: Path, plugins: Sequence[Path]) -> list[str]:
        """Return the arguments of ``easy2hard`` that start it in the directory ``out``."""
        return [
            *("run", self.recipe, "--out", str(out), "--seed", str(self.seed)),
            *(("--scale", self.scale) if self.scale else ()),
            *(part for each in self.overrides for part in ("--set", each)),
            *plugin_options(plugins),
        ]


def sweep_names() -> list[str]:
    """Return the names of the shipped sweeps, sorted."""
    return shipped("sweeps")


def load_sweep(name: str) -> Sweep:
    """Return a shipped sweep or one of a TOML file.

    Raises:
        UserError: one line naming what is not allowed.
    """
    try:
        return Sweep.model_validate(read_toml("sweep", name))
    except ValidationError as error:
        raise UserError(f"sweep {name!r}: {one_line(error, Sweep)}") from error


def plugin_options(plugins: Sequence[Path]) -> list[str]:
    """Return plug-ins as the command line has them."""
    return [word for path in plugins for word in ("--plugin", str(path))]


def planned(sweep: Sweep, more: Sequence[str] = (), plugins: Sequence[Path] = ()) -> list[Trial]:
    """Return the runs of a sweep: all seeds of the first variant, then those of the next.

    Args:
        sweep: says which.
        more: ``section.key=value`` texts for every run, after all others.
        plugins: Python files that add something; they are run as code.

    Raises:
        UserError: a setting of a run is not allowed, or two runs could not be told apart.
    """
    budget = sweep.budget.model_dump(exclude_none=True) if sweep.budget else {}
    runs = []
    for chosen in product(*(variants.items() for variants in sweep.columns.values())):
        name = "-".join(name for name, _ in chosen)
        parts = [variant for _, variant in chosen]
        recipe = next((each.recipe for each in parts if each.recipe), sweep.recipe)
        scale = next((each.scale for each in parts if each.scale), sweep.scale)
        if recipe is None:
            raise UserError("recipe: missing; the sweep names none, and neither does the variant " + name)
        budgeted = [f"budget.{key}={value}" for key, value in budget.items()]
        overrides = (*sweep.set, *(text for each in parts for text in each.set), *budgeted, *more)
        axes = dict(zip(sweep.columns, (name for name, _ in chosen), strict=True))
        for seed in sweep.seeds:
            try:
                settings = settings_of(recipe, [*overrides, f"seed={seed}"], plugins, scale=scale)
            except UserError as error:
                raise UserError(f"variant {name}: {error}") from error
            runs.append(Trial(name, axes, recipe, scale, overrides, seed, settings))
    _refuse_twins(runs)
    return runs


def _refuse_twins(runs: Sequence[Trial]) -> None:
    """Two runs of one name would share a directory; two of the same settings would be one experiment counted twice."""
    names: dict[str, str] = {}
    settings: dict[str, str] = {}
    for run in runs:
        if names.setdefault(run.name.casefold(), run.name) != run.name or sum(r.name == run.name for r in runs) > 1:
            raise UserError(f"variant {run.variant}: two runs would be called {run.name}")
        other = settings.setdefault(run.settings.to_toml(), run.variant)
        if other != run.variant:
            raise UserError(f"variants {other} and {run.variant}: have the same settings")

"""A sweep file, and the runs it asks for: every combination of its axes' variants, or its list of them, by seed."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from easy2hard.errors import UserError
from easy2hard.runs.request import settings_of
from easy2hard.settings.base import GREATEST_SEED
from easy2hard.settings.recipes import one_line, read_toml, recipe_names, shipped
from easy2hard.settings.schema import BudgetSettings, Settings
from easy2hard.sweep.trial import Trial, with_bases

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]*")
"""What axes and variants may be called: run directories are named after them."""
SEEDS = [0, 1, 2]
"""Of a recipe that is run as a sweep."""
ORACLE = 'labels.filters=[{name="verifier"}]'
"""What makes a variant the one that it is compared with: the oracle judges its labels instead of its filters."""


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
    share: Literal["supervised"] | None = Field(
        None, description="variants that differ only after the supervised phase have one together, run once a seed"
    )
    against: Literal["oracle"] | None = Field(
        None, description="beside each variant that labels, the one whose labels the oracle judges"
    )
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


def sweep_names() -> list[str]:
    """Return the names of the shipped sweeps, sorted."""
    return shipped("sweeps")


def load_sweep(name: str, against: str | None = None) -> Sweep:
    """Return a shipped sweep, one of a TOML file, or the one whose only variant is a recipe.

    Args:
        name: of the sweep or the recipe, or the path of a file of either.
        against: instead of the sweep's own.

    Raises:
        UserError: one line naming what is not allowed.
    """
    known = name in recipe_names()
    values = {} if known else read_toml("sweep", name)
    if known or "task" in values:
        variant = Path(name).stem
        values = {"description": f"How does {variant} come out?", "recipe": name, "seeds": SEEDS}
        values |= {"variants": {variant: []}}
        if against:
            values |= {
                "description": f"What would true answers add? {variant}, and the same judged by the oracle.",
                "share": "supervised",
            }
    if against:
        values |= {"against": against}
    try:
        return Sweep.model_validate(values)
    except ValidationError as error:
        raise UserError(f"sweep {name!r}: {one_line(error, Sweep)}") from error


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
    budgeted = [f"budget.{key}={value}" for key, value in budget.items()]
    runs = []
    for chosen in product(*(variants.items() for variants in sweep.columns.values())):
        name = "-".join(name for name, _ in chosen)
        parts = [variant for _, variant in chosen]
        recipe = next((each.recipe for each in parts if each.recipe), sweep.recipe)
        scale = next((each.scale for each in parts if each.scale), sweep.scale)
        if recipe is None:
            raise UserError("recipe: missing; the sweep names none, and neither does the variant " + name)
        overrides = (*sweep.set, *(text for each in parts for text in each.set), *budgeted, *more)
        for text in overrides:
            if text.partition("=")[0].strip() == "seed":
                raise UserError(f"{text}: the seeds of a sweep are its `seeds`, one run each")
        axes = dict(zip(sweep.columns, (name for name, _ in chosen), strict=True))
        for seed in sweep.seeds:
            settings = _settings(name, recipe, scale, overrides, seed, plugins)
            runs.append(Trial(name, axes, recipe, scale, overrides, seed, settings))
    if sweep.against:
        runs = _with_oracles(runs, plugins)
    _refuse_twins(runs)
    return with_bases(runs) if sweep.share else runs


def _settings(
    variant: str, recipe: str, scale: str | None, overrides: Sequence[str], seed: int, plugins: Sequence[Path]
) -> Settings:
    try:
        return settings_of(recipe, [*overrides, f"seed={seed}"], plugins, scale=scale)
    except UserError as error:
        raise UserError(f"variant {variant}: {error}") from error


def _with_oracles(runs: Sequence[Trial], plugins: Sequence[Path]) -> list[Trial]:
    """Return the runs, and after them those that they are compared with; variants that differ in filters share one."""
    known = {run.settings.to_toml(): run.variant for run in runs}
    found: list[Trial] = []
    oracles: list[Trial] = []
    for run in runs:
        labels = run.settings.labels
        if not run.settings.rounds.count or run.settings.verified or labels.counter_examples:  # no labels of its own
            found.append(run)
            continue
        name, overrides = f"{run.variant}-oracle", (*run.overrides, ORACLE)
        settings = _settings(name, run.recipe, run.scale, overrides, run.seed, plugins)
        variant = known.setdefault(settings.to_toml(), name)
        if variant == name:
            axis, value = list(run.axes.items())[-1]
            twin = replace(run, variant=name, axes={**run.axes, axis: f"{value}-oracle"}, overrides=overrides)
            oracles.append(replace(twin, settings=settings, reference=True))
        found.append(replace(run, oracle=variant))
    if not any(run.oracle for run in found):
        raise UserError("against = 'oracle': no variant has labels that filters of its own judge")
    order = list(dict.fromkeys(run.variant for run in oracles))
    return [*found, *sorted(oracles, key=lambda run: order.index(run.variant))]


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

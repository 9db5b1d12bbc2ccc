"""`easy2hard init`: a recipe for a task that fits a budget of time on this machine, explained line by line."""

from collections.abc import Callable
from dataclasses import dataclass

from easy2hard.engines.choice import has_gpu
from easy2hard.errors import UserError
from easy2hard.runs.estimate import Estimate, estimate
from easy2hard.runs.experiment import Experiment
from easy2hard.runs.preflight import check
from easy2hard.settings.docs import commented
from easy2hard.settings.recipes import load_recipe, parse_settings, recipe_names
from easy2hard.settings.schema import Settings
from easy2hard.text import duration

FURTHER = 3
"""A recipe is given at most so many times the rounds of the shipped one it comes from."""


@dataclass(frozen=True)
class Written:
    """A recipe, and how long it will take."""

    settings: Settings
    estimate: Estimate
    base: str
    """The shipped recipe it comes from."""

    @property
    def notes(self) -> list[str]:
        """What is not as the shipped recipe has it, and matters, in a line each."""
        shipped, said = load_recipe(self.base), []
        if self.settings.model.members < shipped.model.members:
            filters = " and ".join(each.name for each in self.settings.labels.filters)
            said.append(
                f"The budget is too short for {shipped.model.members} members that vote: there is one, and its labels "
                f"are judged by {filters}. They spoil sooner."
            )
        if self.settings.rounds.count > shipped.rounds.count:
            said.append(
                f"Nobody has tried more than {shipped.rounds.count} rounds of it: the collapse watch says when it goes "
                "no further."
            )
        return said

    def text(self, minutes: float) -> str:
        """Return it as a file in which everything is explained."""
        phases = ", ".join(f"{name} {duration(seconds)}" for name, seconds in self.estimate.phases.items())
        header = (
            f"Written by `easy2hard init` from the recipe {self.base}, for a budget of {minutes:g} minutes.\n"
            f"Estimated on this machine: about {duration(self.estimate.seconds)} ({phases}).\n"
            "A line that is commented out shows a default."
        )
        return commented(self.settings, "\n".join([header, *self.notes]))


def compose(
    task: str, minutes: float, gpu: bool, seed: int = 0, on_phase: Callable[[str], None] = lambda name: None
) -> Written:
    """Return a recipe for a task with as many rounds as fit a budget, and with one member where several are too slow.

    Args:
        task: its name.
        minutes: the budget.
        gpu: whether to take the paper's sizes, for a GPU, instead of a laptop's.
        seed: of the run.
        on_phase: told what is measured now.

    Raises:
        UserError: not even one round fits, there is no GPU where one is wanted, or there is no such task.
    """
    if gpu and not has_gpu():
        raise UserError(
            "--hardware gpu: there is none on this machine, and the estimate is measured here (allowed: cpu)"
        )
    base, settings = _base(task, "paper" if gpu else "cpu")
    settings = _with(settings, seed=seed, description=f"{task}, for {minutes:g} minutes; written by easy2hard init.")
    least = None
    for candidate in dict.fromkeys([settings.model.members, 1]):
        measured = _longest(_members(settings, candidate))
        all_rounds = estimate(measured, on_phase, "cuda" if gpu else "cpu")
        fitting = [n for n in range(1, len(all_rounds.rounds)) if all_rounds.cut(n).seconds <= 60 * minutes]
        if fitting or measured.rounds.count == 0:
            count = max(fitting, default=0)
            return Written(_with(measured, rounds={"count": count}), all_rounds.cut(count), base)
        least = all_rounds.cut(1).seconds
    raise UserError(
        f"--minutes {minutes:g}: the supervised phase and one round of {task} take about {duration(least or 0)} here"
    )


def _base(task: str, kind: str) -> tuple[str, Settings]:
    """Return the shipped recipe of a task, or that of copying with the task's name."""
    own = f"{task}-{kind}"
    if own in recipe_names():
        return own, load_recipe(own)
    return f"copy-{kind}", load_recipe(f"copy-{kind}", [], {"task.name": task})


def _with(settings: Settings, **changes: object) -> Settings:
    values = settings.model_dump(exclude_none=True)
    for name, change in changes.items():
        values[name] = {**values[name], **change} if isinstance(change, dict) else change
    return parse_settings(values)


def _members(settings: Settings, members: int) -> Settings:
    """Return the settings with so many members; one alone keeps its surest labels instead of voting."""
    if members == settings.model.members:
        return settings
    filters = [each.model_dump() for each in settings.labels.filters if each.name != "vote"]
    if not any(each["name"] == "confidence" for each in filters):
        filters.append({"name": "confidence", "keep": 0.8})
    return _with(settings, model={"members": members}, labels={"filters": filters})


def _longest(settings: Settings) -> Settings:
    """Return the settings with FURTHER times the rounds given, or as many as its tables of positions have room for."""
    given = settings.rounds.count
    for count in range(given * FURTHER, given, -1):
        longer = _with(settings, rounds={"count": count})
        try:
            check(Experiment(longer))
        except UserError:
            continue
        return longer
    return settings

"""Position schemes, found by their names (scheme.py says what one is)."""

from easy2hard.errors import UserError
from easy2hard.plugins import POSITIONS, made
from easy2hard.positions.scheme import Positions
from easy2hard.positions.tables import Randomized, Tabled
from easy2hard.settings.model import ModelSettings
from easy2hard.tasks.base import Task

__all__ = ["NO_POSITIONS", "Positions", "Tabled", "build_positions"]


NO_POSITIONS = "none"
"""What settings say where the causal mask alone tells places."""


def build_positions(model: ModelSettings, task: Task) -> Positions | None:
    """Return the scheme of the settings; None where tokens know their places by the causal mask alone.

    Raises:
        UserError: there is no such scheme, it does not fit the task, or another one has the settings.
    """
    chosen, name = None, model.positions
    if name != NO_POSITIONS:
        chosen = POSITIONS.find(name)
    if model.position_capacity is not None and (chosen is None or not issubclass(chosen, Tabled)):
        raise UserError(
            f"model.position_capacity = {model.position_capacity}: positions = {name!r} have no table (those that do: "
            f"{', '.join(each for each, scheme in POSITIONS.built_in.items() if issubclass(scheme, Tabled))})"
        )
    if model.randomized_table is not None and chosen is not Randomized:
        raise UserError(
            f"model.randomized_table = {model.randomized_table!r} needs positions = {Randomized.name!r}, "
            f"which are {name!r} here"
        )
    if chosen is None:
        return None
    who = f"position scheme {name}"
    return made(chosen.build, who, "model.position_options", model.position_options, model, task, thing=chosen)

"""What it takes to answer prompts, known before it begins from the size of the members and the lengths alone."""

from collections.abc import Callable, Iterable
from typing import NamedTuple

from easy2hard import memory
from easy2hard.engines.choice import cores, in_main_memory
from easy2hard.errors import UserError
from easy2hard.runs.experiment import Experiment
from easy2hard.settings.model import ModelSettings
from easy2hard.text import duration

RATE = 2e9
"""Additions and multiplications a second that a core does at least."""
LONG = 60.0
"""Seconds from which the user is told."""
TOO_LONG = 30 * 86_400.0
"""Seconds that nobody waits for."""


class Asked(NamedTuple):
    """Prompts of one length."""

    prompts: int
    """How many there are."""
    prompt: int
    """Tokens of each."""
    answer: int
    """Tokens of an answer at most."""


def check_cost(
    what: str,
    experiment: Experiment,
    asked: Iterable[Asked],
    on_long: Callable[[str], None] = lambda text: None,
) -> None:
    """Refuse what this machine cannot answer, and say what takes long.

    Args:
        what: the setting or argument that asks for it.
        experiment: whose members answer.
        asked: what they are asked, the longest first: nothing is looked at once it is too much.
        on_long: told in a line where it takes over a minute.

    Raises:
        UserError: it needs more memory than there is, or more time than anybody has; with the figure.
    """
    model, at_once = experiment.settings.model, cores()
    there = memory.available() if in_main_memory(experiment.device) else None
    kept = seconds = 0.0
    for each in asked:
        length = each.prompt + each.answer
        kept += each.prompts * length * 4 * (model.members + 2)
        passing = at_once * _pass_bytes(model, each)
        seconds += each.prompts * model.members * _operations(model, length) / (RATE * at_once)
        if there is not None and kept + passing > there:
            raise UserError(
                f"{what}: {each.prompt:,} tokens and an answer of up to {each.answer:,} need at least "
                f"{memory.size(kept + passing)} of memory, and {memory.size(there)} are free"
            )
        if seconds > TOO_LONG:
            raise UserError(
                f"{what}: would take at least {duration(seconds)} on {at_once} core{'s' if at_once != 1 else ''}"
            )
    if seconds > LONG:
        on_long(f"{what}: may take about {duration(seconds)} on {at_once} core{'s' if at_once != 1 else ''}")


def _layers(model: ModelSettings, length: int) -> int:
    return model.size.layers * (model.loops + (length // model.loops_per if model.loops_per else 0))


def _pass_bytes(model: ModelSettings, asked: Asked) -> float:
    """Return the bytes of one pass over a prompt and its answer: attention between tokens, and what blocks keep."""
    size, length = model.size, asked.prompt + asked.answer
    return 4.0 * (size.heads * asked.answer * length + (2 * size.layers * size.width + size.feed_forward) * length)


def _operations(model: ModelSettings, length: int) -> float:
    """Return the multiplications of one answer: of the weights for each token, and between all tokens."""
    size = model.size
    weights = 4 * size.width**2 + 3 * size.width * size.feed_forward
    return float(_layers(model, length)) * length * (weights + size.width * length)

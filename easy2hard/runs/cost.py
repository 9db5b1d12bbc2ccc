"""What it takes to answer prompts: what nobody could wait for is refused, what takes long is measured and said."""

import time
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from easy2hard import memory
from easy2hard.engines.choice import cores, in_main_memory
from easy2hard.errors import UserError
from easy2hard.runs.experiment import Experiment
from easy2hard.settings.model import ModelSettings
from easy2hard.text import counted, duration

SLOWEST = 2e9
"""Multiplications a second, each with an addition, that any machine does."""
FASTEST = {True: 1e11, False: 1e15}
"""What a core does at most, and a GPU."""
LONG = 60.0
"""Seconds from which the user is told."""
MEASURED = 2.0
"""Seconds that the prompts take at most which are asked first, to know how long all of them take."""
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


def check_cost(what: str, experiment: Experiment, asked: Iterable[Asked]) -> list[Asked]:
    """Refuse what this machine cannot answer.

    Args:
        what: the setting or argument that asks for it.
        experiment: whose members answer.
        asked: what they are asked, the longest first: nothing is looked at once it is too much.

    Returns:
        All that they are asked.

    Raises:
        UserError: it needs more memory than there is, or more time than anybody has; with the figure.
    """
    model, at_once, on_cpu = experiment.settings.model, cores(), in_main_memory(experiment.device)
    there = memory.available() if on_cpu else None
    fastest = FASTEST[on_cpu] * (at_once if on_cpu else 1)
    kept = seconds = 0.0
    looked_at: list[Asked] = []
    for each in asked:
        looked_at.append(each)
        length = each.prompt + each.answer
        kept += each.prompts * length * 4 * (model.members + 2)
        passing = at_once * _pass_bytes(model, each)
        seconds += operations(experiment, each) / fastest
        if there is not None and kept + passing > there:
            raise UserError(
                f"{what}: {each.prompt:,} tokens and an answer of up to {each.answer:,} need at least "
                f"{memory.size(kept + passing)} of memory, and {memory.size(there)} are free"
            )
        if seconds > TOO_LONG:
            where = counted(at_once, "core") if on_cpu else str(experiment.device)
            raise UserError(f"{what}: would take at least {duration(seconds)} on {where}")
    return looked_at


def say_cost(
    what: str,
    experiment: Experiment,
    asked: Sequence[Asked],
    answer: Callable[[int], object],
    on_long: Callable[[str], None],
) -> None:
    """Say how long answers take where it is over a minute; a few are asked for to know it.

    Args:
        what: the setting or argument that asks for them.
        experiment: whose members answer.
        asked: what they are asked (:func:`check_cost`).
        answer: asks the members so many of the first.
        on_long: told in a line.
    """
    work = sum(operations(experiment, each) for each in asked)
    if work / SLOWEST <= LONG:
        return
    each = operations(experiment, asked[0]._replace(prompts=1))
    few = max(1, min(asked[0].prompts, int(MEASURED * SLOWEST / each)))
    answer(few)  # the first call of anything takes longer
    begin = time.perf_counter()
    answer(few)
    seconds = (time.perf_counter() - begin) * work / (few * each)
    if seconds > LONG:
        on_long(f"{what}: takes about {duration(seconds)} on this machine")


def operations(experiment: Experiment, asked: Asked) -> float:
    """Return the multiplications of all members' answers to some prompts."""
    model = experiment.settings.model
    return asked.prompts * model.members * _operations(model, asked.prompt + asked.answer)


def _pass_bytes(model: ModelSettings, asked: Asked) -> float:
    """Return the bytes of one pass over a prompt and its answer: attention between tokens, and what blocks keep."""
    size, length = model.size, asked.prompt + asked.answer
    return 4.0 * (size.heads * asked.answer * length + (2 * size.layers * size.width + size.feed_forward) * length)


def _operations(model: ModelSettings, length: int) -> float:
    """Return the multiplications of one answer: of the weights for each token, and between all tokens."""
    size = model.size
    weights = 4 * size.width**2 + 3 * size.width * size.feed_forward
    layers = size.layers * model.looping.of(length)
    return float(layers) * length * (weights + size.width * length)

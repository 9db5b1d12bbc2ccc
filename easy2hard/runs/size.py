"""What a run would take at least, from its settings alone: refused before it begins where no machine like this has it.

These are lower bounds, not estimates (``estimate.py`` measures): what is refused here cannot be done.
"""

import math
import resource
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np

from easy2hard import memory
from easy2hard.engines.choice import cores, held_gradients, in_main_memory
from easy2hard.errors import UserError
from easy2hard.runs.cost import Asked, operations
from easy2hard.runs.experiment import Experiment
from easy2hard.settings.schema import Settings
from easy2hard.tasks.base import Difficulty, Task, length_of
from easy2hard.text import counted, duration

DIFFICULTIES = 1_000_000
"""More are not even listed."""
YEARS = 1
"""Nothing that would take longer is begun."""
OPERATIONS = {True: 1e12, False: 1e15}
"""A second, of a core or of a GPU: more than there is."""
GPUS = 1024
"""More than a run is spread over."""
LABEL_BYTES = 200
"""Of a label in memory, without its texts."""
USUAL = {True: 1e10, False: 1e14}
"""Multiplications a second of training, each with an addition, of a core or of a GPU: about what there is."""
LONG_STEP, SHORT_STEP = 60.0, 10.0
"""Seconds of a step of training from which it is said, and which are proposed."""
STACK = 8 << 20
"""Bytes of a thread's stack where nothing limits it."""
FEW = 64
"""Difficulties up to this one are listed to see how their number grows."""


def check_size(experiment: Experiment) -> None:
    """Refuse a run that cannot fit into the memory of this machine, or that would take years.

    Raises:
        UserError: naming the settings, and what they would take.
    """
    task, easy = experiment.task, experiment.settings.supervised.difficulty
    taught = task.supervised_difficulties(task.capped(min(easy, FEW)))
    if taught:  # else the task has nothing that easy, which others say
        _check_memory(experiment, _tokens(task, taught[0]))
        _check_time(experiment, _tokens(task, taught[0]))


def check_difficulties(settings: Settings, task: Task) -> None:
    """Refuse more difficulties than can be listed, on any machine.

    Raises:
        UserError: naming the settings, and how many they lead to.
    """
    easy, rounds, stride = settings.supervised.difficulty, settings.rounds.count, settings.schedule.stride
    last = task.capped(easy + rounds * stride + settings.evaluation.beyond)
    for setting, count in (
        (f"supervised.difficulty = {easy}", amount(task.supervised_difficulties, task.capped(easy))),
        (f"rounds.count = {rounds} with schedule.stride = {stride}", amount(task.evaluated_difficulties, last)),
    ):
        if count > DIFFICULTIES:
            raise UserError(
                f"{setting}: leads to about {count:,} difficulties of task {task.name}; at most {DIFFICULTIES:,} can "
                "be held"
            )


def long_step(experiment: Experiment, rows: int | None = None, most: float = LONG_STEP) -> str | None:
    """Return in a line that a step of the supervised phase takes longer than anybody expects, or None.

    Args:
        experiment: what the run is made of.
        rows: of a batch; those of the run by default.
        most: seconds that it may take.
    """
    settings, task = experiment.settings, experiment.task
    easy, batch = settings.supervised.difficulty, rows or settings.training.batch

    def mean(hardest: int) -> tuple[float, float]:
        """Return the tokens and the seconds of a step with difficulties up to ``hardest``, about."""
        taught = task.supervised_difficulties(hardest)
        some = [Asked(batch, *length_of(task, each)) for each in taught[:: -(-len(taught) // FEW)]]
        tokens = sum(batch * (each.prompt + each.answer) for each in some) / len(some)
        on_cpu = in_main_memory(experiment.device)
        speed = USUAL[on_cpu] * (cores() if on_cpu else 1)
        return tokens, 3 * sum(operations(experiment, each) for each in some) / len(some) / speed

    tokens, seconds = mean(easy)
    if seconds <= most:
        return None
    where = counted(cores(), "core") if in_main_memory(experiment.device) else str(experiment.device)
    right, shorter = easy, seconds
    while right > 1 and task.supervised_difficulties(right // 2) and shorter > SHORT_STEP:
        right //= 2
        shorter = mean(right)[1]
    quick = right < easy and shorter <= SHORT_STEP
    setting = f"supervised.difficulty = {easy}" if quick else f"training.batch = {settings.training.batch}"
    better = f"with {right} it takes {duration(shorter)}" if quick else "a GPU or a smaller model makes it shorter"
    return (
        f"{setting}: a step of {batch} rows reads {tokens:,.0f} tokens with each member and takes about "
        f"{duration(seconds)} on {where}; {better}"
    )


def _tokens(task: Task, difficulty: Difficulty) -> int:
    """Return the tokens of a prompt and its answer, at most."""
    prompts = task.sample(np.random.default_rng(0), difficulty, 1)
    return int(prompts.shape[1]) + int(task.answer_bounds(prompts)[0])


def _check_memory(experiment: Experiment, short: int) -> None:
    """Refuse what does not fit; ``short`` are the tokens of the easiest example."""
    settings, members = experiment.settings, experiment.settings.model.members
    on_cpu, parameters = in_main_memory(experiment.device), experiment.parameters * members
    batch, labels = settings.training.batch, settings.labels.count * settings.schedule.stride
    gradients = held_gradients(batch * short, experiment.device)
    held = {
        f"model: {parameters / 1e6:,.0f} million weights of all members": 16 * parameters if on_cpu else 0,
        f"training.batch = {batch}": 8 * batch * short * members + 4 * parameters * gradients,
        f"rounds.batch = {settings.rounds.batch}": 8 * (settings.rounds.batch or 0) * short * members,
        f"labels.count = {settings.labels.count}": labels * (LABEL_BYTES + 12 * short) if settings.rounds.count else 0,
        f"evaluation.examples = {settings.evaluation.examples}": 8 * settings.evaluation.examples * short,
    }
    size, there = sum(held.values()), memory.total()
    if size > there:
        most = max(held, key=lambda name: held[name])
        raise UserError(
            f"{most}: the run would take at least {size / 1e9:,.1f} GB, and this machine has {there / 1e9:,.1f}"
        )
    if on_cpu and 2 * members > (least := threads()):
        raise UserError(f"model.members = {members}: train in {2 * members} threads, and this process may have {least}")


def _check_time(experiment: Experiment, short: int) -> None:
    """Refuse what would take years; ``short`` are the tokens of the easiest example."""
    settings, task = experiment.settings, experiment.task
    rounds, examples, stride = settings.rounds.count, settings.evaluation.examples, settings.schedule.stride
    batch = settings.training.batch
    middle = task.capped(settings.supervised.difficulty + rounds * stride // 2)
    evaluated = (rounds + 1) * amount(task.evaluated_difficulties, middle)
    labels = rounds * stride * settings.labels.count * settings.labels.samples
    # Tokens read: one of a training step takes three times what one of an answer does.
    read = {
        f"supervised.steps = {settings.supervised.steps}": 3 * settings.supervised.steps * batch * short,
        f"rounds.steps = {settings.rounds.steps}": 3
        * rounds
        * settings.rounds.steps
        * (settings.rounds.batch or batch)
        * short,
        f"labels.count = {settings.labels.count}": labels * short,
        f"rounds.count = {rounds} with schedule.stride = {stride}": examples * evaluated * short,
    }
    on_cpu = in_main_memory(experiment.device)
    speed = OPERATIONS[on_cpu] * (cores() if on_cpu else GPUS)
    operations = 2 * sum(read.values()) * experiment.parameters * settings.model.members
    years = operations / speed / (365 * 24 * 3600)
    if years > YEARS:
        most = max(read, key=lambda name: read[name])
        raise UserError(f"{most}: the run would take at least {years:,.0f} years; nothing longer than {YEARS} is begun")


def amount(difficulties: Callable[[int], Sequence[Difficulty]], hardest: int) -> int:
    """Return how many difficulties there are up to ``hardest``; of many, about, and none of them is listed."""
    if hardest <= FEW:
        return len(difficulties(hardest))
    some, half = len(difficulties(FEW)), len(difficulties(FEW // 2))
    growth = math.log2(some / half) if half else 1.0  # pairs grow with the square
    return int(some * (hardest / FEW) ** growth)


def threads() -> int:
    """Return how many threads this process may begin, at most."""
    limit = resource.getrlimit(resource.RLIMIT_NPROC)[0]
    there = [1 << 20 if limit == resource.RLIM_INFINITY else limit]
    space, stack = (resource.getrlimit(of)[0] for of in (resource.RLIMIT_AS, resource.RLIMIT_STACK))
    if space != resource.RLIM_INFINITY:
        # Each has a stack of its own, and half of the space is for all else: where it ends, threads end the process.
        there.append(space // 2 // (STACK if stack == resource.RLIM_INFINITY else stack))
    with suppress(OSError, ValueError):  # ValueError: "max"
        there.append(int(Path("/sys/fs/cgroup/pids.max").read_text(encoding="utf-8")))
    return min(there)

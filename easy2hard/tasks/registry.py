"""Name -> task and oracle: the one list of what exists."""

from collections.abc import Callable

from easy2hard.errors import UserError
from easy2hard.tasks.addition import ReverseAddition, ReverseAdditionOracle
from easy2hard.tasks.base import Task
from easy2hard.tasks.oracle import Oracle
from easy2hard.tasks.strings import StringOracle, StringTask

_TASKS: dict[str, tuple[Callable[[], Task], Callable[[Task], Oracle]]] = {
    "copy": (
        lambda: StringTask("copy", "repeat a number digit by digit"),
        lambda task: StringOracle(task, step=1),
    ),
    "reverse": (
        lambda: StringTask("reverse", "write a number backwards"),
        lambda task: StringOracle(task, step=-1),
    ),
    "reverse-addition": (ReverseAddition, ReverseAdditionOracle),
}


def task_names() -> list[str]:
    """Return the names of all tasks, sorted."""
    return sorted(_TASKS)


def load_task(name: str) -> Task:
    """Return the task called ``name``.

    Raises:
        UserError: there is no such task.
    """
    if name not in _TASKS:
        raise UserError(f"task.name = {name!r}: no such task (known: {', '.join(task_names())})")
    return _TASKS[name][0]()


def load_oracle(task: Task) -> Oracle:
    """Return the oracle of ``task``; for supervised data, evaluation and audit only."""
    return _TASKS[task.name][1](task)

"""Name -> task and oracle: what is built in, installed or of a file (plugins.py). Labelling cannot reach this."""

from collections.abc import Mapping

from easy2hard.errors import UserError
from easy2hard.plugins import Kind, made
from easy2hard.rules import BrokenError
from easy2hard.tasks.base import Task
from easy2hard.tasks.oracle import Oracle

TASKS: Kind[Oracle] = Kind("easy2hard.tasks.oracle:Oracle", "easy2hard.tasks", "easy2hard.tasks", "task.name")


def task_names() -> list[str]:
    """Return the names of all tasks, sorted."""
    return TASKS.names()


def is_built_in(name: str) -> bool:
    """Return whether the task comes with the package."""
    return name in TASKS.built_in


def load_task(name: str, options: Mapping[str, int | str] | None = None, reading: bool = False) -> Task:
    """Return the task called ``name``.

    Args:
        name: one of :func:`task_names`.
        options: what the task lets one choose, such as the nodes of a maze.
        reading: run no code of an installed package.

    Raises:
        UserError: there is no such task, or it has no such option.
    """
    oracle = TASKS.loaded(name) if reading else TASKS.find(name)
    if oracle is None:
        raise UserError(f"task.name = {name!r}: no such task here; where a file has it, give --plugin FILE")
    task = made(oracle.task_class, f"task {name}", "task.options", options or {})
    if not is_built_in(name):
        try:
            Task.check_attributes(task)
        except BrokenError as error:
            raise UserError(f"task {name} breaks the contract {error}") from error
    return task


def load_oracle(task: Task) -> Oracle:
    """Return the oracle of ``task``; for supervised data, evaluation and audit only."""
    return TASKS.find(task.name)(task)

"""Name -> task and oracle: the one list of what exists, built in or a third party's."""

import importlib.util
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from easy2hard.errors import UserError
from easy2hard.tasks.addition import Addition, AdditionOracle
from easy2hard.tasks.base import Task
from easy2hard.tasks.maze import MazeHops, MazeNodes, MazeOracle
from easy2hard.tasks.multiplication import Multiplication, MultiplicationOracle
from easy2hard.tasks.oracle import Oracle
from easy2hard.tasks.strings import StringOracle, StringTask

ENTRY_POINTS = "easy2hard.tasks"
"""Installed packages offer tasks under this group: name = "module:OracleClass" (docs/tasks.md)."""


@dataclass(frozen=True)
class Entry:
    """How to make a task and its oracle."""

    task: Callable[..., Task]
    oracle: Callable[[Task], Oracle]
    built_in: bool = True


_BUILT_IN = {
    "copy": Entry(
        partial(StringTask, "copy", "repeat a number digit by digit"),
        partial(StringOracle, step=1),
    ),
    "reverse": Entry(
        partial(StringTask, "reverse", "write a number backwards", backwards=True),
        partial(StringOracle, step=-1),
    ),
    "reverse-addition": Entry(partial(Addition, "reverse-addition", backwards=True, padded=True), AdditionOracle),
    "forward-addition": Entry(partial(Addition, "forward-addition", backwards=False, padded=False), AdditionOracle),
    "forward-addition-padded": Entry(
        partial(Addition, "forward-addition-padded", backwards=False, padded=True), AdditionOracle
    ),
    "multiplication": Entry(Multiplication, MultiplicationOracle),
    "maze-hops": Entry(MazeHops, MazeOracle),
    "maze-nodes": Entry(MazeNodes, MazeOracle),
}
_FROM_FILES: dict[str, Entry] = {}


def task_names() -> list[str]:
    """Return the names of all tasks, sorted."""
    installed = {point.name for point in entry_points(group=ENTRY_POINTS)}
    return sorted({*_BUILT_IN, *_FROM_FILES, *installed})


def load_task_file(path: Path) -> list[str]:
    """Run the Python file ``path`` and register the tasks it defines; return their names.

    A file defines a task by an :class:`Oracle` with a ``task_class`` (docs/tasks.md).

    Raises:
        UserError: the file is missing, fails, or defines no task.
    """
    if not path.is_file():
        raise UserError(f"--task-file {path}: no such file")
    spec = importlib.util.spec_from_file_location(f"easy2hard_task_file_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise UserError(f"--task-file {path}: not a Python file (its name must end in .py)")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise UserError(f"--task-file {path}: {type(error).__name__}: {error}") from error
    oracles = [
        value
        for value in vars(module).values()
        if inspect.isclass(value) and issubclass(value, Oracle) and value.__module__ == module.__name__
    ]
    found = {name: entry for oracle in oracles for name, entry in [_entry_of(oracle, f"--task-file {path}")]}
    if not found:
        raise UserError(f"--task-file {path}: defines no Oracle with a task_class (see docs/tasks.md)")
    for name in found:
        if name in _BUILT_IN:
            raise UserError(f"--task-file {path}: task {name} is built in; choose another name")
    _FROM_FILES.update(found)
    return sorted(found)


def _entry_of(oracle: Any, where: str) -> tuple[str, Entry]:
    task = getattr(oracle, "task_class", None)
    if not (inspect.isclass(oracle) and issubclass(oracle, Oracle)) or not (
        inspect.isclass(task) and issubclass(task, Task)
    ):
        raise UserError(f"{where}: {oracle!r} is no Oracle whose task_class is a Task (see docs/tasks.md)")
    name = getattr(task, "name", None)
    if not isinstance(name, str):
        raise UserError(f"{where}: {task.__name__}.name is missing; it is what `task.name` of a recipe says")
    return name, Entry(task, oracle, built_in=False)


def _entry(name: str) -> Entry:
    known = {**_FROM_FILES, **_BUILT_IN}
    if name in known:
        return known[name]
    for point in entry_points(group=ENTRY_POINTS, name=name):
        try:
            loaded = point.load()
        except Exception as error:
            raise UserError(f"task {name} of {point.value}: {type(error).__name__}: {error}") from error
        own, entry = _entry_of(loaded, f"entry point {point.value}")
        if own != name:
            raise UserError(f"entry point {point.value}: its task is called {own!r}, registered as {name!r}")
        return entry
    raise UserError(f"task.name = {name!r}: no such task (known: {', '.join(task_names())})")


def is_built_in(name: str) -> bool:
    """Return whether the task comes with the package."""
    return _entry(name).built_in


def load_task(name: str, options: Mapping[str, int] | None = None) -> Task:
    """Return the task called ``name``.

    Args:
        name: one of :func:`task_names`.
        options: what the task lets one choose, such as the nodes of a maze.

    Raises:
        UserError: there is no such task, or it has no such option.
    """
    make = _entry(name).task
    accepted = [
        parameter.name
        for parameter in inspect.signature(make).parameters.values()
        if parameter.annotation is int and parameter.default is not inspect.Parameter.empty
    ]
    for option, value in (options or {}).items():
        if option not in accepted:
            allowed = f"allowed: {', '.join(accepted)}" if accepted else f"{name} has none"
            raise UserError(f"task.options.{option} = {value}: unknown option ({allowed})")
    try:
        return make(**(options or {}))
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"task {name}: cannot be made: {type(error).__name__}: {error}") from error


def load_oracle(task: Task) -> Oracle:
    """Return the oracle of ``task``; for supervised data, evaluation and audit only."""
    return _entry(task.name).oracle(task)

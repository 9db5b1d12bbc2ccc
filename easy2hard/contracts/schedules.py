"""What every schedule promises (docs/extending.md)."""

from typing import Any

from easy2hard.errors import UserError
from easy2hard.improvement.schedules import Schedule
from easy2hard.plugins import in_a_line, made
from easy2hard.rules import BrokenError, global_state, require
from easy2hard.settings.rounds import ScheduleSettings
from easy2hard.tasks.base import Difficulty, Task, difficulty_text
from easy2hard.tasks.registry import load_task

TASKS = ("copy", "multiplication", "maze-hops")
ROUNDS = 5


def check_schedule(schedule: type[Schedule]) -> None:
    """Refuse a schedule that does not keep the contract.

    Raises:
        BrokenError: with the first rule that is broken.
    """
    require((schedule.__dict__.get("__doc__") or "").strip(), "its docstring must say what the next round labels")
    before, refused = global_state(), []
    for name in TASKS:
        try:
            for is_ready in (False, True):
                _check_rounds(schedule, load_task(name), is_ready)
        except UserError as error:
            refused.append(f"{name}: {error}")
        except BrokenError as error:
            raise BrokenError(f"on task {name}: {error}") from error
    require(len(refused) < len(TASKS), f"it must be for some task, and refuses all: {'; '.join(refused)}")
    require(before == global_state(), "it must leave NumPy's global generator alone")


def _check_rounds(schedule: type[Schedule], task: Task, is_ready: bool) -> None:
    settings = ScheduleSettings.model_construct(name=schedule.name)
    supervised = tuple(task.evaluated_difficulties(3))
    history: tuple[tuple[Difficulty, ...], ...] = (supervised,)
    for _ in range(ROUNDS):
        found, again = (_next(schedule, settings, task, history, is_ready) for _ in range(2))
        require(found == again, "next must return the same difficulties for the same history")
        if not found:
            return
        history = (*history, tuple(found))


def _next(schedule: type[Schedule], settings: ScheduleSettings, task: Task, history: Any, is_ready: bool) -> Any:
    try:
        who = f"schedule {schedule.name}"
        found = made(schedule, who, "schedule.options", {}, settings, task).next(history, lambda difficulty: is_ready)
    except UserError:
        raise
    except Exception as error:
        raise BrokenError(f"next must not raise: {in_a_line(error)}") from error
    require(isinstance(found, list), f"next must return a list of difficulties, got {type(found).__name__}")
    form = type(history[0][0])
    for each in found:
        require(type(each) is form, f"the difficulties of task {task.name} are like {history[0][-1]!r}, got {each!r}")
        require(each not in history[0], f"difficulty {difficulty_text(each)} is supervised: it has true answers")
    require(len(set(found)) == len(found), "next must not return a difficulty twice")
    return found

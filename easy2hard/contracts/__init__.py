"""What each kind of thing promises, checked: in the tests for what is built in, and before a run for what is not.

Tasks have theirs in tasks/contract.py.
"""

from easy2hard.contracts.filters import check_filter
from easy2hard.contracts.positions import check_positions
from easy2hard.contracts.schedules import check_schedule
from easy2hard.errors import UserError
from easy2hard.improvement.schedules import Schedule
from easy2hard.plugins import Extension, made
from easy2hard.positions import Positions
from easy2hard.rules import BrokenError
from easy2hard.settings.filters import Filter
from easy2hard.tasks.contract import check_contract
from easy2hard.tasks.oracle import Oracle


def check_thing(thing: type[Extension]) -> None:
    """Refuse a task, filter, schedule or position scheme that does not keep its contract.

    Raises:
        UserError: naming the first rule that is broken.
    """
    try:
        if issubclass(thing, Oracle):
            task = made(thing.task_class, f"task {thing.extension_name()}", "task.options", {})
            check_contract(task, thing(task))
        elif issubclass(thing, Filter):
            check_filter(thing)
        elif issubclass(thing, Schedule):
            check_schedule(thing)
        elif issubclass(thing, Positions):
            check_positions(thing)
    except BrokenError as error:
        raise UserError(f"{thing.kind} {thing.extension_name()} breaks the contract: {error}") from error

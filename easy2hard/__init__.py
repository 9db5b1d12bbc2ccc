"""easy2hard: transformers that teach themselves harder problems than they were taught.

What is in ``__all__`` is here once it is asked for: importing the package itself imports nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from easy2hard.api.asked import Answer
    from easy2hard.api.calls import frame, labels, run
    from easy2hard.api.opened import Run
    from easy2hard.errors import UserError
    from easy2hard.improvement.schedules import Schedule
    from easy2hard.positions import Positions
    from easy2hard.settings.filters import Filter, LearnedFilter
    from easy2hard.settings.recipes import load_recipe
    from easy2hard.tasks.base import Task
    from easy2hard.tasks.oracle import Oracle

__version__ = "0.2.0.dev0"
_HOMES = {
    "Answer": "api.asked",
    "Filter": "settings.filters",
    "LearnedFilter": "settings.filters",
    "Oracle": "tasks.oracle",
    "Positions": "positions",
    "Run": "api.opened",
    "Schedule": "improvement.schedules",
    "Task": "tasks.base",
    "UserError": "errors",
    "frame": "api.calls",
    "labels": "api.calls",
    "load_recipe": "settings.recipes",
    "run": "api.calls",
}
__all__ = [
    "Answer",
    "Filter",
    "LearnedFilter",
    "Oracle",
    "Positions",
    "Run",
    "Schedule",
    "Task",
    "UserError",
    "__version__",
    "frame",
    "labels",
    "load_recipe",
    "run",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    return getattr(import_module(f"easy2hard.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__

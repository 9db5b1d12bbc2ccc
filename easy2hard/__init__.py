"""easy2hard: transformers that teach themselves harder instances of a task than they were taught.

``run``, ``Run`` and ``UserError`` are here once they are asked for: importing the package itself imports nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from easy2hard.api import Answer, Run, run
    from easy2hard.errors import UserError

__version__ = "0.2.0.dev0"
__all__ = ["Answer", "Run", "UserError", "__version__", "run"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    return getattr(import_module("easy2hard.api"), name)


def __dir__() -> list[str]:
    return __all__

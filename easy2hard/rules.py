"""What the contract checks of all kinds are made of: rules, and who breaks one."""

from collections.abc import Callable
from typing import Any

import numpy as np

from easy2hard.plugins import in_a_line


class BrokenError(Exception):
    """A rule that a third party's code breaks."""


def require(holds: Any, rule: str) -> None:
    """Refuse what does not hold.

    Raises:
        BrokenError: with the rule.
    """
    if not holds:
        raise BrokenError(rule)


def call(rule: str, function: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
    """Return what a third party's function returns.

    Raises:
        BrokenError: it raised something; the rule, and what and where.
    """
    try:
        return function(*arguments, **named)
    except (
        Exception,
        SystemExit,
    ) as error:  # whatever a stranger's code raises is the answer here
        raise BrokenError(f"{rule}: {in_a_line(error)}") from error


def check_array(value: Any, shape: tuple[int | None, ...], kind: type, rule: str) -> None:
    """Refuse what is no array of this shape (None for any length) and kind.

    Raises:
        BrokenError: with the rule, and what was given instead.
    """
    right = (
        isinstance(value, np.ndarray)
        and value.ndim == len(shape)
        and all(wanted in (None, size) for wanted, size in zip(shape, value.shape, strict=True))
        and np.issubdtype(value.dtype, kind)
    )
    if not right:
        got = f"{value.dtype} of shape {value.shape}" if isinstance(value, np.ndarray) else type(value).__name__
        raise BrokenError(f"{rule}, got {got}")


def global_state() -> tuple[list[int], int]:
    """Return the state of NumPy's global generator, which nothing may touch."""
    state: Any = np.random.get_state(legacy=False)["state"]
    return state["key"].tolist(), state["pos"]

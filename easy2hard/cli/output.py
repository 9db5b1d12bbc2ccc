"""What commands write: results on standard output, everything else on standard error. No command prints by itself."""

import json
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.table import Table


def say(*lines: str) -> None:
    """Write the lines of a result."""
    if lines:
        print("\n".join(lines), flush=True)


def say_json(value: Any) -> None:
    """Write a result as one line of JSON."""
    say(json.dumps(value))


def say_table(table: "Table") -> None:
    """Write a table; in a pipe every column has the width it needs."""
    from rich.console import Console

    Console(highlight=False, width=None if sys.stdout.isatty() else 1000).print(table)


def warn(line: str) -> None:
    """Write a line to standard error."""
    print(line, file=sys.stderr)

"""The entry point of the program, and how it reports errors."""

import os
import sys
from pathlib import Path
from typing import Any

import typer

from easy2hard import processes
from easy2hard.cli.app import app
from easy2hard.cli.output import streams, warn
from easy2hard.errors import UserError
from easy2hard.plugins import fenced

# Typer carries its own copy of click in newer versions; this is the base of its usage errors in all of them.
RENAMED = {"--task-file": "--plugin", "--from-round": "`easy2hard branch`"}
_UsageError: Any = typer.BadParameter.__mro__[1]


_NO_MEMORY = "can't allocate memory", "can't start new thread", "failed to map segment"
"""What torch, Python and the system's loader say where a limit of memory (`ulimit -v`) or of threads is reached."""


def main() -> None:
    """Run the command line; a user's mistake is one line and exit code 2, never a traceback."""
    if not processes.is_main():
        sys.stdout = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 - for as long as the process lives
    try:
        with streams():
            _main()
    except SystemExit as end:
        processes.leave(end.code if isinstance(end.code, int) else 0)
        raise


def _main() -> None:
    try:
        with fenced():
            code = app(args=sys.argv[1:] or ["--help"], standalone_mode=False)
    except UserError as error:
        _fail(str(error))
    except _UsageError as error:
        message = error.format_message()
        if message.startswith("No such option"):  # another command may have it
            message += next((f"; it is {new} now" for old, new in RENAMED.items() if old in message), "")
        _fail(message)
    except typer.Abort:
        sys.exit(130)
    except (MemoryError, RuntimeError, ImportError) as error:
        if not (isinstance(error, MemoryError) or any(text in str(error) for text in _NO_MEMORY)):
            raise
        _fail(f"out of memory: {str(error) or 'this process may have no more'}", 6)
    except OSError as error:
        _fail(f"{error.filename or 'file'}: {error.strerror or error}")
    sys.exit(code or 0)


def _fail(message: str, code: int = 2) -> None:
    if os.environ.get("LOCAL_RANK", "0") == "0":  # once on each machine, where several processes were launched
        warn(f"error: {message}")
    sys.exit(code)

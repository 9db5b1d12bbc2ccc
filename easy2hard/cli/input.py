"""What commands read: lines of standard input or of a file. No command reads by itself."""

import sys
from pathlib import Path

import typer

from easy2hard.errors import UserError
from easy2hard.text import decode

GREATEST = 1 << 30
"""Bytes that are read at most: what is longer has no end, or is to be given in parts."""


def read_lines(file: Path | None = None) -> list[str]:
    """Return the lines of a file, or of standard input.

    Raises:
        UserError: it is closed, too long, or not UTF-8.
    """
    name = "standard input" if file is None else str(file)
    if file is None and sys.stdin is None:
        raise UserError("standard input: it is closed; give it lines, as in `easy2hard … < FILE`")
    try:
        if file is None:
            content = sys.stdin.buffer.read(GREATEST + 1)
        else:
            with file.open("rb") as opened:
                content = opened.read(GREATEST + 1)
    except OSError as error:
        raise UserError(f"{name}: {error.strerror}") from error
    if len(content) > GREATEST:
        raise UserError(f"{name}: more than {GREATEST >> 20:,} MiB; give it in parts")
    try:
        return decode(content).splitlines()
    except ValueError as error:
        raise UserError(f"{name}: {error}") from error


def ask(question: str, default: str) -> str:
    """Return what the user answers to a question.

    Raises:
        UserError: standard input is closed or has ended, or the answer is not UTF-8.
    """
    if sys.stdin is None:
        raise UserError(f"{question}: it is not given, and nobody can be asked: standard input is closed")
    try:
        return str(typer.prompt(question, default=default))
    except typer.Abort as error:
        if not isinstance(error.__context__, EOFError):  # Ctrl-C
            raise
        raise UserError(f"{question}: it is not given, and nobody can be asked: standard input has ended") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{question}: the answer is not UTF-8") from error

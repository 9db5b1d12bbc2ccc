"""What commands write: results on standard output, everything else on standard error. No command prints by itself."""

import contextlib
import io
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TextIO

from easy2hard.errors import UserError
from easy2hard.text import as_line, printable, wrapped

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table


class _Stream:
    """Standard output or error. It takes any text, and names itself where it cannot be written.

    Args:
        stream: what it writes to.
        name: what it is called.
        quiet: errors after which it drops what is written: nobody reads it, and the command goes on to its end.
    """

    def __init__(self, stream: TextIO, name: str, quiet: type[OSError]) -> None:
        self._stream, self._name, self._quiet = stream, name, quiet
        self._broken: OSError | None = None  # raised at every further use: libraries try a stream with empty texts
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # what the locale does not have becomes a question mark

    def write(self, text: str) -> int:
        """Write text, and return how many characters it has."""
        self._try(lambda: self._stream.write(text))
        return len(text)

    def flush(self) -> None:
        """Write what is held back."""
        self._try(self._stream.flush)

    def _try(self, use: Callable[[], object]) -> None:
        if self._broken is None:
            try:
                use()
            except OSError as error:
                self._broken = OSError(error.errno, error.strerror, self._name)  # of the kind that the number says
                # What is held back still would fail again when Python ends.
                with contextlib.suppress(io.UnsupportedOperation):
                    os.dup2(os.open(os.devnull, os.O_WRONLY), self._stream.fileno())
        if self._broken is not None and not isinstance(self._broken, self._quiet):
            raise self._broken

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextlib.contextmanager
def streams() -> Iterator[None]:
    """Make the standard streams fit for use, whatever this process was started with.

    The numbers of streams that are closed are taken: else the next file to be opened, perhaps weights, would be the
    standard output of all that writes there.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    before = sys.stdout, sys.stderr
    out: Any = sys.stdout and _Stream(sys.stdout, "standard output", BrokenPipeError)
    error: Any = sys.stderr and _Stream(sys.stderr, "standard error", OSError)
    sys.stdout, sys.stderr = out, error
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


def say(*lines: str) -> None:
    """Write the lines of a result that others may read, each as it is."""
    if sys.stdout is None:
        raise UserError("standard output: it is closed, and the result has nowhere to go")
    if lines:
        print("\n".join(printable(line, kept="\t") for line in lines), flush=True)


def tell(*lines: str) -> None:
    """Write the lines of a result in words; a terminal breaks none within a word."""
    say(*(part for line in lines for part in _fitting(line, sys.stdout)))


def _fitting(line: str, stream: TextIO | None) -> list[str]:
    """Return a line of words in as many as a terminal needs; elsewhere it stays a line."""
    return wrapped(line, shutil.get_terminal_size().columns) if stream is not None and stream.isatty() else [line]


def say_json(value: Any) -> None:
    """Write a result as one line of JSON."""
    say(json.dumps(value))


def say_rows(rows: Iterable[Sequence[str]]) -> None:
    """Write rows of texts as a table without a head."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, show_header=False)
    for row in rows:
        table.add_row(*map(printable, row))
    say_table(table)


def say_table(table: "Table") -> None:
    """Write a table; on a terminal it fits, in a pipe every column has the width it needs."""
    from easy2hard.report.fitting import fitted

    console = results(None if sys.stdout is not None and sys.stdout.isatty() else 1000)
    with console.capture() as written:
        for part in fitted(table, console.width):
            console.print(part)
    print("\n".join(map(str.rstrip, written.get().splitlines())), flush=True)  # rich fills the last column with blanks


def results(width: int | None = None) -> "Console":
    """Return a console for a result."""
    from rich.console import Console

    say()  # refuses a stream that is closed
    return Console(highlight=False, width=width)


def warn(line: str) -> None:
    """Write a line to standard error."""
    if sys.stderr is not None:  # print would take standard output instead
        print("\n".join(_fitting(as_line(line), sys.stderr)), file=sys.stderr, flush=True)

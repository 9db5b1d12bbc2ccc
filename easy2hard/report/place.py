"""Where a page or a chart goes: to the file that the user names, or into the run."""

from collections.abc import Sequence
from pathlib import Path

from easy2hard.errors import UserError
from easy2hard.files import write_file


def put(content: bytes, out: Path | None, runs: Sequence[Path], name: str) -> Path:
    """Write what was made of runs, whole or not at all, and return where it is.

    Args:
        content: of the file.
        out: the file; default: ``name`` in the run, of several runs here.
        runs: the run directories.
        name: of the file where nobody gives one.

    Raises:
        UserError: it cannot be written into the run: that is read-only, or a link or a special file is in its place.
        OSError: it cannot be written.
    """
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        write_file(out, content)
        return out
    folder = runs[0] if len(runs) == 1 else Path()
    try:
        write_file(folder / name, content, folder)
    except UserError as error:
        raise UserError(f"{error}; --out FILE names another place") from error
    except OSError as error:  # a full disk, or one that is read-only
        raise UserError(f"{folder / name}: {error.strerror}; --out FILE names another place") from error
    return folder / name

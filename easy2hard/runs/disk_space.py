"""Room on the disk: how much a run needs, how much it takes, and what happens when there is no more."""

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from easy2hard.errors import UserError
from easy2hard.settings.schema import Settings

FOLDERS = ("weights", "ledger", "training", "evaluations", "checkpoint", "tracking")
_LABEL_BYTES = 64
"""Of the ledger for each label besides its texts, compressed; measured on copy."""


class DiskFullError(Exception):
    """There is no more room; the last state is kept."""


def needed(settings: Settings, parameters: int, tokens: int, first: int = 0, last: int | None = None) -> int:
    """Return the bytes that rounds ``first`` to ``last`` take, about; by default the whole run.

    Args:
        settings: the run's settings.
        parameters: of one member.
        tokens: of the longest prompt and answer together.
        first: the first round; 0 is the supervised phase.
        last: the last round; default: the run's.
    """
    members = 4 * parameters * settings.model.members
    rounds = (settings.rounds.count if last is None else last) - first + 1
    labelled = rounds - (first == 0)
    weights = members * min(rounds, settings.storage.keep_weights or rounds)
    if settings.labels.relabel:  # as many ledgers again as there are older rounds
        labelled += sum(number - 1 for number in range(max(first, 1), first + rounds))
    ledgers = labelled * settings.schedule.stride * settings.labels.count * (_LABEL_BYTES + tokens)
    # Members' weights with two moments, and a new one beside the old; or the answers of a label phase.
    checkpoint = max(
        3 * members + members, settings.schedule.stride * settings.labels.count * (_LABEL_BYTES + 4 * tokens)
    )
    return weights + ledgers + checkpoint


def require(path: Path, size: int) -> None:
    """Refuse to begin what will not fit.

    Raises:
        UserError: there is less room than needed.
    """
    there = next(folder for folder in (path, *path.resolve().parents) if folder.exists())
    free = shutil.disk_usage(there).free
    if free < size:
        raise UserError(
            f"--out {path}: the run needs about {size / 1e6:,.0f} MB and {free / 1e6:,.0f} MB are free there; choose "
            "another disk, or keep fewer weights (storage.keep_weights)"
        )


def check_room(path: Path, next_round: int, rest: int) -> str | None:
    """Return a warning where the rest of a run will not fit.

    Args:
        path: the run.
        next_round: bytes the next round needs.
        rest: bytes that all rounds need that are still to come.

    Raises:
        DiskFullError: not even the next round fits.
    """
    free = shutil.disk_usage(path).free
    if free < next_round:
        raise DiskFullError(
            f"the next round needs about {next_round / 1e6:,.1f} MB and {free / 1e6:,.1f} MB are free on the disk of "
            f"{path}; the last state is kept"
        )
    if free < rest:
        return f"the rest of the run needs about {rest / 1e6:,.0f} MB and {free / 1e6:,.0f} MB are free; it will pause"
    return None


@contextmanager
def pausing(path: Path) -> Iterator[None]:
    """Turn a full disk into a pause.

    Raises:
        DiskFullError: there was no more room.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        free = shutil.disk_usage(path).free
        raise DiskFullError(
            f"the disk of {path} is full ({free / 1e6:,.1f} MB free); the last state is kept"
        ) from error


def usage(path: Path) -> dict[str, int]:
    """Return the bytes that each part of a run takes, and their sum."""
    sizes = {name: sum(file.stat().st_size for file in (path / name).rglob("*") if _counts(file)) for name in FOLDERS}
    sizes["other"] = sum(file.stat().st_size for file in path.glob("*") if _counts(file))
    sizes["all"] = sum(sizes.values())
    return sizes


def _counts(path: Path) -> bool:
    return path.is_file() and not path.is_symlink()

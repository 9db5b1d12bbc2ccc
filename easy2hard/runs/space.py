"""Room on the disk: how much a run needs, how much it takes, and what happens when there is no more."""

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from easy2hard.config import Settings
from easy2hard.errors import UserError

FOLDERS = ("weights", "ledger", "training", "checkpoint", "tracking")
_LABEL_BYTES = 64
"""Of the ledger for each label besides its texts, compressed; measured on copy."""


class DiskFullError(Exception):
    """There is no more room; the last state is kept."""


def needed(settings: Settings, parameters: int, tokens: int) -> int:
    """Return the bytes a whole run takes, about.

    Args:
        settings: the run's settings.
        parameters: of one member.
        tokens: of the longest prompt and answer together.
    """
    members = 4 * parameters * settings.model.members
    rounds = settings.rounds.count + 1
    weights = members * min(rounds, settings.storage.keep_weights or rounds)
    ledgers = settings.rounds.count * settings.rounds.step * settings.rounds.labels * (_LABEL_BYTES + tokens)
    # Members' weights with two moments, and a new one beside the old; or the answers of a label phase.
    checkpoint = max(3 * members + members, settings.rounds.step * settings.rounds.labels * (_LABEL_BYTES + 4 * tokens))
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
    sizes = {name: sum(file.stat().st_size for file in (path / name).rglob("*") if file.is_file()) for name in FOLDERS}
    sizes["other"] = sum(file.stat().st_size for file in path.glob("*") if file.is_file())
    sizes["all"] = sum(sizes.values())
    return sizes

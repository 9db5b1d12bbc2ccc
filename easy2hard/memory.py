"""Memory that is there, and what would need more of it: refused before it begins, with the figure."""

import os
import sys
from pathlib import Path

from easy2hard.errors import UserError

TOKEN_BYTES = 40
"""What a token takes at most while it becomes text: its id, code points, masks, and the text itself."""

if sys.platform != "win32":
    import resource


CONTROL_GROUP = Path("/sys/fs/cgroup")


def total() -> int:
    """Return the bytes that this process may have at most: of the machine, its control group and its limits."""
    return min(each for each in (_installed(), _number(CONTROL_GROUP / "memory.max"), _addresses()) if each is not None)


def available() -> int:
    """Return the bytes that this process can still have, of the same."""
    found = [_of_machine()]
    limit, addresses = _number(CONTROL_GROUP / "memory.max"), _addresses()
    if limit is not None:
        found.append(limit - (_number(CONTROL_GROUP / "memory.current") or 0))
    if addresses is not None:
        pages = _fields(Path("/proc/self/statm"))
        found.append(addresses - (int(pages[0]) * os.sysconf("SC_PAGE_SIZE") if pages else 0))
    return max(0, min(found))


def afford(what: str, needed: float) -> None:
    """Refuse what needs more memory than there is.

    Args:
        what: begins the message.
        needed: bytes.

    Raises:
        UserError: with both figures.
    """
    there = available()
    if needed > there:
        raise UserError(f"{what} needs about {size(needed)} of memory, and {size(there)} are free")


def size(count: float) -> str:
    """Return bytes in a unit that fits: ``3.1 GB``."""
    units = ["MB", "GB", "TB", "PB"]
    count /= 1e6
    while count >= 1000 and len(units) > 1:
        count, units = count / 1000, units[1:]
    return f"{count:,.1f} {units[0]}"


def _of_machine() -> int:
    for name, *value in map(str.split, _lines(Path("/proc/meminfo"))):
        if name == "MemAvailable:":
            return int(value[0]) * 1024
    return _installed()


def _installed() -> int:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _addresses() -> int | None:
    """Return the bytes of addresses that this process may use; None without a limit."""
    if sys.platform == "win32":
        return None
    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    return None if soft == resource.RLIM_INFINITY else soft


def _number(path: Path) -> int | None:
    fields = _fields(path)
    return int(fields[0]) if fields and fields[0].isdecimal() else None


def _fields(path: Path) -> list[str]:
    return " ".join(_lines(path)).split()


def _lines(path: Path) -> list[str]:
    """Return the lines of a file of Linux; none on other systems."""
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except OSError:
        return []

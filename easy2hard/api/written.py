"""What is known of a file or folder that a method wrote."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Written:
    """What a method wrote."""

    path: Path
    """A file, or a folder."""
    notes: tuple[str, ...] = ()
    """What should be known of it, such as damage in the runs that it shows."""
    labels: int | None = None
    """How many, where labels were written."""

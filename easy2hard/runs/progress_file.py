"""Where a running run is within its round, for those who watch it: ``progress.json``."""

from pathlib import Path

from pydantic import ValidationError

from easy2hard.errors import UserError
from easy2hard.files import read_inside
from easy2hard.runs.records import Count, Number, Record, Seconds
from easy2hard.text import duration

COMPILING = "compiling the loops, once on this machine: about half a minute"


class RunProgress(Record):
    """What ``progress.json`` holds."""

    round: Number
    rounds: Number
    phase: str
    done: Count = 0
    total: Count
    loss: float | None = None
    """Of the last training step."""
    tokens: Count = 0
    """Read in this phase."""
    rate: Seconds | None = None
    """Tokens a second in the last seconds, those of compiling left out; None where nothing is trained."""
    left: Seconds | None = None
    """Seconds that are left of the phase, at the pace of the last seconds; None where there is no pace yet."""
    run_left: Seconds | None = None
    """Seconds that are left of the run, about (time_left.py)."""
    compiling: bool = False
    """Loops are being compiled: nothing moves until that is done."""
    written: Seconds = 0.0
    """Since the epoch."""
    note: str = ""
    """The last thing the user should know."""

    @property
    def words(self) -> list[str]:
        """What people are shown of it, one thing each."""
        found = [f"round {self.round}/{self.rounds} {self.phase} {self.done:,}/{self.total:,}"]
        if self.compiling:
            return [*found, COMPILING]
        if self.loss is not None:
            found.append(f"loss {self.loss:.4f}")
        if self.rate is not None:
            found.append(f"{self.rate:,.0f} tokens/s")
        if self.left is not None and self.done < self.total:
            found.append(f"{duration(self.left)} left")
        if self.run_left is not None:
            found.append(f"whole run: {duration(self.run_left)} left")
        return found


def read_progress(run: Path) -> RunProgress | None:
    """Return where a run is within its round; None between rounds, or where nothing is running."""
    try:
        return RunProgress.model_validate_json(read_inside(run / "progress.json", run, 1 << 20))
    except (OSError, ValidationError, UserError):  # a view of it is no reason to stop
        return None

"""What the studies share: runs that are begun once, resumed where they were stopped, and read afterwards."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from easy2hard.progress import ProgressListener
from easy2hard.runs import rounds
from easy2hard.runs.attempts import CollapseError
from easy2hard.runs.manifest import RunDirectory
from easy2hard.runs.store import Store
from easy2hard.settings.recipes import load_recipe
from easy2hard.settings.schema import Settings


def finished(out: Path, recipe: str, overrides: Sequence[str]) -> RunDirectory:
    """Return the run in ``out``, begun or continued until it ends; a run that the watch stopped has ended too."""
    return bring_to_end(Store(out) if out.exists() else None, out, load_recipe(recipe, overrides))


def bring_to_end(store: Store | None, out: Path, settings: Settings) -> RunDirectory:
    """Start or resume a run that has not ended."""
    if store is None or not ended(store):
        with ProgressListener(Console()) as listener:
            try:
                if store is None:
                    rounds.start(settings, out, listener)
                else:
                    rounds.resume(store, listener)
            except CollapseError as error:
                print(f"{out}: {error}")
    return RunDirectory(out)


def ended(run: RunDirectory) -> bool:
    """Return whether there is nothing left to do."""
    return run.manifest.status == "finished" or "CollapseError" in run.manifest.status

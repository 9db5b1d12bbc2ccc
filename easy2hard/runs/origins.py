"""Which plug-ins a run uses: remembered in its manifest, and found again by whatever computes with the run.

What only reads a run does not call this, so it runs no code of a third party.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from easy2hard.errors import UserError
from easy2hard.plugins import FILTERS, POSITIONS, SCHEDULES, Kind, Origin, load_file
from easy2hard.runs.manifest import RunDirectory, file_digest
from easy2hard.settings.schema import Settings
from easy2hard.tasks.registry import TASKS

KINDS: tuple[Kind[Any], ...] = (TASKS, FILTERS, SCHEDULES, POSITIONS)


def origins_of(settings: Settings, before: Sequence[Origin] = ()) -> list[Origin]:
    """Return where the plug-ins that settings name came from.

    Args:
        settings: of a run; what they name is loaded.
        before: what the run remembers already; it stays, the newest is the last.
    """
    chosen: list[tuple[Kind[Any], str]] = [
        (TASKS, settings.task.name),
        *((FILTERS, each.name) for each in settings.labels.filters),
        (SCHEDULES, settings.schedule.name),
        (POSITIONS, settings.model.positions),
    ]
    now = [origin for kind, name in dict.fromkeys(chosen) if (origin := kind.origin(name)) is not None]
    return [*before, *(origin for origin in now if origin not in before)]


def restore(run: RunDirectory) -> None:
    """Load the plug-ins that a run remembers, unless the user named others of these names.

    Raises:
        UserError: one is missing or has changed since the run used it.
    """
    newest = {(origin.kind, origin.name): origin for origin in run.manifest.plugins}
    for origin in newest.values():
        kind = next(each for each in KINDS if each.base.kind == origin.kind)
        if kind.loaded(origin.name) is not None:
            continue
        path = Path(origin.file)
        who = f"{origin.kind} {origin.name} of {origin.source}, which {run.path} uses"
        if path.resolve().is_relative_to(run.path.resolve()):
            raise UserError(f"{who}: {path} is within the run, whose files are not run; --plugin {path} runs it")
        if not path.is_file():
            raise UserError(f"{who}: {path} is missing; --plugin FILE names another place")
        if file_digest(path, path.parent) != origin.sha256:
            raise UserError(f"{who}: {path} has changed since; --plugin {path} takes it as it is")
        if origin.name in kind.names():
            kind.find(origin.name)  # of an installed package
        else:
            load_file(path)
        if kind.loaded(origin.name) is None:
            raise UserError(f"{who}: {path} no longer defines it")

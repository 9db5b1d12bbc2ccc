"""Is a run what it was when it was written? Digests of every file, and what to do about a damaged one."""

from pathlib import Path

from easy2hard.errors import UserError
from easy2hard.files import special
from easy2hard.runs.evaluations import damage_of_evaluations
from easy2hard.runs.manifest import Manifest, RunDirectory, file_digest, read_sealed

OTHER_SETTINGS = "put it back; `easy2hard resume RUN --set` and `easy2hard branch` change settings"


def problems(run: RunDirectory, manifest: Manifest, weights: bool = True) -> dict[int, list[str]]:
    """Return what is missing or changed, by the round it belongs to; -1 for what belongs to none.

    Args:
        run: the run.
        manifest: its manifest, with the digests.
        weights: False leaves weights and checkpoints unread: they are nearly all of a run, and take their time.
    """
    found: dict[int, list[str]] = {}
    run_wide = _special_files(run.path)
    if changed := _changed(run.path, "settings.toml", manifest.settings_sha256):
        run_wide += [f"{changed[0]} ({OTHER_SETTINGS})"]
    run_wide += damage_of_evaluations(run)
    if run_wide:
        found[-1] = run_wide
    for position, record in enumerate(manifest.rounds):
        expected = [
            str(path.relative_to(run.path)) for path in run.files(position, bool(record.relabelled), record.pruned)
        ]
        wrong = [] if record.round == position else [f"manifest.json: record {position} is of round {record.round}"]
        if sorted(record.files) != sorted(expected):
            wrong.append(f"manifest.json: round {position} lists files that are not its own")
        else:
            read = [item for item in record.files.items() if weights or not item[0].startswith("weights/")]
            wrong += [line for name, digest in read for line in _changed(run.path, name, digest)]
        if wrong:
            found[position] = wrong
    kept = sorted(run.checkpoint_folder.glob("round-*")) if weights else []
    begun = [line for path in kept for line in _broken_seal(path)]
    if begun:
        found[len(manifest.rounds)] = begun
    return found


def check_intact(run: RunDirectory) -> None:
    """Refuse a run whose files are not all as they were written.

    Raises:
        UserError: naming the first file that is not, and the last round before the damage.
    """
    found = problems(run, run.manifest)
    if not found:
        return
    worst = min(found)
    message = f"{run.path}: damaged: {found[worst][0]}; `easy2hard verify {run.path}` names everything"
    if worst > 0:
        message += f", `easy2hard branch {run.path} --from-round {worst - 1} --out DIR` goes on before the damage"
    raise UserError(message)


def _changed(folder: Path, name: str, digest: str) -> list[str]:
    try:
        same = file_digest(folder / name, folder) == digest
    except (FileNotFoundError, NotADirectoryError):
        return [f"{name}: missing"]
    except IsADirectoryError:
        return [f"{name}: a folder"]
    except UserError as error:
        return [str(error).removeprefix(f"{folder}/")]
    return [] if same else [f"{name}: changed or cut off since it was written"]


def _broken_seal(path: Path) -> list[str]:
    if path.suffix == ".tmp":  # of a process that was killed; it is written again
        return []
    try:
        read_sealed(path)
    except FileNotFoundError:  # a running process has committed its round meanwhile
        return []
    except UserError as error:
        return [str(error).removeprefix(f"{path.parent.parent}/")]
    return []


def _special_files(folder: Path) -> list[str]:
    """A run has no links, which could lead out of it, and no pipes. What trackers keep is never read."""
    found = [(path.relative_to(folder), special(path)) for path in sorted(folder.rglob("*"))]
    return [f"{path}: {kind}" for path, kind in found if kind and (path.parts[0] != "tracking" or len(path.parts) == 1)]

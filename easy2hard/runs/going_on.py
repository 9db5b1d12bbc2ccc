"""A run that goes on with other settings: in its own directory, or in a copy that leaves it at a round."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from easy2hard import processes
from easy2hard.errors import UserError
from easy2hard.evaluation.blindfold import refuse_supervised_signals
from easy2hard.plugins import fenced
from easy2hard.runs.experiment import Experiment
from easy2hard.runs.manifest import RunDirectory
from easy2hard.runs.origins import restore
from easy2hard.runs.preflight import check
from easy2hard.runs.store import Store
from easy2hard.settings.docs import flat
from easy2hard.settings.recipes import replaced
from easy2hard.settings.schema import Settings

KEEPING = ("description", "rounds.count", "budget", "storage", "tracking")
"""Settings that no committed round would be another with: a run may go on with others."""
MADE_OF = ("seed", "task", "model", "supervised", "training.second_target", "training.second_offset")
"""Settings that the supervised phase, the members or the evaluation prompts come from: a copy has them, too."""
AFTER = ("description", "rounds", "labels", "schedule", "watch", "noise", "budget", "storage", "tracking")
"""Settings that the supervised phase does not read: runs that differ in them alone have the bits of one in common."""


def go_on(store: Store, overrides: Sequence[str]) -> None:
    """Change settings of a run that keep its rounds what they are, for the next time that it is resumed.

    A run that ends with more rounds has the bits of one that was begun with as many.

    Args:
        store: the run.
        overrides: ``section.key=value`` texts.

    Raises:
        UserError: naming the setting that a run cannot go on with, and what to do instead; or another process is
            writing the run.
    """
    restore(store)
    processes.current().from_main(lambda: _change(store, overrides))


def branch(store: Store, out: Path, number: int, overrides: Sequence[str] = ()) -> Store:
    """Return a new run in ``out`` that has the rounds up to ``number``, and goes on from there with other settings.

    Args:
        store: the run; it stays as it is.
        out: the new run directory, which must not be in use.
        number: the last round that both have.
        overrides: ``section.key=value`` texts.

    Raises:
        UserError: a setting is not allowed or cannot be another after the round, the round is not there, or ``out`` is
            in use.
    """
    restore(store)
    before = store.settings
    settings = replaced(before, overrides)
    for key, value in _changed(before, settings):
        if _among(key, MADE_OF):
            raise UserError(f"--set {key}: round 0 was made with {value!r}; {_anew(store, key)}")
    if settings.evaluation.reserved > before.evaluation.reserved:
        raise UserError(
            f"evaluation.examples = {settings.evaluation.examples}: must be at most {before.evaluation.reserved} in a "
            "branch: the rounds that are there may have trained on the other prompts"
        )
    if settings.rounds.count < number:
        raise UserError(f"rounds.count = {settings.rounds.count}: must be at least --from-round {number}")
    if store.manifest.blindfold:
        refuse_supervised_signals(settings.supervised_signals)
    with fenced():
        check(Experiment(settings))
    processes.current().from_main(lambda: store.branch(out, number, settings))
    return Store(out)


def ended(run: RunDirectory) -> str:
    """Return why a run that has ended goes no further, and how it would, in words."""
    settings, manifest = run.settings, run.manifest
    done, resume = len(manifest.rounds) - 1, f"`easy2hard resume {run.path} --set"
    if done >= settings.rounds.count:
        return f"it had ended before, with all of its {done} rounds; {resume} rounds.count={done + 10}` adds 10"
    if settings.budget is not None:
        key = "steps" if settings.budget.steps is not None else "minutes"
        return f"it had ended before, after {done} rounds, by its budget; {resume} budget.{key}=VALUE` allows more"
    return f"it had ended before, after {done} rounds: there is nothing harder than difficulty {manifest.frontier}"


def _change(store: Store, overrides: Sequence[str]) -> None:
    store.settle_settings()
    with store.lock():
        store.refuse_older()
        before = store.settings
        settings, last = replaced(before, overrides), len(store.manifest.rounds) - 1
        for key, _ in _changed(before, settings):
            if _among(key, KEEPING):
                continue
            instead = _anew(store, key)
            if last >= 0 and not _among(key, MADE_OF):
                copy = f"easy2hard branch {store.path} --from-round {last} --out DIR --set {key}=VALUE"
                instead = f"`{copy}` goes on with it in a copy"
            allowed = ", ".join(KEEPING)
            raise UserError(f"--set {key}: rounds were made with it as it is; allowed: {allowed}; {instead}")
        if settings.rounds.count < last:
            raise UserError(
                f"rounds.count = {settings.rounds.count}: {last} rounds are there; `easy2hard branch {store.path} "
                f"--from-round {settings.rounds.count} --out DIR --set rounds.count=VALUE` has fewer, in a copy"
            )
        store.replace_settings(settings)


def _anew(run: RunDirectory, key: str) -> str:
    return f"`easy2hard run {run.path}/settings.toml --set {key}=VALUE --out DIR` begins a new run"


def _changed(before: Settings, after: Settings) -> list[tuple[str, Any]]:
    """Return the settings that differ, with their values before; a section that was not there counts as one."""
    old, new = (dict(flat(each.model_dump())) for each in (before, after))
    return [(key, old.get(key)) for key in sorted({*old, *new}) if old.get(key, ...) != new.get(key, ...)]


def _among(key: str, names: Sequence[str]) -> bool:
    return any(key == name or key.startswith(f"{name}.") for name in names)

"""What is no method of a run: one from a recipe, and tables of several."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from easy2hard.api.opened import Run, Runs, paths_of
from easy2hard.runs.request import Plugins, default_out, load_plugins, settings_of

if TYPE_CHECKING:
    import pandas as pd


def frame(runs: Runs, audit: bool = False, plugins: Plugins = ()) -> "pd.DataFrame":
    """Return a row for each run, round and difficulty.

    Args:
        runs: one or several.
        audit: compare the labels with the true answers.
        plugins: Python files that add a task, for an audit; they are run as code.

    Returns:
        Columns: ``run`` (its directory), ``task``, ``seed``, ``round`` (0 is the supervised phase), ``difficulty``,
        ``hardest``, ``trained`` and ``exact_match`` as in :attr:`Run.metrics`, ``baseline`` (the task's, on the same
        prompts), ``proposed`` and ``kept`` (labels of this difficulty); the signals of all labels of the round
        (``agreement``, ``acceptance``, ``unfinished``, ``confidence``, ``parts``); ``marks`` (settings that use true
        answers beyond the supervised range). With an audit ``proposed_precision``, ``precision`` and ``recall``.

    Raises:
        UserError: a path is no run directory, or one is given twice; a ledger is missing or changed; for an audit, the
            task is a third party's and is not loaded.
    """
    from easy2hard.runs.frames import as_frame, opened, rounds_table

    load_plugins(plugins)
    return as_frame(rounds_table(opened(paths_of(runs)), audit))


def labels(runs: Runs, audit: bool = False, plugins: Plugins = ()) -> "pd.DataFrame":
    """Return a row for each label of all rounds, kept or not.

    Args:
        runs: one or several.
        audit: compare the labels with the true answers.
        plugins: Python files that add a task, for an audit; they are run as code.

    Returns:
        Columns: ``run`` (its directory), ``task``, ``seed``, ``answered_in`` (the round that gave the answer; another
        one than ``round``, that of the prompt, where ``labels.relabel`` labels older prompts afresh), and those of the
        ledger (docs/labels.md), ``difficulty`` as a text. With an audit ``right``: it is the true answer.

    Raises:
        UserError: as :func:`frame`.
    """
    from easy2hard.runs.frames import as_frame, labels_table, opened

    load_plugins(plugins)
    return as_frame(labels_table(opened(paths_of(runs)), audit))


def run(
    recipe: str | Path,
    out: str | Path | None = None,
    *,
    blindfold: bool = False,
    plugins: Plugins = (),
    progress: bool = True,
    scale: str | None = None,
    device: str = "auto",
    **overrides: Any,
) -> Run:
    """Start a run, bring it to its end and return it.

    Args:
        recipe: a shipped recipe or the path of a TOML file.
        out: the run directory, which must not be in use; default ``runs/RECIPE-seedN``.
        blindfold: let nothing see a true answer beyond the supervised range.
        plugins: Python files that add tasks, filters, schedules or position schemes; they are run as code.
        progress: show what happens.
        scale: ``"laptop"`` brings the recipe to the size of one (docs/scale.md).
        device: where it computes: ``auto`` (a GPU where there is one), ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
        overrides: settings that replace the recipe's. Two underscores stand for the dot of a setting's name:
            ``seed=1, rounds__count=3, labels__filters=[{"name": "none"}]``.

    Raises:
        UserError: a setting is not allowed or does not fit the task, or ``out`` is in use.
        CollapseError: the collapse watch stopped the run (``easy2hard.runs.attempts``); ``Run(out)`` opens what
            there is.
        DiskFullError: the disk is full; :meth:`Run.resume` goes on once there is room.
    """
    settings = settings_of(recipe, plugins=plugins, values=overrides, scale=scale)
    path = Path(out) if out is not None else default_out(recipe, settings, scale)

    from easy2hard.progress import listening
    from easy2hard.runs import rounds

    listening(progress, lambda listener: rounds.start(settings, path, listener, blindfold, device))
    return Run(path)

"""What the studies share: runs that are begun once, resumed where they were stopped, and read afterwards."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from easy2hard.config import Settings, load_recipe
from easy2hard.evaluation.audit import audit_ledger
from easy2hard.evaluation.exact_match import evaluate_run
from easy2hard.progress import ProgressListener
from easy2hard.runs import rounds
from easy2hard.runs.label_phase import CollapseError
from easy2hard.runs.manifest import RunDirectory
from easy2hard.runs.store import Store
from easy2hard.tasks.base import difficulty_text
from easy2hard.tasks.registry import load_oracle, load_task

BAR = 0.99


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


def outcome(run: RunDirectory, examples: int = 1000) -> dict[str, Any]:
    """Return what a run came to: reach, label precision, time; kept in the run's folder once it is known.

    ``reach`` is the greatest difficulty up to which every one is answered with an exact match of at least ``BAR``, the
    members' mean on ``examples`` prompts.
    """
    path = run.path / "outcome.json"
    if not path.exists():
        settings, manifest = run.settings, run.manifest
        task = load_task(settings.task.name, settings.task.options)
        oracle = load_oracle(task)
        wanted = task.evaluated_difficulties(task.capped(manifest.frontier + settings.evaluation.beyond))
        mean, _ = evaluate_run(rounds.load_members(run), task, oracle, settings.seed, wanted, examples)
        passed = [score >= BAR for score in mean.values()]
        reach = passed.index(False) if False in passed else len(passed)
        audits = [audit_ledger(run.ledger_path(record.round), oracle) for record in manifest.rounds[1:]]
        found = {
            "reach": difficulty_text(wanted[reach - 1]) if reach else "-",
            "exact_match": {difficulty_text(difficulty): score for difficulty, score in mean.items()},
            "precision": [audit["precision"] for audit in audits],
            "kept": [audit["kept"] for audit in audits],
            "difficulties": [list(map(difficulty_text, record.difficulties)) for record in manifest.rounds[1:]],
            "seconds": round(sum(record.seconds for record in manifest.rounds)),
            "status": manifest.status,
        }
        path.write_text(json.dumps(found, indent=1))
    return json.loads(path.read_text())  # type: ignore[no-any-return]

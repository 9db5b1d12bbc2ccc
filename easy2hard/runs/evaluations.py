"""Evaluations kept in a run, ``evaluations/PROMPTS-seed-SEED.json``, and the one that all figures are taken from."""

import fcntl
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from pydantic import Field, ValidationError

from easy2hard.errors import UserError
from easy2hard.files import open_lock, read_inside, write_file
from easy2hard.runs.manifest import LAYOUT, Manifest, RunDirectory, manifest_digest
from easy2hard.runs.records import DifficultyText, Number, ScoreRecord, Share
from easy2hard.settings.recipes import one_line
from easy2hard.tasks.base import parse_difficulty

FOLDER = "evaluations"
MOST = 1000
"""Evaluations that a run keeps."""
EVALUATION_BYTES = 1 << 22
"""No evaluation has more."""


class Evaluation(ScoreRecord):
    """What was measured of the weights of a round, besides the run's own evaluation."""

    round: Number
    weights_sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    seed: int
    """Chooses the prompts, with the difficulty."""
    voted: dict[DifficultyText, Share] = Field({})
    """Exact match of the members' vote."""
    hard_split: dict[DifficultyText, Share] = Field({})
    """The members' mean on the task's hard prompts."""


def kept(run: RunDirectory) -> list[Evaluation]:
    """Return the evaluations that a run keeps.

    Raises:
        UserError: one is not as it was written, or there are too many.
    """
    return [read_evaluation(path, run) for path in evaluation_paths(run)]


def damage_of_evaluations(run: RunDirectory) -> list[str]:
    """Return a line for each kept evaluation that is not as it was written."""
    found = []
    try:
        for path in evaluation_paths(run):
            try:
                read_evaluation(path, run)
            except UserError as error:
                found.append(str(error).removeprefix(f"{run.path}/"))
    except UserError as error:
        found.append(str(error).removeprefix(f"{run.path}/"))
    return found


def evaluation_paths(run: RunDirectory) -> list[Path]:
    """Return the files of the evaluations that a run keeps.

    Raises:
        UserError: there are more than a run keeps.
    """
    found = sorted((run.path / FOLDER).glob("*.json"))
    if len(found) > MOST:
        raise UserError(f"{run.path / FOLDER}: damaged: has {len(found):,} files, and no run keeps more than {MOST:,}")
    return found


def read_evaluation(path: Path, run: RunDirectory) -> Evaluation:
    """Return a kept evaluation.

    Raises:
        UserError: it is not as it was written.
        OSError: it is missing or cannot be read.
    """
    try:
        content = json.loads(read_inside(path, run.path, EVALUATION_BYTES))
        if not isinstance(content, dict) or content.pop("sha256", None) != manifest_digest(content):
            raise ValueError("it was changed after it was written")
        return Evaluation.model_validate(content)
    except UserError:
        raise
    except (ValueError, RecursionError) as error:
        said = one_line(error, Evaluation) if isinstance(error, ValidationError) else str(error)
        reason = said.splitlines()[0][:200]
        raise UserError(f"{path}: damaged: {reason}; delete it, and evaluate again") from error


def keep(run: RunDirectory, found: Evaluation) -> Evaluation:
    """Put an evaluation into the run, in the place of one by the same number of prompts, and return what is kept.

    Of the same weights, difficulties that the older one has and the newer one has not stay.

    Raises:
        UserError: an older version began the run, it keeps too many already, or there is a link in its place.
        OSError: it cannot be written.
    """
    if run.manifest.format != LAYOUT:
        raise UserError(f"{run.path}: begun by an older version of easy2hard: it is read, and not written")
    path = run.path / FOLDER / f"{found.examples}-seed-{found.seed}.json"
    path.parent.mkdir(exist_ok=True)
    with open_lock(path.parent / "lock", run.path) as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # of two at once, the second must see what the first has kept
        try:
            older = read_evaluation(path, run)
        except (FileNotFoundError, UserError):  # what is damaged is replaced
            if len([each for each in evaluation_paths(run) if each != path]) >= MOST:
                raise UserError(f"{path.parent}: keeps {MOST:,} evaluations already; delete some") from None
        else:
            if older.weights_sha256 == found.weights_sha256:
                found = _together(older, found)
        content = found.model_dump(mode="json")
        write_file(path, json.dumps({**content, "sha256": manifest_digest(content)}, indent=1).encode(), run.path)
    return found


def _together(older: Evaluation, newer: Evaluation) -> Evaluation:
    def both(name: str) -> dict[str, float]:
        scores: dict[str, float] = {**getattr(older, name), **getattr(newer, name)}
        return dict(sorted(scores.items(), key=lambda each: _numbers(each[0])))

    return newer.model_copy(update={name: both(name) for name in ("accuracy", "baseline", "voted", "hard_split")})


def _numbers(text: str) -> tuple[int, ...]:
    difficulty = parse_difficulty(text)
    return difficulty if isinstance(difficulty, tuple) else (difficulty,)


def chosen(manifest: Manifest, kept: Sequence[Evaluation], examples: int | None = None) -> Evaluation | None:
    """Return the evaluation that figures are taken from; None for the last round's own, which the manifest has.

    It is the one with the most prompts among those of the newest round that asked every difficulty which the round
    asked itself: without them it would not show where the first miss is.

    Args:
        manifest: of the run.
        kept: what it keeps.
        examples: only one by so many prompts, so that runs can be compared.
    """
    if not manifest.rounds:
        return None
    own = manifest.rounds[-1]
    fitting = [
        each
        for each in kept
        if (each.round, each.weights_sha256, each.seed) == (own.round, own.weights_sha256, manifest.seed)
        and (each.examples >= own.examples if examples is None else each.examples == examples)
        and each.accuracy.keys() >= own.accuracy.keys()
    ]
    return max(fitting, key=lambda each: each.examples, default=None)


def measured(run: RunDirectory, manifest: Manifest) -> Manifest:
    """Return a manifest whose last round has the scores of the evaluation that is chosen. It is for reading alone.

    Raises:
        UserError: a kept evaluation is not as it was written.
    """
    found = chosen(manifest, kept(run))
    if found is None:
        return manifest
    *before, own = manifest.rounds
    scores = {"examples": found.examples, "accuracy": found.accuracy, "baseline": {**own.baseline, **found.baseline}}
    return manifest.model_copy(update={"rounds": [*before, own.model_copy(update=scores)]})

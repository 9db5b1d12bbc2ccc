"""The Python API: the command line's power without a shell. Heavy imports wait until something needs them.

import easy2hard

run = easy2hard.run("copy-cpu", seed=1, rounds__count=3)
run.metrics                     # a DataFrame
run.solve(["31415926535897="])
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from easy2hard.errors import UserError
from easy2hard.runs.manifest import Manifest, RunDirectory
from easy2hard.settings.recipes import load_recipe
from easy2hard.settings.schema import Settings
from easy2hard.tasks.base import difficulty_text, hardest, parse_difficulty

if TYPE_CHECKING:
    import pandas as pd

    from easy2hard.engines.engine import Engine
    from easy2hard.runs.experiment import Experiment
    from easy2hard.runs.listener import Listener

Plugins = str | Path | Sequence[str | Path]
"""Python files that add something (docs/extending.md); one, or several."""


@dataclass(frozen=True)
class Answer:
    """What the members answer to a prompt."""

    prompt: str
    answer: str
    """The answer that most members gave, without its end; whatever was written where it has none."""
    confidence: float
    """Smallest probability of a token of the answer, the least of the members that gave it."""
    votes: int
    """Members that gave exactly this answer; 0 where it did not end within its bound."""


class Run:
    """A run directory: finished, interrupted, or written by another process at this moment.

    Nothing is kept in memory but the members, once :meth:`solve` has loaded them.

    Args:
        path: the run directory.
        plugins: Python files that add something which the run uses and does not find by itself; they are run as code.

    Raises:
        UserError: ``path`` is not a run directory, or a plug-in cannot be loaded.
    """

    def __init__(self, path: str | Path, plugins: Plugins = ()) -> None:
        self._directory = RunDirectory(Path(path))
        self._experiments: dict[str, Experiment] = {}
        self._weights: tuple[str, str] | None = None  # what was loaded last, by digest and device
        load_plugins(plugins)

    def __repr__(self) -> str:
        manifest = self.manifest
        return f"Run({str(self.path)!r}: {manifest.task}, {len(manifest.rounds)} rounds, {manifest.status})"

    @property
    def path(self) -> Path:
        """The run directory."""
        return self._directory.path

    @property
    def settings(self) -> Settings:
        """The settings the run was started with."""
        return self._directory.settings

    @property
    def manifest(self) -> Manifest:
        """Status and a record of each committed round, as they are on the disk now.

        Raises:
            UserError: the manifest is damaged.
        """
        return self._directory.manifest

    @property
    def metrics(self) -> "pd.DataFrame":
        """Exact match: a row for each round and difficulty.

        Columns: ``round`` (0 is the supervised phase), ``difficulty`` (a text: ``"12"``, or ``"6x5"`` for a pair),
        ``hardest`` (a number: of a pair the greater one), ``trained`` (the round, or one before it, trained on this
        difficulty), ``exact_match`` (0 to 1, the members' mean on ``evaluation.examples`` prompts).
        """
        import pandas as pd

        rows = []
        trained: set[str] = set()
        for record in self.manifest.rounds:
            trained |= {difficulty_text(difficulty) for difficulty in record.difficulties}
            rows += [
                (record.round, text, hardest(parse_difficulty(text)), text in trained, score)
                for text, score in record.accuracy.items()
            ]
        return pd.DataFrame(rows, columns=["round", "difficulty", "hardest", "trained", "exact_match"])

    @property
    def rounds(self) -> "pd.DataFrame":
        """What the rounds did: a row each, indexed by ``round``.

        Columns: ``hardest`` (hardest difficulty of the round), ``proposed`` and ``kept`` (labels), ``steps``,
        ``tokens``, ``loss`` (nats an answer token, mean of the last 20 steps), ``seconds``, and the seconds of each
        phase (``label_seconds``, ``train_seconds``, ``evaluate_seconds``).
        """
        import pandas as pd

        rows = [
            {
                "round": record.round,
                "hardest": max(map(hardest, record.difficulties)),
                **{name: getattr(record, name) for name in ("proposed", "kept", "steps", "tokens", "loss", "seconds")},
                **{
                    f"{phase}_seconds": record.phase_seconds.get(phase, 0.0) for phase in ("label", "train", "evaluate")
                },
            }
            for record in self.manifest.rounds
        ]
        return pd.DataFrame(rows).set_index("round") if rows else pd.DataFrame()

    def ledger(self, round: int) -> "pd.DataFrame":
        """Return every label of a round, kept or not: a row each, with its votes, confidence and why it was dropped.

        Raises:
            UserError: the round is not committed, or it is round 0, which has true answers and no labels.
        """
        import pandas as pd

        if round == 0:
            raise UserError("round 0 is the supervised phase: it has no labels, the first are those of round 1")
        if round not in [record.round for record in self.manifest.rounds]:
            raise UserError(f"{self.path}: round {round} is not committed (the last one is {self._last_round()})")
        return pd.read_parquet(self._directory.intact(self._directory.ledger_path(round)))

    def training(self, round: int) -> "pd.DataFrame":
        """Return the training steps of a round: step, loss in nats, learning rate as a share of the peak, tokens.

        Raises:
            UserError: the round is not committed.
        """
        import pandas as pd

        if round not in [record.round for record in self.manifest.rounds]:
            raise UserError(f"{self.path}: round {round} is not committed (the last one is {self._last_round()})")
        return pd.read_csv(self._directory.training_path(round))

    def solve(
        self,
        prompts: Sequence[str],
        member: int | None = None,
        device: str = "auto",
        on_long: Callable[[str], None] = lambda text: None,
    ) -> list[Answer]:
        """Answer prompts with the weights of the last committed round, by the members' vote.

        Args:
            prompts: in the task's form, such as ``"31415="``.
            member: ask one member instead of the vote.
            device: where they compute: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
            on_long: told in a line what it takes, where that is over a minute.

        Raises:
            UserError: a prompt is not one of the task's or too long for this machine, there is no such member or
                device, or no round is committed yet.
        """
        if isinstance(prompts, str):
            raise UserError(f"prompts = {prompts!r}: a list of prompts, not one text")
        experiment = self._experiment(device)
        task, members = experiment.task, experiment.settings.model.members
        groups = task.encode(list(prompts))
        if member is not None and not 0 <= member < members:
            raise UserError(f"member = {member}: the run has members 0 to {members - 1}")

        from easy2hard.engines.choice import build_engine
        from easy2hard.improvement.proposals import propose
        from easy2hard.runs.cost import Asked, check_cost

        asked = [Asked(len(each), each.shape[1], int(task.answer_bounds(each).max())) for _, each in groups]
        check_cost("prompts", experiment, sorted(asked, key=sum, reverse=True), on_long)
        engine = self._loaded(device)
        if member is not None:
            engine = build_engine([engine.members[member]])
        answers: dict[int, Answer] = {}
        for rows, tokens in groups:
            proposals = propose(engine, task, 0, tokens)
            texts = task.vocabulary.decode_answers(proposals.answers)
            for row, text, confidence, votes in zip(rows, texts, proposals.confidence, proposals.votes, strict=True):
                answers[row] = Answer(prompts[row], text, round(float(confidence), 6), int(votes))
        return [answers[row] for row in range(len(prompts))]

    def resume(self, progress: bool = True, device: str = "auto") -> "Run":
        """Bring the run to its end from where it was stopped, and return it; a finished run stays as it is.

        Args:
            progress: show what happens.
            device: where it computes; as in :func:`run`.

        Raises:
            UserError: a file of the run is missing or changed, or another process is writing it.
            CollapseError: the collapse watch stopped the run (``easy2hard.runs.attempts``).
            DiskFullError: the disk is full (``easy2hard.runs.disk_space``).
        """
        from easy2hard.runs import rounds, store

        opened = store.Store(self.path)
        _listening(progress, lambda listener: rounds.resume(opened, listener, device))
        return self

    def _last_round(self) -> int:
        return len(self.manifest.rounds) - 1

    def _experiment(self, device: str = "auto") -> "Experiment":
        """Return what the run is made of, put together once for each device."""
        from easy2hard.runs.experiment import Experiment
        from easy2hard.runs.origins import restore

        if device not in self._experiments:
            restore(self._directory)
            self._experiments[device] = Experiment(self.settings, device)
        return self._experiments[device]

    def _loaded(self, device: str) -> "Engine":
        """Return the engine with the members of the last committed round, loaded once for each round."""
        records = self.manifest.rounds
        weights = (records[-1].weights_sha256 if records else "", device)
        if self._weights != weights:
            self._experiment(device).load(self._directory)
            self._weights = weights
        return self._experiment(device).engine


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

    from easy2hard.runs import rounds

    _listening(progress, lambda listener: rounds.start(settings, path, listener, blindfold, device))
    return Run(path)


def settings_of(
    recipe: str | Path,
    overrides: Sequence[str] = (),
    plugins: Plugins = (),
    values: dict[str, Any] | None = None,
    scale: str | None = None,
) -> Settings:
    """Return a recipe's settings with its replacements; plug-ins with one task bring that task's name.

    Args:
        recipe: a shipped recipe or the path of a TOML file.
        overrides: ``section.key=value`` texts.
        plugins: Python files that add something.
        values: values by setting, two underscores for a dot.
        scale: a size to bring the recipe to before anything is replaced.

    Raises:
        UserError: naming the setting that is not allowed.
    """
    names = load_plugins(plugins)
    own = [f"task.name={names[0]}"] if len(names) == 1 else []
    replaced = {name.replace("__", "."): value for name, value in (values or {}).items()}
    return load_recipe(str(recipe), [*own, *overrides], replaced, scale)


def default_out(recipe: str | Path, settings: Settings, scale: str | None = None) -> Path:
    """Return where a run of a recipe goes when nobody says."""
    return Path("runs") / f"{Path(recipe).stem}{f'-{scale}' if scale else ''}-seed{settings.seed}"


def load_plugins(paths: Plugins) -> list[str]:
    """Run Python files that add something, and return the names of the tasks among what they define.

    Raises:
        UserError: a file is missing, fails, or defines nothing that can be added.
    """
    from easy2hard.plugins import load_file
    from easy2hard.tasks.oracle import Oracle
    from easy2hard.tasks.registry import TASKS

    files = [paths] if isinstance(paths, str | Path) else paths
    things = [thing for path in files for thing in load_file(Path(path))]
    return [name for thing in things if issubclass(thing, Oracle) and (name := thing.extension_name()) in TASKS.names()]


def _listening(progress: bool, work: Callable[["Listener"], object]) -> None:
    from rich.console import Console

    from easy2hard.progress import ProgressListener

    with ProgressListener(Console(quiet=not progress)) as listener:
        work(listener)

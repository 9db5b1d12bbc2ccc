"""A run directory in the hands of a user: what was measured, and a method for each command about a run."""

from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from easy2hard.api.sweeping import sweep
from easy2hard.api.written import Written
from easy2hard.errors import UserError
from easy2hard.files import open_inside, read_table
from easy2hard.processes import current
from easy2hard.runs.manifest import Manifest, RunDirectory
from easy2hard.runs.request import Plugins, load_plugins
from easy2hard.settings.schema import Settings
from easy2hard.tasks.base import Difficulty, Task
from easy2hard.text import counted

if TYPE_CHECKING:
    import pandas as pd

    from easy2hard.api.asked import Answer
    from easy2hard.engines.engine import Engine
    from easy2hard.runs.experiment import Experiment


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
        return f"Run({str(self.path)!r}: {manifest.task}, {counted(len(manifest.rounds), 'round')}, {manifest.status})"

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
    def task(self) -> Task:
        """The task: how its prompts are made and written, and how difficulties are.

        Raises:
            UserError: it is a third party's and is not loaded (``plugins``).
        """
        return self._read.task

    @property
    def metrics(self) -> "pd.DataFrame":
        """Exact match: a row for each round and difficulty.

        Columns: ``round`` (0 is the supervised phase), ``difficulty`` (a text: ``"12"``, or ``"6x5"`` for a pair),
        ``hardest`` (a number: of a pair the greater one), ``trained`` (the round, or one before it, trained on this
        difficulty), ``exact_match`` (0 to 1, the members' mean), ``examples`` (prompts that it is of). The last round
        has the scores of the kept evaluation with the most prompts, where there is one (:meth:`evaluate`).
        """
        import pandas as pd

        from easy2hard.runs.evaluations import measured
        from easy2hard.runs.frames import SCORES, scores

        rows = [row for row in scores(measured(self._directory, self.manifest)) if row["exact_match"] is not None]
        return pd.DataFrame(rows, columns=[name for name, _ in SCORES])

    @property
    def reach(self) -> int:
        """The last difficulty before the first that is significantly below 0.99; 0 where there is none.

        It is of the same scores as :attr:`metrics`. Of a pair it is the greater number.
        """
        from easy2hard.runs.evaluations import measured

        rounds = measured(self._directory, self.manifest).rounds
        return rounds[-1].reach if rounds else 0

    @property
    def rounds(self) -> "pd.DataFrame":
        """What the rounds did: a row each, indexed by ``round``.

        Columns: ``hardest`` (hardest difficulty of the round), ``proposed`` and ``kept`` (labels), ``steps``,
        ``tokens``, ``loss`` (nats an answer token, mean of the last 20 steps), ``seconds``, and the seconds of each
        phase (``label_seconds``, ``train_seconds``, ``evaluate_seconds``).
        """
        import pandas as pd

        from easy2hard.runs.frames import summaries

        rows = summaries(self.manifest)
        return pd.DataFrame(rows).set_index("round") if rows else pd.DataFrame()

    def ledger(self, round: int) -> "pd.DataFrame":
        """Return every label of a round, kept or not: a row each, with its votes, confidence and why it was dropped.

        Raises:
            UserError: the round is not committed, or it is round 0, which has true answers and no labels.
        """
        import pandas as pd

        if round == 0:
            raise UserError("round 0 is the supervised phase: it has no labels, the first are those of round 1")
        self._check_committed(round)
        path = self._directory.intact(self._directory.ledger_path(round))
        return pd.DataFrame(read_table(path, self.path).to_pandas())

    def training(self, round: int) -> "pd.DataFrame":
        """Return the training steps of a round: step, loss in nats, learning rate as a share of the peak, tokens.

        Raises:
            UserError: the round is not committed.
        """
        import pandas as pd

        self._check_committed(round)
        with open_inside(self._directory.training_path(round), self.path) as file:
            return pd.read_csv(file)

    def solve(
        self,
        prompts: Sequence[str],
        member: int | None = None,
        device: str = "auto",
        on_long: Callable[[str], None] = lambda text: None,
    ) -> "list[Answer]":
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
        from easy2hard.api.asked import answers

        return answers(self._experiment(device), lambda: self._loaded(device), prompts, member, on_long)

    def evaluate(
        self,
        difficulties: str | Iterable[Difficulty | str] | None = None,
        examples: int = 1000,
        device: str = "auto",
        on_long: Callable[[str], None] = lambda text: None,
    ) -> "pd.DataFrame":
        """Measure exact match with the weights of the last committed round: a row for each difficulty.

        The run keeps the result, and reports take the newest round's figures from it (``easy2hard.runs.evaluations``).

        Args:
            difficulties: such as ``"1-30"``, ``"6x5,5x6"``, ``range(1, 31)``, ``[(6, 5)]`` or ``["6x5"]``; default: all
                to the frontier + 5, or as far as the rounds were evaluated.
            examples: prompts for each difficulty.
            device: where the members compute; as in :meth:`solve`.
            on_long: as in :meth:`solve`; and told why where the run cannot keep the result.

        Returns:
            Columns: ``difficulty`` (a text), ``exact_match`` (0 to 1, the members' mean), ``voted`` (their vote's), and
            where the task has them ``hard_split`` (the members' mean on its hard prompts) and ``baseline``.

        Raises:
            UserError: a difficulty is not one of the task's, there are not so many prompts, no round is committed yet,
                or there is no such device.
        """
        import pandas as pd

        from easy2hard.api.asked import exact_match

        experiment, before = self._experiment(device), self.manifest
        columns = exact_match(
            experiment, lambda: self._loaded(device), difficulties, examples, before.frontier, on_long
        )
        if reason := current().from_main(lambda: self._keep(columns, examples)):
            on_long(f"not kept in the run: {reason}")
        scores = {name: list(each.values()) for name, each in columns.items()}
        return pd.DataFrame({"difficulty": list(columns["exact_match"]), **scores})

    def _keep(self, columns: dict[str, dict[str, float]], examples: int) -> str | None:
        """Keep what was measured of the weights that are loaded; return why it cannot be, or None."""
        from easy2hard.runs.evaluations import Evaluation, keep

        manifest = self.manifest
        weights = self._weights[0] if self._weights else ""
        measured = Evaluation(
            round=max(record.round for record in manifest.rounds if record.weights_sha256 == weights),
            weights_sha256=weights,
            seed=manifest.seed,
            examples=examples,
            accuracy=columns["exact_match"],
            **{name: columns.get(name, {}) for name in ("voted", "hard_split", "baseline")},
        )
        try:
            keep(self._directory, measured)
        except UserError as error:
            return str(error)
        except OSError as error:  # a full disk, or one that is read-only
            return f"{error.filename}: {error.strerror}"
        return None

    def audit(self) -> list[dict[str, Any]]:
        """Compare the labels with the true answers, after the fact: a record for each round with labels.

        Returns:
            For each ``round`` its ``difficulties`` and what ``easy2hard.evaluation.audit.audit_ledger`` returns:
            precision and recall, by filter and difficulty, kinds of mistakes, calibration.

        Raises:
            UserError: a ledger is missing or changed, or the task is a third party's and is not loaded (``plugins``).
        """
        from easy2hard.report.tables import audit_rows

        return audit_rows(self._directory, self._read.oracle)

    def frame(self, audit: bool = False) -> "pd.DataFrame":
        """Return a row for each round and difficulty, as :func:`easy2hard.frame`."""
        from easy2hard.runs.frames import as_frame, rounds_table

        return as_frame(rounds_table([self._directory], audit))

    def labels(self, audit: bool = False) -> "pd.DataFrame":
        """Return a row for each label of all rounds, as :func:`easy2hard.labels`."""
        from easy2hard.runs.frames import as_frame, labels_table

        return as_frame(labels_table([self._directory], audit))

    def verify(self) -> list[str]:
        """Compare every file with its digest, and return a line for each that is missing or changed."""
        from easy2hard.runs.integrity import problems

        return [line for lines in problems(self._directory, self.manifest).values() for line in lines]

    def du(self) -> dict[str, int]:
        """Return the bytes that each part of the run takes, and their sum ``all``."""
        from easy2hard.runs.disk_space import usage

        return usage(self.path)

    def report(self, out: str | Path | None = None, *, beside: "Runs" = ()) -> Path:
        """Write one page about the run that opens offline, and return where it is.

        Args:
            out: the page; default: ``report.html`` in the run's directory, of several runs here.
            beside: other runs, to be compared.

        Raises:
            UserError: a path is no run directory, or one is given twice.
        """
        from easy2hard.report.page import write_report

        return write_report([self.path, *paths_of(beside)], None if out is None else Path(out))

    def plot(
        self,
        figure: str = "overview",
        out: str | Path | None = None,
        *,
        beside: "Runs" = (),
        width: str | float | None = None,
        font: str | None = None,
        font_size: float | None = None,
        title: bool = True,
    ) -> Written:
        """Draw a chart for a paper.

        Args:
            figure: ``overview``, ``accuracy``, ``map``, ``reach``, ``labels``, ``calibration`` or ``loss``.
            out: a ``.pdf``, ``.svg``, ``.png`` or ``.pgf``; default: ``FIGURE.pdf`` in the run's directory, of several
                runs here.
            beside: other runs; those that differ in their seed alone become a mean with its range.
            width: of the figure, such as ``"89mm"``; a number is inches. The height goes with it.
            font: an installed font family; a ``.pgf`` has ``serif``, ``sans-serif`` or ``monospace`` of its document.
            font_size: in points.
            title: whether there is one; what must be said of a run is said without it, too.

        Raises:
            UserError: there is no such figure, format, width or font, a run has nothing to draw, or a ``.pgf`` is
                wanted and there is no TeX.
        """
        from easy2hard.report.figures import plot_runs
        from easy2hard.report.paper import Layout

        paths = [self.path, *paths_of(beside)]
        layout = Layout(None if width is None else str(width), font, font_size, title)
        path, problems = plot_runs(paths, figure, None if out is None else Path(out), layout)
        return Written(path, tuple(problems))

    def export(
        self,
        out: str | Path,
        member: int = 0,
        adapter: bool = False,
        labels: bool = False,
        push: str | None = None,
    ) -> Written:
        """Write a member for transformers, or the labels as a dataset with a card.

        Args:
            out: a new folder.
            member: which one.
            adapter: write the LoRA adapters alone instead of merging them.
            labels: write the labels of all rounds instead of a member.
            push: upload the folder afterwards to this repository of the hub, ``OWNER/NAME``.

        Raises:
            UserError: ``out`` is in use, there is no such member, or no adapters; transformers has no such decoder, or
                computes something else with it; no round is committed yet; a file of the run is damaged; or ``push``
                cannot be uploaded to.
        """
        from easy2hard.runs.export import export_labels, export_model
        from easy2hard.runs.hub import check_repository, upload

        path, count, notes = Path(out), None, []
        if labels and (adapter or member):
            raise UserError("--labels: takes neither --member nor --adapter; labels are the members' joint answers")
        if push is not None:
            check_repository(push)
        if labels:
            count = export_labels(self._directory, path, push)
        elif note := export_model(self._directory, path, member, adapter, push):
            notes.append(note)
        if push is not None:
            notes.append(f"uploaded to {upload(path, push, 'dataset' if labels else 'model')}")
        return Written(path, tuple(notes), count)

    sweep = staticmethod(sweep)

    def resume(self, progress: bool = True, device: str = "auto", overrides: Sequence[str] = ()) -> "Run":
        """Bring the run to its end from where it was stopped, and return it; a finished run stays as it is.

        Args:
            progress: show what happens.
            device: where it computes; as in :func:`easy2hard.run`.
            overrides: ``section.key=value`` texts that the run goes on with, such as ``rounds.count=40``.

        Raises:
            UserError: a file of the run is missing or changed, another process is writing it, or rounds are there that
                were made with another value.
            CollapseError: the collapse watch stopped the run (``easy2hard.runs.attempts``).
            DiskFullError: the disk is full (``easy2hard.runs.disk_space``).
        """
        from easy2hard.progress import listening
        from easy2hard.runs import going_on, rounds, store

        opened = store.Store(self.path)
        if overrides:
            going_on.go_on(opened, overrides)
        listening(progress, lambda listener: rounds.resume(opened, listener, device))
        return self

    def branch(
        self,
        out: str | Path,
        from_round: int,
        overrides: Sequence[str] = (),
        progress: bool = True,
        device: str = "auto",
    ) -> "Run":
        """Continue from a round in a copy, with other settings, and return the new run.

        Raises:
            UserError: ``out`` is in use, the round is not committed, or a setting cannot differ from there on.
        """
        from easy2hard.runs import going_on, store

        opened = going_on.branch(store.Store(self.path), Path(out), from_round, overrides)
        return Run(opened.path).resume(progress, device)

    def _check_committed(self, round: int) -> None:
        count = len(self.manifest.rounds)
        if not 0 <= round < count:
            raise UserError(f"{self.path}: round {round} is not committed (the last one is {count - 1})")

    @cached_property
    def _read(self) -> "Experiment":
        """What the run is made of, for reading: no code of a third party is run that is not loaded."""
        from easy2hard.runs.experiment import Experiment

        return Experiment(self.settings, reading=True)

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


Runs = Run | str | Path | Sequence[Run | str | Path]
"""Runs, opened or by their directories; one, or several."""


def paths_of(runs: Runs) -> list[Path]:
    """Return the directories of runs."""
    several = [runs] if isinstance(runs, Run | str | Path) else runs
    return [each.path if isinstance(each, Run) else Path(each) for each in several]

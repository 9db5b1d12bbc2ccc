"""What happens in a run, told to TensorBoard, Weights & Biases, trackio or MLflow through accelerate's trackers.

Off unless ``tracking.trackers`` names some. The run directory stays the truth: trackers only listen, nothing reads what
they write, and what they keep locally lies in the run's folder ``tracking``.
"""

import json
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from easy2hard import processes
from easy2hard.engines.choice import has_gpu
from easy2hard.errors import UserError
from easy2hard.learning.trainer import Step
from easy2hard.runs.listener import Listener
from easy2hard.runs.manifest import Manifest, RoundRecord
from easy2hard.runs.progress_file import RunProgress
from easy2hard.runs.store import Store
from easy2hard.settings.schema import Settings, TrackingSettings


def check_tracking(settings: TrackingSettings) -> None:
    """Refuse trackers that are not installed.

    Raises:
        UserError: naming the package that is missing.
    """
    for package in [*settings.trackers, *(["accelerate"] if settings.trackers else [])]:
        if find_spec(package) is None:
            raise UserError(
                f"tracking.trackers = {settings.trackers}: {package} is not installed: pip install '.[tracking]'"
            )


@contextmanager
def tracked(store: Store, listener: Listener) -> "Iterator[Listener]":
    """Give a listener that tells the run's trackers as well; they are closed however it ends.

    Raises:
        UserError: a tracker cannot be started.
    """
    settings = store.settings
    check_tracking(settings.tracking)
    if not settings.tracking.trackers or not processes.current().main:
        yield listener
        return

    from accelerate import PartialState

    PartialState(cpu=not has_gpu())  # accelerate's trackers ask it which process they are in
    folder = store.path.absolute() / "tracking"
    folder.mkdir(exist_ok=True)
    with ExitStack() as opened:
        trackers = []
        for name in settings.tracking.trackers:
            try:
                tracker = _TRACKERS[name](settings.tracking.project, store.path.absolute().name, folder)
                tracker.start()
                opened.callback(tracker.finish)
                tracker.store_init_configuration(_flat(settings))
            except Exception as error:
                raise UserError(f"tracking.trackers: {name} does not start: {type(error).__name__}: {error}") from error
            trackers.append(tracker)
        yield _Tracked(listener, trackers, settings.tracking.every, store.manifest)


def _tensorboard(project: str, run: str, folder: Path) -> Any:
    from accelerate.tracking import TensorBoardTracker

    return TensorBoardTracker(project, folder / "tensorboard")


def _wandb(project: str, run: str, folder: Path) -> Any:
    from accelerate.tracking import WandBTracker

    # What is shown on the terminal is for the terminal.
    return WandBTracker(project, name=run, dir=folder, settings={"console": "off"})


def _trackio(project: str, run: str, folder: Path) -> Any:
    # trackio reads this once: several runs of one process share the first one's folder.
    os.environ.setdefault("TRACKIO_DIR", str(folder / "trackio"))
    from accelerate.tracking import TrackioTracker

    return TrackioTracker(project, name=run, embed=False)


def _mlflow(project: str, run: str, folder: Path) -> Any:
    import mlflow
    from accelerate.tracking import MLflowTracker

    if "MLFLOW_TRACKING_URI" not in os.environ:
        mlflow.set_tracking_uri(f"sqlite:///{folder / 'mlflow.db'}")
    return MLflowTracker(project, run_name=run)


_TRACKERS: dict[str, Callable[[str, str, Path], Any]] = {
    "tensorboard": _tensorboard,
    "wandb": _wandb,
    "trackio": _trackio,
    "mlflow": _mlflow,
}


class _Tracked:
    """Passes everything on, and tells the trackers about steps and rounds (implements ``listener.Listener``).

    Steps are counted through all rounds. What was told before a return to a checkpoint is not told again.
    """

    def __init__(self, listener: Listener, trackers: list[Any], every: int, manifest: Manifest) -> None:
        self._listener = listener
        self._trackers = trackers
        self._every = every
        self._before = sum(record.steps for record in manifest.rounds)
        self._round = len(manifest.rounds)
        self._told = -1

    def phase(self, number: int, rounds: int, name: str, total: int) -> None:
        self._listener.phase(number, rounds, name, total)

    def advance(self, count: int) -> None:
        self._listener.advance(count)

    def note(self, text: str) -> None:
        self._listener.note(text)

    def where(self, now: RunProgress) -> None:
        self._listener.where(now)

    def step(self, step: Step) -> None:
        self._listener.step(step)
        if step.step % self._every == 0:
            values = {"loss": step.loss, "learning_rate": step.learning_rate, "tokens": step.tokens}
            self._tell(self._before + step.step, {f"training/{name}": value for name, value in values.items()})

    def round(self, manifest: Manifest) -> None:
        self._listener.round(manifest)
        record = manifest.rounds[-1]
        self._before += record.steps
        self._round += 1
        self._tell(self._before, {"frontier": manifest.frontier, **_values(record)})

    def _tell(self, step: int, values: dict[str, float]) -> None:
        if step < self._told:
            return
        self._told = step
        for tracker in self._trackers:
            tracker.log({"round": self._round, **values}, step=step)


def _values(record: RoundRecord) -> dict[str, float]:
    return {
        "labels/proposed": record.proposed,
        "labels/kept": record.kept,
        **{f"labels/{name}": value for name, value in (record.signals.known if record.signals else {}).items()},
        **{f"exact_match/{difficulty}": score for difficulty, score in record.accuracy.items()},
        **{f"seconds/{name}": value for name, value in record.phase_seconds.items()},
    }


def _flat(settings: Settings) -> dict[str, str | int | float | bool]:
    """Return the settings as ``section.key`` and a plain value."""
    flat: dict[str, str | int | float | bool] = {}
    for name, value in settings.model_dump(exclude_none=True).items():
        for key, part in value.items() if isinstance(value, dict) else [("", value)]:
            plain = part if isinstance(part, str | int | float | bool) else json.dumps(part)
            flat[f"{name}.{key}" if key else name] = plain
    return flat

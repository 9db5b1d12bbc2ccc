"""Trackers hear what happens and change nothing. Nothing here needs a network."""

import csv
import importlib
import json
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers import Silent

from easy2hard.errors import UserError
from easy2hard.learning.trainer import Step
from easy2hard.runs import rounds, tracking
from easy2hard.runs.disk_space import usage
from easy2hard.runs.integrity import check_intact
from easy2hard.runs.store import Store
from easy2hard.settings.recipes import load_recipe

FEW = ["supervised.steps=12", "supervised.decay=4", "supervised.warmup=2", "rounds.count=1", "rounds.steps=7"]
FEW += ["rounds.decay=2", "tracking.every=5", "tracking.project=climbing"]
STEPS = [0, 5, 10, 12, 17]  # of both phases, counted through


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """A run with every tracker there is, all of them kept at home; whoever asks for another machine is found out."""
    names = list(tracking._TRACKERS)
    assert sorted(names) == ["mlflow", "tensorboard", "trackio", "wandb"]  # none is left out where it is not installed
    called: list[Any] = []
    ask = socket.getaddrinfo

    def asked(host: Any, *given: Any, **named: Any) -> Any:
        if host not in (None, "", "localhost", "127.0.0.1", "::1", "0.0.0.0", socket.gethostname()):
            called.append(host)
            raise socket.gaierror(f"no network in a test: {host}")
        return ask(host, *given, **named)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket, "getaddrinfo", asked)
        patch.setenv("WANDB_MODE", "offline")
        for name in ("MLFLOW_TRACKING_URI", "TRACKIO_DIR", "WANDB_DIR"):
            patch.delenv(name, raising=False)
        settings = load_recipe("smoke", [*FEW, f"tracking.trackers={names}"])
        yield rounds.start(settings, tmp_path_factory.mktemp("runs") / "tracked", Silent())
    assert not called


def logged_losses(store: Store) -> list[float]:
    """Return the losses of the told steps, from the run directory."""
    losses: list[float] = []
    for number in (0, 1):
        rows = list(csv.DictReader(store.training_path(number).open()))
        losses += [float(row["loss"]) for row in rows if int(row["step"]) % 5 == 0]
    return losses


def of_tensorboard(folder: Path, name: str) -> dict[int, float]:
    accumulator = importlib.import_module("tensorboard.backend.event_processing.event_accumulator")
    events = accumulator.EventAccumulator(str(folder / "tensorboard" / "climbing"))
    events.Reload()
    return {each.step: each.value for each in events.Scalars(name)}


def of_mlflow(folder: Path, name: str) -> dict[int, float]:
    with sqlite3.connect(folder / "mlflow.db") as database:
        return dict(database.execute("select step, value from metrics where key = ?", [name]))


def of_trackio(folder: Path, name: str) -> dict[int, float]:
    with sqlite3.connect(folder / "trackio" / "climbing.db") as database:
        rows = [(step, json.loads(values)) for step, values in database.execute("select step, metrics from metrics")]
    return {step: values[name] for step, values in rows if name in values}


@pytest.mark.parametrize("read", [of_tensorboard, of_mlflow, of_trackio])
def test_a_tracker_writes_steps_and_rounds_to_a_local_folder(
    read: Callable[[Path, str], dict[int, float]], run: Store
) -> None:
    folder = run.path / "tracking"
    losses = read(folder, "training/loss")
    assert sorted(losses) == STEPS
    assert [losses[step] for step in STEPS] == pytest.approx(logged_losses(run), abs=1e-5)
    first, second = run.manifest.rounds
    assert read(folder, "labels/kept") == {12: first.kept, 19: second.kept}
    assert read(folder, "exact_match/3") == pytest.approx({12: first.accuracy["3"], 19: second.accuracy["3"]})


def test_weights_and_biases_offline_keeps_everything_in_a_file(run: Store) -> None:
    (path,) = (run.path / "tracking" / "wandb").rglob("*.wandb")
    content = path.read_bytes()  # records of its own form, their texts as they are
    for text in ["climbing", "training/loss", "labels/kept", "exact_match/3"]:
        assert text.encode() in content
    for loss in logged_losses(run):
        assert f"{loss:.6f}"[:6].encode() in content


def test_trackers_change_nothing(run: Store, tmp_path: Path) -> None:
    plain = rounds.start(load_recipe("smoke", FEW), tmp_path / "plain", Silent())
    assert not (plain.path / "tracking").exists()
    for number in (0, 1):
        assert plain.weights_path(number).read_bytes() == run.weights_path(number).read_bytes()
        assert plain.training_path(number).read_bytes() == run.training_path(number).read_bytes()
    check_intact(run)  # for all the links that they keep
    assert usage(run.path)["tracking"] > 0


def test_a_tracker_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tracking, "find_spec", lambda name: None if name == "wandb" else name)
    settings = load_recipe("smoke", ['tracking.trackers=["wandb"]'])
    with pytest.raises(UserError, match=r"wandb is not installed: pip install '\.\[tracking\]'"):
        rounds.start(settings, tmp_path / "run", Silent())
    assert not (tmp_path / "run").exists()


def test_nothing_is_imported_where_there_is_no_tracker(tmp_path: Path) -> None:
    lines = (
        "import easy2hard.runs.rounds, sys; print([m for m in ('accelerate', 'mlflow', 'wandb') if m in sys.modules])"
    )
    printed = subprocess.run([sys.executable, "-c", lines], capture_output=True, text=True, check=True).stdout
    assert printed.strip() == "[]"


def test_what_was_told_is_not_told_again(run: Store) -> None:
    """After a return to a checkpoint, steps come once more."""

    class Heard:
        def __init__(self) -> None:
            self.steps: list[int] = []

        def log(self, values: dict[str, Any], step: int) -> None:
            self.steps.append(step)

    heard = Heard()
    told = tracking._Tracked(Silent(), [heard], 2, run.manifest.model_copy(update={"rounds": []}))
    for step in [0, 1, 2, 3, 4, 0, 1, 2, 3, 4, 5, 6]:
        told.step(Step(step, 1.0, 1.0, 10))
    assert heard.steps == [0, 2, 4, 4, 6]

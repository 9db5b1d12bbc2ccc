"""How long a sweep takes: by what has ended, by a measurement, and by size where nothing else is known."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from easy2hard.errors import UserError
from easy2hard.report.words import duration
from easy2hard.runs.manifest import RunDirectory, manifest_text
from easy2hard.sweep import forecast
from easy2hard.sweep.execute import Laboratory
from easy2hard.sweep.forecast import Pace, estimated
from easy2hard.sweep.plan import load_sweep, planned
from easy2hard.sweep.trial import Trial, Work

SWEEP = """
recipe = "smoke"
seeds = [0, 1]
share = "supervised"
set = ["supervised.steps=100", "rounds.steps=20", "rounds.count=2"]
variants.two = []
variants.filter = ['labels.filters=[{name="none"}]']
variants.four = ["rounds.count=4"]
variants.alone = ["model.members=4"]
"""


@pytest.fixture
def made(tmp_path: Path) -> Laboratory:
    (tmp_path / "it.toml").write_text(SWEEP)
    sweep = load_sweep(str(tmp_path / "it.toml"))
    return Laboratory(sweep, planned(sweep), tmp_path / "out")


@pytest.fixture
def end(made: Laboratory, fake_run: Callable[..., RunDirectory]) -> Callable[[Work, list[float]], None]:
    """Have a run ended, its rounds with these seconds."""

    def write(work: Work, seconds: list[float]) -> None:
        begun = fake_run(made.path(work), len(seconds))
        records = [
            record.model_copy(update={"seconds": each})
            for record, each in zip(begun.manifest.rounds, seconds, strict=True)
        ]
        manifest = begun.manifest.model_copy(update={"status": "finished", "rounds": records})
        (begun.path / "manifest.json").write_text(manifest_text(manifest))

    return write


def test_the_time_left_is_that_of_ended_runs_and_by_size_of_others(
    made: Laboratory, end: Callable[[Work, list[float]], None]
) -> None:
    assert Pace(made, 1).left(made.left()) == ""
    end(made.bases[0], [100.0])
    # 100 steps of two members take 100 s: another base, 40 s for two rounds, 80 s for four, 280 s for four members.
    assert Pace(made, 1).left(made.left()) == f", about {duration(100 + 2 * (40 + 40 + 80 + 280))} left"
    end(made.runs[0], [100.0, 5.0, 7.0])
    other = made.runs[1]
    assert Pace(made, 1).left([other]) == ", about 12.0 s left"  # its rounds alone
    assert Pace(made, 2).left([other, other]) == ", about 12.0 s left"


def test_a_run_is_measured_where_nothing_has_ended(
    made: Laboratory, end: Callable[[Work, list[float]], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[list[str]] = []
    rounds = [{"label": 1.0, "train": 2.0, "evaluate": 3.0}] * 3

    def run(words: list[str], **more: object) -> CompletedProcess[str]:
        asked.append(words)
        return CompletedProcess(words, 0, json.dumps({"rounds": rounds}), "")

    monkeypatch.setattr(subprocess, "run", run)
    pace = Pace(made, 1)
    said: list[str] = []
    pace.measure(made.left(), {}, said.append)
    assert pace.left([made.bases[0], made.runs[0]]) == ", about 18.0 s left"
    assert asked[0][2:7] == ["easy2hard", "estimate", "smoke", "--json", "--device"]
    end(made.bases[0], [100.0])
    Pace(made, 1).measure(made.left(), {}, said.append)
    assert (len(asked), len(said)) == (1, 1)


def test_what_cannot_be_measured_says_nothing_of_time(made: Laboratory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subprocess, "run", lambda words, **more: CompletedProcess(words, 2, "", "error: no room\n"))
    pace = Pace(made, 1)
    pace.measure(made.left(), {}, lambda line: None)
    assert pace.left(made.left()) == ""
    with pytest.raises(UserError, match="variant two: no room"):
        estimated(made)


def test_an_estimate_counts_a_shared_phase_once(
    made: Laboratory, end: Callable[[Work, list[float]], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def measured(laboratory: Laboratory, run: Trial) -> tuple[float, float]:
        asked.append(run.name)
        return 10.0, float(run.settings.rounds.count)

    monkeypatch.setattr(forecast, "measured", measured)
    found = estimated(made)
    assert asked == ["two-seed0", "four-seed0", "alone-seed0"]  # another filter takes as long
    assert (found.seconds, found.unshared) == (2 * (10 + 2 + 2 + 4 + 12), 2 * (12 + 12 + 14 + 12))
    assert found.lines()[0].endswith("one run after another (1 min 40 s if they shared no supervised phase)")
    assert found.lines()[3] == "  four    2 x 14.0 s, 10.0 s of it supervised"
    end(made.bases[0], [10.0])
    assert estimated(made).seconds == found.seconds - 10


def test_the_command_runs_nothing(
    cli: Callable[..., CompletedProcess[str]], made: Laboratory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forecast, "measured", lambda laboratory, run: (10.0, 1.0))
    done = cli("sweep", "it.toml", "--against", "oracle", "--estimate")
    assert done.returncode == 0
    # Four supervised phases, since the oracle's run of `alone` shares its, and the rounds of seven variants, two seeds.
    assert done.stdout.startswith(f"about {duration(4 * 10 + 7 * 2)} for what is left")
    assert "  two-oracle    2 x 11.0 s, 10.0 s of it supervised" in done.stdout.splitlines()
    assert [path.name for path in tmp_path.iterdir()] == ["it.toml"]

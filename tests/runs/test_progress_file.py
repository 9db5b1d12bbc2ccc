"""progress.json: where a running run is within its round."""

from contextlib import suppress
from pathlib import Path

import pytest
from helpers import Silent

from easy2hard.engines.compiling import COMPILING
from easy2hard.learning.trainer import Step
from easy2hard.runs import progress_writer, rounds
from easy2hard.runs.experiment import Experiment
from easy2hard.runs.manifest import Manifest, RunDirectory
from easy2hard.runs.progress_file import RunProgress, read_progress
from easy2hard.runs.progress_writer import shown
from easy2hard.runs.time_left import TimeLeft
from easy2hard.settings.recipes import load_recipe


@pytest.fixture
def time_left() -> TimeLeft:
    settings = load_recipe("smoke")
    values = {"easy2hard": "0", "torch": "0", "device": "cpu", "threads": 1, "created": "", "status": ""}
    return TimeLeft(settings, Experiment(settings, "cpu").task, Manifest.model_construct(**values, rounds=[]))


def test_it_says_how_far_a_phase_is_and_goes_with_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, time_left: TimeLeft
) -> None:
    monkeypatch.setattr(progress_writer, "EVERY", 0.0)
    with suppress(KeyboardInterrupt), shown(tmp_path, Silent(), time_left) as listener:
        listener.phase(2, 7, "label", 50)
        listener.advance(20)
        listener.note("a note")
        listener.advance(5)
        now = read_progress(tmp_path)
        assert now is not None
        assert (now.round, now.rounds, now.phase, now.done, now.total) == (2, 7, "label", 25, 50)
        assert (now.loss, now.note) == (None, "a note")
        listener.phase(2, 7, "train", 3)
        listener.step(Step(0, 0.7, 1.0, 300))
        listener.step(Step(1, 0.5, 1.0, 300))
        now = read_progress(tmp_path)
        assert now is not None
        assert (now.phase, now.done, now.loss, now.tokens) == ("train", 2, 0.5, 600)
        assert now.rate
        assert now.left
        assert now.run_left
        assert now.run_left > now.left
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_it_is_written_about_once_a_second(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, time_left: TimeLeft
) -> None:
    clock = [1000.0]
    monkeypatch.setattr(progress_writer.time, "time", lambda: clock[0])
    with shown(tmp_path, Silent(), time_left) as listener:
        listener.phase(1, 1, "label", 100)
        written = []
        for _ in range(100):
            clock[0] += 0.1
            listener.advance(1)
            now = read_progress(tmp_path)
            assert now is not None
            written.append(now.done)
    assert 9 <= len(set(written)) <= 11


@pytest.mark.parametrize("content", [None, "", "{", "[]", '{"round": "x"}'])
def test_what_cannot_be_read_is_no_progress(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "progress.json").write_text(content)
    assert read_progress(tmp_path) is None


def test_a_run_keeps_it_while_it_runs(tmp_path: Path) -> None:
    seen = []

    class Looking(Silent):
        def round(self, manifest: object) -> None:
            seen.append((read_progress(tmp_path / "run"), RunDirectory(tmp_path / "run").held))

    few = ["supervised.steps=2", "supervised.decay=1", "supervised.warmup=0", "rounds.count=0"]
    rounds.start(load_recipe("smoke", few), tmp_path / "run", Looking())
    [(progress, held)] = seen
    assert progress is not None
    assert (progress.phase, held) == ("evaluate", True)
    assert not (tmp_path / "run" / "progress.json").exists()
    assert not RunDirectory(tmp_path / "run").held


def test_compiling_is_named_and_over_with_the_next_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, time_left: TimeLeft
) -> None:
    monkeypatch.setattr(progress_writer, "EVERY", 0.0)
    told: list[RunProgress] = []

    class Looking(Silent):
        def where(self, now: RunProgress) -> None:
            told.append(now)

    with shown(tmp_path, Looking(), time_left) as listener:
        listener.phase(0, 7, "train", 50)
        COMPILING.begin()
        assert read_progress(tmp_path) == told[-1]
        assert told[-1].words == [
            "round 0/7 train 0/50",
            "compiling the loops, once on this machine: about half a minute",
        ]
        COMPILING.end()
        listener.step(Step(0, 0.5, 1.0, 300))
    assert [now.compiling for now in told] == [False, True, False]
    COMPILING.begin()  # nobody listens any more
    COMPILING.end()
    assert len(told) == 3

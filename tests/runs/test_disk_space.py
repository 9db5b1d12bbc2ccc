"""Room on the disk."""

import errno
import json
import os
import shutil
from collections.abc import Callable
from io import BufferedRandom
from pathlib import Path
from subprocess import CompletedProcess

import pytest
from helpers import Silent

from easy2hard import files
from easy2hard.errors import UserError
from easy2hard.runs import disk_space, rounds
from easy2hard.runs.disk_space import DiskFullError, usage
from easy2hard.runs.experiment import Experiment
from easy2hard.runs.manifest import Manifest
from easy2hard.runs.store import Store
from easy2hard.settings.recipes import load_recipe

QUICK = ["supervised.steps=6", "supervised.decay=0", "rounds.steps=3", "rounds.decay=0", "labels.count=40"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return rounds.start(load_recipe("smoke", QUICK), tmp_path_factory.mktemp("whole") / "run", Silent())


class Full:
    """A disk that takes no byte more once ``matching`` files come, until it is freed."""

    def __init__(self, matching: str, after: int) -> None:
        self.real, self.matching, self.after, self.full = files._begun, matching, after, True

    def __call__(self, path: Path, folder: int) -> BufferedRandom:
        if self.full and self.matching in str(path):
            self.after -= 1
            if self.after < 0:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        return self.real(path, folder)


@pytest.mark.parametrize(
    ("matching", "after"),
    [
        ("weights/round-000", 0),
        ("weights/round-001", 0),
        ("ledger/round-001", 0),
        ("ledger/round-002", 0),
        ("training/round-001", 0),
        ("checkpoint/round-000-member", 0),
        ("checkpoint/round-001-member-1", 1),
        ("checkpoint/round-001.json", 0),
        ("manifest.json", 1),
        ("manifest.json", 2),
    ],
)
def test_a_full_disk_pauses_and_loses_no_committed_round(
    matching: str, after: int, whole: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = Full(matching, after)
    monkeypatch.setattr(files, "_begun", disk)
    out, settings = tmp_path / "run", load_recipe("smoke", [*QUICK, "storage.checkpoint_minutes=0"])
    with pytest.raises(DiskFullError, match=r"the disk of .* is full .* the last state is kept"):
        rounds.start(settings, out, Silent())
    store = Store(out)
    committed = store.manifest.rounds
    assert [r.weights_sha256 for r in committed] == [r.weights_sha256 for r in whole.manifest.rounds[: len(committed)]]
    disk.full = False
    rounds.resume(store, Silent())
    assert [r.weights_sha256 for r in store.manifest.rounds] == [r.weights_sha256 for r in whole.manifest.rounds]
    assert not list(out.rglob("*.tmp"))


def test_a_run_that_does_not_fit_is_not_begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**9, 10**9, 1000))
    with pytest.raises(UserError, match=r"needs about .* MB and 0 MB are free there"):
        rounds.start(load_recipe("smoke"), tmp_path / "run", Silent())
    assert not list(tmp_path.iterdir())


def test_a_model_that_does_not_fit_into_memory_is_not_begun(
    tmp_path: Path, cli: Callable[..., CompletedProcess[str]]
) -> None:
    huge = ["--set", "model.width=65536", "--set", "model.layers=1000", "--set", "model.feed_forward=1000000"]
    result = cli("run", "smoke", "--out", "run", *huge)
    assert (result.returncode, result.stderr.count("\n")) == (2, 1)
    assert "million weights of all members: the run would take at least" in result.stderr
    assert not (tmp_path / "run").exists()


def test_room_is_looked_at_before_every_round(whole: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Room for round 1 and not for the rest is a warning; no room for round 2 is a pause."""
    one, rest = (rounds._space_needed(Experiment(whole.settings), 1, last) for last in (1, None))
    assert one < rest

    class Noted(Silent):
        notes: list[str] = []  # noqa: RUF012

        def note(self, text: str) -> None:
            if "MB" in text:
                self.notes.append(text)

        def round(self, manifest: Manifest) -> None:
            if manifest.rounds[-1].round < 2:
                left = [(one + rest) // 2, one // 2][manifest.rounds[-1].round]
                monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(0, 0, left))

    with pytest.raises(DiskFullError, match=r"the next round needs about .* MB are free on the disk"):
        rounds.start(whole.settings, tmp_path / "run", Noted())
    assert len(Noted.notes) == 1
    assert "the rest of the run needs about" in Noted.notes[0]
    store = Store(tmp_path / "run")
    assert [record.round for record in store.manifest.rounds] == [0, 1]
    monkeypatch.undo()
    rounds.resume(store, Silent())
    assert [r.weights_sha256 for r in store.manifest.rounds] == [r.weights_sha256 for r in whole.manifest.rounds]


def test_what_is_needed_is_what_is_taken(whole: Store) -> None:
    """Without the checkpoints, which are gone when a run has ended."""
    asked = rounds._space_needed(Experiment(whole.settings))
    assert 0.3 * asked < usage(whole.path)["all"] < 1.3 * asked
    parts = [rounds._space_needed(Experiment(whole.settings), number, number) for number in range(3)]
    assert parts[0] < parts[1] == parts[2]
    assert max(parts) < rounds._space_needed(Experiment(whole.settings), 1) < asked < sum(parts)


def test_du_adds_up(whole: Store, cli: Callable[..., CompletedProcess[str]]) -> None:
    sizes = json.loads(cli("du", str(whole.path), "--json").stdout)
    assert sum(size for name, size in sizes.items() if name != "all") == sizes["all"]
    assert sizes["all"] == sum(path.stat().st_size for path in whole.path.rglob("*") if path.is_file())
    assert [line.split()[0] for line in cli("du", str(whole.path)).stdout.splitlines()] == list(sizes)


def test_a_pause_says_how_to_go_on(cli: Callable[..., CompletedProcess[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "_begun", Full("training/round-001", 0))
    result = cli("run", "smoke", "--out", "new", *[part for each in QUICK for part in ("--set", each)])
    assert result.returncode == 4
    assert "paused: the disk of new is full" in result.stderr
    assert "`easy2hard resume new` goes on from there once space is free" in result.stderr


def test_other_errors_of_the_disk_are_not_called_a_full_one(tmp_path: Path) -> None:
    with pytest.raises(PermissionError), disk_space.pausing(tmp_path):
        raise PermissionError(errno.EACCES, "no")

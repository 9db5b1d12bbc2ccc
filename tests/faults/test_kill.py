"""A run that is killed anywhere and resumed ends with the same bits. `make faults` tries many more points than CI."""

import os
import random
from pathlib import Path
from subprocess import CompletedProcess

import numpy as np
import pyarrow.parquet as pq
import pytest
from forks import execute

from easy2hard.runs.store import Store

CHILD = Path(__file__).parent / "child.py"
POINTS = int(os.environ.get("FAULTS", "3"))
SEED = int(os.environ.get("FAULTS_SEED", "0"))


def live(out: Path, deadly: int | None = None, how: str = "kill") -> CompletedProcess[str]:
    return execute(CHILD, out, *([str(deadly), how] if deadly else []))


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, int]:
    """A run that nobody disturbed, and the number of moments in its life."""
    out = tmp_path_factory.mktemp("undisturbed") / "run"
    result = live(out)
    assert result.returncode == 0, result.stderr
    return Store(out), int(result.stdout.split()[-1])


def assert_same_bits(store: Store, other: Store) -> None:
    times = {"seconds", "phase_seconds", "member_seconds"}
    records = [[r.model_dump(exclude=times) for r in each.manifest.rounds] for each in (store, other)]
    assert records[0] == records[1]
    assert store.manifest.status == other.manifest.status == "finished"
    for record in store.manifest.rounds:
        both = (each.files(record.round, bool(record.relabelled)) for each in (store, other))
        for one, two in zip(*both, strict=True):
            assert one.read_bytes() == two.read_bytes() or pq.read_table(one).equals(pq.read_table(two))
    assert not list(store.checkpoint_folder.iterdir())
    assert not list(store.path.rglob("*.tmp"))


@pytest.mark.parametrize("point", range(POINTS))
def test_killed_anywhere_and_resumed_it_ends_the_same(
    point: int, undisturbed: tuple[Store, int], tmp_path: Path
) -> None:
    expected, moments = undisturbed
    print(f"FAULTS_SEED={SEED}, point {point} of {POINTS}")
    # Spread over its life: one by chance in each of as many parts as there are points.
    chance = random.Random(f"{SEED} {point}")
    deadly = 1 + int((point + chance.random()) * moments / POINTS)
    out = tmp_path / "run"
    first = live(out, deadly)
    assert first.returncode == -9, (deadly, first.stderr)
    again = live(out, 1 + chance.randrange(moments))  # perhaps once more
    assert again.returncode in (0, -9), again.stderr
    last = live(out)
    assert last.returncode == 0, (deadly, last.stderr)
    assert_same_bits(Store(out), expected)


@pytest.mark.parametrize("how", ["interrupt", "interrupt-twice"])
def test_an_interrupted_run_says_how_to_go_on_and_ends_the_same(
    how: str, undisturbed: tuple[Store, int], tmp_path: Path
) -> None:
    """Once: every member ends its step and is kept. Twice: the process ends at once."""
    expected, moments = undisturbed
    out = tmp_path / "run"
    first = live(out, moments // 4, how)
    assert first.returncode == 130, first.stderr
    store = Store(out)
    if how == "interrupt":
        assert f"stopped and kept: `easy2hard resume {out}` goes on from here" in first.stderr
        assert store.manifest.status == "stopped: interrupted"
        number = len(store.manifest.rounds)
        assert all(store.member_path(number, member).exists() for member in range(2))
    assert live(out).returncode == 0
    assert_same_bits(store, expected)
    assert np.isfinite([record.loss for record in store.manifest.rounds]).all()

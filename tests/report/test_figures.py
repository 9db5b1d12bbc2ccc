"""The picture of a run, drawn from its settings and manifest alone."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import matplotlib.pyplot as plt
import pytest

from easy2hard.errors import UserError
from easy2hard.report.figures import FORMATS, plot_run
from easy2hard.runs.manifest import RunDirectory

FakeRun = Callable[..., RunDirectory]

BEGINNINGS = {".png": b"\x89PNG\r\n", ".svg": b"<?xml", ".pdf": b"%PDF-"}


@pytest.mark.parametrize("suffix", FORMATS)
def test_the_ending_chooses_the_format(fake_run: FakeRun, tmp_path: Path, suffix: str) -> None:
    out = tmp_path / "new" / f"picture{suffix}"
    before = plt.get_fignums()
    plot_run(fake_run(tmp_path / "run"), out)
    assert out.read_bytes().startswith(BEGINNINGS[suffix])
    assert plt.get_fignums() == before, "the figure is still open"


@pytest.mark.parametrize("rounds", [1, 2, 30])
def test_the_title_says_how_far_the_run_came(fake_run: FakeRun, tmp_path: Path, rounds: int) -> None:
    out = tmp_path / "picture.svg"
    plot_run(fake_run(tmp_path / "run", rounds), out)
    drawn = out.read_text()
    assert f">copy: taught to 3, taught itself to {2 + rounds} (2 members, seed 0)</text>" in drawn
    assert f">trained to {2 + rounds}</text>" in drawn


def test_drawing_leaves_the_settings_of_matplotlib_alone(fake_run: FakeRun, tmp_path: Path) -> None:
    before = dict(plt.rcParams)
    plot_run(fake_run(tmp_path / "run"), tmp_path / "picture.png")
    assert dict(plt.rcParams) == before


@pytest.mark.parametrize("name", ["picture.bmp", "picture", "png", ".png"])
def test_any_other_ending_is_refused(fake_run: FakeRun, tmp_path: Path, name: str) -> None:
    run = fake_run(tmp_path / "run")
    with pytest.raises(UserError) as error:
        plot_run(run, tmp_path / name)
    assert all(word in str(error.value) for word in ("--out", name, *FORMATS))
    assert not (tmp_path / name).exists()


def test_a_run_without_a_round_is_refused(fake_run: FakeRun, tmp_path: Path) -> None:
    run = fake_run(tmp_path / "run", rounds=0)
    with pytest.raises(UserError, match="no round is committed"):
        plot_run(run, tmp_path / "picture.png")
    assert not (tmp_path / "picture.png").exists()


def test_drawing_does_not_load_torch() -> None:
    program = "import sys, easy2hard.report.figures; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0

"""Figures for a paper, drawn from run directories alone."""

import subprocess
import sys
from collections.abc import Callable
from html import unescape
from pathlib import Path

import matplotlib.pyplot as plt
import pytest
from whole_runs import Label, full_run, label

from easy2hard.errors import UserError
from easy2hard.report.chart import Line
from easy2hard.report.figures import FIGURES, FORMATS, plot_runs
from easy2hard.report.paper import ROUNDS, draw_line, legend
from easy2hard.runs.manifest import RunDirectory

FakeRun = Callable[..., RunDirectory]

BEGINNINGS = {".png": b"\x89PNG\r\n", ".svg": b"<?xml", ".pdf": b"%PDF-"}


@pytest.mark.parametrize("suffix", FORMATS)
def test_the_ending_chooses_the_format(fake_run: FakeRun, tmp_path: Path, suffix: str) -> None:
    out = tmp_path / "new" / f"picture{suffix}"
    before = plt.get_fignums()
    plot_runs([fake_run(tmp_path / "run").path], "overview", out)
    assert out.read_bytes().startswith(BEGINNINGS[suffix])
    assert plt.get_fignums() == before, "the figure is still open"


@pytest.mark.parametrize("rounds", [1, 2, 30])
def test_the_title_says_how_far_the_run_came(fake_run: FakeRun, tmp_path: Path, rounds: int) -> None:
    out = tmp_path / "picture.svg"
    plot_runs([fake_run(tmp_path / "run", rounds).path], "overview", out)
    drawn = out.read_text()
    assert f">copy: taught to 3, taught itself to {2 + rounds} (2 members, seed 0)</text>" in drawn
    assert f"last round: the run's own evaluation, members' mean, round {rounds - 1}" in unescape(drawn)
    assert f">trained to {2 + rounds}</text>" in drawn


def test_drawing_leaves_the_settings_of_matplotlib_alone(fake_run: FakeRun, tmp_path: Path) -> None:
    before = dict(plt.rcParams)
    plot_runs([fake_run(tmp_path / "run").path], "overview", tmp_path / "picture.png")
    assert dict(plt.rcParams) == before


@pytest.mark.parametrize("name", ["picture.bmp", "picture", "png", ".png"])
def test_any_other_ending_is_refused(fake_run: FakeRun, tmp_path: Path, name: str) -> None:
    run = fake_run(tmp_path / "run")
    with pytest.raises(UserError) as error:
        plot_runs([run.path], "overview", tmp_path / name)
    assert all(word in str(error.value) for word in ("--out", name, *FORMATS))
    assert not (tmp_path / name).exists()


def test_a_run_without_a_round_is_refused(fake_run: FakeRun, tmp_path: Path) -> None:
    run = fake_run(tmp_path / "run", rounds=0)
    with pytest.raises(UserError, match="no round is committed"):
        plot_runs([run.path], "overview", tmp_path / "picture.png")
    assert not (tmp_path / "picture.png").exists()


def test_drawing_does_not_load_torch() -> None:
    program = "import sys, easy2hard.report.figures; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


@pytest.mark.parametrize("figure", FIGURES)
def test_every_axis_is_named_with_its_unit(tmp_path: Path, figure: str, monkeypatch: pytest.MonkeyPatch) -> None:
    named = []
    monkeypatch.setattr(plt, "close", lambda drawn: named.extend((a.get_xlabel(), a.get_ylabel()) for a in drawn.axes))
    plot_runs([full_run(tmp_path / "run").path], figure, tmp_path / "out.svg")
    monkeypatch.undo()
    plt.close("all")
    labels = {name for pair in named for name in pair if name}
    assert labels <= {
        "round", "difficulty (digits)", "exact match (share)", "label precision (share)", "labels kept (share)",
        "right answers (share)", "confidence (probability of the least certain token)", "optimiser step",
        "loss (nats per token)",
    }  # fmt: skip
    assert len(labels) >= 2


@pytest.mark.parametrize("figure", [name for name in FIGURES if name != "map"])
def test_several_runs_are_drawn_with_their_range(tmp_path: Path, figure: str) -> None:
    runs = [full_run(tmp_path / f"a-seed{seed}", seed=seed).path for seed in range(3)]
    out = tmp_path / "out.svg"
    plot_runs(runs, figure, out)
    assert ">a (3 seeds)</text>" in out.read_text()
    assert ">copy: mean and range of 3 seeds</text>" in out.read_text()
    assert 'id="FillBetweenPolyCollection_1"' in out.read_text()


def test_a_map_of_other_settings_is_refused(tmp_path: Path) -> None:
    runs = [full_run(tmp_path / "a").path, full_run(tmp_path / "b", steps=30).path]
    plot_runs(runs, "reach", tmp_path / "out.svg")
    with pytest.raises(UserError, match="--figure map"):
        plot_runs(runs, "map", tmp_path / "out.svg")


def test_lines_of_rounds_can_be_told_apart_in_grey() -> None:
    lightness = [0.2126 * r + 0.7152 * g + 0.0722 * b for r, g, b, _ in map(ROUNDS, range(256))]
    assert lightness == sorted(lightness, reverse=True)


def test_labels_need_an_oracle_and_damage_is_said(tmp_path: Path) -> None:
    def labels(number: int, difficulty: int) -> list[Label]:
        return [label("1$2=", "1$2")]

    run = full_run(tmp_path / "run", task="no such $task$", labels=labels)
    with pytest.raises(UserError, match="no oracle"):
        plot_runs([run.path], "labels", tmp_path / "out.pdf")
    run.training_path(1).unlink()
    damaged = [f"{run.path}: training/round-001.csv: missing"]
    assert plot_runs([run.path], "overview", tmp_path / "out.svg") == (tmp_path / "out.svg", damaged)
    assert "no such $task$" in (tmp_path / "out.svg").read_text()


def test_pairs_are_drawn_side_by_side(tmp_path: Path) -> None:
    run = full_run(
        tmp_path / "run",
        task="multiplication",
        labels=lambda *of: [],
        accuracy=lambda number: {f"{a}x{b}": 0.5 for a in range(1, 4) for b in range(1, 4)},
    )
    for figure in ("reach", "accuracy", "map", "overview"):
        plot_runs([run.path], figure, tmp_path / "out.svg")
    assert ">difficulty (digits of a x digits of b)</text>" in (tmp_path / "out.svg").read_text()


def test_many_lines_differ_and_their_names_cover_none() -> None:
    looks = set()
    for style in range(20):
        panel = plt.figure().subplots()
        draw_line(panel, Line(str(style), [(0.0, 0.0), (1.0, 1.0)], style))
        drawn = panel.lines[0]
        looks.add((drawn.get_color(), str(drawn._dash_pattern), drawn.get_marker()))  # type: ignore[attr-defined]
        plt.close(panel.figure)
    assert len(looks) == 20
    for count in (4, 5):
        panel = plt.figure(layout="constrained").subplots()
        for style in range(count):
            draw_line(panel, Line(str(style), [(0.0, 0.0), (1.0, 1.0)], style))
        legend(panel)
        panel.figure.draw_without_rendering()
        box = panel.get_legend().get_window_extent()
        assert (box.x0 >= panel.get_window_extent().x1) == (count > 4)
        plt.close(panel.figure)

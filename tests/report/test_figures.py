"""Figures for a paper, drawn from run directories alone."""

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from html import unescape
from pathlib import Path

import matplotlib.pyplot as plt
import pytest
from matplotlib.collections import QuadMesh
from whole_runs import Label, full_run, label

from easy2hard.errors import UserError
from easy2hard.report import figures
from easy2hard.report.chart import Line
from easy2hard.report.figures import FIGURES, FORMATS, TEX, plot_runs
from easy2hard.report.paper import ROUNDS, Layout, draw_line, for_tex, legend
from easy2hard.runs.manifest import RunDirectory

FakeRun = Callable[..., RunDirectory]

HAS_TEX = any(map(shutil.which, TEX))
BEGINNINGS = {".pgf": b"%% Creator: Matplotlib", ".png": b"\x89PNG\r\n", ".svg": b"<?xml", ".pdf": b"%PDF-"}


@pytest.mark.parametrize(
    "suffix", [*FORMATS[:3], pytest.param(".pgf", marks=pytest.mark.skipif(not HAS_TEX, reason="no TeX here"))]
)
def test_the_ending_chooses_the_format(fake_run: FakeRun, tmp_path: Path, suffix: str) -> None:
    out = tmp_path / "new" / f"picture{suffix}"
    before = plt.get_fignums()
    plot_runs([fake_run(tmp_path / "run").path], "overview", out)
    assert out.read_bytes().startswith(BEGINNINGS[suffix])
    assert plt.get_fignums() == before, "the figure is still open"


@pytest.mark.parametrize(
    ("width", "points"), [("89mm", 252.3), ("8.9 cm", 252.3), ("3.25in", 234), ("5", 360), (None, 252)]
)
@pytest.mark.parametrize("count", [1, 6])
def test_a_figure_is_as_wide_as_it_is_told(tmp_path: Path, width: str | None, points: float, count: int) -> None:
    """Six lines have their names beside the panel, which widens a figure of the default width alone."""
    runs = [full_run(tmp_path / str(i), labels=lambda *of: [], steps=20 + i).path for i in range(count)]
    plot_runs(runs, "reach", tmp_path / "a.svg", Layout(width))
    found = re.search(r'<svg [^>]*width="([\d.]+)pt"', (tmp_path / "a.svg").read_text())
    assert found
    assert float(found[1]) == pytest.approx(points if width or count == 1 else 7.2 * 72, abs=0.1)


@pytest.mark.parametrize(("width", "stacked"), [("84mm", True), ("178mm", False)])
def test_two_panels_are_stacked_where_the_figure_is_narrow(tmp_path: Path, width: str, stacked: bool) -> None:
    plot_runs([full_run(tmp_path / "run").path], "overview", tmp_path / "a.svg", Layout(width))
    found = re.search(r'<svg [^>]*width="([\d.]+)pt" height="([\d.]+)pt"', (tmp_path / "a.svg").read_text())
    assert found
    assert (float(found[2]) > float(found[1])) == stacked


@pytest.mark.parametrize(
    ("layout", "message"),
    [
        (Layout("89"), "--width 89: expected such as 89mm"),
        (Layout("wide"), "--width wide"),
        (Layout("nan"), "--width nan"),
        (Layout("0.1mm"), "--width 0.1mm"),
        (Layout(font="No Such Font"), "--font No Such Font: is not installed"),
        (Layout(font_size=0.0), "--font-size 0: expected 1 to 100"),
        (Layout(font_size=float("nan")), "--font-size nan"),
    ],
)
def test_a_layout_that_is_none_is_refused(fake_run: FakeRun, tmp_path: Path, layout: Layout, message: str) -> None:
    run = fake_run(tmp_path / "run")
    with pytest.raises(UserError, match=message):
        plot_runs([run.path], "overview", tmp_path / "a.pdf", layout)
    assert not (tmp_path / "a.pdf").exists()


def test_text_has_the_font_and_the_size_and_the_title_can_go(fake_run: FakeRun, tmp_path: Path) -> None:
    run, out = fake_run(tmp_path / "run"), tmp_path / "a.svg"
    plot_runs([run.path], "reach", out, Layout(font="serif", font_size=11, title=False))
    text = out.read_text()
    assert "taught to" not in text
    assert set(re.findall(r"<text style=\"font-size: (\d+)px; font-family: '([\w ]*)'", text)) == {
        ("11", "DejaVu Serif")
    }
    manifest = (run.path / "manifest.json").read_text()
    mark = '"supervised_signals": ["labels.filters: verifier"]'
    (run.path / "manifest.json").write_text(manifest.replace('"supervised_signals": []', mark))
    plot_runs([run.path], "reach", out, Layout(title=False))
    assert "NOT self-improvement" in out.read_text(), "a title may go, and what must be said may not"


def test_a_pgf_without_tex_says_what_to_install(
    fake_run: FakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = fake_run(tmp_path / "run")
    monkeypatch.setattr(figures.shutil, "which", lambda name: None)
    with pytest.raises(UserError, match="none of xelatex, lualatex, pdflatex is installed: install TeX Live"):
        plot_runs([run.path], "overview", tmp_path / "a.pgf")
    with pytest.raises(UserError, match=r"--font DejaVu Sans: a \.pgf has the fonts of its document"):
        plot_runs([run.path], "overview", tmp_path / "a.pgf", Layout(font="DejaVu Sans"))


def test_in_tex_a_name_is_text_and_a_map_is_vectors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = []
    monkeypatch.setattr(plt, "close", kept.append)
    run = full_run(tmp_path / "run", task=r"\input{/etc/passwd}_$x^2$~%#&", labels=lambda *of: [])
    plot_runs([run.path], "overview", tmp_path / "a.svg")
    monkeypatch.undo()
    (sheet,) = kept
    for_tex(sheet)
    title = sheet._suptitle.get_text()
    assert title.startswith(
        r"\textbackslash{}input\{/etc/passwd\}\_\textdollar{}x\textasciicircum{}2\textdollar{}"
        r"\textasciitilde{}\%\#\&: taught"
    )
    assert not [image for panel in sheet.axes for image in panel.images]
    meshes = [mesh for panel in sheet.axes for mesh in panel.collections if isinstance(mesh, QuadMesh)]
    assert len(meshes) == 3, "the map, and two bars of colours"
    assert not any(mesh.get_rasterized() for mesh in meshes)
    plt.close(sheet)


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

"""Charts: described once, the same data on the page and on paper."""

import csv
import itertools
import re
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from whole_runs import full_run

from easy2hard.report import paper, svg
from easy2hard.report.chart import Axis, Bars, Chart, Line, Map, Mark
from easy2hard.report.charts import accuracy_charts, cost_charts, label_charts, training_charts
from easy2hard.report.compare import RunGroup, groups_of
from easy2hard.report.rundata import read_run

values = st.floats(0, 1)
lines = st.lists(
    st.lists(st.tuples(st.integers(0, 50).map(float), values), min_size=1, max_size=9, unique_by=lambda p: p[0]),
    min_size=1,
    max_size=3,
)


def groups(folder: Path, seeds: int = 1, **others: Any) -> list[RunGroup]:
    runs = [full_run(folder / f"run-seed{seed}", seed=seed) for seed in range(seeds)]
    runs += [full_run(folder / name, steps=steps) for name, steps in others.items()]
    return groups_of([read_run(run.path) for run in runs])


def all_charts(of: list[RunGroup]) -> list[Chart]:
    return [*accuracy_charts(of), *label_charts(of), *training_charts(of), *cost_charts(of)]


@given(lines)
def test_both_backends_draw_every_point_and_the_table_has_it(points: list[list[tuple[float, float]]]) -> None:
    drawn = [Line(f"line {i}", sorted(each), i) for i, each in enumerate(points)]
    chart = Chart("t", "n", Axis("x"), Axis("y", 0, 1), drawn)
    picture, names = svg.picture(chart)
    assert picture.count("<circle") == sum(map(len, points))
    assert [name for name, _ in names] == [line.name for line in drawn]
    panel = plt.figure().subplots()
    try:
        paper.draw(panel, chart)
        assert [list(zip(*line.get_data(), strict=True)) for line in panel.lines] == [line.points for line in drawn]
    finally:
        plt.close(panel.figure)
    head, rows = chart.table()
    assert head == ["x", *(line.name for line in drawn)]
    assert len(rows) == len({x for each in points for x, _ in each})
    assert sum(cell != "-" for row in rows for cell in row[1:]) == sum(map(len, points))


@given(st.floats(0.01, 0.99), st.floats(0.01, 0.99))
def test_a_higher_value_is_higher_on_the_page(first: float, second: float) -> None:
    chart = Chart("t", "n", Axis("x"), Axis("y", 0, 1), [Line("l", [(0.0, first), (1.0, second)])])
    heights = [float(y) for y in re.findall(r'<circle cx="[^"]*" cy="([^"]*)"', svg.picture(chart)[0])]
    if abs(first - second) > 0.01:
        assert (heights[0] < heights[1]) == (first > second)


@pytest.mark.parametrize("of", [{}, {"seeds": 3}, {"seeds": 2, "other": 30}], ids=["one run", "seeds", "two groups"])
def test_every_chart_of_a_run_has_both_pictures_and_a_table(tmp_path: Path, of: dict[str, Any]) -> None:
    charts = all_charts(groups(tmp_path, **of))
    assert len({chart.title for chart in charts}) == len(charts) >= 12
    for chart in charts:
        assert not chart.empty
        picture, _ = svg.picture(chart)
        assert chart.x.label in picture
        assert "nan" not in picture
        head, rows = chart.table()
        assert rows
        assert {len(row) for row in rows} == {len(head)}
        if not chart.bars:
            panel = plt.figure().subplots()
            paper.draw(panel, chart)
            assert (panel.get_xlabel(), panel.get_ylabel()) == (chart.x.label, chart.y.label)
            plt.close(panel.figure)


def test_of_one_run_a_line_is_a_filter_and_of_several_a_group(tmp_path: Path) -> None:
    def shown(of: list[RunGroup], title: str) -> list[str]:
        [chart] = [chart for chart in label_charts(of) if chart.title == title]
        return [line.name for line in chart.lines]

    (tmp_path / "a").mkdir()
    assert shown(groups(tmp_path / "a"), "Labels kept") == ["of finished answers", "after vote", "after confidence"]
    of = groups(tmp_path / "b", seeds=2, other=30)
    assert shown(of, "Labels kept after all filters") == ["run (2 seeds)", "other"]
    assert shown(of, "Labels kept after vote") == ["run (2 seeds)", "other"]
    # The last filter of all runs is the same: its chart would be that of all filters once more.
    assert "Labels kept after confidence" not in [chart.title for chart in label_charts(of)]


def test_what_is_left_after_all_filters_is_what_was_kept(tmp_path: Path) -> None:
    of = groups(tmp_path, seeds=2)
    charts = {chart.title: chart for chart in label_charts(of)}
    rounds = of[0].runs[0].rounds[1:]
    kept, precision = (charts[f"{name} after all filters"].lines[0] for name in ("Labels kept", "Label precision"))
    assert [y for _, y in kept.points] == pytest.approx([each.record.kept / each.record.proposed for each in rounds])
    assert [y for _, y in precision.points] == pytest.approx([each.audit["precision"] for each in rounds if each.audit])


def test_costs_are_those_of_the_rounds_and_of_groups_the_mean_of_their_runs(tmp_path: Path) -> None:
    of = groups(tmp_path)
    time, tokens = cost_charts(of)
    rounds = of[0].runs[0].rounds
    assert time.bars is not None
    assert tokens.bars is not None
    assert time.bars.categories == ["0", "1", "2"]
    assert list(time.bars.parts) == ["label", "train", "evaluate"]
    assert time.bars.parts["train"] == [each.record.phase_seconds["train"] for each in rounds]
    assert tokens.bars.parts["train"] == [each.record.tokens / 1e6 for each in rounds]
    several = cost_charts(groups(tmp_path / "several", seeds=2))[0].bars
    assert several is not None
    assert several.parts["train"] == [sum(time.bars.parts["train"])]


def test_marks_that_would_overlap_have_no_word() -> None:
    marks = [Mark(x, f"r{x}") for x in range(100)]
    chart = Chart("t", "n", Axis("x"), Axis("y"), [Line("l", [(0.0, 0.0), (100.0, 1.0)])], marks=marks)
    picture = svg.picture(chart)[0]
    assert picture.count('class="mark"') == 100
    places = [float(x) for x in re.findall(r'<text x="([^"]*)" y="14"', picture)]
    assert 5 < len(places) < 20
    assert all(after - before > 16 for before, after in itertools.pairwise(places))


def test_a_map_of_pairs_is_grids_on_the_page_and_a_column_a_pair_on_paper() -> None:
    rows = {0: {(1, 1): 1.0, (1, 2): 0.5, (2, 1): 0.25}, 1: {(1, 1): 1.0, (2, 2): 0.0}}
    shown = Map(rows, {0: 1, 1: 2}, {0: [(1, 1)], 1: [(2, 1)]})  # type: ignore[arg-type]
    assert shown.difficulties == [(1, 1), (1, 2), (2, 1), (2, 2)]
    chart = Chart("t", "n", Axis("x"), Axis("round"), map=shown)
    picture = svg.picture(chart)[0]
    assert picture.count("<figure>") == 2
    assert picture.count('class="cell') == 5
    assert (picture.count('class="taught"'), picture.count('class="labelled"')) == (2, 0)
    panel = plt.figure().subplots()
    paper.draw(panel, chart)
    assert panel.images[0].get_array().filled(-1).tolist() == [[1.0, 0.5, 0.25, -1], [1.0, -1, -1, 0.0]]  # type: ignore[union-attr]
    assert [label.get_text() for label in panel.get_xticklabels()] == ["1x1", "1x2", "2x1", "2x2"]
    plt.close(panel.figure)


def test_bars_are_as_tall_as_their_parts() -> None:
    bars = Bars(["a", "b"], {"one": [1.0, 2.0], "two": [3.0, 0.0]})
    picture = svg.picture(Chart("t", "n", Axis("x"), Axis("y"), bars=bars))[0]
    heights = [float(height) for height in re.findall(r'height="([^"]*)"><title>', picture)]
    assert heights == pytest.approx([heights[0], 3 * heights[0], 2 * heights[0]], abs=0.2)
    assert bars.divided(2).parts == {"one": [0.5, 1.0], "two": [1.5, 0.0]}


def test_the_csv_of_a_chart_has_every_number(tmp_path: Path) -> None:
    for chart in all_charts(groups(tmp_path, seeds=2, other=9)):
        head, *rows = csv.reader(chart.csv().splitlines())
        assert len({len(row) for row in rows} | {len(head)}) == 1
        numbers = {float(cell) for row in rows for cell in row[0 if chart.lines else 1 :] if cell}
        shown = {value for line in chart.lines for point in line.points for value in point}
        shown |= {value for line in chart.lines for _, low, high in line.band for value in (low, high)}
        shown |= {value for part in (chart.bars.parts.values() if chart.bars else ()) for value in part}
        shown |= {value for row in (chart.map.rows.values() if chart.map else ()) for value in row.values()}
        assert shown <= numbers

"""The ranking: no place that the ranges do not support."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote

import pytest
from helpers import properties
from hypothesis import given
from hypothesis import strategies as st

from easy2hard.sweep.execute import Laboratory
from easy2hard.sweep.page import compared, render, sections
from easy2hard.sweep.plan import load_sweep, planned
from easy2hard.sweep.results import common_difficulties, task_of, with_gaps
from easy2hard.sweep.row import Row
from easy2hard.sweep.trial import Trial
from easy2hard.sweep.verdict import LEAST, places, summaries

VALUES = st.dictionaries(
    st.sampled_from("abcdef"), st.lists(st.integers(0, 12).map(float), min_size=1, max_size=5), min_size=1
)


@properties
@given(VALUES, st.data())
def test_whatever_seed_is_drawn_each_comes_in_at_a_place_it_may_have(
    values: dict[str, list[float]], data: st.DataObject
) -> None:
    found = places(values)
    ranked = {name: each for name, each in values.items() if len(each) >= LEAST}
    assert [name for name, place in found.items() if place] == list(ranked)
    drawn = {name: data.draw(st.sampled_from(each)) for name, each in ranked.items()}
    for name, value in drawn.items():
        place = found[name]
        assert place is not None
        better = sum(other > value for other in drawn.values())
        as_good = sum(other >= value for other in drawn.values())  # itself included
        assert place[0] <= 1 + better
        assert as_good <= place[1]


@properties
@given(VALUES)
def test_no_place_is_wider_than_the_ranges_make_it(values: dict[str, list[float]]) -> None:
    found = places(values)
    ranked = {name: each for name, each in values.items() if len(each) >= LEAST}
    for name, each in ranked.items():
        others = [other for key, other in ranked.items() if key != name]
        assert found[name] == (
            1 + sum(min(other) > max(each) for other in others),
            1 + sum(max(other) >= min(each) for other in others),
        )


def sweep_of(tmp_path: Path, variants: dict[str, str], seeds: int, against: str | None = None) -> Laboratory:
    lines = [f"variants.{name} = {value}" for name, value in variants.items()]
    text = "\n".join(
        ['recipe = "smoke"', 'description = "What helps <most>?"', f"seeds = {list(range(seeds))}", *lines]
    )
    (tmp_path / "it.toml").write_text(text)
    sweep = load_sweep(str(tmp_path / "it.toml"), against)
    return Laboratory(sweep, planned(sweep), tmp_path / "out")


def row(run: Trial, reach: int | None) -> Row:
    return Row(
        run=run.name,
        variant=run.variant,
        axes=run.axes,
        seed=run.seed,
        task=task_of(run.settings),
        recipe=run.recipe,
        overrides=list(run.overrides),
        status="finished" if reach is not None else "failed",
        reason="" if reach is not None else "ValueError: x",
        supervised_signals=run.settings.supervised_signals,
        oracle=run.oracle,
        reference=run.reference,
        reach=reach,
        frontier=reach and reach + 2,
        at_frontier=reach and reach / 100,
        compared_at=reach and 40,
        at_compared=reach and reach / 200,
        lowest_precision=None if reach is None else 1 / (1 + run.seed),
        seconds=None if reach is None else 60.0 + run.seed,
    )


Table = Callable[[dict[str, str], dict[str, list[int | None]]], tuple[list[list[str]], str]]


@pytest.fixture
def table(tmp_path: Path) -> Table:
    """Return the lines of variants with these reaches, and the verdict with the notes."""

    def make(variants: dict[str, str], reaches: dict[str, list[int | None]]) -> tuple[list[list[str]], str]:
        asked = sweep_of(tmp_path, variants, len(next(iter(reaches.values()))))
        found = compared(asked.sweep, summaries([row(run, reaches[run.variant][run.seed]) for run in asked.runs]))
        return [list(line) for line in found.rows], "\n".join([found.verdict, *found.notes])

    return make


def test_variants_have_means_ranges_and_places(table: Table) -> None:
    variants = {"a": "[]", "b": "['rounds.count=1']", "c": "['rounds.count=3']", "d": "['rounds.count=4']"}
    lines, notes = table(variants, {"a": [5, 4, 6], "b": [9, 8, 7], "c": [9, 9, 9], "d": [20, 21, None]})
    assert [line[:4] for line in lines] == [
        ["a", "3", "5 (4 to 6)", "0.025 (0.02 to 0.03)"],
        ["b", "3", "8 (7 to 9)", "0.04 (0.035 to 0.045)"],
        ["c", "3", "9 (9 to 9)", "0.045 (0.045 to 0.045)"],
        ["d", "2 of 3", "20.5 (20 to 21)", "0.103 (0.1 to 0.105)"],
    ]
    assert [line[4] for line in lines] == ["3", "1 to 2", "1 to 2", "-"]
    assert lines[0][5:] == [
        "7 (6 to 8)",
        "0.6111 (0.3333 to 1)",
        "61 (60 to 62)",
    ]
    assert notes.splitlines() == [
        "One of b and c comes first: their ranges overlap. So far 11 of 12 runs have a result.",
        "a place such as 2 to 4 is not ranked further: the ranges overlap",
        "d-seed2: failed: ValueError: x",
    ]


def test_all_runs_of_a_task_are_compared_at_the_same_difficulty(tmp_path: Path) -> None:
    asked = sweep_of(tmp_path, {"a": "[]", "b": "['rounds.count=0']", "c": "['task.name=reverse']"}, 1)
    runs = asked.runs
    rows = [row(run, 5) for run in runs]
    assert compared(asked.sweep, summaries(rows)).head[3] == "exact match at 40"
    elsewhere = [*rows[:2], replace(rows[2], compared_at=7)]
    assert compared(asked.sweep, summaries(elsewhere)).head[3] == "exact match at the hardest"
    assert common_difficulties(run.settings for run in runs) == {"copy": 5, "reverse": 5}
    assert common_difficulties(run.settings for run in runs[1:2]) == {"copy": 3}


def test_where_all_ranges_overlap_there_is_no_ranking(table: Table) -> None:
    variants = {"a": "[]", "b": "['rounds.count=1']"}
    overlap = table(variants, {"a": [1, 2, 3], "b": [3, 4, 5]})
    assert overlap[1].startswith("A ranking is not supported by the ranges: those of all variants overlap.")
    first = "b comes first, with reach 5 (4 to 6): its worst seed is better than the best of all others."
    assert table(variants, {"a": [1, 2, 3], "b": [4, 5, 6]})[1] == first
    assert (
        table(variants, {"a": [1, 2], "b": [4, 5]})[1]
        == "There is no ranking: that needs two variants or more with 3 seeds or more each."
    )
    nothing = table(variants, {"a": [None], "b": [None]})[1]
    assert nothing.startswith("Nothing is measured yet: none of 2 runs has ended.")
    assert table({"a": "[]"}, {"a": [4]})[1] == "a reaches 4."


def test_at_equal_reach_exact_match_decides(tmp_path: Path) -> None:
    asked = sweep_of(tmp_path, {"a": "[]", "b": "['rounds.count=1']"}, 3)
    rows = [replace(row(run, 5), at_compared={"a": 0.5, "b": 0.7}[run.variant] + run.seed / 20) for run in asked.runs]
    assert {each.variant: each.place for each in summaries(rows)} == {"a": (2, 2), "b": (1, 1)}


def test_tasks_are_not_ranked_against_each_other(table: Table) -> None:
    variants = {
        "copy": "[]",
        "copy-1": "['rounds.count=1']",
        "reverse": "['task.name=reverse']",
        "reverse-1": "['task.name=reverse', 'rounds.count=1']",
    }
    reaches: dict[str, list[int | None]] = {
        "copy": [1, 2, 3],
        "copy-1": [4, 5, 6],
        "reverse": [9, 9, 9],
        "reverse-1": [7, 7, 7],
    }
    lines, _ = table(variants, reaches)
    assert [line[4] for line in lines] == ["2", "1", "1", "2"]


def test_what_uses_true_answers_is_marked(table: Table) -> None:
    lines, _ = table({"a": "['labels.filters=[{name=\"verifier\"}]']"}, {"a": [1]})
    assert lines[0][0] == "a (SUPERVISED)"


def gaps(tmp_path: Path) -> tuple[Laboratory, list[Row]]:
    """Return a sweep of two variants against the oracle, and its rows."""
    asked = sweep_of(tmp_path, {"a": "[]", "b": "['rounds.count=1']"}, 3, "oracle")
    reaches = {"a": 4, "b": 6, "a-oracle": 10, "b-oracle": 7}
    rows = [row(run, None if run.name == "b-seed2" else reaches[run.variant] + run.seed) for run in asked.runs]
    points = {"precision": [0.9, None], "kept": [80, 0], "evaluated": ["1", "2"], "exact_match": [1.0, 0.25]}
    return asked, with_gaps([replace(each, baseline=0.1, **points) if each.reach else each for each in rows])


def test_the_gap_to_the_oracle_is_that_of_the_same_seed(tmp_path: Path) -> None:
    asked, rows = gaps(tmp_path)
    assert [each.gap_reach for each in rows] == [6, 6, 6, 1, 1, None] + [None] * 6
    found = {each.variant: each for each in summaries(rows)}
    assert [found[name].place for name in ("a", "b", "a-oracle")] == [(1, 1), None, None]
    assert found["a"].as_json()["gap_exact_match"] == pytest.approx({"mean": 0.03, "least": 0.03, "greatest": 0.03})
    comparison = compared(asked.sweep, list(found.values()))
    at = comparison.head.index("gap in reach")
    assert comparison.head[at : at + 3] == ["gap in reach", "gap in exact match", "baseline"]
    assert [line[at] for line in comparison.rows] == ["6 (6 to 6)", "1 (1 to 1)", "-", "-"]
    assert comparison.rows[0][at + 1 : at + 3] == ["0.03 (0.03 to 0.03)", "0.1 (0.1 to 0.1)"]
    assert (
        "True answers would add least to b, 0.005 (0.005 to 0.005) of exact match at 40 and 1 (1 to 1) of reach, and "
        "most to a, 0.03 (0.03 to 0.03) of exact match at 40 and 6 (6 to 6) of reach." in comparison.verdict
    )
    baseline = "The task's baseline has 0.1 (0.1 to 0.1) of exact match at 40, and a and b no more."
    assert baseline in comparison.verdict


def test_the_page_has_the_question_the_verdict_the_table_and_then_charts(tmp_path: Path) -> None:
    asked, rows = gaps(tmp_path)
    found = summaries(rows)
    comparison = compared(asked.sweep, found)
    page = render(asked, found, comparison)
    order = [
        "<h1>What helps &lt;most&gt;?</h1>",
        "There is no ranking: that needs two variants",
        "gap of a to the oracle",
        '<th scope="col">place</th>',
        "Exact match by difficulty</h3>",
        "Label precision</h3>",
    ]
    at = [page.index(each) for each in order]
    assert at == sorted(at)
    assert page.count('<th scope="col">place</th>') == 1
    (csv,) = re.findall(r'download="accuracy-1.csv" href="data:text/csv;charset=utf-8,([^"]*)"', page)
    first, second, *_ = unquote(csv).splitlines()
    assert first.startswith("difficulty of copy,a,a: least,a: greatest,b")
    assert second.startswith("1.0,1.0,1.0,1.0,")
    assert "<script>What" not in page
    assert "<td>6 (6\u00a0to\u00a06)</td>" in page  # a range stays in one line


def test_charts_of_many_variants_have_the_same_axes(tmp_path: Path) -> None:
    lines = [f"axes.count.n{count} = ['rounds.count={count}']" for count in range(1, 11)]
    text = [
        'recipe = "smoke"',
        "seeds = [0]",
        *lines,
        "axes.data.all = []",
        "axes.data.new = ['rounds.data=\"replace\"']",
    ]
    (tmp_path / "it.toml").write_text("\n".join(text))
    sweep = load_sweep(str(tmp_path / "it.toml"))
    points = {"evaluated": ["1", "2", "3"], "exact_match": [1.0, 0.9, 0.2]}
    rows = [replace(row(run, 5), **points, precision=[1 - run.seed / 10] * 2) for run in planned(sweep)]
    rows[0] = replace(rows[0], evaluated=["1", "2"], exact_match=[1.0, 0.9], precision=[0.4])
    for section in sections(summaries(rows), 0.99):
        for kind in {chart.title.partition(":")[0] for chart in section.charts}:
            charts = [chart for chart in section.charts if chart.title.startswith(f"{kind}:")]
            assert [chart.title.partition(": ")[2] for chart in charts] == [
                *("data all (1 of 2)", "data all (2 of 2)", "data new (1 of 2)", "data new (2 of 2)"),
            ]
            assert len({(chart.x_ends, chart.y_ends) for chart in charts}) == 1
            assert charts[0].lines[0].name == "n1"

"""The ranking: no place that the ranges do not support."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from helpers import properties
from hypothesis import given
from hypothesis import strategies as st

from easy2hard.sweep.plan import Trial, load_sweep, planned
from easy2hard.sweep.results import LEAST, Row, common_difficulties, compared, places

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


def sweep_of(tmp_path: Path, variants: dict[str, str], seeds: int) -> list[Trial]:
    lines = [f"variants.{name} = {value}" for name, value in variants.items()]
    text = "\n".join(['recipe = "smoke"', f"seeds = {list(range(seeds))}", *lines])
    (tmp_path / "it.toml").write_text(text)
    return planned(load_sweep(str(tmp_path / "it.toml")))


def row(run: Trial, reach: int | None) -> Row:
    return Row(
        run=run.name,
        variant=run.variant,
        axes=run.axes,
        seed=run.seed,
        recipe=run.recipe,
        overrides=list(run.overrides),
        status="finished" if reach is not None else "failed",
        reason="" if reach is not None else "ValueError: x",
        supervised_signals=run.settings.supervised_signals,
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
    """Return the lines of variants with these reaches, and the notes."""

    def make(variants: dict[str, str], reaches: dict[str, list[int | None]]) -> tuple[list[list[str]], str]:
        runs = sweep_of(tmp_path, variants, len(next(iter(reaches.values()))))
        found = compared(runs, [row(run, reaches[run.variant][run.seed]) for run in runs], 0.99)
        return [list(line) for line in found.rows], "\n".join(found.notes)

    return make


def test_variants_have_means_ranges_and_places(table: Table) -> None:
    variants = {"a": "[]", "b": "['rounds.count=1']", "c": "['rounds.count=3']", "d": "['rounds.count=4']"}
    lines, notes = table(variants, {"a": [5, 4, 6], "b": [9, 8, 7], "c": [9, 9, 9], "d": [20, 21, None]})
    assert [line[:4] for line in lines] == [
        ["a", "3", "5 (4 to 6)", "3"],
        ["b", "3", "8 (7 to 9)", "1 to 2"],
        ["c", "3", "9 (9 to 9)", "1 to 2"],
        ["d", "2 of 3", "20.5 (20 to 21)", "-"],
    ]
    assert lines[0][4:] == [
        "0.025 (0.02 to 0.03)",
        "3",
        "7 (6 to 8)",
        "0.6111 (0.3333 to 1)",
        "61 (60 to 62)",
    ]
    assert notes.splitlines() == [
        "reach at 0.99: a place such as 2 to 4 is not ranked further: the ranges overlap",
        "exact match at 40: a place such as 2 to 4 is not ranked further: the ranges overlap",
        "d-seed2: failed: ValueError: x",
    ]


def test_all_runs_of_a_task_are_compared_at_the_same_difficulty(tmp_path: Path) -> None:
    runs = sweep_of(tmp_path, {"a": "[]", "b": "['rounds.count=0']", "c": "['task.name=reverse']"}, 1)
    rows = [row(run, 5) for run in runs]
    assert compared(runs, rows, 0.99).head[4] == "exact match at 40"
    assert compared(runs, [*rows[:2], replace(rows[2], compared_at=7)], 0.99).head[4] == "exact match at the hardest"
    assert common_difficulties(run.settings for run in runs) == {"copy": 5, "reverse": 5}
    assert common_difficulties(run.settings for run in runs[1:2]) == {"copy": 3}


def test_where_all_ranges_overlap_there_is_no_ranking(table: Table) -> None:
    variants = {"a": "[]", "b": "['rounds.count=1']"}
    assert "ranking not supported by the ranges" in table(variants, {"a": [1, 2, 3], "b": [3, 4, 5]})[1]
    assert table(variants, {"a": [1, 2, 3], "b": [4, 5, 6]})[1] == ""
    assert "no ranking: it takes 3 seeds" in table(variants, {"a": [1, 2], "b": [4, 5]})[1]


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
    assert [line[3] for line in lines] == ["2", "1", "1", "2"]


def test_what_uses_true_answers_is_marked(table: Table) -> None:
    lines, _ = table({"a": "['labels.filters=[{name=\"verifier\"}]']"}, {"a": [1]})
    assert lines[0][0] == "a (SUPERVISED)"

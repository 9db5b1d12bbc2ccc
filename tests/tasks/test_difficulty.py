"""Difficulties as users write them: read by the task, which knows whether they are numbers or pairs."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from easy2hard.tasks.base import Difficulty, difficulty_text
from easy2hard.tasks.registry import load_task


@pytest.mark.parametrize(
    ("text", "wanted"),
    [("7", [7]), ("1-3", [1, 2, 3]), ("5,10,20", [5, 10, 20]), ("8, 2-4 ,3", [2, 3, 4, 8]), ("4-4", [4])],
)
def test_a_list_of_difficulties_is_sorted_without_repeats(text: str, wanted: list[int]) -> None:
    assert load_task("copy").parse_difficulties(text) == wanted


numbers = st.integers(1, 10**6)


@given(st.lists(st.one_of(numbers, st.tuples(numbers, numbers)), min_size=1))
def test_what_is_written_is_read_again(difficulties: list[Difficulty]) -> None:
    task = load_task("multiplication")
    read = task.parse_difficulties(",".join(map(difficulty_text, difficulties)))
    assert set(read) == set(difficulties)
    assert len(read) == len(set(difficulties))
    assert [task.parse_difficulty(difficulty_text(each)) for each in difficulties] == difficulties


def test_a_range_of_difficulties_does_not_run_backwards() -> None:
    with pytest.raises(ValueError, match="3-2 must be a range"):
        load_task("copy").parse_difficulties("1,3-2")


@pytest.mark.parametrize("text", ["1x2-3", "1-2x3", "1x2-3x4"])
def test_a_range_has_no_pairs(text: str) -> None:
    with pytest.raises(ValueError, match="a range has no pairs"):
        load_task("multiplication").parse_difficulties(text)


@pytest.mark.parametrize("task", ["copy", "reverse", "maze-hops", "maze-nodes"])
def test_a_pair_is_refused_where_one_number_belongs(task: str) -> None:
    with pytest.raises(ValueError, match=f"3x4 is a pair; the difficulty of task {task} is one number"):
        load_task(task).parse_difficulties("2,3x4")
    with pytest.raises(ValueError, match="one number"):
        load_task(task).parse_difficulty("3x4")

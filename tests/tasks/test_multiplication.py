"""Worked multiplication against Python integers."""

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from easy2hard.errors import UserError
from easy2hard.runs.experiment import Experiment
from easy2hard.runs.preflight import check, planned_frontier
from easy2hard.seeding import numpy_generator
from easy2hard.settings.recipes import parse_settings
from easy2hard.settings.schema import Settings
from easy2hard.tasks.base import hardest
from easy2hard.tasks.oracle import Checker
from easy2hard.tasks.registry import load_oracle, load_task

TASK = load_task("multiplication")
ORACLE = load_oracle(TASK)
CHECKER = Checker(ORACLE)


def prompt(a: int, b: int) -> str:
    return f"{str(a)[::-1]}*{str(b)[::-1]}="


def work(text: str) -> str:
    """Return the worked answer, by integers and string methods only."""
    a, b = (int(operand[::-1]) for operand in text.removesuffix("=").split("*"))
    la, lb = len(str(a)), len(str(b))
    answer, total = "", 0
    for i, digit in enumerate(reversed(str(b))):
        partial = a * int(digit) * 10**i
        total += partial
        answer += ("+" if i else "") + str(partial).zfill(i + la + 1)[::-1]
        if 0 < i < lb - 1:
            answer += "(" + str(total).zfill(i + la + 1)[::-1] + ")"
    return answer + "=" + str(a * b).zfill(la + lb)[::-1]


def test_the_oracle_agrees_with_python_on_10_000_prompts() -> None:
    prompts: list[str] = []
    for a, b in product(range(1, 11), repeat=2):
        prompts += TASK.vocabulary.decode_prompts(TASK.sample(numpy_generator(1, a, b), (a, b), 100))
    assert len(prompts) == 10_000
    assert ORACLE.solve_texts(prompts) == [work(text) for text in prompts]


@given(st.lists(st.tuples(st.integers(1, 10**60), st.integers(1, 10**60)), min_size=1, max_size=3))
def test_the_oracle_takes_numbers_of_any_size_side_by_side(pairs: list[tuple[int, int]]) -> None:
    prompts = [prompt(a, b) for a, b in pairs]
    assert ORACLE.solve_texts(prompts) == [work(text) for text in prompts]


@given(st.integers(1, 9), st.integers(1, 9))
def test_the_bound_is_the_length_of_the_answer(a: int, b: int) -> None:
    prompts = TASK.sample(numpy_generator(0, "bounds"), (a, b), 3)
    answers = TASK.vocabulary.decode_answers(ORACLE.solve(prompts))
    assert TASK.answer_bounds(prompts).tolist() == [len(answer) + 1 for answer in answers]


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ("97676+068715(935595)+0068715(9314775)+00013680=93150441", "position 5.*partial product 1"),
        ("97677+068714(935595)+0068715(9314775)+00013680=93150441", "position 12.*partial product 2"),
        ("97677+068715(935594)+0068715(9314775)+00013680=93150441", "position 19.*running sum 2"),
        ("97677+068715(935595)+0068715(9314774)+00013680=93150441", "position 36.*running sum 3"),
        ("97677+068715(935595)+0068715(9314775)+00013680=93150442", "position 55.*product"),
        ("97677+068715(935595)+0068715(9314775)+00013680", "wrong length: 46 instead of 55.*'='"),
        ("97677*068715(935595)+0068715(9314775)+00013680=93150441", r"position 6.*'\+' stands"),
        ("97677+068715(935595)+0068715(9314775)+00013680=931504411", "wrong length: 56 instead of 55"),
    ],
)
def test_the_first_wrong_part_is_named(wrong: str, reason: str) -> None:
    (found,) = CHECKER.check(["1368*9661="], [wrong])
    assert found is not None
    with pytest.raises(AssertionError, match=reason):
        raise AssertionError(found)


def test_the_square_is_the_paper_s_order() -> None:
    assert TASK.supervised_difficulties(3) == list(product(range(1, 4), repeat=2))
    assert TASK.labelled_difficulties(1) == [[(1, 1)]]
    assert TASK.labelled_difficulties(4) == [[(1, 4), (4, 1)], [(2, 4), (4, 2)], [(3, 4), (4, 3)], [(4, 4)]]
    assert {TASK.supervised_weight(each) for each in TASK.supervised_difficulties(5)} == {1.0}


def test_a_rectangle_grows_on_both_sides() -> None:
    task = load_task("multiplication", {"first": 3, "second": 6})
    assert task.supervised_difficulties(6) == list(product(range(1, 4), range(1, 7)))
    assert task.supervised_difficulties(4) == list(product(range(1, 4), range(1, 5)))
    assert task.evaluated_difficulties(8) == list(product(range(1, 6), range(1, 9)))
    assert task.labelled_difficulties(5) == [[(1, 5)], [(2, 5)], [(3, 5)]]
    assert task.labelled_difficulties(7) == [
        [(1, 7), (4, 1), (4, 2)],
        [(2, 7), (4, 3), (4, 4)],
        [(3, 7), (4, 5), (4, 6)],
        [(4, 7)],
    ]


@given(st.integers(1, 7), st.integers(1, 7), st.integers(1, 12))
def test_the_steps_to_a_difficulty_are_what_its_range_has_more(first: int, second: int, hard: int) -> None:
    """Every new pair comes once, and each step has one of the greatest: a round's hardest difficulty is the range's."""
    task = load_task("multiplication", {"first": first, "second": second})
    steps = task.labelled_difficulties(hard)
    pairs = [pair for step in steps for pair in step]
    assert len(pairs) == len(set(pairs))
    assert set(pairs) == set(task.supervised_difficulties(hard)) - set(task.supervised_difficulties(hard - 1))
    assert {max(map(hardest, step)) for step in steps} == {hard}
    assert max(map(hardest, task.supervised_difficulties(hard))) == hard


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"first": 3}, "first = 3, task.options.second = 0: needed are"),
        ({"first": -1, "second": 2}, "first = -1"),
        ({"second_power": -1}, "second_power = -1: must be 0 to 10"),
    ],
)
def test_half_a_rectangle_is_refused(options: dict[str, int], message: str) -> None:
    with pytest.raises(UserError, match=message):
        load_task("multiplication", options)


def test_schedules_climb_from_a_rectangle() -> None:
    def settings(schedule: str) -> Settings:
        return parse_settings(
            {
                "task": {"name": "multiplication", "options": {"first": 2, "second": 4}},
                "supervised": {"difficulty": 4, "steps": 1},
                "rounds": {"count": 3, "steps": 1},
                "labels": {"count": 1},
                "schedule": {"name": schedule},
            }
        )

    check(Experiment(settings("grid")))
    assert planned_frontier(Experiment(settings("standard"))) == 5
    with pytest.raises(UserError, match="its table is for squares, and the supervised range is 2x4"):
        check(Experiment(settings("grid-accelerated")))

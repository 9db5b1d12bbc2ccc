"""Worked multiplication against Python integers."""

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from easy2hard.seeding import numpy_generator
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

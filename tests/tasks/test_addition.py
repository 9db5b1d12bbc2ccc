"""Addition with reversed numbers."""

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from easy2hard.errors import UserError
from easy2hard.seeding import numpy_generator
from easy2hard.tasks.registry import load_oracle, load_task

TASK = load_task("reverse-addition")
ORACLE = load_oracle(TASK)
NUMBERS = st.integers(1, 10**60)


def prompt(a: int, b: int) -> str:
    return f"{str(a)[::-1]}+{str(b)[::-1]}="


def answer(text: str) -> str:
    a, b = (int(operand[::-1]) for operand in text.removesuffix("=").split("+"))
    return str(a + b)[::-1].ljust(max(len(str(a)), len(str(b))) + 1, "0")


def test_the_oracle_agrees_with_python_on_10_000_prompts() -> None:
    prompts: list[str] = []
    for a, b in product(range(1, 26), repeat=2):
        prompts += TASK.vocabulary.decode_prompts(TASK.sample(numpy_generator(1, a, b), (a, b), 16))
    assert len(prompts) == 10_000
    assert ORACLE.solve_texts(prompts) == [answer(text) for text in prompts]


@given(st.lists(st.tuples(NUMBERS, NUMBERS), min_size=1, max_size=5))
def test_the_oracle_takes_numbers_of_any_size_side_by_side(pairs: list[tuple[int, int]]) -> None:
    prompts = [prompt(a, b) for a, b in pairs]
    assert ORACLE.solve_texts(prompts) == [answer(text) for text in prompts]


@given(st.integers(1, 80))
def test_a_carry_ripples_through_every_digit(digits: int) -> None:
    nines = 10**digits - 1
    assert ORACLE.solve_texts([prompt(nines, 1), prompt(1, nines)]) == ["0" * digits + "1"] * 2
    assert ORACLE.solve_texts([prompt(nines, nines)]) == ["8" + "9" * (digits - 1) + "1"]


@given(NUMBERS, NUMBERS)
def test_the_order_of_the_operands_does_not_matter(a: int, b: int) -> None:
    assert len(set(ORACLE.solve_texts([prompt(a, b), prompt(b, a)]))) == 1


@given(st.integers(1, 30), st.integers(1, 30))
def test_the_operands_have_exactly_the_digits_asked_for(a: int, b: int) -> None:
    for text in TASK.vocabulary.decode_prompts(TASK.sample(numpy_generator(1, a, b), (a, b), 20)):
        first, second = (operand[::-1] for operand in text.removesuffix("=").split("+"))
        assert (len(first), len(second)) == (a, b)
        assert (first, second) == (str(int(first)), str(int(second)))


def test_one_number_stands_for_operands_of_equal_length() -> None:
    one, pair = (TASK.sample(numpy_generator(1), difficulty, 20) for difficulty in (7, (7, 7)))
    assert (one == pair).all()


def test_every_digit_occurs_in_every_place_except_a_most_significant_zero() -> None:
    prompts = TASK.vocabulary.decode_prompts(TASK.sample(numpy_generator(1), (3, 2), 2_000))
    any_digit, leading = set("0123456789"), set("123456789")
    places = [set(place) for place in zip(*prompts, strict=True)]
    assert places == [any_digit, any_digit, leading, {"+"}, any_digit, leading, {"="}]


def test_an_answer_is_bounded_by_the_longer_operand_a_carry_and_the_end() -> None:
    prompts = TASK.vocabulary.encode_prompts(["1+99999=", "999+999=", "99999+1="])
    assert TASK.answer_bounds(prompts).tolist() == [7, 5, 7]


@given(st.integers(1, 8))
def test_the_easy_range_is_every_pair_of_lengths_once(hardest: int) -> None:
    difficulties = TASK.supervised_difficulties(hardest)
    assert sorted(difficulties) == list(product(range(1, hardest + 1), repeat=2))


@pytest.mark.parametrize("text", ["0+1=", "1+0=", "10+1=", "1+210=", "1+=", "+1=", "12=", "1+2+3=", "1+2"])
def test_what_is_no_pair_of_reversed_numbers_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="not a prompt of task"):
        TASK.encode([text])


FORWARD = ["forward-addition", "forward-addition-padded"]


def forward_answer(name: str, text: str) -> str:
    a, b = text.removesuffix("=").split("+")
    total = str(int(a) + int(b))
    return total.zfill(max(len(a), len(b)) + 1) if name.endswith("padded") else total


@pytest.mark.parametrize("name", FORWARD)
def test_forward_addition_agrees_with_python_on_10_000_prompts(name: str) -> None:
    task, prompts = load_task(name), []
    for a, b in product(range(1, 26), repeat=2):
        prompts += task.vocabulary.decode_prompts(task.sample(numpy_generator(1, a, b), (a, b), 16))
    assert len(prompts) == 10_000
    assert load_oracle(task).solve_texts(prompts) == [forward_answer(name, text) for text in prompts]


@pytest.mark.parametrize("name", FORWARD)
@given(pairs=st.lists(st.tuples(NUMBERS, NUMBERS), min_size=1, max_size=5))
def test_forward_addition_takes_numbers_of_any_size(name: str, pairs: list[tuple[int, int]]) -> None:
    prompts = [f"{a}+{b}=" for a, b in pairs]
    assert load_oracle(load_task(name)).solve_texts(prompts) == [forward_answer(name, text) for text in prompts]

"""Addition with reversed numbers."""

from itertools import product, zip_longest

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from easy2hard.errors import UserError
from easy2hard.seeding import numpy_generator
from easy2hard.tasks.prompts import Reserved, evaluation_prompts, fresh_prompts
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


ADDITIONS = ["reverse-addition", *FORWARD]


def operands_of(name: str, text: str) -> tuple[list[int], list[int]]:
    """Return the digits of both numbers, least significant first."""
    first, second = ([int(digit) for digit in operand] for operand in text.removesuffix("=").split("+"))
    return (first, second) if name == "reverse-addition" else (first[::-1], second[::-1])


def longest_way(first: list[int], second: list[int]) -> int:
    """Return how many columns pass one carry on, at most; -1 where no column begins one. Counted column by column."""
    longest, way = -1, None
    for column in range(max(len(first), len(second))):
        total = sum(number[column] for number in (first, second) if column < len(number))
        way = 0 if total > 9 else None if way is None or total < 9 else way + 1
        longest = max(longest, -1 if way is None else way)
    return longest


def ways(name: str, prompts: list[str]) -> np.ndarray:
    return np.array([longest_way(*operands_of(name, text)) for text in prompts])


@pytest.mark.parametrize("name", ADDITIONS)
@given(st.integers(1, 12), st.integers(1, 12), st.integers(0, 9))
def test_without_carries_asked_for_everything_is_drawn_as_in_evaluation(name: str, a: int, b: int, seed: int) -> None:
    task = load_task(name)
    uniform, practice, supervised = (
        draw(numpy_generator(seed), (a, b), 9) for draw in (task.sample, task.sample_practice, task.sample_supervised)
    )
    assert (uniform == practice).all()
    assert (uniform == supervised).all()


@pytest.mark.parametrize("name", ADDITIONS)
def test_evaluation_is_the_same_whatever_the_task_enriches(name: str) -> None:
    plain, enriched = load_task(name), load_task(name, {"carry_share": 100, "carry_density": 100})
    for difficulty in (1, 3, 9):
        assert (evaluation_prompts(plain, 0, difficulty, 150) == evaluation_prompts(enriched, 0, difficulty, 150)).all()


@pytest.mark.parametrize("name", ADDITIONS)
@given(st.integers(1, 12), st.integers(1, 12), st.integers(0, 9))
def test_a_column_that_is_chosen_adds_up_to_9_and_no_number_begins_with_zero(
    name: str, a: int, b: int, seed: int
) -> None:
    task = load_task(name, {"carry_share": 100, "carry_density": 100})
    prompts = task.vocabulary.decode_prompts(task.sample_practice(numpy_generator(seed), (a, b), 20))
    task.encode(prompts)  # each keeps the grammar, which knows no leading zero
    for text in prompts:
        first, second = operands_of(name, text)
        assert (len(first), len(second)) == (a, b)
        assert [x + y for x, y in zip_longest(first, second, fillvalue=0)] == [9] * max(a, b)


def test_the_carries_of_enriched_prompts_are_as_frequent_as_the_two_settings_say() -> None:
    """The shares of two 8-digit numbers were counted apart from this code: carries that cover 3, 4 or 5 columns."""
    everywhere = load_task("forward-addition", {"carry_share": 100})
    draws = {"uniform": everywhere.sample, "enriched": everywhere.sample_practice}
    half = load_task("forward-addition", {"carry_share": 50, "carry_density": 100})
    found = {
        kind: ways("forward-addition", everywhere.vocabulary.decode_prompts(draw(numpy_generator(0), 8, 20_000)))
        for kind, draw in draws.items()
    }
    for kind, shares in {"uniform": [0.027, 0.0023], "enriched": [0.32, 0.13, 0.048]}.items():
        for columns, share in enumerate(shares, start=3):
            assert (found[kind] >= columns - 1).mean() == pytest.approx(share, rel=0.25)
    prompts = half.vocabulary.decode_prompts(half.sample_practice(numpy_generator(0), 8, 4000))
    assert (ways("forward-addition", prompts) == -1).mean() == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize("name", ADDITIONS)
@given(st.integers(1, 12), st.integers(1, 12), st.integers(0, 9))
def test_in_the_hard_split_half_of_the_columns_pass_one_carry_on(name: str, a: int, b: int, seed: int) -> None:
    task = load_task(name)
    prompts = task.vocabulary.decode_prompts(task.sample_hard(numpy_generator(seed), (a, b), 20))
    task.encode(prompts)
    assert {tuple(map(len, operands_of(name, text))) for text in prompts} == {(a, b)}
    assert (ways(name, prompts) >= max(a, b) // 2).all()


def test_labels_and_d0_are_drawn_as_the_task_says() -> None:
    task = load_task("forward-addition", {"carry_share": 100, "carry_density": 100})
    labelled = fresh_prompts(task, numpy_generator(0), 6, 50, evaluation_prompts(task, 0, 6, 200))
    supervised = Reserved(task, 0, 200).sample(numpy_generator(0), (6, 6), 50)
    for prompts in (labelled, supervised):
        texts = task.vocabulary.decode_prompts(prompts)
        assert all(set(map(sum, zip(*operands_of(task.name, text), strict=True))) == {9} for text in texts)


@pytest.mark.parametrize(("option", "value"), [("carry_share", 101), ("carry_share", -1), ("carry_density", 140)])
def test_a_share_that_is_no_percentage_is_refused(option: str, value: int) -> None:
    with pytest.raises(UserError, match=f"task.options.{option} = {value}: must be 0 to 100"):
        load_task("reverse-addition", {option: value})

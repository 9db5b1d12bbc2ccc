"""Copy and reverse."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from easy2hard.errors import UserError
from easy2hard.seeding import numpy_generator
from easy2hard.tasks.registry import load_oracle, load_task

NAMES = pytest.mark.parametrize("name", ["copy", "reverse"])


def answer(name: str, digits: str) -> str:
    return digits if name == "copy" else "".join(reversed(digits))


@NAMES
def test_the_oracle_agrees_with_python_on_10_000_prompts(name: str) -> None:
    task = load_task(name)
    prompts: list[str] = []
    for difficulty in range(1, 41):
        sampled = task.sample(numpy_generator(1, difficulty), difficulty, 250)
        prompts += task.vocabulary.decode_prompts(sampled)
    assert len(prompts) == 10_000
    assert load_oracle(task).solve_texts(prompts) == [answer(name, str(int(text[:-1]))) for text in prompts]


@NAMES
@given(digits=st.integers(1, 10**80).map(str))
def test_the_oracle_takes_numbers_of_any_size(name: str, digits: str) -> None:
    assert load_oracle(load_task(name)).solve_texts([f"{digits}="]) == [answer(name, digits)]


@NAMES
@given(difficulty=st.integers(1, 100))
def test_a_prompt_is_a_number_of_as_many_digits_as_asked_for(name: str, difficulty: int) -> None:
    task = load_task(name)
    for text in task.vocabulary.decode_prompts(task.sample(numpy_generator(1), difficulty, 20)):
        assert text == f"{int(text[:-1])}="
        assert len(text) == difficulty + 1


@NAMES
def test_every_digit_occurs_in_every_place_except_a_leading_zero(name: str) -> None:
    task = load_task(name)
    for difficulty in (1, 2, 5):
        prompts = task.vocabulary.decode_prompts(task.sample(numpy_generator(1), difficulty, 2_000))
        places = [set(place) for place in zip(*prompts, strict=True)]
        assert places == [set("123456789"), *[set("0123456789")] * (difficulty - 1), {"="}]


@NAMES
def test_an_answer_is_bounded_by_the_length_of_its_number_and_the_end(name: str) -> None:
    task = load_task(name)
    prompts = task.vocabulary.encode_prompts(["100=", "999="])
    assert task.answer_bounds(prompts).tolist() == [4, 4]


@NAMES
def test_the_easy_range_is_every_length_once(name: str) -> None:
    assert load_task(name).supervised_difficulties(6) == [1, 2, 3, 4, 5, 6]


@NAMES
def test_a_pair_is_not_a_difficulty(name: str) -> None:
    with pytest.raises(TypeError, match="not one number"):
        load_task(name).sample(np.random.default_rng(0), (2, 3), 1)


@NAMES
@pytest.mark.parametrize("text", ["0=", "012=", "=", "12"])
def test_what_is_no_number_is_refused(name: str, text: str) -> None:
    with pytest.raises(UserError, match="not a prompt of task"):
        load_task(name).encode([text])

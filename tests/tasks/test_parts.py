"""What a whole answer must contain: parts against Python integers, lists and networkx."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from easy2hard.tasks.base import Part, Task
from easy2hard.tasks.registry import load_oracle, load_task

ADDITIONS = pytest.mark.parametrize("name", ["reverse-addition", "forward-addition", "forward-addition-padded"])
STRINGS = pytest.mark.parametrize("name", ["copy", "reverse"])
LONG = st.integers(1, 10**40)


def parts_of(task: Task, prompt: str, answer: str) -> dict[str, Part]:
    """Return the parts of one prompt by their names."""
    prompts, answers = task.vocabulary.encode_prompts([prompt]), task.vocabulary.encode_answers([answer])
    found = {part.name: part for part in task.parts(prompts, answers)}
    assert all(part.rows.tolist() == [0] for part in found.values())
    return found


def text_of(task: Task, part: Part) -> str:
    (text,) = task.vocabulary.decode_prompts(part.prompts)
    return text


def agrees(task: Task, part: Part, answer: str, of_part: str) -> bool:
    (found,) = part.agree(task.vocabulary.encode_answers([answer]), task.vocabulary.encode_answers([of_part])).tolist()
    assert isinstance(found, bool)
    return found


def truth(task: Task, prompt: str) -> str:
    (answer,) = load_oracle(task).solve_texts([prompt])
    return answer


def sum_prompt(name: str, a: int, b: int) -> str:
    return f"{str(a)[::-1]}+{str(b)[::-1]}=" if name.startswith("reverse") else f"{a}+{b}="


def sum_answer(name: str, total: int, longer: int) -> str:
    """Return a number as the sum of operands of which the longer has ``longer`` digits."""
    text = str(total) if name == "forward-addition" else str(total).zfill(longer + 1)
    return text[::-1] if name.startswith("reverse") else text


@ADDITIONS
@given(a=LONG, b=LONG, shift=st.integers(-20, 20))
def test_a_sum_contains_the_sum_without_the_lowest_digits(name: str, a: int, b: int, shift: int) -> None:
    task, longer = load_task(name), max(len(str(a)), len(str(b)))
    prompt = sum_prompt(name, a, b)
    part = parts_of(task, prompt, truth(task, prompt)).get("all but the lowest digit")
    if min(a, b) < 10:
        assert part is None
        return
    assert part is not None
    assert text_of(task, part) == sum_prompt(name, a // 10, b // 10)
    lengths = len(str(a)) - 1, len(str(b)) - 1
    assert part.difficulty == (lengths[0] if lengths[0] == lengths[1] else lengths)
    given_part = a // 10 + b // 10 + shift
    if 0 < given_part < 10**longer:
        contained = (a + b) // 10 == given_part + (a % 10 + b % 10) // 10
        answers = sum_answer(name, a + b, longer), sum_answer(name, given_part, longer - 1)
        assert agrees(task, part, *answers) == contained == (shift == 0)


@ADDITIONS
@given(a=LONG, b=LONG, place=st.integers(0, 40), digit=st.integers(1, 9))
def test_a_sum_contains_the_lowest_digits_of_the_sum_without_the_highest(
    name: str, a: int, b: int, place: int, digit: int
) -> None:
    task, longer = load_task(name), max(len(str(a)), len(str(b)))
    cut = [str(n)[1:] if len(str(n)) == longer else str(n) for n in (a, b)]
    prompt = sum_prompt(name, a, b)
    part = parts_of(task, prompt, truth(task, prompt)).get("all but the highest digit")
    if any(digits[:1] in ("", "0") for digits in cut):
        assert part is None
        return
    lower = int(cut[0]), int(cut[1])
    assert part is not None
    assert text_of(task, part) == sum_prompt(name, *lower)
    place %= longer
    total = sum(lower)
    wrong = total - total // 10**place % 10 * 10**place + (total // 10**place + digit) % 10 * 10**place
    if len(str(wrong)) < longer - 1:
        return  # no sum of such operands
    whole = sum_answer(name, a + b, longer)
    assert agrees(task, part, whole, sum_answer(name, total, longer - 1))
    assert agrees(task, part, whole, sum_answer(name, wrong, longer - 1)) == (place == longer - 1)


@ADDITIONS
@given(a=st.integers(10, 10**30), b=st.integers(10, 10**30), place=st.integers(1, 30), digit=st.integers(1, 9))
def test_a_wrong_digit_above_the_lowest_is_seen(name: str, a: int, b: int, place: int, digit: int) -> None:
    """The newest digits are the highest: nothing that is wrong there passes all but the lowest digit."""
    task, longer = load_task(name), max(len(str(a)), len(str(b)))
    prompt = sum_prompt(name, a, b)
    part = parts_of(task, prompt, truth(task, prompt))["all but the lowest digit"]
    total, place = a + b, 1 + place % longer
    wrong = total - total // 10**place % 10 * 10**place + (total // 10**place + digit) % 10 * 10**place
    assert not agrees(task, part, sum_answer(name, wrong, longer), truth(task, text_of(task, part)))


@STRINGS
@given(number=st.integers(1, 10**40).map(str), place=st.integers(0, 40), digit=st.integers(1, 9))
def test_a_copy_contains_the_copies_of_its_beginning_and_its_end(
    name: str, number: str, place: int, digit: int
) -> None:
    task, place = load_task(name), place % len(number)
    step = 1 if name == "copy" else -1
    wrong = number[:place] + str((int(number[place]) + digit) % 10) + number[place + 1 :]
    found = parts_of(task, f"{number}=", number[::step])
    assert ("all but the last digit" in found) == (len(number) > 1)
    assert ("all but the first digit" in found) == (len(number) > 1 and number[1] != "0")
    for which, left_out in (("all but the first digit", 0), ("all but the last digit", len(number) - 1)):
        if which in found:
            rest = number[:left_out] + number[left_out + 1 :]
            assert text_of(task, found[which]) == f"{rest}="
            assert found[which].difficulty == len(rest)
            assert agrees(task, found[which], number[::step], rest[::step])
            assert agrees(task, found[which], wrong[::step], rest[::step]) == (place == left_out)
            assert not agrees(task, found[which], rest[::step], rest[::step])


@pytest.mark.parametrize("name", ["copy", "reverse", "reverse-addition", "forward-addition", "forward-addition-padded"])
def test_what_is_easiest_has_no_parts(name: str) -> None:
    task = load_task(name)
    prompts = task.sample(np.random.default_rng(0), 1, 5)
    assert task.parts(prompts, load_oracle(task).solve(prompts)) == []
    assert task.parts(prompts[:0], prompts[:0]) == []

"""What every task promises, whatever it is about. A new task is tested here as soon as it is registered."""

import re
from typing import Any

import numpy as np
import pytest

from easy2hard.errors import UserError
from easy2hard.seeding import numpy_generator
from easy2hard.tasks.base import Difficulty, Task
from easy2hard.tasks.oracle import Checker, Oracle
from easy2hard.tasks.registry import load_oracle, load_task, task_names
from easy2hard.vocabulary import BOS, EOS, PAD, SPECIAL, Tokens

DIFFICULTIES = (1, 2, 3, 7, 20)


def digits_of_operands(prompt: str) -> int:
    """Return how many digits the operands of a prompt have, all the same number of them."""
    (digits,) = {len(operand) for operand in re.findall("[0-9]+", prompt)}
    return digits


@pytest.fixture(params=task_names())
def task(request: pytest.FixtureRequest) -> Task:
    return load_task(request.param)


@pytest.fixture
def oracle(task: Task) -> Oracle:
    return load_oracle(task)


def sample(task: Task, difficulty: Difficulty, count: int = 20, seed: int = 0, stream: str = "a") -> Tokens:
    return task.sample(numpy_generator(seed, stream, str(difficulty)), difficulty, count)


def sample_texts(task: Task, count: int = 20) -> list[str]:
    """Return prompts of all difficulties, neighbours of different lengths."""
    texts = [task.vocabulary.decode_prompts(sample(task, difficulty, count)) for difficulty in DIFFICULTIES]
    return [text for neighbours in zip(*texts, strict=True) for text in neighbours]


def corruptions(text: str, symbols: str) -> list[str]:
    """Return every text that differs by one character put in, left out or replaced."""
    places = range(len(text) + 1)
    inserted = {text[:i] + symbol + text[i:] for i in places for symbol in symbols}
    left_out = {text[:i] + text[i + 1 :] for i in places}
    replaced = {text[:i] + symbol + text[i + 1 :] for i in places for symbol in symbols}
    return sorted((inserted | left_out | replaced) - {text})


def test_the_name_leads_to_the_task(task: Task) -> None:
    assert task.name in task_names()
    assert task.summary
    assert task.grammar.fullmatch(task.example)
    assert load_oracle(task).solve_texts([task.example]) != [""]


def test_prompts_and_answers_have_the_exact_form(
    task: Task, oracle: Oracle, formats: dict[str, list[dict[str, Any]]]
) -> None:
    cases = formats[task.name]
    assert oracle.solve_texts([case["prompt"] for case in cases]) == [case["target"] for case in cases]


@pytest.mark.parametrize("difficulty", DIFFICULTIES)
def test_prompts_have_the_requested_difficulty(task: Task, difficulty: int) -> None:
    prompts = sample(task, difficulty)
    assert prompts.dtype == np.int32
    assert len(prompts) == 20
    assert (prompts[:, 0] == BOS).all()
    assert ((prompts[:, 1:] >= SPECIAL) & (prompts[:, 1:] < len(task.vocabulary))).all()
    for text in task.vocabulary.decode_prompts(prompts):
        assert task.grammar.fullmatch(text)
        assert digits_of_operands(text) == difficulty


@pytest.mark.parametrize("count", [0, 1])
def test_any_number_of_prompts_can_be_sampled_and_solved(task: Task, oracle: Oracle, count: int) -> None:
    prompts = sample(task, 4, count)
    assert len(prompts) == len(oracle.solve(prompts)) == len(task.answer_bounds(prompts)) == count


def test_the_same_stream_gives_the_same_prompts_and_any_other_gives_others(task: Task) -> None:
    prompts = sample(task, 12)
    assert (sample(task, 12) == prompts).all()
    for other in (sample(task, 12, seed=1), sample(task, 12, stream="b")):
        assert not (other == prompts).all(axis=1).any()


def test_sampling_leaves_the_global_generator_alone(task: Task) -> None:
    np.random.seed(0)
    first = sample(task, 12)
    untouched = np.random.random()
    np.random.seed(0)
    assert np.random.random() == untouched
    assert (sample(task, 12) == first).all()


def test_texts_and_tokens_are_the_same_prompts(task: Task) -> None:
    texts = sample_texts(task)
    rows: list[int] = []
    for indices, prompts in task.encode(texts):
        assert task.vocabulary.decode_prompts(prompts) == [texts[i] for i in indices]
        rows += indices.tolist()
    assert sorted(rows) == list(range(len(texts)))
    for difficulty in DIFFICULTIES:
        prompts = sample(task, difficulty)
        ((_, encoded),) = task.encode(task.vocabulary.decode_prompts(prompts))
        assert (encoded == prompts).all()


def test_answers_end_once_within_their_bounds(task: Task, oracle: Oracle) -> None:
    for difficulty in DIFFICULTIES:
        prompts = sample(task, difficulty)
        answers, bounds = oracle.solve(prompts), task.answer_bounds(prompts)
        lengths = (answers != PAD).sum(axis=1)
        assert (lengths <= bounds).all()
        assert ((answers == EOS).sum(axis=1) == 1).all()
        assert (answers[np.arange(len(answers)), lengths - 1] == EOS).all()
        encoded = task.vocabulary.encode_answers(task.vocabulary.decode_answers(answers))
        assert (encoded == answers[:, : encoded.shape[1]]).all()
        assert (answers[:, encoded.shape[1] :] == PAD).all()


def test_answers_and_bounds_do_not_depend_on_the_rest_of_the_batch(task: Task, oracle: Oracle) -> None:
    sampled = [sample(task, difficulty, count=3) for difficulty in task.supervised_difficulties(4)]
    texts = [text for prompts in sampled for text in task.vocabulary.decode_prompts(prompts)]
    for _, prompts in task.encode(texts):
        answers, bounds = task.vocabulary.decode_answers(oracle.solve(prompts)), task.answer_bounds(prompts)
        for row in range(len(prompts)):
            alone = prompts[row : row + 1]
            assert task.vocabulary.decode_answers(oracle.solve(alone)) == [answers[row]]
            assert task.answer_bounds(alone).tolist() == [bounds[row]]


def test_the_true_answer_is_right_and_every_corruption_of_it_is_wrong(task: Task, oracle: Oracle) -> None:
    checker = Checker(oracle)
    prompts = sample_texts(task, count=2)
    answers = oracle.solve_texts(prompts)
    assert checker.check(prompts, answers) == [None] * len(prompts)
    for prompt, answer in zip(prompts, answers, strict=True):
        wrong = corruptions(answer, task.vocabulary.symbols + "x ")
        for reason in checker.check([prompt] * len(wrong), wrong):
            assert reason is not None
            assert len(reason.splitlines()) == 1


def test_what_is_no_prompt_is_refused_in_one_line(task: Task) -> None:
    example = task.example
    for text in (
        "",
        example[:-1],
        example + "=",
        example + example,
        "\n",
        example + "\n",
        f"x{example}",
        f" {example}",
    ):
        with pytest.raises(UserError) as error:
            task.encode([example, text])
        assert repr(text) in str(error.value)
        assert len(str(error.value).splitlines()) == 1

"""Exact match by one teacher-forced pass against exact match by decoding."""

import numpy as np
import pytest
import torch
from helpers import copy_task, decode, engine_of, half_trained, half_trained_engine, new_member, prompts_of, properties
from hypothesis import given
from hypothesis import strategies as st
from typing_extensions import override

from easy2hard.engines import reference
from easy2hard.evaluation.exact_match import accuracy, evaluate_run
from easy2hard.improvement.proposals import propose
from easy2hard.tasks.base import Difficulty
from easy2hard.tasks.prompts import evaluation_prompts
from easy2hard.tasks.strings import Copy
from easy2hard.vocabulary import EOS, PAD, Tokens


def decoded_matches(member: int, prompts: Tokens) -> np.ndarray:
    task, oracle = copy_task()
    answers = decode(half_trained()[member], prompts, task.answer_bounds(prompts))
    texts = task.vocabulary.decode_answers(answers.tokens)
    truth = oracle.solve_texts(task.vocabulary.decode_prompts(prompts))
    return np.array([a == b for a, b in zip(texts, truth, strict=True)]) & answers.finished


def matches_of_first(prompts: Tokens, truth: Tokens) -> np.ndarray:
    return engine_of(half_trained()[:1]).matches([(prompts, truth)])[0][0]


def test_one_pass_finds_the_same_matches_as_decoding() -> None:
    prompts = evaluation_prompts(copy_task()[0], 0, 3, 2000)
    found = half_trained_engine().matches([(prompts, copy_task()[1].solve(prompts))])[0]
    for member, matches in enumerate(found):
        assert 0.05 < matches.mean() < 0.95
        np.testing.assert_array_equal(matches, decoded_matches(member, prompts))


@properties
@given(row=st.integers(0, 299), at=st.integers(0, 3), padding=st.integers(0, 3))
def test_a_match_is_exactly_the_greedy_answer(row: int, at: int, padding: int) -> None:
    """Whatever is called true: the model's own answers match, whatever their lengths; a changed one does not."""
    prompts = prompts_of(4, 300)
    answers = decode(half_trained()[0], prompts, np.full(300, 8))
    truth = np.pad(answers.tokens, ((0, 0), (0, padding)), constant_values=PAD)
    assert len({row.index(EOS) for row in truth[answers.finished].tolist()}) > 1
    assert matches_of_first(prompts, truth)[answers.finished].all()
    if answers.finished[row] and truth[row, at] != PAD:
        truth[row, at] = EOS + 1 if truth[row, at] == EOS else EOS  # longer, or cut short
        matches = matches_of_first(prompts, truth)
        assert not matches[row]
        assert np.delete(matches, row)[np.delete(answers.finished, row)].all()


@pytest.mark.parametrize("cores", [1, 3])
def test_batches_and_cores_change_no_match(cores: int, monkeypatch: pytest.MonkeyPatch) -> None:
    prompts = evaluation_prompts(copy_task()[0], 0, 3, 300)
    truth = copy_task()[1].solve(prompts)
    expected = matches_of_first(prompts, truth)
    monkeypatch.setattr(reference, "PASSED_TOKENS", 60)
    monkeypatch.setattr(torch, "get_num_threads", lambda: cores)
    np.testing.assert_array_equal(matches_of_first(prompts, truth), expected)


def test_accuracy_is_the_mean_over_the_members() -> None:
    (task, oracle), difficulties = copy_task(), [1, 2, 3, 5]
    scores = accuracy(half_trained_engine(), task, oracle, 0, difficulties, 150)
    assert list(scores) == difficulties
    for difficulty, score in scores.items():
        prompts = evaluation_prompts(task, 0, difficulty, 150)
        assert score == pytest.approx(np.mean([decoded_matches(member, prompts) for member in range(2)]))


class Nines(Copy):
    """Copy, whose hard split is numbers of nines."""

    hard_split = "nines"

    @override
    def sample_hard(self, generator: np.random.Generator, difficulty: Difficulty, count: int) -> Tokens:
        assert isinstance(difficulty, int)
        return self.frame(np.full((count, difficulty), self.vocabulary.id("9")), "=")


def test_the_hard_split_is_asked_apart() -> None:
    task = Nines()
    engine, oracle = half_trained_engine(), copy_task()[1]
    assert (evaluation_prompts(task, 0, 3, 5, hard=True) == prompts_of_text("999=")).all()
    hard, uniform = (accuracy(engine, task, oracle, 0, [3], 200, hard=hard)[3] for hard in (True, False))
    assert hard == np.mean([decoded_matches(member, prompts_of_text("999="))[0] for member in range(2)])
    assert uniform == accuracy(engine, copy_task()[0], oracle, 0, [3], 200)[3] != hard


def prompts_of_text(text: str) -> Tokens:
    return copy_task()[0].vocabulary.encode_prompts([text])


def test_the_accuracy_of_a_vote_is_that_of_the_proposals() -> None:
    (task, oracle), difficulties = copy_task(), [2, 3, 4]
    engine = engine_of([*half_trained(), new_member(7)])
    mean, voted = evaluate_run(engine, task, oracle, 0, difficulties, 300)
    assert mean == pytest.approx(accuracy(engine, task, oracle, 0, difficulties, 300))
    for difficulty in difficulties:
        prompts = evaluation_prompts(task, 0, difficulty, 300)
        proposals = propose(engine, task, difficulty, prompts)
        right = (proposals.answers == oracle.solve(prompts)).all(axis=1) & proposals.finished
        assert voted[difficulty] == right.mean()
        assert voted[difficulty] != mean[difficulty]

"""The learned verifier against what it was told, and against the likelihood that it should maximise."""

from dataclasses import replace

import numpy as np
from helpers import copy_task, engine_of, half_trained, prompts_of, properties
from hypothesis import given
from hypothesis import strategies as st

from easy2hard.evaluation.exact_match import right
from easy2hard.improvement.proposals import Draws, Proposals, propose
from easy2hard.improvement.verifier import RIDGE, Verifier, _design, features, learn


def answered(difficulty: int, count: int = 150) -> Proposals:
    draws = Draws(1.0, 1, 0, ("test",))
    return propose(
        engine_of(half_trained()[:1]), copy_task()[0], difficulty, prompts_of(difficulty, count), draws=draws
    )


def test_it_learns_to_tell_right_from_wrong_and_carries_it_to_harder_prompts() -> None:
    easy, hard = [answered(difficulty) for difficulty in (2, 3)], answered(4)
    verifier = learn(easy, [right(copy_task()[1], each) for each in easy])
    truth, score = right(copy_task()[1], hard), verifier.score(hard)
    assert 0 < truth.sum() < len(truth)
    assert score[truth].mean() > score[~truth].mean() + 0.1
    assert verifier.seen == sum(int(each.finished.sum()) for each in easy)
    assert 0 < verifier.right < verifier.seen


@properties
@given(st.integers(0, 2**20), st.lists(st.floats(-0.1, 0.1), min_size=4, max_size=4))
def test_no_other_weights_are_more_likely(seed: int, step: list[float]) -> None:
    easy = answered(3, 60)
    truth = np.random.default_rng(seed).random(60) < 0.7
    verifier = learn([easy], [truth])

    def loss(weights: np.ndarray) -> float:
        logits = _design(features(easy)[easy.finished], verifier.center, verifier.scale) @ weights
        signs = np.where(truth[easy.finished], 1, -1)
        return float(np.logaddexp(0, -signs * logits).sum() + RIDGE / 2 * (weights**2).sum())

    assert loss(verifier.weights) <= loss(verifier.weights + np.array(step)) + 1e-9


def test_answers_that_are_all_right_or_none_at_all_give_a_verifier_all_the_same() -> None:
    easy = answered(2)
    for truth in (np.ones(150, dtype=np.bool_), np.zeros(150, dtype=np.bool_)):
        score = learn([easy], [truth]).score(easy)
        assert np.isfinite(score).all()
        assert ((score > 0.5) == truth).all()
    nothing = learn([replace(easy, finished=np.zeros(150, dtype=np.bool_))], [np.zeros(150, dtype=np.bool_)])
    assert isinstance(nothing, Verifier)
    assert nothing.score(easy).tolist() == [0.5] * 150

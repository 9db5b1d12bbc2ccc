"""The compiled decoder against the plain one, and a row against itself in other company."""

import numpy as np
import pytest
from helpers import HARDEST, decode, half_trained, new_member, prompts_of

from easy2hard.engines.cpu.runner import CpuRunner
from easy2hard.engines.decoding import Sampling
from easy2hard.settings.model import ModelSize


@pytest.mark.parametrize("difficulty", [1, HARDEST, 3 * HARDEST, 20])
@pytest.mark.parametrize(
    "size",
    [
        None,
        ModelSize(width=64, layers=3, heads=1, feed_forward=48),
        ModelSize(width=48, layers=1, heads=3, feed_forward=16),
    ],
    ids=["half-trained", "one wide head", "three heads"],
)
def test_answers_are_those_of_the_plain_decoder(
    difficulty: int, size: ModelSize | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = half_trained()[1] if size is None else new_member(3, size=size)
    prompts = prompts_of(difficulty, 37)
    bounds = np.random.default_rng(0).integers(1, difficulty + 3, len(prompts))
    assert CpuRunner(model).whole() is not None
    compiled = decode(model, prompts, bounds)
    monkeypatch.setattr(CpuRunner, "whole", lambda self: None)
    plain = decode(model, prompts, bounds)
    np.testing.assert_array_equal(compiled.tokens, plain.tokens)
    np.testing.assert_array_equal(compiled.finished, plain.finished)
    np.testing.assert_allclose(compiled.confidence, plain.confidence, rtol=1e-4)
    np.testing.assert_allclose(compiled.mean_log_probability, plain.mean_log_probability, rtol=1e-4, atol=1e-6)


def test_a_row_is_the_same_to_the_bit_in_any_company() -> None:
    model, prompts = half_trained()[0], prompts_of(2 * HARDEST, 50)
    bounds = np.full(len(prompts), 2 * HARDEST + 1)
    together = decode(model, prompts, bounds)
    for rows in ([7], [49, 3, 21], range(0, 50, 2)):
        apart = decode(model, prompts[list(rows)], bounds[list(rows)])
        np.testing.assert_array_equal(apart.tokens, together.tokens[list(rows)])
        assert apart.confidence.tobytes() == together.confidence[list(rows)].tobytes()


def test_sampled_tokens_are_those_of_the_plain_decoder(monkeypatch: pytest.MonkeyPatch) -> None:
    model, prompts = half_trained()[1], prompts_of(2 * HARDEST, 37)
    bounds, sampling = np.full(len(prompts), 2 * HARDEST + 1), Sampling(1.5, 7)
    compiled = decode(model, prompts, bounds, sampling=sampling)
    monkeypatch.setattr(CpuRunner, "whole", lambda self: None)
    plain = decode(model, prompts, bounds, sampling=sampling)
    assert (compiled.tokens != decode(model, prompts, bounds).tokens).any()
    np.testing.assert_array_equal(compiled.tokens, plain.tokens)
    np.testing.assert_allclose(compiled.confidence, plain.confidence, rtol=1e-4)
    np.testing.assert_allclose(compiled.mean_log_probability, plain.mean_log_probability, rtol=1e-4, atol=1e-6)

"""Greedy decoding in batches with a cache against one prompt at a time without one."""

import math
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from helpers import HARDEST, answer_plainly, decode, half_trained, new_member, padded, prompts_of, properties
from hypothesis import given
from hypothesis import strategies as st

from easy2hard.engines import decoding
from easy2hard.engines.cpu import runner
from easy2hard.engines.cpu.runner import CpuRunner
from easy2hard.engines.decoding import Answers, Sampling
from easy2hard.models.transformer import Transformer
from easy2hard.seeding import derive
from easy2hard.vocabulary import EOS, PAD, Tokens


def bounds_of(prompts: Tokens, bound: int) -> np.ndarray:
    return np.full(len(prompts), bound, dtype=np.int64)


def models() -> list[tuple[str, Transformer, int]]:
    """A half-trained member on easy and hard prompts, and an untrained one that rarely ends."""
    return [
        ("easy", half_trained()[0], HARDEST),
        ("hard", half_trained()[1], 3 * HARDEST),
        ("untrained", new_member(5), HARDEST),
    ]


@pytest.mark.parametrize("case", range(3))
def test_cached_answers_are_those_of_the_plain_loop(case: int) -> None:
    name, model, difficulty = models()[case]
    prompts = prompts_of(difficulty, 60)
    bound = difficulty + 3
    answers = decode(model, prompts, bounds_of(prompts, bound))
    plain = [answer_plainly(model, prompt, bound) for prompt in prompts.tolist()]
    assert answers.tokens.tolist() == padded([answer for answer, _ in plain], bound).tolist(), name
    assert answers.finished.tolist() == [answer[-1] == EOS for answer, _ in plain]
    # Probabilities differ in rounding only: float32, other shapes of the matrix products.
    np.testing.assert_allclose(answers.confidence, [math.exp(min(p)) for _, p in plain], rtol=1e-4)
    np.testing.assert_allclose(
        answers.mean_log_probability, [math.fsum(p) / len(p) for _, p in plain], rtol=1e-4, atol=1e-6
    )


def test_the_models_of_these_tests_both_end_and_do_not_end() -> None:
    prompts = prompts_of(HARDEST, 60)
    assert decode(half_trained()[0], prompts, bounds_of(prompts, HARDEST + 1)).finished.any()
    assert not decode(new_member(5), prompts, bounds_of(prompts, HARDEST + 1)).finished.all()


def assert_same(one: Answers, other: Answers) -> None:
    np.testing.assert_array_equal(one.tokens, other.tokens)
    np.testing.assert_array_equal(one.finished, other.finished)
    np.testing.assert_allclose(one.confidence, other.confidence, rtol=1e-4)
    np.testing.assert_allclose(one.mean_log_probability, other.mean_log_probability, rtol=1e-4, atol=1e-6)


def rows_of(answers: Answers, rows: np.ndarray) -> Answers:
    return Answers(
        answers.tokens[rows],
        answers.finished[rows],
        answers.confidence[rows],
        answers.mean_log_probability[rows],
    )


def test_on_a_gpu_memory_bounds_what_is_decoded_at_a_time() -> None:
    def most_rows(cached_bytes: int) -> int:
        member = SimpleNamespace(device=torch.device("cuda"), cached_bytes=cached_bytes)
        parts = decoding.chunks(10**6, 64, cast(Any, SimpleNamespace(member=member)), 100)
        assert [part.start for part in parts[1:]] == [part.stop for part in parts[:-1]]
        return max(part.stop - part.start for part in parts)

    assert most_rows(1) == decoding.GPU_TOKENS // 64
    assert most_rows(10**5) == decoding.GPU_CACHED_BYTES // 10**5 // 64
    assert most_rows(10**12) == 1


@pytest.mark.parametrize("case", range(3))
def test_an_answer_does_not_depend_on_its_batch(case: int, monkeypatch: pytest.MonkeyPatch) -> None:
    _, model, difficulty = models()[case]
    prompts = prompts_of(difficulty, 300)
    bounds = np.random.default_rng(0).integers(1, difficulty + 3, len(prompts))
    together = decode(model, prompts, bounds)
    order = np.random.default_rng(1).permutation(len(prompts))
    assert_same(decode(model, prompts[order], bounds[order]), rows_of(together, order))
    for row in range(20):
        alone = decode(model, prompts[row : row + 1], bounds[row : row + 1])
        expected = rows_of(together, np.array([row]))
        assert not expected.tokens[:, bounds[row] :].any()
        assert_same(
            alone,
            Answers(
                expected.tokens[:, : bounds[row]],
                expected.finished,
                expected.confidence,
                expected.mean_log_probability,
            ),
        )
    monkeypatch.setattr(decoding, "decoded_tokens", lambda model: 200)
    assert_same(decode(model, prompts, bounds), together)


@pytest.mark.parametrize("case", range(3))
def test_a_sampled_answer_does_not_depend_on_its_batch(case: int, monkeypatch: pytest.MonkeyPatch) -> None:
    _, model, difficulty = models()[case]
    prompts, sampling = prompts_of(difficulty, 200), Sampling(1.0, derive(0, "test"))
    bounds = np.random.default_rng(0).integers(1, difficulty + 3, len(prompts))
    together = decode(model, prompts, bounds, sampling=sampling)
    order = np.random.default_rng(1).permutation(len(prompts))
    assert_same(decode(model, prompts[order], bounds[order], sampling=sampling), rows_of(together, order))
    monkeypatch.setattr(decoding, "decoded_tokens", lambda model: 50)
    assert_same(decode(model, prompts, bounds, sampling=sampling), together)
    assert (together.tokens != decode(model, prompts, bounds).tokens).any()
    other = decode(model, prompts, bounds, sampling=Sampling(1.0, derive(0, "another")))
    assert (together.tokens != other.tokens).any()


def test_a_cold_sample_is_the_greedy_answer() -> None:
    prompts = prompts_of(HARDEST, 60)
    bounds = bounds_of(prompts, HARDEST + 3)
    cold = decode(half_trained()[0], prompts, bounds, sampling=Sampling(1e-6, 0))
    assert_same(cold, decode(half_trained()[0], prompts, bounds))


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_tokens_are_drawn_with_their_probabilities(temperature: float) -> None:
    """Over seeds, over prompts and over steps alike, and independently."""
    logits = torch.tensor([9.0, 9.0, 0.0, 1.0, 0.3, -2.0])[None]  # padding and BOS first
    expected = (logits[0, EOS:] / temperature).softmax(dim=0).numpy()
    count = 40_000
    some = np.random.default_rng(0).integers(0, 10, (count, 7)).astype(np.int32)
    one = Sampling(temperature, derive(0, "test"))
    keys, few = one.keys(some), one.keys(some[:1])
    by_prompt = decoding._drawn(logits.expand(count, -1), one, keys, 3).numpy()
    after = decoding._drawn(logits.expand(count, -1), one, keys, 4).numpy()
    by_seed = [decoding._drawn(logits, s, s.keys(some[:1]), 0) for s in (Sampling(temperature, i) for i in range(4000))]
    by_step = [decoding._drawn(logits, one, few, step) for step in range(4000)]
    for drawn in (by_prompt, after, torch.cat(by_seed).numpy(), torch.cat(by_step).numpy()):
        shares = np.bincount(drawn - EOS, minlength=len(expected)) / len(drawn)
        assert (np.abs(shares - expected) < 4 * np.sqrt(expected * (1 - expected) / len(drawn)) + 1e-9).all()
    together = np.histogram2d(by_prompt, after, bins=np.arange(EOS, EOS + 5))[0] / count
    np.testing.assert_allclose(together, np.outer(expected, expected), atol=0.01)


@properties
@given(bounds=st.lists(st.integers(1, HARDEST + 4), min_size=1, max_size=20), case=st.integers(0, 2))
def test_a_bound_cuts_its_own_answer_and_no_other(bounds: list[int], case: int) -> None:
    _, model, difficulty = models()[case]
    prompts = prompts_of(difficulty, len(bounds))
    free = decode(model, prompts, bounds_of(prompts, HARDEST + 4)).tokens.tolist()
    bounded = decode(model, prompts, np.array(bounds))
    cut = [row[:bound] for row, bound in zip(free, bounds, strict=True)]
    assert bounded.tokens.tolist() == padded(cut, max(bounds)).tolist()
    assert bounded.finished.tolist() == [EOS in row for row in cut]


def test_an_answer_ends_at_its_eos() -> None:
    prompts = prompts_of(HARDEST, 100)
    answers = decode(half_trained()[0], prompts, bounds_of(prompts, HARDEST + 4))
    for row, finished in zip(answers.tokens.tolist(), answers.finished, strict=True):
        assert finished == (row.count(EOS) == 1)
        if finished:
            assert set(row[row.index(EOS) + 1 :]) <= {PAD}


@properties
@given(data=st.data(), case=st.integers(0, 2), writer=st.integers(0, 2))
def test_drafts_change_no_answer(data: st.DataObject, case: int, writer: int) -> None:
    """Drafts of another member, of any length, with any token changed."""
    _, model, difficulty = models()[case]
    prompts = prompts_of(difficulty, 12)
    bounds = np.array(data.draw(st.lists(st.integers(1, difficulty + 3), min_size=12, max_size=12)))
    draft = decode(models()[writer][1], prompts, np.array(bounds)).tokens
    draft = np.pad(draft, ((0, 0), (0, data.draw(st.integers(0, 2)))), constant_values=PAD)
    row, at = data.draw(st.integers(0, 11)), data.draw(st.integers(0, draft.shape[1] - 1))
    draft[row, at] = data.draw(st.sampled_from([PAD, EOS, EOS + 1]))
    assert_same(decode(model, prompts, bounds, draft), decode(model, prompts, bounds))


def test_a_draft_spares_the_decoding_where_it_is_right(monkeypatch: pytest.MonkeyPatch) -> None:
    model, prompts = half_trained()[0], prompts_of(HARDEST, 40)
    bounds = bounds_of(prompts, HARDEST + 1)
    answers = decode(model, prompts, bounds)
    monkeypatch.setattr(runner, "answer", None)  # would fail if it were called
    assert_same(decode(model, prompts, bounds, answers.tokens), answers)


def test_finished_rows_leave_the_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    model, prompts = half_trained()[0], prompts_of(HARDEST, 40)
    monkeypatch.setattr(CpuRunner, "whole", lambda self: None)
    rows: list[int] = []
    plain = CpuRunner.logits
    monkeypatch.setattr(
        CpuRunner, "logits", lambda s, tokens, *a, **k: rows.append(len(tokens)) or plain(s, tokens, *a, **k)
    )
    lengths = (decode(model, prompts, bounds_of(prompts, HARDEST + 3)).tokens != PAD).sum(axis=1)
    assert len(set(lengths)) > 1
    assert rows == [int((lengths > step).sum()) for step in range(lengths.max())]


def test_no_prompts_give_no_answers() -> None:
    answers = decode(half_trained()[0], prompts_of(HARDEST, 0), np.zeros(0, dtype=np.int64))
    assert len(answers.tokens) == len(answers.finished) == len(answers.confidence) == 0

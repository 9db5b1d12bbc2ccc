"""Votes against a plain count of texts, and prompts that are new."""

from collections import Counter
from dataclasses import dataclass, fields

import numpy as np
import pytest
import torch
from helpers import (
    copy_task,
    decode,
    engine_of,
    half_trained,
    half_trained_engine,
    new_member,
    padded,
    prompts_of,
    properties,
)
from hypothesis import given
from hypothesis import strategies as st

from easy2hard.engines import decoding, reference
from easy2hard.engines.decoding import Answers
from easy2hard.improvement.filters import apply_filters
from easy2hard.improvement.filters.vote import VoteFilter
from easy2hard.improvement.proposals import Draws, Proposals, count_votes, pad_answers, propose
from easy2hard.tasks.prompts import fresh_prompts
from easy2hard.vocabulary import EOS, PAD, Tokens

BOUND = 4


@dataclass(frozen=True)
class Ballot:
    """One member's answer to one prompt."""

    digits: tuple[int, ...]
    finished: bool
    confidence: float

    @property
    def tokens(self) -> list[int]:
        return [*self.digits, EOS] if self.finished else list(self.digits)


ballots = st.one_of(
    st.builds(
        Ballot,
        st.lists(st.integers(3, 4), max_size=BOUND - 1).map(tuple),
        st.just(True),
        st.integers(1, 100).map(lambda n: n / 128),
    ),
    st.builds(
        Ballot,
        st.lists(st.integers(3, 4), min_size=1, max_size=BOUND).map(tuple),
        st.just(False),
        st.integers(1, 100).map(lambda n: n / 128),
    ),
)
polls = st.integers(1, 6).flatmap(
    lambda members: st.lists(st.lists(ballots, min_size=members, max_size=members), min_size=1, max_size=5)
)
"""A list of prompts, each with one ballot of every member."""


def answers_of(poll: list[list[Ballot]], extra_padding: int = 0) -> list[Answers]:
    answers = []
    for member in range(len(poll[0])):
        column = [row[member] for row in poll]
        confidence = np.array([ballot.confidence for ballot in column], dtype=np.float32)
        tokens = padded([ballot.tokens for ballot in column], BOUND + extra_padding)
        finished = np.array([ballot.finished for ballot in column])
        answers.append(Answers(tokens, finished, confidence, np.log(confidence)))
    return answers


def vote(poll: list[list[Ballot]], extra_padding: int = 0) -> Proposals:
    return count_votes(1, np.zeros((len(poll), 3), dtype=np.int32), answers_of(poll, extra_padding))


@properties
@given(poll=polls)
def test_votes_are_counts_of_texts(poll: list[list[Ballot]]) -> None:
    proposals = vote(poll)
    assert proposals.members == len(poll[0])
    for row, ballots in enumerate(poll):
        counts = Counter(ballot.digits for ballot in ballots if ballot.finished)
        votes = counts.most_common(1)[0][1] if counts else 0
        assert proposals.votes[row] == votes
        assert proposals.finished[row] == bool(counts)
        if not counts:
            continue
        winner = next(b for b in ballots if b.finished and counts[b.digits] == votes)  # the earliest member's
        assert proposals.answers[row].tolist() == padded([winner.tokens], BOUND)[0].tolist()
        others = [count for digits, count in counts.items() if digits != winner.digits]
        assert proposals.runner_up[row] == max(others, default=0)
        shared = [b.confidence for b in ballots if b.finished and b.digits == winner.digits]
        assert proposals.confidence[row] == pytest.approx(min(shared), rel=1e-6)
        assert proposals.mean_log_probability[row] == pytest.approx(np.log(shared).mean(), rel=1e-5)


@properties
@given(poll=polls, threshold=st.integers(1, 10).map(lambda tenths: tenths / 10))
def test_a_tie_loses_the_vote(poll: list[list[Ballot]], threshold: float) -> None:
    kept = apply_filters([VoteFilter(name="vote", threshold=threshold)], vote(poll)).kept
    for row, ballots in enumerate(poll):
        ranked = Counter(b.digits for b in ballots if b.finished).most_common(2)
        clear = len(ranked) == 1 or (len(ranked) == 2 and ranked[0][1] > ranked[1][1])
        enough = bool(ranked) and 10 * ranked[0][1] >= round(10 * threshold) * len(ballots)
        assert kept[row] == (clear and enough)


@properties
@given(poll=polls)
def test_an_unfinished_answer_is_never_a_label(poll: list[list[Ballot]]) -> None:
    proposals = vote(poll)
    kept = apply_filters([], proposals).kept
    for row, ballots in enumerate(poll):
        assert kept[row] == any(b.finished for b in ballots)
        if kept[row]:
            assert (proposals.answers[row] == EOS).sum() == 1


@properties
@given(poll=polls, extra=st.integers(1, 5))
def test_padding_changes_no_vote(poll: list[list[Ballot]], extra: int) -> None:
    short, long = vote(poll), vote(poll, extra)
    assert pad_answers(short.answers, BOUND + extra).tolist() == long.answers.tolist()
    for name in ("finished", "votes", "runner_up", "confidence", "mean_log_probability"):
        np.testing.assert_array_equal(getattr(short, name), getattr(long, name))


@properties
@given(poll=polls, data=st.data())
def test_what_is_preferred_wins_over_any_votes(poll: list[list[Ballot]], data: st.DataObject) -> None:
    answers, prompts = answers_of(poll), np.zeros((len(poll), 3), dtype=np.int32)
    preferred = np.array(
        [[data.draw(st.booleans()) and each.finished[row] for row in range(len(poll))] for each in answers]
    )
    plain, chosen = (count_votes(1, prompts, answers, each) for each in (None, preferred))
    for row in range(len(poll)):
        wanted = {tuple(each.tokens[row]) for each, mask in zip(answers, preferred, strict=True) if mask[row]}
        assert tuple(chosen.answers[row]) in (wanted or {tuple(plain.answers[row])})


def test_one_preferred_answer_wins_over_many() -> None:
    digits = [(3,), (3,), (3,), (4,)]
    poll = [[Ballot(each, True, 0.5) for each in digits]]
    preferred = np.array([[False], [False], [False], [True]])
    chosen = count_votes(1, np.zeros((1, 3), dtype=np.int32), answers_of(poll), preferred)
    assert chosen.answers[0].tolist() == [4, EOS, PAD, PAD]
    assert (chosen.votes[0], chosen.runner_up[0]) == (1, 3)


def test_every_sample_of_every_member_has_a_vote() -> None:
    (task, _), members = copy_task(), half_trained()
    prompts, draws = prompts_of(4, 90), Draws(1.0, 3, 7, (1, "4"))
    proposals = propose(engine_of(members), task, 4, prompts, draws=draws)
    bounds = task.answer_bounds(prompts)
    each = [decode(member, prompts, bounds, sampling=one) for at, member in enumerate(members) for one in draws.of(at)]
    expected = count_votes(4, prompts, each)
    assert (proposals.members, proposals.samples, len(proposals.seconds)) == (6, 3, 2)
    np.testing.assert_array_equal(proposals.answers, expected.answers)
    np.testing.assert_array_equal(proposals.votes, expected.votes)
    np.testing.assert_array_equal(proposals.agreement, expected.votes / 6)
    assert len({sampling.seed for member in range(9) for sampling in draws.of(member)}) == 27
    torch.set_num_threads(2)
    beside = propose(engine_of(members), task, 4, prompts, draws=draws)
    torch.set_num_threads(1)
    np.testing.assert_array_equal(beside.answers, proposals.answers)
    np.testing.assert_array_equal(beside.confidence, proposals.confidence)
    half = propose(engine_of(members), task, 4, prompts[::2], draws=draws)
    np.testing.assert_array_equal(half.answers, proposals.answers[::2])
    np.testing.assert_array_equal(half.votes, proposals.votes[::2])
    assert propose(engine_of(members), task, 4, prompts[:0], draws=draws).members == 6


@properties
@given(poll=polls, data=st.data())
def test_the_order_of_the_members_changes_no_count(poll: list[list[Ballot]], data: st.DataObject) -> None:
    order = data.draw(st.permutations(range(len(poll[0]))))
    one, other = vote(poll), vote([[ballots[member] for member in order] for ballots in poll])
    for name in ("finished", "votes", "runner_up"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


@pytest.mark.parametrize("difficulty", [2, 3, 6])
def test_proposals_are_the_votes_of_the_decoded_answers(difficulty: int) -> None:
    (task, _), members = copy_task(), half_trained()
    prompts = prompts_of(difficulty, 100)
    proposals = propose(engine_of(members), task, difficulty, prompts)
    bounds = task.answer_bounds(prompts)
    expected = count_votes(difficulty, prompts, [decode(member, prompts, bounds) for member in members])
    for name in {each.name for each in fields(Proposals)} - {"seconds"}:
        value = getattr(expected, name)
        np.testing.assert_array_equal(getattr(proposals, name), value)
    # What a prompt is answered with is its own affair: half of the prompts give half of the proposals.
    half = propose(engine_of(members), task, difficulty, prompts[::2])
    np.testing.assert_array_equal(half.answers, proposals.answers[::2])
    np.testing.assert_array_equal(half.votes, proposals.votes[::2])


def test_a_space_that_is_all_reserved_gives_no_prompts_and_no_labels() -> None:
    task, _ = copy_task()
    every: Tokens = padded([[1, 3 + digit, task.vocabulary.id("=")] for digit in range(1, 10)], 3)
    prompts = fresh_prompts(task, np.random.default_rng(0), 1, 50, every)
    assert prompts.shape == (0, 3)
    filtered = apply_filters([VoteFilter(name="vote", threshold=0.7)], propose(half_trained_engine(), task, 1, prompts))
    assert len(filtered.kept) == 0
    assert [(count["in"], count["kept"]) for count in filtered.counts] == [(0, 0), (0, 0)]


def test_padding_answers_adds_padding_only() -> None:
    answers = padded([[3, EOS], [EOS]], 2)
    longer = pad_answers(answers, 5)
    assert longer[:, :2].tolist() == answers.tolist()
    assert (longer[:, 2:] == PAD).all()


def test_proposals_of_one_member_are_its_answers() -> None:
    (task, _), (member, *_) = copy_task(), half_trained()
    prompts = prompts_of(3, 50)
    answers = decode(member, prompts, task.answer_bounds(prompts))
    proposals = propose(engine_of([member]), task, 3, prompts)
    assert proposals.answers.tolist() == answers.tokens.tolist()
    np.testing.assert_array_equal(proposals.confidence, answers.confidence)
    np.testing.assert_array_equal(proposals.votes, answers.finished.astype(int))


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("pays", [False, True])
def test_proposals_do_not_depend_on_drafts_chunks_or_threads(
    pays: bool, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    members = [*half_trained(), new_member(7)]
    prompts, task = prompts_of(3, 150), copy_task()[0]
    bounds = task.answer_bounds(prompts)
    expected = count_votes(3, prompts, [decode(member, prompts, bounds) for member in members])
    monkeypatch.setattr(reference, "decoded_tokens", lambda model: 300)
    monkeypatch.setattr(decoding, "decoded_tokens", lambda model: 100)
    monkeypatch.setattr(decoding, "PASSED_TOKENS", 50)
    monkeypatch.setattr(reference.ReferenceEngine, "_drafts_pay", lambda *_: pays)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    proposals = propose(engine_of(members), task, 3, prompts)
    for name in ("prompts", "answers", "finished", "votes", "runner_up"):
        np.testing.assert_array_equal(getattr(proposals, name), getattr(expected, name), err_msg=name)
    for name in ("confidence", "mean_log_probability"):
        np.testing.assert_allclose(getattr(proposals, name), getattr(expected, name), rtol=1e-4, atol=1e-6)
    assert (expected.votes == 2).sum() > 0

"""Weighed votes and votes of the others alone, against plain counts."""

import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from helpers import copy_task, padded, properties
from hypothesis import given
from hypothesis import strategies as st

from easy2hard.engines.decoding import Answers
from easy2hard.errors import UserError
from easy2hard.improvement.filters import apply_filters
from easy2hard.improvement.filters.vote import VoteFilter
from easy2hard.improvement.jury import agreement
from easy2hard.improvement.ledger import read_kept, write_ledger
from easy2hard.improvement.proposals import Proposals, count_votes
from easy2hard.settings.recipes import load_recipe
from easy2hard.vocabulary import EOS

Poll = list[list[int | None]]
"""For each prompt the answer of each member, a digit; None has no end."""


def polls(members: st.SearchStrategy[int]) -> st.SearchStrategy[Poll]:
    answers = st.one_of(st.none(), st.integers(4, 6))
    return members.flatmap(
        lambda count: st.lists(st.lists(answers, min_size=count, max_size=count), min_size=1, max_size=8)
    )


def counted(poll: Poll) -> Proposals:
    prompts = copy_task()[0].vocabulary.encode_prompts([f"{row}=" for row in range(1, 1 + len(poll))])
    answers = []
    for member in range(len(poll[0])):
        given = [row[member] for row in poll]
        tokens = padded([[4, 4] if each is None else [each, EOS] for each in given], 2)
        sure = np.full(len(poll), 0.5, dtype=np.float32)
        answers.append(Answers(tokens, np.array([each is not None for each in given]), sure, np.log(sure)))
    return count_votes(1, prompts, answers)


def joint(row: list[int | None]) -> int | None:
    """Return the most frequent answer, the earliest member's among equals."""
    return next((each for each, _ in Counter(each for each in row if each is not None).most_common()), None)


def clear(row: list[int | None], answer: int | None, threshold: float) -> bool:
    """Return whether so large a share gave the answer, and no other was given as often."""
    votes = Counter(each for each in row if each is not None)
    own = votes.pop(answer, 0) if answer is not None else 0
    return own >= threshold * len(row) - 1e-9 and own > max(votes.values(), default=0)


@properties
@given(poll=polls(st.integers(3, 6)), tenths=st.integers(1, 10))
def test_a_member_trains_on_what_the_others_accept_whatever_it_says_itself(poll: Poll, tenths: int) -> None:
    filtered = apply_filters([VoteFilter(name="vote", threshold=tenths / 10, voters="others")], counted(poll))
    for row, bits, kept in zip(poll, filtered.columns["students"].tolist(), filtered.kept.tolist(), strict=True):
        may = [clear(row[:m] + row[m + 1 :], joint(row), tenths / 10) for m in range(len(row))]
        assert [bool(bits >> m & 1) for m in range(len(row))] == may
        assert kept == any(may)


@properties
@given(poll=polls(st.just(3)), tenths=st.integers(6, 10))
def test_of_three_members_both_others_must_agree(poll: Poll, tenths: int) -> None:
    """So what one of them alone says teaches nobody, and what two say teaches the third alone."""
    filtered = apply_filters([VoteFilter(name="vote", threshold=tenths / 10, voters="others")], counted(poll))
    for (a, b, c), bits in zip(poll, filtered.columns["students"].tolist(), strict=True):
        agreed = (b is not None and b == c, a is not None and a == c, a is not None and a == b)
        assert bits == sum(1 << member for member, both in enumerate(agreed) if both)
        assert bits in (0, 1, 2, 4, 7)


@properties
@given(poll=polls(st.integers(3, 6)))
def test_agreement_is_the_share_of_the_others_answers_that_are_the_same(poll: Poll) -> None:
    members = range(len(poll[0]))
    pairs = [[(row[m], row[n]) for row in poll for n in members if n != m] for m in members]
    expected = [np.mean([one is not None and one == two for one, two in each]) for each in pairs]
    np.testing.assert_allclose(agreement(counted(poll)), expected)


@properties
@given(poll=polls(st.integers(3, 6)), order=st.permutations(range(8)), tenths=st.integers(1, 10))
def test_weighed_votes_do_not_depend_on_the_order_of_prompts(poll: Poll, order: list[int], tenths: int) -> None:
    order = [each for each in order if each < len(poll)]
    settings = VoteFilter(name="vote", threshold=tenths / 10, weights="agreement")
    kept = apply_filters([settings], counted(poll)).kept
    assert apply_filters([settings], counted([poll[each] for each in order])).kept.tolist() == kept[order].tolist()


def test_members_that_agree_with_the_rest_can_do_without_one_that_does_not() -> None:
    poll: Poll = [[4, 4, 4], *[[5, 5, 6]] * 8, [5, 4, 5]]
    plain, weighed, alike = (
        apply_filters([VoteFilter.model_validate({"name": "vote", "threshold": 0.7, **more})], counted(each)).kept
        for each, more in [
            (poll, {}),
            (poll, {"weights": "agreement"}),
            ([[4, 4, 4], [4, 4, 5], [4, 5, 4], [5, 4, 4]], {"weights": "agreement"}),
        ]
    )
    assert plain.tolist() == [True] + [False] * 9
    assert weighed.tolist() == [True] * 9 + [False]  # with the odd member, one of the good ones is not enough
    assert alike.tolist() == [True, False, False, False]  # members as good as one another: as without weights


def test_samples_of_a_member_do_not_speak_for_one_another() -> None:
    poll: Poll = [[4, 4, 4, 4, 5, 6]] * 3  # two samples of each of three members
    proposals = counted(poll)
    proposals = type(proposals)(**{**vars(proposals), "samples": 2})
    np.testing.assert_allclose(agreement(proposals), [0.5, 0.5, 0.5, 0.5, 0.0, 0.0])
    filtered = apply_filters([VoteFilter(name="vote", threshold=1.0, voters="others")], proposals)
    assert filtered.columns["students"].tolist() == [4] * 3


@properties
@given(poll=polls(st.integers(3, 5)), tenths=st.integers(1, 10))
def test_the_ledger_gives_each_member_its_own_labels(poll: Poll, tenths: int) -> None:
    vocabulary, proposals = copy_task()[0].vocabulary, counted(poll)
    filtered = apply_filters([VoteFilter(name="vote", threshold=tenths / 10, voters="others")], proposals)
    plain = apply_filters([VoteFilter(name="vote", threshold=tenths / 10)], proposals)
    texts = np.array(vocabulary.decode_prompts(proposals.prompts))
    with tempfile.TemporaryDirectory() as folder:
        path, other = Path(folder) / "ledger.parquet", Path(folder) / "plain.parquet"
        write_ledger(path, [filtered], vocabulary, 1, "digest")
        write_ledger(other, [plain], vocabulary, 1, "digest")
        for member in range(len(poll[0])):
            own = filtered.kept & (filtered.columns["students"] >> member & 1 == 1)
            assert read_kept(path, member=member).get(1, ([], []))[0] == texts[own].tolist()
            assert read_kept(other, member=member) == read_kept(other)  # without voters all train on all
        assert read_kept(path).get(1, ([], []))[0] == texts[filtered.kept].tolist()


@pytest.mark.parametrize("option", ["weights = 'agreement'", "voters = 'others'"])
def test_a_jury_needs_three_members(option: str) -> None:
    vote = f"labels.filters=[{{name='vote', {option}}}]"
    with pytest.raises(UserError, match=rf"vote with {option} needs model\.members from 3 to 63, it is 2"):
        load_recipe("smoke", [vote])
    assert load_recipe("smoke", [vote, "model.members=3"]).labels.taught_by_others == ("voters" in option)

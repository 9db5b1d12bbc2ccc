"""From prompts to kept labels, topped up."""

import numpy as np
import pytest
from helpers import copy_task, half_trained, prompts_of

from easy2hard.config import ConfidenceFilter, FilterSettings, RoundsSettings, TwinFilter, VoteFilter
from easy2hard.errors import UserError
from easy2hard.improvement.filters import apply_filters
from easy2hard.improvement.labelling import Labelled, Labeller
from easy2hard.improvement.labels import propose, with_twins
from easy2hard.seeding import numpy_generator
from easy2hard.tasks.prompts import Reserved
from easy2hard.tasks.registry import load_oracle, load_task

VOTE: list[FilterSettings] = [VoteFilter(name="vote", threshold=1.0)]


def label(filters: list[FilterSettings], difficulty: int = 4, **rounds: int | float) -> Labelled:
    settings = RoundsSettings.model_validate({"count": 1, "steps": 1, "labels": 100, **rounds})
    task, _ = copy_task()
    return Labeller(half_trained(), task, 0, Reserved(task, 0, 200), settings).label(1, difficulty, filters)


def test_without_topping_up_the_labels_are_those_of_one_draw() -> None:
    labelled = label(VOTE)
    assert len(labelled.filtered.kept) == 100
    assert labelled.ended is None


def test_topping_up_ends_when_enough_are_kept_and_repeats_no_prompt() -> None:
    first, more = label(VOTE), label(VOTE, top_up=150)
    kept = int(more.filtered.kept.sum())
    assert int(first.filtered.kept.sum()) < 150 <= kept
    assert more.ended is None
    prompts = more.filtered.proposals.prompts
    assert len(np.unique(prompts, axis=0)) == len(prompts)
    reserved = {tuple(row) for row in Reserved(copy_task()[0], 0, 200).prompts(4).tolist()}
    assert not reserved & {tuple(row) for row in prompts.tolist()}
    np.testing.assert_array_equal(prompts[:100], first.filtered.proposals.prompts)


def test_topped_up_labels_are_filtered_together() -> None:
    """The most confident half of all, not the half of each draw."""
    filters: list[FilterSettings] = [ConfidenceFilter(name="confidence", keep=0.5)]
    labelled = label(filters, top_up=150)
    proposals = labelled.filtered.proposals
    assert labelled.filtered.kept.tolist() == apply_filters(filters, proposals).kept.tolist()
    counts = labelled.filtered.counts[-1]
    assert counts["kept"] == counts["in"] // 2 >= 150


def test_topping_up_ends_with_a_report_where_too_few_are_kept() -> None:
    none = label([ConfidenceFilter(name="confidence", threshold=1.0)], top_up=50)
    assert none.ended is not None
    assert "0 of the 50 labels wanted were kept: the share kept, 0.000 of 100" in none.ended
    assert "rounds.least_acceptance = 0.05" in none.ended
    few = label(VOTE, top_up=5000, least_acceptance=0.99)
    assert few.ended is not None
    assert "below rounds.least_acceptance = 0.99" in few.ended


def test_topping_up_ends_with_the_prompts() -> None:
    """Of 900 prompts of three digits some are kept for evaluation, and not all answers are alike."""
    labelled = label(VOTE, difficulty=3, top_up=2000)
    assert labelled.ended is not None
    assert labelled.ended.endswith("there are no more prompts")
    assert 500 < len(labelled.filtered.kept) < 900


@pytest.mark.parametrize(
    ("name", "difficulties"),
    [
        ("reverse-addition", [1, 7]),
        ("forward-addition", [1, 7]),
        ("forward-addition-padded", [5]),
        ("multiplication", [(2, 5), (3, 3)]),
        ("maze-hops", [1, 9]),
        ("maze-nodes", [12]),
    ],
)
def test_true_answers_agree_with_those_to_their_twins(name: str, difficulties: list[int | tuple[int, int]]) -> None:
    task = load_task(name)
    oracle = load_oracle(task)
    for difficulty in difficulties:
        prompts = task.sample(numpy_generator(0, "twin"), difficulty, 200)
        twins = task.twin(prompts)
        assert twins is not None
        for text in task.vocabulary.decode_prompts(twins[:20]):
            task.check_prompt(text)
        answers, others = oracle.solve(prompts), oracle.solve(twins)
        length = max(answers.shape[1], others.shape[1])
        answers, others = (np.pad(each, ((0, 0), (0, length - each.shape[1]))) for each in (answers, others))
        assert task.agree(answers, others).all()
        # The answer to another prompt agrees by chance at most.
        assert task.agree(answers, np.roll(others, 1, axis=0)).mean() < 0.5
        np.testing.assert_array_equal(task.twin(twins), prompts)


def test_the_twin_filter_keeps_what_agrees() -> None:
    class Mirror(type(copy_task()[0])):  # type: ignore[misc]
        """Copy, whose twin is the prompt backwards: members of copy agree exactly where both answers are mirrored."""

        def twin(self, prompts: np.ndarray) -> np.ndarray:
            return np.concatenate([prompts[:, :1], prompts[:, -2:0:-1], prompts[:, -1:]], axis=1)

        def agree(self, answers: np.ndarray, twins: np.ndarray) -> np.ndarray:
            texts, others = (self.vocabulary.decode_answers(each) for each in (answers, twins))
            return np.array([a == b[::-1] for a, b in zip(texts, others, strict=True)])

    task = copy_task()[0]
    mirror = object.__new__(Mirror)
    mirror.__dict__.update(task.__dict__)
    prompts = prompts_of(3, 200)
    proposals = with_twins(propose(half_trained(), mirror, 3, prompts), half_trained(), mirror)
    filtered = apply_filters([TwinFilter(name="twin")], proposals)
    answers = task.vocabulary.decode_answers(proposals.answers)
    others = propose(half_trained(), task, 3, mirror.twin(prompts))
    expected = [
        a == b[::-1] and f and g
        for a, b, f, g in zip(
            answers,
            task.vocabulary.decode_answers(others.answers),
            proposals.finished.tolist(),
            others.finished.tolist(),
            strict=True,
        )
    ]
    assert filtered.kept.tolist() == expected
    assert 0 < sum(expected) < 200


def test_a_task_without_twins_says_so() -> None:
    task, _ = copy_task()
    with pytest.raises(UserError, match="task copy: has no twin prompts"):
        with_twins(propose(half_trained(), task, 3, prompts_of(3, 5)), half_trained(), task)

"""From prompts to kept labels, topped up."""

from typing import cast

import numpy as np
import pytest
from helpers import copy_task, half_trained_engine, prompts_of
from numpy.typing import NDArray

from easy2hard.engines.decoding import Answers
from easy2hard.engines.engine import Engine
from easy2hard.errors import UserError
from easy2hard.improvement.filters import apply_filters
from easy2hard.improvement.filters.confidence import ConfidenceFilter
from easy2hard.improvement.filters.parts import PartsFilter
from easy2hard.improvement.filters.twin import TwinFilter
from easy2hard.improvement.filters.vote import VoteFilter
from easy2hard.improvement.labeller import Labelled, Labeller
from easy2hard.improvement.proposals import Relations, propose
from easy2hard.runs.experiment import Experiment
from easy2hard.runs.preflight import check
from easy2hard.seeding import numpy_generator
from easy2hard.settings.filters import Filter
from easy2hard.settings.recipes import load_recipe
from easy2hard.settings.rounds import LabelsSettings
from easy2hard.tasks.prompts import Reserved
from easy2hard.tasks.registry import load_oracle, load_task
from easy2hard.tasks.relations import same
from easy2hard.vocabulary import EOS, PAD, Tokens

TWIN: Relations = frozenset({"twin"})
PARTS: Relations = frozenset({"parts"})
VOTE: list[Filter] = [VoteFilter(name="vote", threshold=1.0)]


def label(filters: list[Filter], difficulty: int = 4, **changes: int | float) -> Labelled:
    settings = LabelsSettings.model_validate({"count": 100, **changes})
    task, _ = copy_task()
    return Labeller(half_trained_engine(), task, 0, Reserved(task, 0, 200), settings).label(1, difficulty, filters)


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
    filters: list[Filter] = [ConfidenceFilter(name="confidence", keep=0.5)]
    labelled = label(filters, top_up=150)
    proposals = labelled.filtered.proposals
    assert labelled.filtered.kept.tolist() == apply_filters(filters, proposals).kept.tolist()
    counts = labelled.filtered.counts[-1]
    assert counts["kept"] == counts["in"] // 2 >= 150


def test_topping_up_ends_with_a_report_where_too_few_are_kept() -> None:
    none = label([ConfidenceFilter(name="confidence", threshold=1.0)], top_up=50)
    assert none.ended is not None
    assert "0 of the 50 labels wanted were kept: the share kept, 0.000 of 100" in none.ended
    assert "labels.least_acceptance = 0.05" in none.ended
    few = label(VOTE, top_up=5000, least_acceptance=0.99)
    assert few.ended is not None
    assert "below labels.least_acceptance = 0.99" in few.ended


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
    proposals = propose(half_trained_engine(), mirror, 3, prompts, TWIN)
    filtered = apply_filters([TwinFilter(name="twin")], proposals)
    answers = task.vocabulary.decode_answers(proposals.answers)
    others = propose(half_trained_engine(), task, 3, mirror.twin(prompts))
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
        propose(half_trained_engine(), task, 3, prompts_of(3, 5), TWIN)


def answers_to(texts: list[str], difficulty: int) -> dict[str, str | None]:
    """Return the half-trained members' joint answer to each prompt; None where it has no end."""
    task, _ = copy_task()
    ((_, prompts),) = task.encode(texts)
    proposals = propose(half_trained_engine(), task, difficulty, prompts)
    answers = task.vocabulary.decode_answers(proposals.answers)
    return {
        text: answer if ended else None for text, answer, ended in zip(texts, answers, proposals.finished, strict=True)
    }


def test_the_parts_filter_keeps_what_contains_the_answers_to_its_parts() -> None:
    """Both parts of a copy are answered for themselves, and compared as texts."""
    task, _ = copy_task()
    prompts = prompts_of(4, 200)
    filtered = apply_filters(
        [PartsFilter(name="parts")],
        propose(half_trained_engine(), task, 4, prompts, PARTS),
    )
    texts = task.vocabulary.decode_prompts(prompts)
    whole = answers_to(texts, 4)
    last = answers_to(sorted({f"{text[:3]}=" for text in texts}), 3)
    first = answers_to(sorted({text[1:] for text in texts if text[1] != "0"}), 3)
    expected = []
    for text in texts:
        answer = whole[text]
        contains = answer is not None and len(answer) >= 4 and answer[:3] + answer[4:] == last[f"{text[:3]}="]
        expected.append(contains and (text[1] == "0" or (answer or "")[1:] == first[text[1:]]))
    assert filtered.kept.tolist() == expected
    assert 0 < sum(expected) < 200
    asked = 200 + sum(text[1] != "0" for text in texts)
    assert filtered.counts[-1] == {
        "name": "parts",
        "reliable": 0.95,
        "relation": "declared by the task",
        "questions": asked,
        "in": int(filtered.proposals.finished.sum()),
        "kept": sum(expected),
    }


def test_an_answer_without_parts_has_nothing_that_speaks_for_it() -> None:
    task, _ = copy_task()
    proposals = propose(half_trained_engine(), task, 1, prompts_of(1, 9), PARTS)
    assert not apply_filters([PartsFilter(name="parts")], proposals).kept.any()


class CountsToFour:
    """A member that begins and ends every way right, and says five nodes at most: as one that was taught four hops."""

    members = (None,)

    def answer(self, prompts: Tokens, bounds: NDArray[np.int64], on_done: object = None) -> list[Answers]:
        ways = load_oracle(MAZES).solve(prompts)
        for row, end in enumerate((ways == EOS).argmax(axis=1)):
            if end > 9:
                ways[row, 6 : 6 + 4], ways[row, 10:] = ways[row, end - 3 : end + 1], PAD
        sure = np.full(len(prompts), 0.5, dtype=np.float32)
        return [Answers(ways, np.ones(len(prompts), dtype=np.bool_), sure, np.log(sure), 0.0)]


MAZES = load_task("maze-hops", {"nodes": 12, "labels": 12})


def test_an_answer_is_put_together_of_its_beginning_and_the_answer_to_what_is_left() -> None:
    """A way of five hops is right where its first move is, since the four hops that are left are known."""
    engine = cast(Engine, CountsToFour())
    for hops in range(1, 8):
        prompts = MAZES.sample(numpy_generator(0, "mazes", hops), hops, 40)
        true = load_oracle(MAZES).solve(prompts)
        alone, made = (propose(engine, MAZES, hops, prompts, frozenset({"parts", *more})) for more in ([], ["compose"]))
        right, right_made = (same(each.answers, true) for each in (alone, made))
        assert right.all() == (hops <= 4)
        assert right_made.all() == (hops <= 5)
        assert right.any() == (hops <= 4)
        assert right_made.any() == (hops <= 5)
        assert made.parts is not None
        assert made.parts.all() == (1 < hops <= 5)


def test_only_a_task_whose_parts_make_whole_answers_can_compose() -> None:
    settings = load_recipe("copy-cpu", ["labels.compose=true"])
    with pytest.raises(UserError, match=r"labels\.compose = true: task copy has no parts that make whole answers"):
        check(Experiment(settings))


def labeller(**changes: int | float) -> Labeller:
    settings = LabelsSettings.model_validate({"count": 100, **changes})
    task, _ = copy_task()
    return Labeller(half_trained_engine(), task, 0, Reserved(task, 0, 200), settings)


def test_agreement_with_parts_looks_at_kept_labels_or_at_the_parts_that_judged_them() -> None:
    """Copies of 2 digits are answered better than those of 4; so are they as parts of 3 and of 5 digits."""
    task, _ = copy_task()
    judge = labeller()
    kept = judge.label(1, 4, VOTE).filtered
    labels = propose(half_trained_engine(), task, 4, kept.proposals.prompts[kept.kept], PARTS)
    assert labels.parts is not None
    assert judge.agreement_with_parts(1, kept, False, 1000) == pytest.approx(float(labels.parts.mean()))
    easy, hard = (judge.label(1, difficulty, []).filtered for difficulty in (3, 5))
    share = judge.agreement_with_parts(1, easy, True, 1000)
    assert share is not None
    assert share > (judge.agreement_with_parts(1, hard, True, 1000) or 0.0)
    assert judge.agreement_with_parts(1, judge.label(1, 1, VOTE).filtered, False, 10) is None  # it has no parts


def test_the_watch_asks_for_the_parts_of_labels_and_for_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    judge, engine = labeller(), half_trained_engine()
    some, none = (apply_filters([], judge.propose(each, prompts_of(each, 100), frozenset())) for each in (4, 1))
    asked, answer = [], engine.answer
    monkeypatch.setattr(engine, "answer", lambda prompts, *rest: (asked.extend(prompts), answer(prompts, *rest))[1])
    assert none.kept.any()
    assert judge.agreement_with_parts(1, none, False, 50) is None
    assert not asked  # one digit has no parts
    judge.agreement_with_parts(1, some, False, 50)
    prompts, answers = (each[some.kept][:50] for each in (some.proposals.prompts, some.proposals.answers))
    assert len(asked) == sum(len(part.prompts) for part in judge.task.parts(prompts, answers)) > 50
    assert {len(each) for each in asked} == {prompts.shape[1] - 1}


def test_answers_and_their_parts_do_not_depend_on_the_blocks_they_are_made_in(monkeypatch: pytest.MonkeyPatch) -> None:
    prompts = prompts_of(4, 100)
    whole = labeller().propose(4, prompts, PARTS)
    monkeypatch.setattr(half_trained_engine(), "blocks", lambda *_: [slice(0, 33), slice(33, 34), slice(34, 100)])
    pieces = labeller().propose(4, prompts, PARTS)
    np.testing.assert_array_equal(pieces.parts, whole.parts)
    np.testing.assert_array_equal(pieces.questions, whole.questions)

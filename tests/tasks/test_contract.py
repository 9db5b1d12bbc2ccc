"""What every task promises, whatever it is about. A new task is tested here as soon as it is registered."""

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

import numpy as np
import pytest
from helpers import TASKS
from numpy.typing import NDArray

from easy2hard.errors import UserError
from easy2hard.seeding import numpy_generator
from easy2hard.tasks.base import Difficulty, Part, Task, difficulty_text, digits
from easy2hard.tasks.contract import check_contract
from easy2hard.tasks.oracle import Checker, Oracle
from easy2hard.tasks.registry import load_oracle, load_task, task_names
from easy2hard.tasks.strings import StringOracle, StringTask
from easy2hard.vocabulary import EOS, PAD, SPECIAL, Tokens


@pytest.fixture(params=TASKS)
def task(request: pytest.FixtureRequest) -> Task:
    return load_task(request.param)


@pytest.fixture
def oracle(task: Task) -> Oracle:
    return load_oracle(task)


def difficulties(task: Task) -> list[Difficulty]:
    """Return easy and hard difficulties of a task, pairs among them where it has some."""
    easy = next(h for h in range(1, 100) if task.supervised_difficulties(h))
    wanted = [*task.supervised_difficulties(easy + 2), easy + 6, *task.evaluated_difficulties(easy + 9)[-3:], easy + 19]
    return list(dict.fromkeys(wanted))


def size_of(task: Task, prompt: str) -> tuple[int, ...]:
    """Return what the difficulty counts, found in the text."""
    if not task.name.startswith("maze"):
        return tuple(len(operand) for operand in re.findall("[0-9]+", prompt))
    way = load_oracle(task).solve_texts([prompt])[0]
    return (way.count(">") if task.name == "maze-hops" else prompt.count(":"),)


def sample(task: Task, difficulty: Difficulty, count: int = 20, seed: int = 0, stream: str = "a") -> Tokens:
    return task.sample(numpy_generator(seed, stream, difficulty_text(difficulty)), difficulty, count)


def sample_texts(task: Task, count: int = 20) -> list[str]:
    """Return prompts of all difficulties, neighbours of different lengths."""
    texts = [task.vocabulary.decode_prompts(sample(task, difficulty, count)) for difficulty in difficulties(task)]
    return [text for neighbours in zip(*texts, strict=True) for text in neighbours]


def corruptions(text: str, symbols: list[str]) -> list[str]:
    """Return every text that differs by one character put in, left out or replaced."""
    places = range(len(text) + 1)
    inserted = {text[:i] + symbol + text[i:] for i in places for symbol in symbols}
    left_out = {text[:i] + text[i + 1 :] for i in places}
    replaced = {text[:i] + symbol + text[i + 1 :] for i in places for symbol in symbols}
    return sorted((inserted | left_out | replaced) - {text})


def test_the_contract_is_kept(task: Task, oracle: Oracle) -> None:
    check_contract(task, oracle)
    check_contract(task, oracle, difficulties(task))


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


def test_prompts_have_the_requested_difficulty(task: Task) -> None:
    for difficulty in difficulties(task):
        for text in task.vocabulary.decode_prompts(sample(task, difficulty)):
            assert task.grammar.fullmatch(text)
            size = size_of(task, text)
            assert size == (difficulty if isinstance(difficulty, tuple) else (difficulty,) * len(size))


@pytest.mark.parametrize("count", [0, 1])
def test_any_number_of_prompts_can_be_sampled_and_solved(task: Task, oracle: Oracle, count: int) -> None:
    prompts = sample(task, 14, count)
    assert len(prompts) == len(oracle.solve(prompts)) == len(task.answer_bounds(prompts)) == count


def test_the_same_stream_gives_the_same_prompts_and_any_other_gives_others(task: Task) -> None:
    prompts = sample(task, 12)
    assert (sample(task, 12) == prompts).all()
    for other in (sample(task, 12, seed=1), sample(task, 12, stream="b")):
        assert not (other == prompts).all(axis=1).any()


def test_texts_and_tokens_are_the_same_prompts(task: Task) -> None:
    texts = sample_texts(task)
    rows: list[int] = []
    for indices, prompts in task.encode(texts):
        assert task.vocabulary.decode_prompts(prompts) == [texts[i] for i in indices]
        rows += indices.tolist()
    assert sorted(rows) == list(range(len(texts)))


def test_answers_and_bounds_do_not_depend_on_the_rest_of_the_batch(task: Task, oracle: Oracle) -> None:
    sampled = [sample(task, difficulty, count=3) for difficulty in task.supervised_difficulties(12)[:16]]
    texts = [text for prompts in sampled for text in task.vocabulary.decode_prompts(prompts)]
    for _, prompts in task.encode(texts):
        answers, bounds = task.vocabulary.decode_answers(oracle.solve(prompts)), task.answer_bounds(prompts)
        for row in range(len(prompts)):
            alone = prompts[row : row + 1]
            assert task.vocabulary.decode_answers(oracle.solve(alone)) == [answers[row]]
            assert task.answer_bounds(alone).tolist() == [bounds[row]]


def test_the_true_answer_is_right_and_every_corruption_of_it_is_wrong(task: Task, oracle: Oracle) -> None:
    checker = Checker(oracle)
    prompts = sample_texts(task, count=1)[-6:]
    answers = oracle.solve_texts(prompts)
    assert checker.check(prompts, answers) == [None] * len(prompts)
    assert checker.check(prompts, answers, [False] * len(prompts)) == ["no end"] * len(prompts)
    for prompt, answer in zip(prompts, answers, strict=True):
        wrong = corruptions(answer[:40], [*"0123456789", *"x >"])
        for reason in checker.check([prompt] * len(wrong), [text + answer[40:] for text in wrong]):
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


class Good(StringTask):
    """A task that keeps the contract; each case below breaks one thing."""

    name, summary = "good", "copy"

    def __init__(self) -> None:
        pass


def good_sample(self: Task, generator: np.random.Generator, difficulty: int, count: int) -> Tokens:
    return self.frame(digits(generator, count, difficulty) + SPECIAL, "=")


class GoodOracle(StringOracle):
    pass


def global_sample(self: Task, generator: np.random.Generator, difficulty: int, count: int) -> Tokens:
    return self.frame(np.random.randint(1, 10, (count, difficulty)) + SPECIAL, "=")


def fixed_sample(self: Task, generator: np.random.Generator, difficulty: int, count: int) -> Tokens:
    return good_sample(self, np.random.default_rng(0), difficulty, count)


def changing_sample(self: Task, generator: np.random.Generator, difficulty: int, count: int) -> Tokens:
    return good_sample(self, np.random.default_rng(next(CALLS)), difficulty, count)


def fail(*arguments: Any) -> Any:
    raise ZeroDivisionError("by zero")


def batch_bounds(self: Task, prompts: Tokens) -> NDArray[np.int64]:
    return np.full(len(prompts), prompts.shape[1] + len(prompts))


def two_ends(self: Oracle, prompts: Tokens) -> Tokens:
    answers = np.full((len(prompts), prompts.shape[1]), EOS, dtype=np.int32)
    answers[:, :-2] = prompts[:, 1:-1]
    return answers


CALLS = iter(range(10**6))


def changing_answers(self: Oracle, prompts: Tokens) -> Tokens:
    answers = np.full((len(prompts), 2), EOS, dtype=np.int32)
    answers[:, 0] = SPECIAL + next(CALLS) % 10
    return answers


def parts_with(**changes: Callable[[Part], Any]) -> Callable[..., list[Part]]:
    """Return the parts of a good task, something about each changed."""

    def parts(self: Task, prompts: Tokens, answers: Tokens) -> list[Part]:
        good = StringTask.parts(cast(Good, self), prompts, answers)
        return [replace(part, **{name: change(part) for name, change in changes.items()}) for part in good]

    return parts


def all_right(count: int) -> Callable[[Tokens, Tokens], NDArray[np.bool_]]:
    return lambda answers, parts: np.ones(count, dtype=np.bool_)


def batch_parts(self: Task, prompts: Tokens, answers: Tokens) -> list[Part]:
    return parts_with()(self, prompts, answers) if len(prompts) > 1 else []


def changing_parts(self: Task, prompts: Tokens, answers: Tokens) -> list[Part]:
    return parts_with()(self, prompts, answers) if next(CALLS) % 2 else []


def parts_for_whole_answers(self: Task, prompts: Tokens, answers: Tokens) -> list[Part]:
    if not (answers == EOS).any(axis=1).all():
        fail()
    return parts_with()(self, prompts, answers)


def spoils(part: Part) -> Callable[[Tokens, Tokens], NDArray[np.bool_]]:
    def agree(answers: Tokens, parts: Tokens) -> NDArray[np.bool_]:
        answers[:] = PAD
        return part.agree(answers, parts)

    return agree


def blind_to_the_part(part: Part) -> Callable[[Tokens, Tokens], NDArray[np.bool_]]:
    return lambda answers, parts: (answers[:, 0] > EOS) & (answers[:, 0] <= answers.max())


def blind_to_the_whole(part: Part) -> Callable[[Tokens, Tokens], NDArray[np.bool_]]:
    numbers = part.prompts[:, 1:-1]
    return lambda answers, parts: (parts[:, :1] == numbers[:, :1])[:, 0]


def exactly_as_wide(part: Part) -> Callable[[Tokens, Tokens], NDArray[np.bool_]]:
    return lambda answers, parts: np.full(len(parts), answers.shape[1] == parts.shape[1] + 1)


BROKEN: list[tuple[str, type, Any, str]] = [
    ("sample", Good, fail, "sample must not raise: ZeroDivisionError"),
    ("sample", Good, lambda self, g, d, n: [[1]] * n, "sample must return .* got list"),
    ("sample", Good, lambda self, g, d, n: good_sample(self, g, d, n + 1), r"sample must return .* shape \(25, 3\)"),
    ("sample", Good, lambda self, g, d, n: good_sample(self, g, d, n).astype(float), "sample must return .* float64"),
    ("sample", Good, lambda self, g, d, n: good_sample(self, g, d, n)[:, 1:], "must begin with BOS"),
    ("sample", Good, lambda self, g, d, n: good_sample(self, g, d, n)[:, :-1], "must match the grammar"),
    ("sample", Good, lambda self, g, d, n: np.pad(good_sample(self, g, d, n), ((0, 0), (0, 1))), "without padding"),
    ("sample", Good, global_sample, "global generator alone"),
    ("sample", Good, fixed_sample, "from the generator it is given"),
    ("sample_practice", Good, lambda self, g, d, n: good_sample(self, g, d + 1, n), "sample_practice must .* as long"),
    ("sample_practice", Good, lambda self, g, d, n: good_sample(self, g, d, n)[:, ::-1], "must begin with BOS"),
    ("sample_supervised", Good, global_sample, "sample_supervised must leave .* global generator alone"),
    ("sample_supervised", Good, changing_sample, "sample_supervised must give the same prompts for the same stream"),
    ("hard_split", Good, "long ones", "sample_hard must not raise: UserError: task good: has no hard split"),
    ("supervised_weight", Good, lambda self, d: 0, "supervised_weight must be a number above 0"),
    ("baseline", Good, "nothing", "baseline_answers must not raise: UserError: task good: names no baseline"),
    ("answer_bounds", Good, lambda self, p: np.full(len(p), p.shape[1] - 2), "'.*' needs 2 tokens with EOS.* is 1"),
    ("answer_bounds", Good, lambda self, p: np.full((len(p), 1), 99), "answer_bounds must return"),
    ("answer_bounds", Good, batch_bounds, "must not depend on the rest of the batch"),
    ("coupled_ids", Good, fail, "coupled_ids must not raise: ZeroDivisionError"),
    ("coupled_ids", Good, lambda self, p, n: np.zeros((len(p), 3), dtype=np.int64), "coupled_ids must return"),
    ("coupled_ids", Good, lambda self, p, n: np.full((len(p), n), -1), "coupled_ids must be 0 or more"),
    ("coupled_ids", Good, lambda self, p, n: np.full((len(p), n), len(p)), "coupled_ids .* rest of the batch"),
    ("coupled_ids", Good, lambda self, p, n: np.full((len(p), n), n), "coupled_ids .* length asked for"),
    ("parts", Good, fail, "parts must not raise: ZeroDivisionError"),
    ("parts", Good, lambda self, p, a: None, "parts must return a list of Part, got None"),
    ("parts", Good, changing_parts, "parts must be the same"),
    ("parts", Good, batch_parts, "parts must not depend on the rest of the batch"),
    ("parts", Good, parts_for_whole_answers, "parts must not raise: ZeroDivisionError"),
    ("parts", Good, parts_with(name=lambda part: "one"), "parts must have names of their own"),
    ("parts", Good, parts_with(difficulty=lambda part: part.difficulty + 1), "parts must be easier, got difficulty 2"),
    ("parts", Good, parts_with(rows=lambda part: part.rows[::-1]), "rows must be different prompts, in order"),
    ("parts", Good, parts_with(rows=lambda part: part.rows + 1), "rows must be different prompts"),
    ("parts", Good, parts_with(rows=lambda part: part.rows[:0]), "a part that no prompt has must be left out"),
    ("parts", Good, parts_with(prompts=lambda part: part.prompts[:, 1:]), "a prompt must begin with BOS"),
    ("parts", Good, parts_with(prompts=lambda part: part.prompts[1:]), "parts must return .* token ids, got"),
    ("parts", Good, parts_with(prompts=lambda part: part.prompts[:, :-1]), "prompts of parts must match the grammar"),
    ("parts", Good, parts_with(prompts=lambda part: np.roll(part.prompts, 1, 0)), "parts must not depend"),
    ("parts", Good, parts_with(agree=lambda part: fail), "agree must not raise: all but the first digit: Zero"),
    ("parts", Good, parts_with(agree=spoils), "agree must not raise: .* read-only"),
    ("parts", Good, parts_with(agree=lambda part: lambda a, p: True), "agree must return .* got bool"),
    ("parts", Good, parts_with(agree=lambda part: lambda a, p: ~part.agree(a, p)), "'.*' must agree with .* part '.*'"),
    ("parts", Good, parts_with(agree=lambda part: all_right(len(part.rows))), "no where the part's answer is wrong"),
    ("parts", Good, parts_with(agree=blind_to_the_part), "agree must say no where the part's answer is wrong"),
    ("parts", Good, parts_with(agree=blind_to_the_whole), "agree must say no where the whole answer is wrong"),
    ("parts", Good, parts_with(agree=exactly_as_wide), "agree must not depend on how far answers are padded"),
    ("parts", Good, parts_with(compose=lambda part: lambda p: p), "composes must be true: there are such parts"),
    ("supervised_difficulties", Good, lambda self, h: [], "must return difficulties"),
    ("example", Good, "12", "example must be a prompt"),
    ("grammar", Good, "[0-9]+=", "grammar must be a Pattern"),
    ("solve", GoodOracle, fail, "solve must not raise: ZeroDivisionError: by zero"),
    ("solve", GoodOracle, lambda self, p: p[:, 1:-1], "exactly one EOS"),
    ("solve", GoodOracle, two_ends, "exactly one EOS"),
    ("solve", GoodOracle, lambda self, p: np.full((len(p), 1), 99), "vocabulary's tokens"),
    ("solve", GoodOracle, changing_answers, "same answer to the same prompt"),
]


@pytest.mark.parametrize(
    ("answers", "message"),
    [
        (lambda self, g, p: p, "baseline_answers must each end with EOS"),
        (lambda self, g, p: np.full((len(p), 2), 99), "baseline_answers must be made of the vocabulary's tokens"),
        (lambda self, g, p: [EOS] * len(p), "baseline_answers must return .* got list"),
        (lambda self, g, p: np.full((len(p), 2), SPECIAL + next(CALLS) % 9), "must be the same for the same stream"),
    ],
)
def test_a_baseline_that_gives_no_answers_is_refused(
    answers: Any, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Good, "baseline", "something")
    monkeypatch.setattr(Good, "baseline_answers", lambda self, g, p: np.full((len(p), 1), EOS))
    check_contract(Good(), GoodOracle(Good()))
    monkeypatch.setattr(Good, "baseline_answers", answers)
    with pytest.raises(UserError, match=message):
        check_contract(Good(), GoodOracle(Good()))


@pytest.mark.parametrize(
    ("compose", "message"),
    [
        (lambda p: p, "compose must make the true answer of the part's true answer"),
        (fail, "compose must not raise: all but the first digit: Zero"),
        (lambda p: True, "compose must return"),
    ],
)
def test_a_part_that_makes_another_answer_is_refused(
    compose: Any, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Good, "composes", True)
    monkeypatch.setattr(Good, "parts", parts_with(compose=lambda part: compose))
    with pytest.raises(UserError, match=message):
        check_contract(Good(), GoodOracle(Good()))


@pytest.mark.parametrize(("name", "owner", "value", "message"), BROKEN)
def test_a_task_that_breaks_a_rule_is_refused_by_name(
    name: str, owner: type, value: Any, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_contract(Good(), GoodOracle(Good()))
    monkeypatch.setattr(owner, name, value)
    with pytest.raises(UserError, match=rf"(?s)task good breaks the contract.*{message}") as error:
        check_contract(Good(), GoodOracle(Good()))
    assert len(str(error.value).splitlines()) == 1

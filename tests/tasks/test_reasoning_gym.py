"""The bridge to reasoning-gym: its data sets keep the contract of tasks, its verifier judges, its curricula grow."""

import re
import sys
from collections.abc import Callable
from math import gcd
from pathlib import Path
from subprocess import CompletedProcess
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from easy2hard.engines.decoding import Answers
from easy2hard.engines.engine import Engine
from easy2hard.errors import UserError
from easy2hard.evaluation.exact_match import accuracy
from easy2hard.seeding import numpy_generator
from easy2hard.settings.recipes import load_recipe
from easy2hard.tasks import reasoning_gym
from easy2hard.tasks.base import Task
from easy2hard.tasks.contract import check_contract
from easy2hard.tasks.oracle import Checker
from easy2hard.tasks.registry import load_oracle, load_task

CommandLine = Callable[..., CompletedProcess[str]]
NAME = "reasoning-gym"
SIZE = 200


def load(dataset: str, **options: int | str) -> reasoning_gym.ReasoningGym:
    return cast(reasoning_gym.ReasoningGym, load_task(NAME, {"dataset": dataset, "size": SIZE, **options}))


def texts(task: Task, difficulty: int, count: int = 20) -> list[str]:
    return task.vocabulary.decode_prompts(task.sample(numpy_generator(0, "test"), difficulty, count))


@pytest.mark.parametrize("dataset", ["chain_sum", "spell_backward", "gcd", "base_conversion", "letter_counting"])
def test_a_data_set_keeps_the_contract(dataset: str) -> None:
    task = load(dataset)
    check_contract(task, load_oracle(task), [1, task.greatest or 0])


def the_sum(question: str) -> int:
    terms = re.findall(r"([+-]?) ?(\d+)", question.partition(":")[2])
    return sum(int(sign + number) for sign, number in terms)


def the_gcd(question: str) -> int:
    return gcd(*map(int, re.findall(r"\d+", question)))


@pytest.mark.parametrize(
    ("dataset", "solve"),
    [("chain_sum", the_sum), ("gcd", the_gcd), ("spell_backward", lambda question: question.split()[-1][::-1])],
)
@pytest.mark.parametrize("preamble", [0, 1])
def test_questions_get_their_own_answers(dataset: str, solve: Callable[[str], Any], preamble: int) -> None:
    task = load(dataset, preamble=preamble)
    for difficulty in range(1, (task.greatest or 0) + 1):
        prompts = texts(task, difficulty)
        questions = [prompt.lstrip(task.filler) for prompt in prompts]
        expected = [str(solve(question if preamble else f": {question}")) for question in questions]
        assert load_oracle(task).solve_texts(prompts) == expected


def test_a_level_has_one_length_and_a_longer_one_than_the_level_below() -> None:
    task = load("letter_counting", preamble=0)
    assert task.lengths == sorted(set(task.lengths))
    for difficulty, length in enumerate(task.lengths, start=1):
        prompts = texts(task, difficulty)
        assert {len(prompt) for prompt in prompts} == {length}
        assert len({len(prompt.lstrip(task.filler)) for prompt in prompts}) > 1
    prompt = texts(task, 1)[0]  # its question is read without the filler, too
    (((_, filled),), ((_, bare),)) = (task.encode([text]) for text in (prompt, prompt.lstrip(task.filler)))
    assert filled.tolist() == bare.tolist()


def test_words_that_all_questions_begin_or_end_with_can_be_left_out() -> None:
    whole, bare = load("mini_sudoku"), load("mini_sudoku", preamble=0)
    for difficulty in (1, whole.greatest or 0):
        long, short = (load_oracle(each).solve_texts(texts(each, difficulty)) for each in (whole, bare))
        assert long == short
        for question, prompt in zip(texts(whole, difficulty), texts(bare, difficulty), strict=True):
            assert re.fullmatch(r"[1-4_]([ ↵][1-4_]){15}", prompt.lstrip(bare.filler))
            assert prompt.lstrip(bare.filler) in question
            assert "Format your response" in question


@pytest.mark.parametrize(("attribute", "size"), [("num_terms", (4, 1)), ("num_digits", (2, 3)), ("", (4, 3))])
def test_the_attribute_that_is_named_grows_and_the_others_stay(attribute: str, size: tuple[int, int]) -> None:
    task = load("chain_sum", attribute=attribute)
    for question in texts(task, 3):
        numbers = re.findall(r"\d+", question)
        assert (len(numbers), max(map(len, numbers))) == size


def test_every_number_between_two_levels_can_be_a_level() -> None:
    task = load("spell_backward", preamble=0, fine=1)
    assert task.greatest == 8  # words of 3 to 10 letters
    for difficulty in range(1, 9):
        assert {len(text.lstrip(task.filler)) for text in texts(task, difficulty)} == {difficulty + 2}
    check_contract(task, load_oracle(task), [1, 8])
    coarse, same = load("count_primes"), load("count_primes", fine=1)  # 10 to 100,000: too many
    assert coarse.greatest == same.greatest


def test_levels_share_no_questions() -> None:
    """The same entries of two levels would begin with the same terms, were they drawn from one seed."""
    task = load("chain_sum", attribute="num_terms", preamble=0)
    first, second = ([text.lstrip(task.filler).split()[0] for text in texts(task, level)] for level in (2, 3))
    assert first != second


def test_a_curriculum_ends_where_nothing_can_be_drawn() -> None:
    task = load("spell_backward")  # its words have 3 to 10 letters, its last level wants 11
    assert task.greatest == 4
    with pytest.raises(UserError, match=r"difficulty 5: the greatest of data set spell_backward is 4 \(level 5 cannot"):
        task.sample(np.random.default_rng(0), 5, 1)


def another_palindrome(answer: str) -> str:
    """Return the palindrome with two letters, and their mirror images, changed over."""
    half = list(answer[: len(answer) // 2])
    other = next(place for place, letter in enumerate(half) if letter != half[0])
    half[0], half[other] = half[other], half[0]
    middle = answer[len(half) : len(answer) - len(half)]
    return "".join([*half, middle, *half[::-1]])


def palindromes() -> tuple[Task, list[str], list[str], list[str]]:
    """Return the task, prompts with several right answers, the answers of the data set, and other right ones."""
    task = load("palindrome_generation")
    prompts = [prompt for prompt in texts(task, 1) if len(set(load_oracle(task).solve_texts([prompt])[0])) > 2]
    answers = load_oracle(task).solve_texts(prompts)
    return task, prompts, answers, [another_palindrome(answer) for answer in answers]


def test_the_verifier_judges() -> None:
    task, prompts, answers, others = palindromes()
    checker = Checker(load_oracle(task))
    assert prompts
    assert checker.check(prompts, answers) == checker.check(prompts, others) == [None] * len(prompts)
    for reason in checker.check(prompts, [other[1:] for other in others]):
        assert reason is not None
        assert reason.startswith("not accepted by the verifier: right is ")


def test_exact_match_counts_whatever_the_verifier_accepts() -> None:
    task, _, _, _ = palindromes()
    oracle = load_oracle(task)

    def answer(prompts: Any, bounds: Any) -> list[Any]:
        """Answer with another right palindrome where there is one: the first member; with half of it: the second."""
        truth = oracle.solve_texts(task.vocabulary.decode_prompts(prompts))
        others = [another_palindrome(each) if len(set(each[: len(each) // 2])) > 1 else each for each in truth]
        given = [task.vocabulary.encode_answers(each) for each in (others, [each[1:] for each in others])]
        return [Answers(tokens, np.ones(len(tokens), bool), np.ones(0), np.ones(0)) for tokens in given]

    engine = SimpleNamespace(
        members=[0, 1], answer=answer, matches=lambda sets, on_done: [np.zeros((2, len(p)), bool) for p, _ in sets]
    )
    assert accuracy(cast(Engine, engine), task, oracle, 0, [1], 20) == {1: 0.5}


def test_what_a_verifier_cannot_read_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    task = load("prime_factorization")
    oracle, prompt = load_oracle(task), texts(task, 1)[0]
    (answer,) = oracle.solve_texts([prompt])
    data = reasoning_gym._library().DATASETS["prime_factorization"][0]
    with pytest.raises(ValueError, match="invalid literal"):
        reasoning_gym._data(task, 1).score_answer("x", reasoning_gym._data(task, 1)[0])
    assert oracle.accepts(prompt, answer)
    assert not oracle.accepts(prompt, "x")

    def broken(self: Any, given: str, entry: Any) -> float:
        if given != answer:
            raise OSError("no such file")
        return 1.0

    for verifier, told in ((broken, "answer '0': OSError: no such file"), (lambda *given: 1 / 0, "ZeroDivisionError")):
        monkeypatch.setattr(data, "score_answer", verifier)
        with pytest.raises(UserError, match=rf"data set prime_factorization: its verifier fails at .*{told}"):
            oracle.accepts(prompt, "0")


def test_entries_are_drawn_when_they_are_asked_for_and_answered_the_same_by_whoever_asks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A data set may take long over an entry: a pool of 20,000 is not drawn for a few prompts."""
    task = load("gcd", size=20_000)
    oracle, data = load_oracle(task), reasoning_gym._library().DATASETS["gcd"][0]
    drawn: list[int] = []
    draw = data.__getitem__
    monkeypatch.setattr(data, "__getitem__", lambda self, number: drawn.append(number) or draw(self, number))
    prompts = texts(task, 2, 10)
    answers = oracle.solve_texts(prompts)
    assert oracle.solve_texts(prompts) == answers
    assert 20 <= len(drawn) < 40
    small = [texts(each, 2, 10) for each in (load("gcd"), load("gcd"))]
    assert small[0] == small[1]
    fresh = load("gcd")  # has drawn none of them
    assert load_oracle(fresh).solve_texts(small[0]) == load_oracle(load("gcd")).solve_texts(small[0])


def test_a_question_of_no_pool_is_refused() -> None:
    task = load("spell_backward")
    start = texts(task, 1)[0][:-3]
    with pytest.raises(UserError, match=r"'.*: qqq': in none of the 200 entries of this level; the answers"):
        load_oracle(task).solve_texts([f"{start}qqq"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dataset": "chain_sums"}, "dataset = 'chain_sums': no data set .* (closest: chain_sum, decimal_chain_sum"),
        ({"attribute": "terms"}, "attribute = 'terms': chain_sum has num_terms, num_digits"),
        ({"preamble": 2}, "preamble = 2: must be 0"),
        ({"fine": 2}, "fine = 2: must be 0"),
        ({"size": 1}, "size = 1: must be 100"),
        ({"size": "many"}, "size = 'many': must be a whole number"),
        ({"dataset": 3}, "dataset = 3: must be a text"),
        ({"data": "gcd"}, "data = gcd: unknown option (allowed: dataset, attribute, preamble, size, fine)"),
        (
            {"dataset": "boxnet", "size": 200},
            "dataset = 'boxnet': of 200 entries of level 1 none has a question and an answer",
        ),
        ({"dataset": "knight_swap"}, "dataset = 'knight_swap': level 1 cannot be drawn: AssertionError"),
    ],
)
def test_wrong_options_are_refused_in_a_line(options: dict[str, int | str], message: str) -> None:
    with pytest.raises(UserError) as error:
        load_task(NAME, options)
    assert re.search(re.escape(f"task.options.{message}").replace(r"\.\*", ".*"), str(error.value))
    assert len(str(error.value).splitlines()) == 1


def test_the_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    reasoning_gym._survey.cache_clear()
    monkeypatch.setitem(sys.modules, "reasoning_gym", None)
    with pytest.raises(UserError, match=r"reasoning-gym: pip install '\.\[reasoning-gym\]'"):
        load_task(NAME)


def test_options_may_be_texts_in_settings_and_commands(cli: CommandLine) -> None:
    chosen = load_recipe("smoke", ["task.name=reasoning-gym", "task.options.dataset=gcd"])
    assert chosen.task.options == {"dataset": "gcd"}
    with pytest.raises(UserError, match=r"task\.options\.dataset = 1\.5: must be a whole number .* or a text"):
        load_recipe("smoke", ["task.options.dataset=1.5"])
    options = ("--option", "dataset=spell_backward", "--option", f"size={SIZE}")
    prompts = cli("sample", NAME, "--difficulty", "2", *options).stdout
    answers = cli("oracle", NAME, *options, stdin=prompts).stdout.splitlines()
    assert answers == [prompt.split()[-1][::-1] for prompt in prompts.splitlines()]
    assert cli("tasks", "--option", "dataset=gcd").returncode == 2


def test_a_blindfolded_run_ends_with_the_same_weights(cli: CommandLine) -> None:
    """No stay of a run but its evaluation asks for an answer beyond the supervised range."""
    chosen = ["name='reasoning-gym'", f"options={{dataset='spell_backward',preamble=0,size={SIZE}}}"]
    short = ["supervised.steps=6", "supervised.decay=0", "rounds.count=1", "rounds.steps=2", "rounds.decay=0"]
    short += ["evaluation.beyond=1", "labels.count=10"]
    settings = [f"--set={each}" for each in [*(f"task.{each}" for each in chosen), *short]]
    for out, more in (("seeing", []), ("blind", ["--blindfold"])):
        result = cli("run", "smoke", "--out", out, *settings, *more)
        assert (result.returncode, result.stderr) == (0, "")
    weights = [path.read_bytes() for path in sorted(Path().glob("*/weights/*"))]
    assert len(weights) == 4
    assert weights[:2] == weights[2:]
    assert cli("audit", "seeing").returncode == 0

"""What a question takes is known before it is asked: refused with the figure, or said."""

import json
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import numpy as np
import pytest
from helpers import refusal
from hypothesis import given
from hypothesis import strategies as st

import easy2hard
from easy2hard import memory
from easy2hard.errors import UserError
from easy2hard.runs import cost
from easy2hard.runs.cost import Asked, check_cost, say_cost
from easy2hard.runs.experiment import Experiment
from easy2hard.settings.recipes import load_recipe
from easy2hard.tasks import arithmetic
from easy2hard.tasks import oracle as oracles
from easy2hard.tasks.base import length_of
from easy2hard.tasks.multiplication import layout
from easy2hard.tasks.registry import load_oracle, load_task
from easy2hard.text import duration

CommandLine = Callable[..., CompletedProcess[str]]
sizes = st.integers(1, 10**6)


@given(st.tuples(sizes, sizes, sizes), st.tuples(sizes, sizes, sizes))
def test_who_asks_for_more_is_refused_first(one: tuple[int, int, int], more: tuple[int, int, int]) -> None:
    experiment = Experiment(load_recipe("smoke"), "cpu")
    asked, greater = Asked(*one), Asked(*(a + b for a, b in zip(one, more, strict=True)))

    less, more_of_it = (
        refusal(lambda each=each: check_cost("prompts", experiment, [each])) for each in (asked, greater)
    )
    assert more_of_it or not less
    assert len((more_of_it or "one").splitlines()) == 1


def test_nothing_is_looked_at_once_it_is_too_much() -> None:
    asked = iter([Asked(1, 10**6, 10**6), Asked(1, 1, 1)])
    with pytest.raises(UserError, match=r"--difficulties 9: 1,000,000 tokens .* GB|TB of memory"):
        check_cost("--difficulties 9", Experiment(load_recipe("smoke"), "cpu"), asked)
    assert next(asked) == Asked(1, 1, 1)


def test_what_takes_over_a_minute_is_measured_and_said(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    now = [0.0]
    monkeypatch.setattr(cost.time, "perf_counter", lambda: now[0])
    experiment = Experiment(load_recipe("smoke"), "cpu")

    def answer(few: int) -> None:
        """Take two milliseconds a prompt, and ten minutes the first time."""
        now[0] += 0.002 * few if asked else 600
        asked.append(few)

    for prompts, words in ((1, []), (10**6, ["prompts: takes about 33 min on this machine"])):
        asked: list[int] = []
        say_cost("prompts", experiment, [Asked(prompts, 60, 60)], answer, said.append)
        assert said == words
        assert len(asked) == 2 * len(words)
    say_cost("prompts", experiment, [Asked(10**6, 60, 60)] * 2, answer, said.append)
    assert said[1:] == [f"prompts: takes about {duration(4000)} on this machine"]


def test_a_prompt_that_no_memory_holds_is_refused_at_once(smoke: easy2hard.Run) -> None:
    with pytest.raises(UserError, match=r"prompts: 120,002 tokens .* of memory"):
        smoke.solve([f"{'9' * 120_000}="])


@pytest.mark.parametrize("difficulties", ["1-1000000", "1000000", "5,900000-1000000"])
def test_difficulties_that_no_memory_holds_are_refused(
    cli: CommandLine, smoke: easy2hard.Run, difficulties: str
) -> None:
    result = cli("eval", str(smoke.path), "--difficulties", difficulties)
    assert result.returncode == 2
    assert "of memory, and" in result.stderr


def test_samples_that_no_memory_holds_are_refused(cli: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    result = cli("sample", "copy", "--difficulty", "3", "--count", "100000000000")
    assert (result.returncode, "20.0 TB of memory" in result.stderr) == (2, True)
    monkeypatch.setattr(memory, "available", lambda: 1000)
    assert cli("sample", "copy", "--difficulty", "3", "--count", "5").returncode == 0
    assert cli("sample", "copy", "--difficulty", "3", "--count", "6").returncode == 2


def test_prompts_come_from_a_file_or_standard_input(cli: CommandLine, smoke: easy2hard.Run, tmp_path: Path) -> None:
    lines = "24=\n8631=\n"
    (tmp_path / "prompts.txt").write_text(lines, encoding="utf-8-sig")
    given = json.loads(cli("solve", str(smoke.path), "24=", "8631=", "--json").stdout)
    assert json.loads(cli("solve", str(smoke.path), "--json", stdin=lines).stdout) == given
    assert json.loads(cli("solve", str(smoke.path), "--json", "--file", "prompts.txt").stdout) == given
    assert "--file prompts.txt" in cli("solve", str(smoke.path), "24=", "--file", "prompts.txt").stderr
    assert "PROMPT" in cli("solve", str(smoke.path)).stderr


@given(st.integers(1, 40), st.integers(1, 40))
def test_the_length_of_worked_answers_is_that_of_their_layout(a: int, b: int) -> None:
    last = layout(a, b)[-1]
    assert length_of(load_task("multiplication"), (a, b)) == (a + b + 3, last.start + last.length + 1)


@given(st.lists(st.lists(st.integers(0, 200), min_size=6, max_size=6), min_size=1), st.integers(0, 3))
def test_digits_are_carried_all_at_once_as_one_by_one(rows: list[list[int]], passes: int) -> None:
    sums = np.array(rows, dtype=np.int32)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(arithmetic, "PASSES", passes)
        digits = arithmetic.carry(sums.copy())
    assert (digits[:, :-1] < 10).all()
    assert (digits @ 10 ** np.arange(6) == sums @ 10 ** np.arange(6)).all()


@pytest.mark.parametrize("task", ["copy", "multiplication", "maze-hops"])
def test_answers_do_not_depend_on_how_many_are_solved_at_a_time(task: str, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = load_task(task)
    drawn = loaded.sample(np.random.default_rng(0), 3, 30)
    prompts = loaded.vocabulary.decode_prompts(drawn)
    whole = load_oracle(loaded).solve_texts(prompts)
    monkeypatch.setattr(oracles, "AT_ONCE", 100)
    assert load_oracle(loaded).solve_texts(prompts) == whole


def test_an_answer_that_no_memory_holds_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    oracle = load_oracle(load_task("multiplication"))
    monkeypatch.setattr(oracles, "AT_ONCE", 10)
    monkeypatch.setattr(memory, "available", lambda: 100_000)
    assert oracle.solve_texts(["1*1=", "12*21="]) == ["10=10", *oracle.solve_texts(["12*21="])]
    with pytest.raises(UserError, match=r"an answer of [0-9,]+ tokens, and 1 in all: needs about .* of memory"):
        oracle.solve_texts([f"{'1' * 60}*{'1' * 60}="])

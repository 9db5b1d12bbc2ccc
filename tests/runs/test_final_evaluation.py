"""What a run came to is found once, and looked for as far as the run may have got."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from easy2hard.runs import final_evaluation as module
from easy2hard.runs.evaluations import evaluation_paths
from easy2hard.runs.final_evaluation import FURTHEST, outcome
from easy2hard.runs.manifest import RunDirectory


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[list[int]]:
    """The difficulties of each evaluation of members that are right up to 9 digits, or anywhere."""
    calls: list[list[int]] = []

    def evaluate(
        members: int, task: Any, oracle: Any, seed: int, wanted: Sequence[int], examples: int
    ) -> tuple[dict[int, float], dict[int, float]]:
        calls.append(list(wanted))
        scores = {difficulty: float(difficulty <= members) for difficulty in wanted}
        return scores, scores

    monkeypatch.setattr(module, "evaluate_run", evaluate)
    return calls


def known(
    monkeypatch: pytest.MonkeyPatch, run: RunDirectory, right_to: int, bar: float = 0.99, least: int = 0
) -> module.Outcome:
    monkeypatch.setattr(module.Experiment, "load", lambda *_: right_to)
    monkeypatch.setattr(module, "audit_ledger", lambda path, oracle: {"precision": 0.5, "kept": 7})
    monkeypatch.setattr(RunDirectory, "intact", lambda self, path: path)
    return outcome(run, bar=bar, least=least)


def test_it_is_looked_for_until_something_is_missed(
    asked: list[list[int]], fake_run: Callable[..., RunDirectory], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = fake_run(tmp_path / "run")  # trained to 5 digits, evaluated 2 beyond
    found = known(monkeypatch, run, 9)
    assert asked == [[1, 2, 3, 4, 5, 6, 7], [8, 9], [10, 11]]
    assert found.reach == 9
    assert found.precision == [0.5, 0.5]
    assert found.lowest_precision == 0.5
    assert known(monkeypatch, run, 3) == found  # as it is known already
    (run.path / "outcome.json").write_text("{")
    assert known(monkeypatch, run, 3) == found  # its scores are those that the run keeps
    assert known(monkeypatch, run, 3, bar=0.5).bar == 0.5
    assert len(asked) == 3
    (kept,) = evaluation_paths(run)
    kept.unlink()
    assert known(monkeypatch, run, 4).reach == 4
    (run.path / "outcome.json").write_text(found.model_copy(update={"reach": 5}).model_dump_json())
    assert known(monkeypatch, run, 4).reach == 4  # by another rule


def test_it_is_not_looked_for_without_end(
    asked: list[list[int]], fake_run: Callable[..., RunDirectory], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = known(monkeypatch, fake_run(tmp_path / "run"), 10**6)
    assert found.reach == FURTHEST * 5 == max(map(max, asked))


def test_it_is_looked_as_far_as_other_runs_are(
    asked: list[list[int]], fake_run: Callable[..., RunDirectory], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = fake_run(tmp_path / "run")  # trained to 5 digits, evaluated 2 beyond
    found = known(monkeypatch, run, 3, least=9)
    assert (list(found.exact_match), found.reach) == (list("123456789"), 3)
    assert known(monkeypatch, run, 3, least=11).exact_match.keys() == set(map(str, range(1, 12)))
    assert asked == [list(range(1, 10)), [10, 11]]  # only what is not known

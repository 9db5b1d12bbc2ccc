"""Label quality against a plain count."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import copy_task, engine_of, half_trained_engine, new_member, prompts_of

from easy2hard.engines.decoding import Answers
from easy2hard.evaluation.audit import audit_ledger, first_fall, readiness_compared
from easy2hard.improvement.filters import apply_filters
from easy2hard.improvement.filters.confidence import ConfidenceFilter
from easy2hard.improvement.filters.none import NoFilter
from easy2hard.improvement.filters.vote import VoteFilter
from easy2hard.improvement.ledger import write_ledger
from easy2hard.improvement.proposals import Proposals, count_votes, propose
from easy2hard.report.tables import audit_notes
from easy2hard.runs.manifest import RunDirectory
from easy2hard.seeding import numpy_generator
from easy2hard.settings.filters import Filter
from easy2hard.tasks.registry import load_oracle, load_task


def audit(folder: Path, proposals: list[Proposals], filters: list[Filter]) -> dict[str, Any]:
    (task, oracle), path = copy_task(), folder / "ledger.parquet"
    write_ledger(path, [apply_filters(filters, each) for each in proposals], task.vocabulary, 1, "digest")
    return audit_ledger(path, oracle, [each.name for each in filters])


def shares(found: dict[str, Any]) -> dict[str, Any]:
    return {name: found[name] for name in ("proposed", "kept", "precision", "proposed_precision", "recall")}


@pytest.mark.parametrize(
    "filters", [[NoFilter(name="none")], [ConfidenceFilter(name="confidence", keep=0.3)]], ids=["none", "confidence"]
)
def test_precision_and_recall_are_plain_shares(tmp_path: Path, filters: list[Filter]) -> None:
    task, _ = copy_task()
    proposals = [
        propose(half_trained_engine(), task, difficulty, prompts_of(difficulty, 150)) for difficulty in (2, 3, 4)
    ]
    right: list[bool] = []
    kept: list[bool] = []
    for each in proposals:
        prompts = task.vocabulary.decode_prompts(each.prompts)
        answers = task.vocabulary.decode_answers(each.answers)
        right += [
            bool(finished) and prompt == answer + "="
            for prompt, answer, finished in zip(prompts, answers, each.finished, strict=True)
        ]
        kept += apply_filters(filters, each).kept.tolist()
    both = sum(r and k for r, k in zip(right, kept, strict=True))
    assert 0 < both < sum(kept)
    assert shares(audit(tmp_path, proposals, filters)) == {
        "proposed": 450,
        "kept": sum(kept),
        "precision": pytest.approx(both / sum(kept)),
        "proposed_precision": pytest.approx(sum(right) / 450),
        "recall": pytest.approx(both / sum(right)),
    }


def test_the_baseline_answers_the_prompts_that_were_proposed(tmp_path: Path) -> None:
    task = load_task("maze-hops", {"nodes": 6})
    oracle = load_oracle(task)
    prompts = task.sample(numpy_generator(0, "audit"), 2, 400)
    sure = np.ones(400, dtype=np.float32)
    answers = Answers(oracle.solve(prompts), np.ones(400, dtype=np.bool_), sure, np.log(sure))
    none = apply_filters([NoFilter(name="none")], count_votes(2, prompts, [answers]))
    write_ledger(tmp_path / "ledger.parquet", [none], task.vocabulary, 1, "digest")
    found = audit_ledger(tmp_path / "ledger.parquet", oracle)
    assert found["precision"] == 1
    assert found["baseline"] == pytest.approx(0.87, abs=0.06)
    assert (
        audit(tmp_path, [propose(half_trained_engine(), copy_task()[0], 2, prompts_of(2, 9))], [])["baseline"] is None
    )


def test_the_true_text_without_an_end_is_not_right(tmp_path: Path) -> None:
    prompts = prompts_of(3, 20)
    text, sure = np.pad(prompts[:, 1:-1], ((0, 0), (0, 1))), np.ones(20, dtype=np.float32)
    unfinished = Answers(text, np.zeros(20, dtype=np.bool_), sure, np.log(sure))
    found = audit(tmp_path, [count_votes(3, prompts, [unfinished])], [])
    assert (found["proposed_precision"], found["kept"]) == (0.0, 0)


def test_nothing_to_count_is_no_number(tmp_path: Path) -> None:
    none = {"precision": None, "recall": None}
    dropped = propose(engine_of([new_member(5)]), copy_task()[0], 9, prompts_of(9, 20))
    found = audit(tmp_path, [dropped], [ConfidenceFilter(name="confidence", threshold=1.0)])
    assert shares(found) == {"proposed": 20, "kept": 0, "proposed_precision": 0.0, **none}
    assert shares(audit(tmp_path, [], [])) == {"proposed": 0, "kept": 0, "proposed_precision": None, **none}


def test_each_filter_and_difficulty_has_shares_of_its_own(tmp_path: Path) -> None:
    task, oracle = copy_task()
    filters = [VoteFilter(name="vote", threshold=1.0), ConfidenceFilter(name="confidence", keep=0.5)]
    proposals = [propose(half_trained_engine(), task, difficulty, prompts_of(difficulty, 200)) for difficulty in (2, 4)]
    found = audit(tmp_path, proposals, list(filters))
    assert list(found["by_difficulty"]) == ["2", "4"]
    for each, stages in zip(proposals, found["by_difficulty"].values(), strict=True):
        right = (each.answers[:, : oracle.solve(each.prompts).shape[1]] == oracle.solve(each.prompts)).all(axis=1)
        assert [stage["filter"] for stage in stages] == ["unfinished", "vote", "confidence"]
        for number, stage in enumerate(stages):
            kept = apply_filters(filters[:number], each).kept
            assert (stage["kept"], stage["in"]) == (kept.sum(), stages[number - 1]["kept"] if number else 200)
            assert stage["precision"] == pytest.approx(right[kept].mean())
            assert stage["recall"] == pytest.approx(kept[right].mean())


def test_mistakes_are_counted_by_kind(tmp_path: Path) -> None:
    task, _ = copy_task()
    prompts = task.vocabulary.encode_prompts(["123=", "456=", "789=", "555="])
    answers = task.vocabulary.encode_answers(["123", "457", "799", "5555"])
    sure = np.full(4, 0.95, dtype=np.float32)
    given = Answers(answers, np.ones(4, dtype=np.bool_), sure, np.log(sure))
    found = audit(tmp_path, [count_votes(3, prompts, [given])], [])
    assert found["errors"] == {"wrong digit": 2, "wrong length": 1}
    assert found["calibration"] == [{"from": 0.9, "count": 4, "confidence": pytest.approx(0.95), "right": 0.25}]


def test_calibration_counts_every_answer_once(tmp_path: Path) -> None:
    proposals = propose(half_trained_engine(), copy_task()[0], 4, prompts_of(4, 300))
    bins = audit(tmp_path, [proposals], [])["calibration"]
    assert sum(each["count"] for each in bins) == 300
    assert all(each["from"] <= each["confidence"] <= each["from"] + 0.1 for each in bins)
    right = sum(each["count"] * each["right"] for each in bins) / 300
    assert right == pytest.approx(audit(tmp_path, [proposals], [])["proposed_precision"])


def test_the_first_fall_is_the_first_round_below_the_bar() -> None:
    rounds = [{"precision": value} for value in (1.0, None, 0.995, 0.98, 0.999, 0.5)]
    assert first_fall(rounds) == 3
    assert first_fall(rounds[:3]) is None


def test_readiness_without_labels_is_compared_with_the_oracle() -> None:
    first = {
        "11": {"vote": 0.95, "confidence": 0.99, "oracle": 0.96},
        "12": {"vote": 0.91, "confidence": 0.80, "oracle": 0.70},
    }
    second = {"13": {"vote": 0.80, "confidence": 0.85, "oracle": 0.90}, "14": {"vote": 0.99, "confidence": 0.99}}
    assert readiness_compared([first, second], 0.9) == {
        "confidence": {"asked": 3, "daring": 0, "careful": 1},
        "vote": {"asked": 3, "daring": 1, "careful": 1},
    }
    assert readiness_compared([{}], 0.9) == {}


def test_with_no_label_kept_there_is_no_precision(fake_run: Callable[..., RunDirectory], tmp_path: Path) -> None:
    run = fake_run(tmp_path / "run")
    manifest = run.manifest
    nothing = [record.model_copy(update={"kept": 0}) for record in manifest.rounds]
    rows = [
        {
            "round": record.round,
            "difficulties": record.difficulties,
            "proposed": 100,
            "kept": 0,
            "precision": None,
            "proposed_precision": 0.5,
            "recall": 0.0,
            "baseline": None,
            "by_difficulty": {},
            "errors": {},
        }
        for record in nothing[1:]
    ]
    lines = audit_notes(rows, run.settings, run.manifest, None)
    assert "no label was kept: there is no precision" in lines
    assert not any("never fell" in line for line in lines)
    some = [{**rows[0], "kept": 1, "precision": 1.0}, *rows[1:]]
    assert "label precision never fell below 0.99" in audit_notes(some, run.settings, run.manifest, None)
    assert manifest.learned_nothing is None
    empty = manifest.model_copy(update={"rounds": nothing})
    assert empty.learned_nothing == "it learned nothing after the supervised phase: none of its 200 labels was kept"
    assert manifest.model_copy(update={"rounds": nothing[:1]}).learned_nothing is None

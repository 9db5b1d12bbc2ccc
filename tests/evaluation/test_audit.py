"""Label quality against a plain count."""

from pathlib import Path

import numpy as np
import pytest
from helpers import copy_task, half_trained, new_member, prompts_of

from easy2hard.config import ConfidenceFilter, FilterSettings, NoFilter
from easy2hard.evaluation.audit import audit_ledger
from easy2hard.improvement.filters import apply_filters
from easy2hard.improvement.labels import Proposals, count_votes, propose
from easy2hard.improvement.ledger import write_ledger
from easy2hard.models.decoding import Answers


def audit(folder: Path, proposals: list[Proposals], filters: list[FilterSettings]) -> dict[str, float | None]:
    (task, oracle), path = copy_task(), folder / "ledger.parquet"
    write_ledger(path, [apply_filters(filters, each) for each in proposals], task.vocabulary, 1, "digest")
    return audit_ledger(path, oracle)


@pytest.mark.parametrize(
    "filters", [[NoFilter(name="none")], [ConfidenceFilter(name="confidence", keep=0.3)]], ids=["none", "confidence"]
)
def test_precision_and_recall_are_plain_shares(tmp_path: Path, filters: list[FilterSettings]) -> None:
    task, _ = copy_task()
    proposals = [propose(half_trained(), task, difficulty, prompts_of(difficulty, 150)) for difficulty in (2, 3, 4)]
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
    assert audit(tmp_path, proposals, filters) == {
        "proposed": 450,
        "kept": sum(kept),
        "precision": pytest.approx(both / sum(kept)),
        "proposed_precision": pytest.approx(sum(right) / 450),
        "recall": pytest.approx(both / sum(right)),
    }


def test_the_true_text_without_an_end_is_not_right(tmp_path: Path) -> None:
    prompts = prompts_of(3, 20)
    text, sure = np.pad(prompts[:, 1:-1], ((0, 0), (0, 1))), np.ones(20, dtype=np.float32)
    unfinished = Answers(text, np.zeros(20, dtype=np.bool_), sure, np.log(sure))
    found = audit(tmp_path, [count_votes(3, prompts, [unfinished])], [])
    assert (found["proposed_precision"], found["kept"]) == (0.0, 0)


def test_nothing_to_count_is_no_number(tmp_path: Path) -> None:
    none = {"precision": None, "recall": None}
    dropped = propose([new_member(5)], copy_task()[0], 9, prompts_of(9, 20))
    found = audit(tmp_path, [dropped], [ConfidenceFilter(name="confidence", threshold=1.0)])
    assert found == {"proposed": 20, "kept": 0, "proposed_precision": 0.0, **none}
    assert audit(tmp_path, [], []) == {"proposed": 0, "kept": 0, "proposed_precision": None, **none}

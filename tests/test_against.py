"""Two commits are measured in turn, and what became slower is marked."""

import sys
from pathlib import Path

import pytest

from benchmarks import against


def test_both_take_turns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    order: list[str] = []
    drift = {"before": iter([4.0, 2.0, 3.0]), "now": iter([3.0, 3.0, 2.5])}

    def measured(tree: Path, section: str, out: Path) -> dict[against.Key, tuple[float, float]]:
        name = "now" if tree == against.ROOT else "before"
        order.append(f"{section} {name}")
        assert out.parent.name == "out"
        return {("label", "tiny", 20): (next(drift[name]), 50.0), ("label", name, 60): (1.0, 1.0)}

    unpacked: list[str] = []
    monkeypatch.setattr(against, "measured", measured)
    monkeypatch.setattr(against, "unpack", lambda commit, folder: unpacked.append(commit))
    words = ["against", "abc", "--only", "answers", "--turns", "3", "--out", str(tmp_path / "out")]
    monkeypatch.setattr(sys, "argv", words)
    against.main()
    assert unpacked == ["abc"]
    (tmp_path / "out").mkdir()
    with pytest.raises(SystemExit):  # older results would be taken for this commit's
        against.main()
    assert unpacked == ["abc"]
    assert order == [f"answers {name}" for name in ("before", "now", "now", "before", "before", "now")]
    printed = capsys.readouterr().out
    assert "1.000" in printed  # medians 3 and 3
    assert printed.count("tiny") == 1  # a row of one commit alone is left out


def test_what_is_slower_is_marked_by_ratio_and_by_amount() -> None:
    train, memory, label = ("train", "tiny", 10), ("memory", "small", 60), ("label", "tiny", 20)
    before = {train: [(4.0, 100.0), (4.2, 102.0)], memory: [(3.0, 600.0)], label: [(2.0, 50.0)]}
    now = {train: [(3.8, 101.0), (3.8, 101.0)], memory: [(3.0, 700.0)], label: [(2.0, 50.0)]}
    made = against.table(before, now)
    rows = dict(
        zip(made.columns[0].cells, zip(*(column.cells for column in made.columns[5:]), strict=True), strict=True)
    )
    assert rows == {
        "train": ("0.927", "1.000", "ratio"),
        "memory": ("1.000", "0.857", "ours"),
        "label": ("1.000", "1.000", ""),
    }

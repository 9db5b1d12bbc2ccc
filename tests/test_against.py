"""Two commits are measured in turn, and what became slower is marked."""

import sys
from pathlib import Path

import pytest

from benchmarks import against


def test_both_take_turns_and_what_is_slower_is_marked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    order: list[str] = []
    drift = {"before": iter([4.0, 2.0, 3.0]), "now": iter([3.0, 3.0, 2.5])}

    def ratios(tree: Path, section: str, out: Path) -> dict[against.Key, float]:
        name = "now" if tree == against.ROOT else "before"
        order.append(f"{section} {name}")
        assert out.parent.name == "out"
        return {("label", "tiny", 20): next(drift[name]), ("label", name, 60): 1.0}

    unpacked: list[str] = []
    monkeypatch.setattr(against, "ratios", ratios)
    monkeypatch.setattr(against, "unpack", lambda commit, folder: unpacked.append(commit))
    words = ["against", "abc", "--only", "answers", "--turns", "3", "--out", str(tmp_path / "out")]
    monkeypatch.setattr(sys, "argv", words)
    against.main()
    assert unpacked == ["abc"]
    assert order == [f"answers {name}" for name in ("before", "now", "now", "before", "before", "now")]
    printed = capsys.readouterr().out
    assert "1.000" in printed  # medians 3 and 3
    assert "less than" not in printed
    assert printed.count("tiny") == 1  # a row of one commit alone is left out
    slower = against.table({("train", "tiny", 10): [4.0, 4.0]}, {("train", "tiny", 10): [3.8, 3.8]})
    assert list(slower.columns[5].cells) == ["0.950  less than 0.97"]

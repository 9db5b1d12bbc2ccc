"""The measurement of a GPU runs to its end without one, at toy sizes."""

import json
import sys
from pathlib import Path

import pytest

from benchmarks import gpu


def test_every_section_runs_and_is_written_down(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["gpu", "--device", "cpu", "--quick", "--out", str(tmp_path)])
    with pytest.raises(SystemExit) as end:
        gpu.main()
    found = json.loads((tmp_path / "results.json").read_text())
    assert found["failed"] == {}
    assert end.value.code == 0
    rows = {row["name"]: row for row in found["rows"]}
    for size in ("tiny", "tiny bfloat16", "small", "paper"):
        assert rows[f"train {size}, beside the Trainer"]["ratio"] > 0
        assert rows[f"train {size}, 3 members over 1"]["value"] > 0
        for digits in (3, 4):
            assert rows[f"label {size}, {digits} digits"]["peer"] > 0
            assert rows[f"evaluate {size}, {digits} digits"]["ratio"] > 0
    assert rows["gradients apart, float32"]["value"] < 1e-4
    assert rows["gradients apart, bfloat16"]["value"] < 0.1
    assert rows["answers equal, float32"]["value"] > 0.98
    assert rows["repeated to the same bits"]["value"] == 1
    assert rows["killed and resumed to the same bits"]["value"] == 1
    assert rows["a whole round, tiny, copy"]["ratio"] > 0
    judged = {name for name, row in rows.items() if row["reached"] is not None}
    assert {"train tiny, 3 members over 1", "label tiny, 4 digits", "a whole round, tiny, copy"} <= judged
    for name in judged:
        if (ratio := rows[name]["ratio"]) is not None:
            aim = next(aim for beginning, aim in gpu.AIMS.items() if name.startswith(beginning))
            assert rows[name]["reached"] == (ratio >= aim)
    printed = capsys.readouterr().out
    assert all(f" {name} " in printed for name in judged)


def test_a_section_that_fails_stops_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: gpu.Bench) -> None:
        raise ZeroDivisionError("by hand")

    monkeypatch.setattr(gpu.Bench, "equality", fail)
    monkeypatch.setattr(
        sys, "argv", ["gpu", "--device", "cpu", "--quick", "--out", str(tmp_path), "--only", "equality", "product"]
    )
    with pytest.raises(SystemExit) as end:
        gpu.main()
    found = json.loads((tmp_path / "results.json").read_text())
    assert end.value.code == 1
    assert "ZeroDivisionError: by hand" in found["failed"]["equality"]
    assert [row["name"] for row in found["rows"]] == ["product, bfloat16", "product, float32"]

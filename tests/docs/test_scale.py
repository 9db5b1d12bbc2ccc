"""The table of costs in docs/speed.md is what `python -m benchmarks.cost` prints, but for the hours, which age."""

import sys
from pathlib import Path

import pytest

from benchmarks import cost

PAGE = Path(__file__).parents[2] / "docs" / "speed.md"


def test_costs_are_those_of_the_recipe(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["cost", "reverse-addition-paper", "--labellers", "1000"])
    cost.main()
    machine, _, *lines = capsys.readouterr().out.splitlines()
    rates = cost.rates(cost.load_recipe("reverse-addition-paper"))
    assert f"label {rates['label'] / 1e9:,.0f}, evaluate {rates['evaluate'] / 1e9:,.0f} GFLOP/s" in machine
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert rows[0][2] == "hours, measured machine"
    without = [" | ".join([*row[:2], *row[3:]]) for row in rows]
    page = PAGE.read_text()
    assert all(f"| {row} |" in page for row in (without[0], *without[2:]))
    assert len(without) == 7


def test_the_machine_is_named_where_it_was_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = cost.load_recipe("reverse-addition-paper", scale="laptop")
    known = cost.results()
    assert cost.measured_on(settings).startswith("Measured machine: ")
    noted = {key: {**row, "machine": "two cores of mine"} for key, row in known.items()}
    monkeypatch.setattr(cost, "results", lambda: noted)
    assert cost.measured_on(settings).startswith("Measured machine: two cores of mine. Preset tiny, float32: ")

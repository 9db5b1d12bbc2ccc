"""The notebook runs from its first cell to its last, its run climbs, and what is saved in it is of such a run."""

import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from nbformat import NotebookNode

import easy2hard

NOTEBOOK = Path(__file__).parents[2] / "examples" / "easy2hard.ipynb"


def outputs(notebook: NotebookNode) -> list[NotebookNode]:
    """Return what the cells show."""
    return [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]


def climb(notebook: NotebookNode) -> tuple[float, float]:
    """Return the exact match at 9 digits that the notebook prints: after the supervised phase, and at the end."""
    said = "".join(output.get("text", "") for output in outputs(notebook))
    (found,) = re.findall(r"at 9 digits: ([\d.]+) after the supervised phase, ([\d.]+) after 3 rounds", said)
    return float(found[0]), float(found[1])


def test_the_notebook_runs_and_climbs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(NOTEBOOK.parents[1]))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    NotebookClient(notebook, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}).execute()
    assert sum("image/png" in output.get("data", {}) for output in outputs(notebook)) == 2
    assert any("4 rounds, finished" in str(output) for output in outputs(notebook))
    assert any("rounds.cuont: unknown setting" in output.get("text", "") for output in outputs(notebook))

    rounds = easy2hard.Run(tmp_path / "runs" / "notebook").manifest.rounds
    assert [max(record.difficulties) for record in rounds] == [6, 7, 8, 9]
    exact = [record.accuracy["9"] for record in rounds]
    assert climb(notebook) == (round(exact[0], 2), round(exact[-1], 2))
    assert exact[0] < 0.5
    assert exact[-1] > 0.9


def test_what_is_saved_in_the_notebook_is_of_a_run_that_climbed() -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    assert all(cell.outputs for cell in notebook.cells if cell.cell_type == "code")
    assert not any(output.output_type == "error" for output in outputs(notebook))
    before, after = climb(notebook)
    assert before < 0.5
    assert after > 0.9

"""The oracle firewall: labels, filters, schedules and ledger get by without a true answer."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from helpers import Silent

from easy2hard.runs import rounds
from easy2hard.settings.recipes import load_recipe
from easy2hard.tasks.strings import StringOracle
from easy2hard.vocabulary import Tokens

LABELLING = ["proposals", "labeller", "filters", "schedules", "ledger"]


@pytest.mark.parametrize("modules", [[name] for name in LABELLING] + [LABELLING], ids="+".join)
def test_labelling_never_loads_what_knows_an_answer(modules: list[str]) -> None:
    imports = ", ".join(f"easy2hard.improvement.{name}" for name in modules)
    found = "; ".join(f"plugins.{kind}.built_in" for kind in ("FILTERS", "SCHEDULES", "POSITIONS"))
    code = f"import sys, {imports}; from easy2hard import plugins; {found}; "
    code += "print(*(name for name in sys.modules if name.startswith('easy2hard')))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert f"easy2hard.improvement.{modules[0]}" in loaded
    forbidden = ("evaluation", "learning.batches", "tasks.")
    harmless = {"easy2hard.tasks.base", "easy2hard.tasks.prompts"}
    assert not [
        name for name in loaded if name.removeprefix("easy2hard.").startswith(forbidden) and name not in harmless
    ]


class BlindError(AssertionError):
    """Somebody asked for an answer that is not theirs to know."""


@pytest.mark.parametrize("filters", [[], ["labels.filters=[{name='parts',reliable=0.1}]", "watch.enabled=true"]])
def test_a_blindfolded_run_ends_with_the_same_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, filters: list[str]
) -> None:
    settings = load_recipe("smoke", filters)
    seeing = rounds.start(settings, tmp_path / "seeing", Silent())
    solve, longest = StringOracle.solve, 0

    def solve_easy_prompts_only(self: StringOracle, prompts: Tokens) -> Tokens:
        nonlocal longest
        digits = prompts.shape[1] - 2  # without begin and the equals sign
        if digits > settings.supervised.difficulty:
            raise BlindError(f"{digits} digits")
        longest = max(longest, digits)
        return solve(self, prompts)

    def no_accuracy(*arguments: Any) -> dict[Any, float]:
        difficulties: Sequence[Any] = arguments[4]
        return dict.fromkeys(difficulties, 0.0)

    monkeypatch.setattr(StringOracle, "solve", solve_easy_prompts_only)
    with pytest.raises(BlindError):  # an evaluation past the easy range would be noticed
        rounds.start(load_recipe("smoke", ["supervised.steps=5", "supervised.decay=0"]), tmp_path / "caught", Silent())
    monkeypatch.setattr(rounds, "accuracy", no_accuracy)
    blind = rounds.start(settings, tmp_path / "blind", Silent())
    assert longest == settings.supervised.difficulty
    assert all(record.kept > 0 for record in blind.manifest.rounds[1:])
    digests = [record.weights_sha256 for record in blind.manifest.rounds]
    assert digests == [record.weights_sha256 for record in seeing.manifest.rounds]
    assert all(record.accuracy[d] == 0.0 for record in blind.manifest.rounds for d in record.accuracy)

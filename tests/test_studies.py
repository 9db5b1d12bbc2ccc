"""The studies run from their first command to their table, on a recipe that takes no time."""

import json
import random
import sys
from pathlib import Path

import numpy as np
import pytest

from easy2hard import plugins
from easy2hard.runs.manifest import RunDirectory
from easy2hard.runs.store import Store
from easy2hard.tasks import registry
from easy2hard.vocabulary import PAD
from studies import branches, collapse, noise, pretraining, soak

QUICK = [
    *("supervised.steps=6", "supervised.warmup=0", "supervised.decay=0"),
    *("rounds.steps=3", "rounds.decay=0", "labels.count=40"),
]


def test_noise_branches_off_just_before_the_spoilt_round(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--recipe", "smoke", "--seeds", "0", "--rounds", "1", "--after", "1", "--kinds", "drop"]
    free = ["labels.filters=[{name='none'}]", "model.members=1"]
    command = ["noise", *options, "--shares", "0", "0.5", "--out", str(tmp_path), "--set", *QUICK, *free]
    monkeypatch.setattr(sys, "argv", command)
    noise.main()
    clean, spoilt = Store(tmp_path / "smoke-seed0-to2"), Store(tmp_path / "smoke-seed0-round1-drop-0.5")
    assert clean.manifest.rounds[0] == spoilt.manifest.rounds[0]
    assert [record.spoilt for record in clean.manifest.rounds] == [0, 0, 0]
    assert spoilt.manifest.rounds[1].spoilt == round(0.5 * spoilt.manifest.rounds[1].kept) > 0
    rows = json.loads((tmp_path / "noise.json").read_text())
    assert [(row["share"], len(row["curves"][0])) for row in rows] == [(0.0, 2), (0.5, 2)]
    assert (tmp_path / "noise.png").exists()
    said = capsys.readouterr().out
    noise.main()  # finds everything done
    assert len(capsys.readouterr().out) < len(said)


def test_a_forced_collapse_is_watched_and_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Members this bad are in trouble in every round, and the first has no history."""
    options = ["--recipe", "smoke", "--round", "1", "--share", "0.5", "--out", str(tmp_path)]
    command = ["collapse", *options, "--set", *QUICK, "labels.filters=[{name='none'}]", "watch.agreement=1"]
    monkeypatch.setattr(sys, "argv", command)
    collapse.main()
    rows = {row["run"]: row for row in json.loads((tmp_path / "smoke-drop-0.5.json").read_text())}
    assert list(rows) == ["clean", "spoilt, no watch", "spoilt, watched"]
    assert [row["rounds"][0]["spoilt"] for row in rows.values()] == [0, 20, 20]
    clean, unwatched = (RunDirectory(path).manifest for path in sorted(tmp_path.glob("smoke-seed0*"))[:2])
    assert clean.rounds[0] == unwatched.rounds[0]
    assert [row["rounds"][1]["watch"] is not None for row in rows.values()] == [True, False, True]
    assert "is below watch.agreement = 1" in rows["spoilt, watched"]["rounds"][1]["watch"]


def test_filters_branch_off_one_base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = ["--examples", "20", "--out", str(tmp_path), "--set", *QUICK]
    monkeypatch.setattr(sys, "argv", ["branches", "smoke", "--filters", "none", "vote+length", *options])
    branches.main()
    rows = json.loads((tmp_path / "smoke.json").read_text())
    assert [row["filters"] for row in rows] == ["none", "vote+length"]
    assert rows[0]["kept"][0] == 40 > rows[1]["kept"][0]
    base, *runs = (RunDirectory(tmp_path / f"smoke-seed0-{name}") for name in ["base", "none", "vote+length"])
    assert [run.manifest.rounds[0] for run in runs] == [base.manifest.rounds[0]] * 2
    recipe_has = RunDirectory(tmp_path / "smoke-seed0-vote+length").settings.labels.filters[0]
    assert recipe_has.model_dump(exclude_none=True) == {
        "name": "vote",
        "threshold": 1.0,
    }  # the recipe's, not the default


def test_judges_are_compared_at_equal_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """So little time is over after one round of the recipe's two."""
    options = ["--seconds", "0.001", "--examples", "20", "--out", str(tmp_path), "--set", *QUICK, "model.members=3"]
    judges = ["weighted-vote", "co-teaching+length"]
    monkeypatch.setattr(sys, "argv", ["branches", "smoke", "--filters", *judges, *options])
    branches.main()
    rows = json.loads((tmp_path / "smoke.json").read_text())
    assert [(row["filters"], row["rounds"]) for row in rows] == [(judge, 1) for judge in judges]
    runs = [RunDirectory(tmp_path / f"smoke-seed0-{judge}-0.001s") for judge in judges]
    assert [run.manifest.rounds[1].filters[1].settings.get("weights") for run in runs] == ["agreement", None]
    assert [run.settings.labels.taught_by_others for run in runs] == [False, True]
    assert [row["seconds"] for row in rows] == [round(run.manifest.rounds[1].seconds, 1) for run in runs]
    assert [row["kept"] for row in rows] == [[run.manifest.rounds[1].kept] for run in runs]
    assert "precision" in capsys.readouterr().out


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_soak_kills_resumes_and_compares(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "soak.json"
    monkeypatch.setattr(sys, "argv", ["soak", "smoke", "--minutes", "0", "--out", str(out), "--set", *QUICK])
    with pytest.raises(SystemExit, match="0"):
        soak.main()
    first = json.loads((tmp_path / "soak.jsonl").read_text())
    assert first["kills"] == []
    assert 10 < max(first["peak_mib_by_round"].values()) == first["peak_mib"]
    assert not list((tmp_path / "soak").iterdir())  # the run is gone

    monkeypatch.setattr(soak, "KILLS", 1)
    again = soak.disturbed(tmp_path / "again", "smoke", QUICK, random.Random("0 1"), 4.0)
    assert len(again["kills"]) == 1
    assert (again["digest"], again["left_over"]) == (first["digest"], 0)
    # A soak with another digest on record says so.
    other = {**again, "digest": "0" * 64}
    (tmp_path / "soak.jsonl").write_text(json.dumps(first) + "\n" + json.dumps(other) + "\n")
    with pytest.raises(SystemExit, match="1"):
        soak.main()
    assert json.loads(out.read_text())["digests"] == 2


def test_pretraining_is_compared_with_a_start_from_scratch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(plugins, "_loaded", {})  # the study brings a task of its own
    options = ["--seeds", "0", "--rounds", "1", "--scale", "0.02", "--out", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", ["pretraining", *options])
    pretraining.main()
    arms = [Store(tmp_path / name) for name in ("pretrained-seed0", "from-scratch-seed0", "from-scratch-longer-seed0")]
    assert [bool(arm.manifest.base_sha256) for arm in arms] == [True, False, False]
    same = [arm.settings.model_dump(exclude={"model", "supervised"}) for arm in arms]
    assert same[0] == same[1] == same[2]
    steps = [arm.settings.supervised.steps for arm in arms]
    assert steps[0] == steps[1] == steps[2] - Store(tmp_path / "related").settings.supervised.steps
    rows = json.loads((tmp_path / "pretraining.json").read_text())
    assert [(row["arm"], len(row["frontier"])) for row in rows] == [(arm, 2) for arm in pretraining.ARMS]
    assert (tmp_path / "pretraining.png").exists()
    said = capsys.readouterr().out
    pretraining.main()  # finds everything done
    assert len(capsys.readouterr().out) < len(said)


def test_the_related_tasks_are_solved_whatever_comes_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy of two digits and a sum of one are prompts of one length."""
    monkeypatch.setattr(plugins, "_loaded", {})
    plugins.load_file(Path(pretraining.__file__).with_name("related.py"))
    task = registry.load_task("related")
    prompts = np.concatenate([tokens for _, tokens in task.encode(["86+=", "52+=", "1+6=", "8+9="])])
    answers = registry.load_oracle(task).solve(prompts)
    assert task.vocabulary.decode_answers(answers) == ["86", "52", "7", "7"]
    assert (task.answer_bounds(prompts) == (answers != PAD).sum(axis=1)).all()

"""What a run writes down: nothing that nobody knows gets in, and what version 0.1 wrote is read."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers import Silent
from pydantic import BaseModel, TypeAdapter, ValidationError

from easy2hard.errors import UserError
from easy2hard.improvement.watch import Signals
from easy2hard.report.rundata import read_run
from easy2hard.runs import records, rounds
from easy2hard.runs.manifest import Manifest, RunDirectory, manifest_digest, state_of
from easy2hard.runs.records import FilterRecord
from easy2hard.runs.store import Store

OLD = Path(__file__).parents[1] / "data" / "manifest-0.1.json"
"""Written by version 0.1: parts, a learned verifier, a roll-back, relabelled rounds."""


def all_records(kind: type[BaseModel]) -> list[type[BaseModel]]:
    return [kind, *(each for own in kind.__subclasses__() for each in all_records(own))]


@pytest.mark.parametrize("kind", [Manifest, *all_records(records.Record)], ids=lambda kind: kind.__name__)
def test_no_record_drops_a_key_that_it_does_not_know(kind: type[BaseModel]) -> None:
    with pytest.raises(ValidationError, match=r"spelt_wrongly\n +Extra inputs are not permitted"):
        kind.model_validate({"spelt_wrongly": 1})


def test_signals_drop_no_key_that_they_do_not_know() -> None:
    known = {"agreement": 1.0, "acceptance": 1.0, "unfinished": 0.0, "confidence": 1.0}
    watch = {"action": "hold", "reason": "made up", "difficulties": ["4"]}
    assert records.WatchRecord.model_validate({**watch, "signals": known}).signals == Signals(**known)
    with pytest.raises(ValidationError, match="agrement"):
        records.WatchRecord.model_validate({**watch, "signals": {**known, "agrement": 1.0}})


def test_what_no_run_can_have_measured_is_no_record() -> None:
    """The test of the reach counts up to the prompts, and tables write every difficulty as a number that is known."""
    for changes in ({"examples": 2**53}, {"examples": -1}, {"accuracy": {"1000001": 1.0}}):
        with pytest.raises(ValidationError):
            records.ScoreRecord.model_validate({"accuracy": {"1": 1.0}} | changes)
    for difficulty in (1_000_001, (1, 1_000_001), 0):
        with pytest.raises(ValidationError):
            TypeAdapter(records.Known).validate_python(difficulty)


@pytest.fixture
def old(fake_run: Callable[..., RunDirectory], tmp_path: Path) -> Callable[..., RunDirectory]:
    """A function that makes a run directory with the manifest of version 0.1, changed as told."""

    def make(change: Callable[[dict[str, Any]], None] = lambda content: None) -> RunDirectory:
        run = fake_run(tmp_path / "old")
        content = json.loads(OLD.read_text())
        del content["sha256"]
        change(content)
        (run.path / "manifest.json").write_text(json.dumps({**content, "sha256": manifest_digest(content)}))
        return run

    return make


def test_a_strangers_status_does_nothing_to_a_terminal(old: Callable[..., RunDirectory]) -> None:
    run = old(lambda content: content.update(status="\x1b[31mred"))
    assert state_of(run, run.manifest) == r"\x1b[31mred"


def test_what_version_0_1_wrote_is_read(old: Callable[..., RunDirectory]) -> None:
    run = old()
    content, manifest = json.loads(OLD.read_text()), run.manifest
    assert manifest.easy2hard == content["easy2hard"]
    assert [(each.round, each.from_round) for each in manifest.rounds if each.watch] == [(3, 1)]
    assert [len(each.relabelled) for each in manifest.rounds] == [0, 0, 1, 1]
    assert [each.verifier is not None for each in manifest.rounds] == [False, True, True, True]
    assert manifest.rounds[0].signals is None
    for record, written in zip(manifest.rounds, content["rounds"], strict=True):
        assert (record.proposed, record.kept, record.accuracy) == tuple(
            written[key] for key in ("proposed", "kept", "accuracy")
        )
        assert (record.signals.known if record.signals else {}) == written["signals"]
        for stage, counted in zip(record.filters, written["filters"], strict=True):
            assert (stage.name, stage.proposed, stage.kept) == (counted["name"], counted["in"], counted["kept"])
            own = counted.keys() - {"name", "in", "kept", "supervised", "relation", "questions"}
            assert stage.settings == {name: counted[name] for name in own}
            assert (stage.supervised, stage.relation) == (counted.get("supervised", False), counted.get("relation"))


def test_a_run_of_version_0_1_is_neither_resumed_nor_branched(old: Callable[..., RunDirectory], tmp_path: Path) -> None:
    store = Store(old().path)
    before = (store.path / "manifest.json").read_text()
    with pytest.raises(UserError, match=r"begun before version .*read it, but it cannot be resumed"):
        rounds.resume(store, Silent())
    with pytest.raises(UserError, match="cannot be resumed"):
        store.branch(tmp_path / "branch", 0, store.settings)
    assert (store.path / "manifest.json").read_text() == before
    assert not (tmp_path / "branch").exists()


def test_a_damaged_manifest_of_version_0_1_is_salvaged(old: Callable[..., RunDirectory]) -> None:
    run = old(lambda content: content["rounds"][1].pop("filters"))
    with pytest.raises(UserError, match="damaged"):
        _ = run.manifest
    found = read_run(run.path)
    assert [each.record.round for each in found.rounds] == [0, 2, 3]
    assert found.rounds[1].record.filters[0] == FilterRecord.model_validate(
        {"name": "unfinished"} | {key: getattr(found.rounds[1].record.filters[0], key) for key in ("proposed", "kept")}
    )


def test_a_key_that_nobody_knows_is_damage(old: Callable[..., RunDirectory]) -> None:
    with pytest.raises(UserError, match=r"manifest\.json: damaged: .*: Extra inputs are not permitted"):
        _ = old(lambda content: content["rounds"][0].update(relabeled=[])).manifest

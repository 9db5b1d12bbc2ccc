"""Whole runs: the same settings give the same bits, however often the run was stopped."""

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from helpers import Silent, copy_task

from easy2hard.config import Settings, load_recipe
from easy2hard.errors import UserError
from easy2hard.evaluation.exact_match import accuracy
from easy2hard.learning.trainer import Step
from easy2hard.runs import rounds
from easy2hard.runs.manifest import Manifest
from easy2hard.runs.store import Store
from easy2hard.tasks.prompts import evaluation_prompts

MANIFEST = {"format", "easy2hard", "torch", "threads", "device", "task", "seed", "status", "rounds"}
ROUND = {
    "round",
    "difficulties",
    "proposed",
    "kept",
    "given_up",
    "overlap",
    "filters",
    "steps",
    "tokens",
    "seconds",
    "phase_seconds",
    "loss",
    "accuracy",
    "weights_sha256",
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A finished run of the recipe `smoke`."""
    return rounds.start(load_recipe("smoke"), tmp_path_factory.mktemp("runs") / "smoke", Silent())


def results(store: Store) -> list[dict[str, Any]]:
    """Return what every round must give again: everything but the seconds."""
    return [record.model_dump(exclude={"seconds", "phase_seconds"}) for record in store.manifest.rounds]


def assert_same_run(store: Store, other: Store) -> None:
    assert store.manifest.status == other.manifest.status == "finished"
    assert results(store) == results(other)
    for number in range(len(store.manifest.rounds)):
        assert store.weights_path(number).read_bytes() == other.weights_path(number).read_bytes()
        assert store.training_path(number).read_text() == other.training_path(number).read_text()
        if number:
            assert pq.read_table(store.ledger_path(number)).equals(pq.read_table(other.ledger_path(number)))


def test_the_same_settings_give_the_same_run(finished: Store, tmp_path: Path) -> None:
    again = rounds.start(load_recipe("smoke"), tmp_path / "elsewhere", Silent())
    digests = [record.weights_sha256 for record in again.manifest.rounds]
    assert digests == [record.weights_sha256 for record in finished.manifest.rounds]
    assert len(set(digests)) == 3
    assert_same_run(again, finished)


def short(*overrides: str) -> Settings:
    """Return the recipe with so few steps that a run takes no time and the members know nothing."""
    phases = ["supervised.steps=6", "supervised.decay=0", "rounds.steps=3", "rounds.decay=0"]
    return load_recipe("smoke", [*phases, *overrides])


class StopAfter(Silent):
    """Interrupts once round ``number`` is committed."""

    def __init__(self, number: int) -> None:
        self.number = number

    def round(self, manifest: Manifest) -> None:
        if manifest.rounds[-1].round == self.number:
            raise KeyboardInterrupt


class StopWithin(Silent):
    """Interrupts, or fails, in the middle of the training of round ``number``."""

    def __init__(self, number: int, error: type[BaseException]) -> None:
        self.number, self.error, self.now = number, error, -1

    def phase(self, number: int, rounds: int, name: str, total: int) -> None:
        self.now = number

    def step(self, step: Step) -> None:
        if self.now == self.number and step.step == 2:
            raise self.error("disk on fire")


def interrupt(listener: Silent, out: Path) -> Store:
    with pytest.raises(KeyboardInterrupt):
        rounds.start(load_recipe("smoke"), out, listener)
    return Store(out)


def test_a_run_stopped_after_a_round_goes_on_to_the_same_end(finished: Store, tmp_path: Path) -> None:
    store = interrupt(StopAfter(1), tmp_path / "run")
    assert store.manifest.status == "stopped: interrupted"
    assert [record.round for record in store.manifest.rounds] == [0, 1]
    # Leftovers of a round that was not committed, whole or half written, are nothing to go by.
    for path in (store.weights_path(2), store.ledger_path(2), store.training_path(2)):
        path.write_bytes(b"leftover")
        path.with_name(path.name + ".tmp").write_bytes(b"half a leftover")
    (store.path / "manifest.json.tmp").write_bytes(b"{")
    rounds.resume(store, Silent())
    assert_same_run(store, finished)


def test_a_run_stopped_within_a_round_repeats_it(finished: Store, tmp_path: Path) -> None:
    store = interrupt(StopWithin(2, KeyboardInterrupt), tmp_path / "run")
    assert store.manifest.status == "stopped: interrupted"
    assert [record.round for record in store.manifest.rounds] == [0, 1]
    assert store.ledger_path(2).exists()
    rounds.resume(store, Silent())
    assert_same_run(store, finished)


def test_a_failure_is_named_and_the_run_can_go_on(tmp_path: Path) -> None:
    settings, listener = short("rounds.count=1"), StopWithin(1, OSError)
    with pytest.raises(OSError, match="disk on fire"):
        rounds.start(settings, tmp_path / "run", listener)
    store = Store(tmp_path / "run")
    assert store.manifest.status == "stopped: OSError: disk on fire"
    assert len(store.manifest.rounds) == 1
    rounds.resume(store, Silent())
    assert_same_run(store, rounds.start(settings, tmp_path / "another", Silent()))


def test_a_finished_run_stays_as_it_is(finished: Store) -> None:
    before = {path: path.read_bytes() for path in finished.path.rglob("*") if path.is_file()}
    rounds.resume(finished, Silent())
    assert {path: path.read_bytes() for path in finished.path.rglob("*") if path.is_file()} == before


def test_a_run_that_another_process_writes_is_left_alone(finished: Store) -> None:
    before = finished.manifest
    with finished.lock(), pytest.raises(UserError, match="another process"):
        rounds.resume(Store(finished.path), Silent())
    assert finished.manifest == before


def test_the_manifest_has_its_keys(finished: Store) -> None:
    manifest = json.loads((finished.path / "manifest.json").read_text())
    assert set(manifest) == MANIFEST
    assert [record["round"] for record in manifest["rounds"]] == [0, 1, 2]
    assert [record["difficulties"] for record in manifest["rounds"]] == [[1, 2, 3], [4], [5]]
    for record in manifest["rounds"]:
        assert set(record) == ROUND
        evaluated = [str(difficulty) for difficulty in range(1, max(record["difficulties"]) + 3)]
        assert list(record["accuracy"]) == evaluated


def test_the_record_of_a_round_counts_its_ledger(finished: Store) -> None:
    for before, record in pairwise(finished.manifest.rounds):
        rows = pq.read_table(finished.ledger_path(record.round)).to_pydict()
        assert len(rows["kept"]) == record.proposed > 0
        assert sum(rows["kept"]) == record.kept > 0
        assert [count["name"] for count in record.filters] == ["unfinished", "vote", "confidence"]
        assert (record.filters[0]["in"], record.filters[-1]["kept"]) == (record.proposed, record.kept)
        assert set(rows["round"]) == {record.round}
        assert set(rows["difficulty"]) == set(record.difficulties)
        assert set(rows["weights_sha256"]) == {before.weights_sha256}
        steps = finished.training_path(record.round).read_text().splitlines()[1:]
        assert len(steps) == record.steps == 20
        assert sum(int(line.split(",")[3]) for line in steps) == record.tokens


def test_no_label_is_an_evaluation_prompt(finished: Store) -> None:
    task, _ = copy_task()
    for record in finished.manifest.rounds[1:]:
        prompts = pq.read_table(finished.ledger_path(record.round))["prompt"].to_pylist()
        assert len(set(prompts)) == len(prompts)
        for difficulty in record.difficulties:
            reserved = evaluation_prompts(task, finished.settings.seed, difficulty, rounds.RESERVED)
            assert not set(prompts) & set(task.vocabulary.decode_prompts(reserved))


def test_rounds_without_a_single_kept_label_go_on(tmp_path: Path) -> None:
    settings = short('rounds.filters=[{name="confidence", threshold=1.0}]')
    store = rounds.start(settings, tmp_path / "run", Silent())
    assert store.manifest.status == "finished"
    assert [record.kept for record in store.manifest.rounds] == [0, 0, 0]
    assert len({record.weights_sha256 for record in store.manifest.rounds}) == 3


def test_a_difficulty_without_a_prompt_to_label_is_passed_over(tmp_path: Path) -> None:
    """All 90 prompts of two digits are kept for evaluation."""
    settings = short("supervised.difficulty=1", "rounds.step=2", "rounds.count=1")
    store = rounds.start(settings, tmp_path / "run", Silent())
    record = store.manifest.rounds[-1]
    assert record.difficulties == [2, 3]
    assert set(pq.read_table(store.ledger_path(1))["difficulty"].to_pylist()) == {3}
    assert 0 < record.proposed <= 100


def test_other_seeds_give_other_runs(tmp_path: Path) -> None:
    one, same, other = (
        rounds.start(short("rounds.count=1", f"seed={seed}"), tmp_path / name, Silent())
        for name, seed in (("one", 1), ("same", 1), ("other", 2))
    )
    assert_same_run(one, same)
    assert one.manifest.rounds[0].weights_sha256 != other.manifest.rounds[0].weights_sha256
    prompts = [set(pq.read_table(store.ledger_path(1))["prompt"].to_pylist()) for store in (one, other)]
    assert len(prompts[0] & prompts[1]) < 20  # of 9,000 that there are


def test_evaluation_changes_nothing_that_is_trained(tmp_path: Path) -> None:
    unfiltered = 'rounds.filters=[{name="none"}]'
    one, other = (
        rounds.start(
            short(unfiltered, f"evaluation.examples={examples}", f"evaluation.beyond={beyond}"),
            tmp_path / str(examples),
            Silent(),
        )
        for examples, beyond in ((3, 0), (50, 2))
    )
    assert one.manifest.rounds[1].kept > 0
    digests = [record.weights_sha256 for record in one.manifest.rounds]
    assert digests == [record.weights_sha256 for record in other.manifest.rounds]


def test_loaded_members_are_those_of_the_last_round(finished: Store) -> None:
    members = rounds.load_members(finished)
    scores = accuracy(members, *copy_task(), 0, [1, 2, 3], 50)
    assert {str(d): score for d, score in scores.items()}.items() <= finished.manifest.rounds[-1].accuracy.items()
    assert not np.isclose(scores[1], scores[3])


def test_a_run_without_a_round_has_no_members(tmp_path: Path) -> None:
    store = interrupt(StopWithin(0, KeyboardInterrupt), tmp_path / "run")
    with pytest.raises(UserError, match="no round is committed"):
        rounds.load_members(store)


def test_a_run_holds_its_difficulty_where_too_few_labels_are_kept(tmp_path: Path) -> None:
    store = rounds.start(short("rounds.hold=1.0", "rounds.count=3"), tmp_path / "run", Silent())
    first, *held = store.manifest.rounds[1:]
    assert not first.given_up  # there is nothing to go back to but the supervised range
    for number, record in enumerate(held, start=2):
        assert record.difficulties == first.difficulties
        assert set(record.given_up) == {str(d + 1) for d in first.difficulties}
        assert all(share < 1 for share in record.given_up.values())
        ledger = pq.read_table(store.ledger_path(number)).to_pylist()
        assert {row["difficulty"] for row in ledger} == set(first.difficulties)
    prompts = [row["prompt"] for n in (1, 2, 3) for row in pq.read_table(store.ledger_path(n)).to_pylist()]
    assert len(set(prompts)) > len(prompts) / 2  # each round has prompts of its own


def test_a_run_that_keeps_enough_does_not_hold(tmp_path: Path) -> None:
    free = rounds.start(short(), tmp_path / "free", Silent())
    held = rounds.start(short("rounds.hold=0.0001"), tmp_path / "held", Silent())
    kept = [record.kept / record.proposed for record in free.manifest.rounds[1:]]
    assert min(kept) > 0.0001
    assert [r.weights_sha256 for r in held.manifest.rounds] == [r.weights_sha256 for r in free.manifest.rounds]

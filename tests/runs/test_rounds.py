"""Whole runs: the same settings give the same bits, however often the run was stopped."""

import json
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import torch
from helpers import Silent, copy_task, engine_of
from hypothesis import given
from hypothesis import strategies as st

import easy2hard
from easy2hard.engines.reference import MemberCrew
from easy2hard.errors import UserError
from easy2hard.evaluation.exact_match import accuracy, baseline_accuracy
from easy2hard.improvement.filters import Filtered
from easy2hard.improvement.labeller import Labeller
from easy2hard.improvement.proposals import propose
from easy2hard.improvement.watch import Signals
from easy2hard.learning import trainer
from easy2hard.learning.batches import LabelledSource, Mixture
from easy2hard.learning.trainer import Step
from easy2hard.runs import attempts, rounds, training_phase
from easy2hard.runs.attempts import CollapseError
from easy2hard.runs.experiment import Experiment
from easy2hard.runs.integrity import problems
from easy2hard.runs.manifest import Manifest, RoundRecord
from easy2hard.runs.records import FilterRecord
from easy2hard.runs.store import Store, load_weights
from easy2hard.runs.training_phase import TrainingPhase
from easy2hard.settings.recipes import load_recipe
from easy2hard.settings.schema import Settings
from easy2hard.settings.training import PhaseSettings
from easy2hard.tasks.prompts import evaluation_prompts
from easy2hard.tasks.registry import load_oracle, load_task

CPU = torch.device("cpu")

MANIFEST = {
    "plugins",
    "filters",
    "base_sha256",
    "blindfold",
    "supervised_signals",
    "relations",
    "settings_sha256",
    "sha256",
    "format",
    "easy2hard",
    "torch",
    "threads",
    "device",
    "environment",
    "task",
    "seed",
    "status",
    "rounds",
}
ROUND = {
    "round",
    "examples",
    "difficulties",
    "proposed",
    "kept",
    "signals",
    "watch",
    "from_round",
    "readiness",
    "top_up",
    "put_off",
    "relabelled",
    "averaged",
    "verifier",
    "spoilt",
    "member_seconds",
    "overlap",
    "filters",
    "steps",
    "tokens",
    "seconds",
    "phase_seconds",
    "loss",
    "accuracy",
    "baseline",
    "weights_sha256",
    "files",
    "pruned",
    "restarts",
}


@pytest.fixture(scope="module")
def finished(smoke: easy2hard.Run) -> Store:
    """A finished run of the recipe `smoke`; do not change it."""
    return Store(smoke.path)


def results(store: Store) -> list[dict[str, Any]]:
    """Return what every round must give again: everything but the seconds."""
    return [
        record.model_dump(exclude={"seconds", "phase_seconds", "member_seconds"}) for record in store.manifest.rounds
    ]


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
        assert [count.name for count in record.filters] == ["unfinished", "vote", "confidence"]
        assert (record.filters[0].proposed, record.filters[-1].kept) == (record.proposed, record.kept)
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
            reserved = evaluation_prompts(
                task, finished.settings.seed, difficulty, finished.settings.evaluation.reserved
            )
            assert not set(prompts) & set(task.vocabulary.decode_prompts(reserved))


def test_rounds_without_a_single_kept_label_go_on(tmp_path: Path) -> None:
    settings = short('labels.filters=[{name="confidence", threshold=1.0}]')
    store = rounds.start(settings, tmp_path / "run", Silent())
    assert store.manifest.status == "finished"
    assert [record.kept for record in store.manifest.rounds] == [0, 0, 0]
    assert len({record.weights_sha256 for record in store.manifest.rounds}) == 3


def test_a_difficulty_without_a_prompt_to_label_is_passed_over(tmp_path: Path) -> None:
    """All 90 prompts of two digits are kept for evaluation."""
    settings = short("supervised.difficulty=1", "schedule.stride=2", "rounds.count=1")
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
    unfiltered = 'labels.filters=[{name="none"}]'
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
    members = Experiment(finished.settings).load(finished)
    scores = accuracy(members, *copy_task(), 0, [1, 2, 3], 50)
    assert {str(d): score for d, score in scores.items()}.items() <= finished.manifest.rounds[-1].accuracy.items()
    assert not np.isclose(scores[1], scores[3])


def test_a_run_without_a_round_has_no_members(tmp_path: Path) -> None:
    store = interrupt(StopWithin(0, KeyboardInterrupt), tmp_path / "run")
    with pytest.raises(UserError, match="no round is committed"):
        Experiment(store.settings).load(store)


class Noted(Silent):
    """Keeps what the user is told."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        if not re.match("there are few easy prompts|round [0-9]+ kept none", text):  # of untrained members
            self.notes.append(text)


class Moods:
    """Stands in for the signals of a run: in trouble at every labelling that is named, in order."""

    def __init__(self, *bad: int) -> None:
        self.bad, self.calls = bad, 0

    def __call__(self, labels: list[Filtered], parts: float | None) -> Signals:
        self.calls += 1
        share = 0.0 if self.calls in self.bad else 1.0
        return Signals(share, share, 1 - share, share)


def moody(monkeypatch: pytest.MonkeyPatch, out: Path, bad: tuple[int, ...], *overrides: str) -> tuple[Store, Noted]:
    monkeypatch.setattr(attempts, "signals_of", Moods(*bad))
    listener = Noted()
    return rounds.start(short("watch.enabled=true", *overrides), out, listener), listener


def test_a_run_in_trouble_holds_its_difficulty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, listener = moody(monkeypatch, tmp_path / "run", (2,), "rounds.count=3")
    assert [record.difficulties for record in store.manifest.rounds] == [[1, 2, 3], [4], [4], [5]]
    held = store.manifest.rounds[2]
    assert held.watch is not None
    assert (held.watch.action, held.watch.difficulties) == ("hold", ["5"])
    assert "agreement 0.00 is below watch.agreement" in held.watch.reason
    assert held.watch.signals.agreement == 0.0
    assert held.signals.agreement == 1.0  # of the labels that were trained on
    assert held.from_round is None
    assert len(listener.notes) == 1
    assert "round 2, difficulty 5" in listener.notes[0]
    prompts = [pq.read_table(store.ledger_path(number))["prompt"].to_pylist() for number in (1, 2)]
    assert {len(prompt) for prompt in prompts[0] + prompts[1]} == {5}
    assert len(set(prompts[0]) & set(prompts[1])) < 20  # each round has prompts of its own


def test_a_run_whose_parts_are_unreliable_goes_on_with_the_easy_range(tmp_path: Path) -> None:
    """The easy range has true answers: nothing is labelled until its answers contain those to their own parts."""
    listener = Noted()
    settings = short("labels.filters=[{name='parts',reliable=1.0}]", "rounds.count=2", "watch.sample=50")
    store = rounds.start(settings, tmp_path / "run", listener)
    first, second, third = store.manifest.rounds
    assert (third.proposed, third.difficulties) == (0, [1, 2, 3])
    assert second.difficulties == first.difficulties == [1, 2, 3]
    assert (second.proposed, second.kept) == (0, 0)
    assert second.weights_sha256 != first.weights_sha256
    assert second.watch is not None
    assert (second.watch.action, second.watch.difficulties) == ("hold", ["4"])
    assert "is below the filter's reliable = 1.0" in second.watch.reason
    assert "the supervised data alone" in listener.notes[0]
    assert pq.read_table(store.ledger_path(1)).num_rows == 0


def test_a_run_holds_its_difficulty_until_the_parts_are_reliable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    agreements = iter([0.97, 0.9, 0.93, 0.96])
    monkeypatch.setattr(Labeller, "agreement_with_parts", lambda *_: next(agreements))
    settings = short("labels.filters=[{name='parts'}]", "rounds.count=3")
    store = rounds.start(settings, tmp_path / "run", Noted())
    # Of round 2, 0.9 is of difficulty 5 and 0.93 of the difficulty that is labelled afresh.
    assert [record.difficulties for record in store.manifest.rounds] == [[1, 2, 3], [4], [4], [5]]
    assert [record.signals and record.signals.parts for record in store.manifest.rounds] == [None, 0.97, 0.93, 0.96]


def test_a_round_puts_off_what_it_is_too_early_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    agreements = iter([0.97, 0.9, 0.96, 0.97])
    monkeypatch.setattr(Labeller, "agreement_with_parts", lambda *_: next(agreements))
    listener = Noted()
    store = rounds.start(
        short("labels.filters=[{name='parts'}]", "rounds.count=2", "schedule.stride=2"), tmp_path / "run", listener
    )
    records = store.manifest.rounds
    assert [record.difficulties for record in records] == [[1, 2, 3], [4], [5, 6]]
    assert "reliable" in records[1].put_off["5"]
    assert any("difficulty 5" in note and "put off" in note for note in listener.notes)
    assert [each.signals and each.signals.parts for each in records[1:]] == [0.97, 0.96]
    assert records[2].put_off == {}
    assert {len(prompt) for prompt in pq.read_table(store.ledger_path(1))["prompt"].to_pylist()} == {5}


def test_the_watch_asks_the_parts_of_a_sample_of_labels(tmp_path: Path) -> None:
    """Whether or not they are a filter; the task of the smoke recipe has parts."""
    watched = load_recipe("smoke", ["watch.enabled=true", "watch.parts=1", "rounds.count=1"])
    store = rounds.start(watched, tmp_path / "run", Noted())
    record = store.manifest.rounds[1]
    assert 0 < record.signals.parts < 1
    assert store.manifest.rounds[1].watch is None  # nothing was labelled before, so nothing is worse than it was
    unwatched = rounds.start(short("rounds.count=1"), tmp_path / "unwatched", Noted())
    assert unwatched.manifest.rounds[1].signals.parts is None


def test_a_run_rolls_back_to_the_round_before_the_trouble(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Round 3 is in trouble, and so is the difficulty it holds: round 2 spoilt the members."""
    store, _ = moody(monkeypatch, tmp_path / "run", (3, 4), "rounds.count=4")
    records = store.manifest.rounds
    assert [record.difficulties for record in records] == [[1, 2, 3], [4], [5], [5], [6]]
    back = records[3]
    assert back.watch is not None
    assert (back.watch.action, back.from_round) == ("roll back", 1)
    assert [record.round for record in store.manifest.lineage] == [0, 1, 3, 4]
    last = back.filters[-1]
    assert (last.name, last.settings, last.kept) == ("confidence", {"keep": 0.8}, back.kept)
    assert records[4].filters[-1].settings["keep"] == 0.8  # from then on
    assert set(pq.read_table(store.ledger_path(3))["weights_sha256"].to_pylist()) == {records[1].weights_sha256}


def test_what_a_roll_back_left_behind_is_trained_on_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    moody(monkeypatch, tmp_path / "run", (3, 4), "rounds.count=4")
    read: list[str] = []
    monkeypatch.setattr(training_phase, "read_kept", lambda path, **_: read.append(path.name) or {})
    store = Store(tmp_path / "run")
    TrainingPhase(store, Experiment(store.settings, "cpu"), Silent()).run(4, store.manifest.lineage[:-1])
    assert read == ["round-001.parquet", "round-003.parquet", "round-004.parquet"]


@pytest.mark.parametrize("stop_after", [1, 2, 3, 4])
def test_a_run_that_rolled_back_is_resumed_to_the_same_end(
    stop_after: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Trouble whenever two rounds count already: the run goes back again and again.
    monkeypatch.setattr(attempts, "trouble", lambda settings, signals, past: "made up" if len(past) == 3 else None)
    settings = short("watch.enabled=true", "watch.holds=0", "watch.rollbacks=9", "rounds.count=4")
    whole = rounds.start(settings, tmp_path / "whole", Silent())
    assert [record.from_round for record in whole.manifest.rounds] == [None, None, None, 1, 1]
    with pytest.raises(KeyboardInterrupt):
        rounds.start(settings, tmp_path / "part", StopAfter(stop_after))
    part = Store(tmp_path / "part")
    rounds.resume(part, Silent())
    assert_same_run(part, whole)


def test_a_run_stops_where_nothing_helps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CollapseError, match="round 2, difficulty 5: agreement"):
        moody(monkeypatch, tmp_path / "run", (2,), "watch.holds=0", "watch.rollbacks=0")
    store = Store(tmp_path / "run")
    assert store.manifest.status.startswith("stopped: CollapseError: round 2, difficulty 5: agreement 0.00")
    assert [record.round for record in store.manifest.rounds] == [0, 1]


def test_the_first_round_is_no_worse_than_anything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, _ = moody(monkeypatch, tmp_path / "run", (1,), "rounds.count=1")
    assert [record.watch for record in store.manifest.rounds] == [None, None]
    assert store.manifest.rounds[1].signals.agreement == 0.0


def test_a_run_that_is_well_does_what_an_unwatched_one_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    free = rounds.start(short(), tmp_path / "free", Silent())
    watched, _ = moody(monkeypatch, tmp_path / "watched", ())
    digests = [[record.weights_sha256 for record in store.manifest.rounds] for store in (free, watched)]
    assert digests[0] == digests[1]


@pytest.mark.parametrize("overrides", [[], ["schedule.name='accelerated'", "schedule.ready=0.01", "schedule.most=2"]])
def test_a_blindfold_changes_no_weight(overrides: list[str], tmp_path: Path) -> None:
    settings = short(*overrides)
    seeing = rounds.start(settings, tmp_path / "seeing", Silent())
    blind = rounds.start(settings, tmp_path / "blind", Silent(), blindfold=True)
    assert blind.manifest.blindfold
    assert not seeing.manifest.blindfold
    digests = [[record.weights_sha256 for record in store.manifest.rounds] for store in (seeing, blind)]
    assert digests[0] == digests[1]
    for record in blind.manifest.rounds:
        assert list(record.accuracy) == ["1", "2", "3"]
        assert all("oracle" not in values for values in record.readiness.values())


@pytest.mark.parametrize(
    ("overrides", "signal"),
    [
        (["schedule.name='accelerated'", "labels.filters=[{name='verifier'}]"], "labels.filters: verifier"),
        (["schedule.name='accelerated'", "schedule.readiness='oracle'"], "schedule.readiness = 'oracle'"),
        (["labels={counter_examples=true, count=20}", "rounds.count=1"], "labels.counter_examples"),
    ],
    ids=["filter", "readiness", "counter-examples"],
)
def test_what_looks_at_true_answers_is_marked_and_not_for_a_blindfold(
    overrides: list[str], signal: str, tmp_path: Path
) -> None:
    settings = short(*overrides)
    with pytest.raises(UserError, match=f"--blindfold: {re.escape(signal)}"):
        rounds.start(settings, tmp_path / "blind", Silent(), blindfold=True)
    assert not (tmp_path / "blind").exists()
    store = rounds.start(settings, tmp_path / "run", Silent())
    assert store.manifest.supervised_signals == [signal]


def test_a_verifier_keeps_what_is_right(tmp_path: Path) -> None:
    settings = load_recipe("smoke", ["labels.filters=[{name='verifier'}]", "rounds.count=1"])
    store = rounds.start(settings, tmp_path / "run", Silent())
    assert store.manifest.rounds[1].filters[-1].supervised is True
    rows = pq.read_table(store.ledger_path(1)).to_pylist()
    assert 0 < sum(row["kept"] for row in rows) < len(rows)
    assert all(row["kept"] == (row["finished"] and row["prompt"] == row["answer"] + "=") for row in rows)


def test_a_verifier_finds_right_samples_that_are_not_the_most_frequent(tmp_path: Path) -> None:
    one, many = (
        rounds.start(
            load_recipe("smoke", ["labels.filters=[{name='verifier'}]", "rounds.count=1", *overrides]),
            tmp_path / str(len(overrides)),
            Silent(),
        )
        for overrides in ([], ["labels.temperature=1.0", "labels.samples=8"])
    )
    assert many.manifest.supervised_signals == ["labels.filters: verifier"]
    assert many.manifest.rounds[1].kept > one.manifest.rounds[1].kept
    rows = [row for row in pq.read_table(many.ledger_path(1)).to_pylist() if row["kept"]]
    assert all(row["prompt"] == row["answer"] + "=" for row in rows)
    assert {row["members"] for row in rows} == {16}
    assert any(row["votes"] < row["runner_up"] for row in rows)


def test_a_learned_verifier_sees_no_truth_beyond_the_supervised_range(tmp_path: Path) -> None:
    settings = load_recipe("smoke", ["labels.filters=[{name='learned-verifier', threshold=0.3}]", "rounds.count=1"])
    store = rounds.start(settings, tmp_path / "run", Silent(), blindfold=True)
    record = store.manifest.rounds[1]
    assert store.manifest.supervised_signals == []
    assert record.verifier is not None
    assert record.verifier.truth == "of the supervised range"
    assert 0 < record.verifier.right < record.verifier.seen <= 3 * 2 * 200
    assert 0 < record.kept < record.proposed


def test_counter_examples_are_what_is_wrong_with_its_true_answer(tmp_path: Path) -> None:
    overrides = ["labels.filters=[{name='none'}]", "rounds.count=1"]
    plain, solved = (
        rounds.start(load_recipe("smoke", [*overrides, f"labels.counter_examples={each}"]), tmp_path / each, Silent())
        for each in ("false", "true")
    )
    before, after = (pq.read_table(store.ledger_path(1)).to_pylist() for store in (plain, solved))
    members = {row["weights_sha256"] for row in before}
    for said, row in zip(before, after, strict=True):
        is_right = said["finished"] and said["prompt"] == said["answer"] + "="
        assert row["kept"] != is_right
        assert row["why"] == ("counter-examples" if is_right else "kept")
        assert row["prompt"] == said["prompt"] == row["answer"] + "="
        assert {row["weights_sha256"]} == (members if is_right else {"oracle"})
    record = solved.manifest.rounds[1]
    assert 0 < record.kept < record.proposed
    assert record.filters == [FilterRecord(name="counter-examples", proposed=100, kept=record.kept, supervised=True)]


def test_noise_spoils_one_round_and_says_so(finished: Store, tmp_path: Path) -> None:
    noise = "noise={round=1, kind='random', share=0.5}"
    store = rounds.start(load_recipe("smoke", [noise]), tmp_path / "run", Silent())
    clean, spoilt = (pq.read_table(each.ledger_path(1)).to_pylist() for each in (finished, store))
    kept = [row for row in spoilt if row["kept"]]
    assert store.manifest.rounds[1].spoilt == sum(row["spoilt"] for row in spoilt) == round(len(kept) / 2)
    for before, after in zip(clean, spoilt, strict=True):
        assert before["prompt"] == after["prompt"]
        assert (before["answer"] != after["answer"]) == after["spoilt"]
    assert store.manifest.rounds[2].spoilt == 0
    assert store.manifest.rounds[0].weights_sha256 == finished.manifest.rounds[0].weights_sha256
    assert store.manifest.rounds[1].weights_sha256 != finished.manifest.rounds[1].weights_sha256


def test_labels_that_replace_older_ones_are_trained_on_alone(
    finished: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = rounds.start(load_recipe("smoke", ["rounds.data='replace'"]), tmp_path / "run", Silent())
    ours, others = ([each.weights_sha256 for each in run.manifest.rounds] for run in (store, finished))
    assert ours[:2] == others[:2]  # the first round has nothing older
    assert ours[2] != others[2]
    sources: list[list[int]] = []  # rows of each round beside D0

    def fit(members: Any, mixtures: list[Mixture], phase: PhaseSettings, *rest: Any) -> None:
        sources.extend(
            [len(each) for each in (*mix.sources, mix.newest) if isinstance(each, LabelledSource)] for mix in mixtures
        )
        rest[2](Step(0, 0.0, 0.0, 0))

    monkeypatch.setattr(training_phase, "fit", fit)
    TrainingPhase(store, Experiment(store.settings, "cpu"), Silent()).run(2, store.manifest.rounds[:2])
    assert sources == [[store.manifest.rounds[2].kept]] * 2


def test_members_train_on_what_the_others_accept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    jury = "labels.filters=[{name='vote', threshold=1.0, voters='others', weights='agreement'}]"
    store = rounds.start(load_recipe("smoke", ["model.members=3", jury]), tmp_path / "run", Silent())
    assert not problems(store, store.manifest)
    students = [pq.read_table(store.ledger_path(each)).filter(pc.field("kept"))["students"] for each in (1, 2)]
    expected = [[sum(bits >> m & 1 for bits in each.to_pylist()) for each in students] for m in range(3)]
    assert len(set(map(tuple, expected))) > 1
    kept = [record.kept for record in store.manifest.rounds[1:]]
    assert [max(column) < total for column, total in zip(zip(*expected, strict=True), kept, strict=True)] == [True] * 2
    seen: list[Mixture] = []
    step = Step(0, 0.0, 0.0, 0)
    monkeypatch.setattr(training_phase, "fit", lambda engine, mixtures, *rest: (seen.extend(mixtures), rest[3](step)))
    TrainingPhase(store, Experiment(store.settings, "cpu"), Silent()).run(2, store.manifest.rounds[:2])
    sources = [[each for each in (*mix.sources, mix.newest) if isinstance(each, LabelledSource)] for mix in seen]
    assert [[len(each) for each in of_member] for of_member in sources] == expected
    assert len({mix.newest_rows for mix in seen}) == 1  # members that share a step have as many rows
    assert seen[0].newest_rows == min(32, *(each[1] for each in expected))


def test_a_round_can_begin_from_scratch(tmp_path: Path) -> None:
    store = rounds.start(short("rounds.start='scratch'", "rounds.data='replace'"), tmp_path / "run", Silent())
    continued = rounds.start(short("rounds.data='replace'"), tmp_path / "continued", Silent())
    ledgers = [pq.read_table(run.ledger_path(1)) for run in (store, continued)]
    assert ledgers[0].equals(ledgers[1])  # the trained members label
    # What round 2 trains does not depend on the weights of round 1, only on its own labels.
    training = TrainingPhase(store, Experiment(store.settings, "cpu"), Silent())
    training.begin(1)
    for member, fresh in zip(training.members, Experiment(store.settings, "cpu").members, strict=True):
        assert all(torch.equal(one, two) for one, two in zip(member.parameters(), fresh.parameters(), strict=True))
    assert store.manifest.rounds[1].weights_sha256 != continued.manifest.rounds[1].weights_sha256


def test_older_prompts_are_labelled_afresh(tmp_path: Path) -> None:
    store = rounds.start(load_recipe("smoke", ["labels.relabel=true", "rounds.count=3"]), tmp_path / "run", Silent())
    records = store.manifest.rounds
    assert [[each.round for each in record.relabelled] for record in records] == [[], [], [1], [1, 2]]
    assert not store.relabelled_path(1).exists()
    for record in records[2:]:
        again = pq.read_table(store.relabelled_path(record.round)).to_pylist()
        assert {row["weights_sha256"] for row in again} == {records[record.round - 1].weights_sha256}
        for counts in record.relabelled:
            rows = [row for row in again if row["round"] == counts.round]
            first = pq.read_table(store.ledger_path(counts.round)).to_pylist()
            assert [row["prompt"] for row in rows] == [row["prompt"] for row in first]
            assert (len(rows), sum(row["kept"] for row in rows)) == (counts.proposed, counts.kept)
            assert [row["answer"] for row in rows] != [row["answer"] for row in first]
    # Round 3 trains on what it said itself.
    sources = TrainingPhase(store, Experiment(store.settings, "cpu"), Silent()).older(3, records[1:3])
    assert [len(source) for source in sources] == [each.kept for each in records[3].relabelled]
    assert str(store.relabelled_path(2).relative_to(store.path)) in records[2].files
    store.relabelled_path(2).unlink()
    with pytest.raises(UserError, match=r"round-002-relabelled\.parquet: missing"):
        rounds.resume(store, Silent())


def test_the_mean_of_the_last_weights_labels(tmp_path: Path) -> None:
    store = rounds.start(short("labels.averaging=2", "rounds.count=3"), tmp_path / "run", Silent())
    records = store.manifest.rounds
    assert [record.averaged for record in records] == [[], [], [0, 1], [1, 2]]
    one, two, mean = (Experiment(store.settings, "cpu").members for _ in range(3))
    load_weights(store.weights_path(1), one)
    load_weights(store.weights_path(2), two)
    for weights in zip(
        *([p for member in members for p in member.parameters()] for members in (one, two, mean)), strict=True
    ):
        weights[2].data = (weights[0].data + weights[1].data) / 2
    ledger = pq.read_table(store.ledger_path(3)).to_pylist()
    assert {row["weights_sha256"] for row in ledger}.isdisjoint({record.weights_sha256 for record in records})
    prompts = copy_task()[0].vocabulary.encode_prompts([row["prompt"] for row in ledger])
    proposals = propose(engine_of(mean), copy_task()[0], 6, prompts)
    assert copy_task()[0].vocabulary.decode_answers(proposals.answers) == [row["answer"] for row in ledger]
    # Training goes on from the newest weights, not from the mean.
    training = TrainingPhase(store, Experiment(store.settings, "cpu"), Silent())
    training.begin(2)
    assert all(
        torch.equal(p, q)
        for m, n in zip(training.members, two, strict=True)
        for p, q in zip(m.parameters(), n.parameters(), strict=True)
    )


VARIANTS = {
    "replace": ["rounds.data='replace'"],
    "scratch": ["rounds.start='scratch'"],
    "relabel": ["labels.relabel=true"],
    "vote": ["labels.temperature=1", "labels.samples=3", "labels.filters=[{name='vote', threshold=0.5}]"],
    "jury": ["model.members=3", "labels.filters=[{name='vote', threshold=0.6, voters='others'}]"],
    "verifier": ["labels.temperature=1.0", "labels.samples=4", "labels.filters=[{name='verifier'}]", "model.members=1"],
    "averaging": ["labels.averaging=2"],
    "counter-examples": ["labels.counter_examples=true", "labels.filters=[{name='none'}]"],
    "parts": ["labels.filters=[{name='parts',reliable=0.1},{name='vote',threshold=1.0}]", "watch.sample=20"],
    "learned verifier": ["labels.filters=[{name='learned-verifier', threshold=0.2, examples=30}]"],
    "several": ["labels.temperature=0.5", "labels.relabel=true", "labels.averaging=3"],
}
"""Overrides of the shortened smoke recipe."""


class StopLabelling(StopWithin):
    """Interrupts round ``number`` once some labels are there."""

    def advance(self, count: int) -> None:
        if self.now == self.number:
            raise self.error


@pytest.mark.parametrize("name", VARIANTS)
def test_a_variant_is_resumed_to_the_same_end(name: str, tmp_path: Path) -> None:
    """Stopped within the labels of its first and within the training of its second round."""
    settings = short(*VARIANTS[name], "storage.checkpoint_minutes=0")
    whole = rounds.start(settings, tmp_path / "whole", Silent())
    with pytest.raises(KeyboardInterrupt):
        rounds.start(settings, tmp_path / "part", StopLabelling(1, KeyboardInterrupt))
    part = Store(tmp_path / "part")
    with pytest.raises(KeyboardInterrupt):
        rounds.resume(part, StopWithin(2, KeyboardInterrupt))
    assert [record.round for record in part.manifest.rounds] == [0, 1]
    rounds.resume(part, Silent())
    assert_same_run(part, whole)
    assert not problems(part, part.manifest)


@pytest.mark.parametrize("schedule", ["standard", "accelerated"])
def test_a_schedule_that_has_come_to_the_end_ends_the_run(schedule: str, tmp_path: Path) -> None:
    listener = Noted()
    settings = load_recipe(
        "maze-hops-cpu",
        [
            *("model.layers=1", "supervised.steps=2", "supervised.warmup=0", "supervised.decay=0"),
            *("rounds.steps=1", "rounds.warmup=0", "rounds.decay=0", "labels.count=20", "task.options.nodes=4"),
            *("supervised.difficulty=2", "supervised.stages=[]", "labels.compose=false"),
            *(f"schedule.name='{schedule}'", "rounds.count=9", "watch.enabled=false", "evaluation.examples=5"),
        ],
    )
    store = rounds.start(settings, tmp_path / "run", listener)
    assert store.manifest.status == "finished"
    assert [record.difficulties for record in store.manifest.rounds] == [[1, 2], [3]]
    assert listener.notes[-1] == "there is nothing harder than difficulty 3"
    assert any(
        "difficulty 3 is the greatest of task maze-hops, which round 1 labels" in note for note in listener.notes
    )
    hardest = Settings.model_validate(settings.model_dump() | {"supervised": {"difficulty": 3, "steps": 2}})
    with pytest.raises(UserError, match=r"supervised.difficulty = 3: nothing of task maze-hops is harder"):
        rounds.start(hardest, tmp_path / "hardest", Silent())


def test_a_branch_goes_on_as_the_run_it_came_from(finished: Store, tmp_path: Path) -> None:
    branched = finished.branch(tmp_path / "same", 1, finished.settings)
    rounds.resume(branched, Silent())
    assert_same_run(branched, finished)
    other = load_recipe("smoke", ["labels.count=50"])
    elsewhere = finished.branch(tmp_path / "other", 1, other)
    rounds.resume(elsewhere, Silent())
    assert elsewhere.settings == other
    assert results(elsewhere)[:2] == results(finished)[:2]
    assert results(elsewhere)[2]["proposed"] == 50


def test_a_branch_needs_its_round_and_a_place(finished: Store, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"round 7 is not committed \(the last one is 2\)"):
        finished.branch(tmp_path / "new", 7, finished.settings)
    with pytest.raises(UserError, match="exists and is not an empty directory"):
        finished.branch(finished.path, 1, finished.settings)
    assert not (tmp_path / "new").exists()


def test_old_weights_go_where_the_settings_say_so(finished: Store, tmp_path: Path) -> None:
    store = rounds.start(load_recipe("smoke", ["storage.keep_weights=1"]), tmp_path / "run", Silent())
    assert [path.name for path in sorted((store.path / "weights").iterdir())] == ["round-002.safetensors"]
    assert [record.pruned for record in store.manifest.rounds] == [True, True, False]
    digests = [record.weights_sha256 for record in store.manifest.rounds]
    assert digests == [record.weights_sha256 for record in finished.manifest.rounds]
    rounds.resume(store, Silent())  # is intact all the same
    with pytest.raises(UserError, match="weights of round 1 are gone"):
        store.branch(tmp_path / "branch", 1, store.settings)


def diverging(real: Any, step: int, times: int) -> Any:
    """Spoil the loss of one member at one step, once or always."""
    left, more = step, times

    def take(crew: MemberCrew, batch: Any) -> tuple[float, float]:
        nonlocal left, more
        left -= 1
        if left < 0 and more:
            more -= 1
            left = step
            return float("nan"), 1.0
        loss: tuple[float, float] = real(crew, batch)
        return loss

    return take


def test_a_loss_that_is_no_number_sends_a_member_back_with_other_batches(
    finished: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listener = Noted()
    monkeypatch.setattr(MemberCrew, "_take", diverging(MemberCrew._take, 100, 1))
    store = rounds.start(load_recipe("smoke"), tmp_path / "run", listener)
    first = store.manifest.rounds[0]
    assert store.manifest.status == "finished"
    assert len(first.restarts) == 1
    assert "loss is nan" in first.restarts[0].what
    assert re.search(r"\(batch: 32 prompts of \d tokens, 32 prompts of \d tokens\)", first.restarts[0].what)
    assert "back to the last checkpoint, with other batches" in listener.notes[0]
    assert first.steps == finished.manifest.rounds[0].steps
    assert first.weights_sha256 != finished.manifest.rounds[0].weights_sha256


def test_a_run_that_always_diverges_stops(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MemberCrew, "_take", diverging(MemberCrew._take, 2, 99))
    with pytest.raises(trainer.NonFiniteLossError):
        rounds.start(load_recipe("smoke", ["training.restarts=2"]), tmp_path / "run", Silent())
    assert "NonFiniteLossError" in Store(tmp_path / "run").manifest.status


SHORT = ["supervised.steps=20", "supervised.decay=0", "rounds.steps=4", "rounds.decay=0", "labels.count=20"]


@pytest.mark.parametrize(
    ("budget", "committed"), [("steps=27", 1), ("steps=28", 2), ("minutes=1e-9", 0), ("minutes=60", 2)]
)
def test_a_run_ends_within_its_budget(tmp_path: Path, budget: str, committed: int) -> None:
    told = Noted()
    store = rounds.start(load_recipe("smoke", [*SHORT, f"budget.{budget}"]), tmp_path / "run", told)
    before = store.manifest
    assert (len(before.rounds) - 1, before.status) == (committed, "finished")
    assert len(told.notes) == (committed < 2)
    rounds.resume(store, told)  # what was spent stays spent
    assert store.manifest == before


def test_a_budget_changes_nothing_else(tmp_path: Path) -> None:
    free, bound = (
        rounds.start(load_recipe("smoke", [*SHORT, *more]), tmp_path / str(len(more)), Silent()).manifest.rounds
        for more in ([], ["budget.steps=24"])
    )
    assert [record.weights_sha256 for record in bound] == [record.weights_sha256 for record in free[:2]]


@pytest.mark.parametrize("blindfold", [False, True])
def test_a_run_notes_that_its_base_is_no_better_than_the_baseline(tmp_path: Path, blindfold: bool) -> None:
    maze = ["task.name=maze-hops", "task.options={nodes=5}", "supervised.difficulty=2", "rounds.count=1"]
    told = Noted()
    store = rounds.start(short(*maze), tmp_path / "run", told, blindfold)
    notes = [text for text in told.notes if "baseline" in text]
    task = load_task("maze-hops", {"nodes": 5})
    records = store.manifest.rounds
    if blindfold:
        assert (notes, [record.baseline for record in records]) == ([], [{}, {}])
        return
    (note,) = notes
    assert note.startswith("round 0: the members are no better")
    assert str(task.baseline) in note
    for record in records:
        true = baseline_accuracy(task, load_oracle(task), 0, list(map(int, record.accuracy)), 50)
        assert record.baseline == {str(difficulty): score for difficulty, score in true.items()}


@given(
    ours=st.lists(st.floats(0, 1), min_size=1, max_size=4),
    its=st.lists(st.floats(0, 1), max_size=4),
    further=st.floats(0, 1),
)
def test_members_beat_the_baseline_where_they_were_taught_or_nowhere(
    ours: list[float], its: list[float], further: float
) -> None:
    def named(scores: list[float]) -> dict[str, float]:
        return {str(difficulty): score for difficulty, score in enumerate(scores, start=1)}

    record = RoundRecord(
        **dict.fromkeys(["round", "proposed", "kept", "steps", "tokens"], 0),
        **dict.fromkeys(["seconds", "loss"], 0.0),
        difficulties=list(range(1, len(ours) + 1)),
        filters=[],
        phase_seconds={},
        accuracy={**named(ours), "9": further},
        baseline={**named(its[: len(ours)]), "9": 1.0},
        weights_sha256="",
    )
    shared = min(len(ours), len(its))
    assert (record.no_better is None) == (not shared or np.mean(ours[:shared]) > np.mean(its[:shared]))


def test_a_run_with_a_second_target_goes_on_bit_for_bit(tmp_path: Path) -> None:
    settings = short("rounds.count=1", "training.second_target=0.5", "storage.checkpoint_minutes=0")
    whole = rounds.start(settings, tmp_path / "whole", Silent())
    with pytest.raises(KeyboardInterrupt):
        rounds.start(settings, tmp_path / "stopped", StopWithin(1, KeyboardInterrupt))
    store = Store(tmp_path / "stopped")
    rounds.resume(store, Silent())
    assert_same_run(store, whole)
    untrained = Experiment(settings, "cpu").members
    for member, before in zip(Experiment(whole.settings).load(whole).members, untrained, strict=True):
        assert not torch.equal(member.second.head.weight, before.second.head.weight)


def test_a_run_says_how_few_prompts_there_are_and_that_a_round_kept_none(tmp_path: Path) -> None:
    told: list[str] = []

    class Told(Silent):
        def note(self, text: str) -> None:
            told.append(text)

    nothing = ['labels.filters=[{name="confidence", threshold=1.0}]', "watch.enabled=false", "rounds.count=1"]
    few = ["supervised.difficulty=2", "labels.count=400"]
    rounds.start(load_recipe("smoke", [*SHORT, *few, *nothing]), tmp_path / "run", Told())
    assert told[0].endswith("difficulty 1 has 9 (9 are evaluation's), difficulty 2 has 90 (90 are evaluation's)")
    assert any(text.startswith("round 1, difficulty 3: it has no more than ") for text in told)
    assert any(text.startswith("round 1 kept none of its ") for text in told)

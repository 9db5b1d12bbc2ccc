"""How long the rest of a run takes: simulated runs whose phases take so many seconds a token."""

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from easy2hard.engines.compiling import Compiling
from easy2hard.improvement.schedules import next_difficulties, planned
from easy2hard.runs import time_left as module
from easy2hard.runs.experiment import Experiment
from easy2hard.runs.manifest import Manifest, RoundRecord
from easy2hard.runs.time_left import PHASES, TimeLeft, Window
from easy2hard.settings.recipes import load_recipe
from easy2hard.settings.schema import Settings


class Clock:
    """A clock that a test moves."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        self.compiling = Compiling(lambda: self.now)
        monkeypatch.setattr(module, "COMPILING", self.compiling)

    def compile(self, seconds: float) -> None:
        self.compiling.begin()
        self.compiling.begin()  # one function within another
        self.now += seconds
        self.compiling.end()
        self.compiling.end()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def manifest(rounds: list[RoundRecord]) -> Manifest:
    values: dict[str, Any] = {
        "easy2hard": "0",
        "torch": "0",
        "device": "cpu",
        "threads": 1,
        "created": "",
        "status": "",
    }
    return Manifest.model_construct(**values, rounds=rounds, supervised_signals=[])


def record(number: int, difficulties: list[Any], seconds: Mapping[str, float], steps: int) -> RoundRecord:
    return RoundRecord.model_construct(
        round=number,
        difficulties=difficulties,
        from_round=None,
        steps=steps,
        seconds=sum(seconds.values()),
        phase_seconds=dict(seconds),
    )


def simulated(
    settings: Settings, cost: Mapping[str, float], clock: Clock, told: int
) -> tuple[list[float], list[float]]:
    """Return what is said half-way through the training of each round from ``told`` on, and how long it did take."""
    task = Experiment(settings, "cpu").task
    easy = task.evaluated_difficulties(settings.supervised.difficulty)
    all_rounds = [easy, *planned(settings.schedule, task, [easy], settings.rounds.count)]
    left, records, said, at = TimeLeft(settings, task, manifest([])), list[RoundRecord](), list[float](), list[float]()
    for number, difficulties in enumerate(all_rounds):
        work = left._work(all_rounds[:number], difficulties)
        seconds = {}
        for name in [each for each in PHASES if work[each]]:
            left.phase(name)
            clock.compile(25.0)
            seconds[name] = cost[name] * work[name]
            clock.now += seconds[name] / 2
            if name == "train" and number >= told:
                remaining = left.of_run(seconds[name] / 2, 0.5)
                assert remaining is not None
                said.append(remaining)
                at.append(clock.compiling.clock())
            clock.now += seconds[name] / 2
        steps = settings.rounds.steps if number else settings.supervised.steps
        records.append(record(number, difficulties, seconds, steps))
        left.committed(manifest(records))
    end = clock.compiling.clock()
    return said, [end - each for each in at]


@pytest.mark.parametrize("task", ["copy", "multiplication", "maze-hops"])
def test_once_each_phase_was_measured_it_is_what_the_run_will_take(clock: Clock, task: str) -> None:
    """Lengths grow from round to round; compiling counts for nothing."""
    settings = load_recipe(f"{task}-cpu")
    cost = {"label": 3e-4, "relabel": 3e-4, "train": 2e-3, "evaluate": 1e-3}
    said, took = simulated(settings, cost, clock, told=1)
    assert said == pytest.approx(took)


def test_in_the_supervised_phase_what_was_not_measured_costs_a_third_of_training(clock: Clock) -> None:
    settings = load_recipe("copy-cpu")
    cost = {"label": 1.0, "relabel": 1.0, "train": 3.0, "evaluate": 1.0}
    said, took = simulated(settings, cost, clock, told=0)
    assert said == pytest.approx(took)


def test_a_run_that_goes_on_knows_what_its_rounds_took(clock: Clock) -> None:
    settings = load_recipe("copy-cpu", ["rounds.count=3"])
    task = Experiment(settings, "cpu").task
    easy = task.evaluated_difficulties(settings.supervised.difficulty)
    rounds = [easy, *planned(settings.schedule, task, [easy], 3)]
    scale = TimeLeft(settings, task, manifest([]))
    cost = {"label": 2.0, "relabel": 2.0, "train": 5.0, "evaluate": 0.5}
    works = [scale._work(rounds[:at], each) for at, each in enumerate(rounds)]
    took = [{name: cost[name] * work[name] for name in work if work[name]} for work in works]
    done = [record(at, rounds[at], took[at], 1) for at in range(2)]
    left = TimeLeft(settings, task, manifest(done), begun=True)
    left.phase("label")
    clock.now += 1e-3  # most answers were there before
    left.phase("train")
    assert left.of_run(None, 0.0) == pytest.approx(sum(sum(each.values()) for each in took[2:]) - took[2]["label"])


@pytest.mark.parametrize(("budget", "rounds"), [("steps=640", 2), ("minutes=0.001", 0)])
def test_rounds_that_the_budget_will_not_allow_are_left_out(clock: Clock, budget: str, rounds: int) -> None:
    overrides = ["supervised.steps=600", "rounds.steps=20"]
    few = load_recipe("smoke", [*overrides, f"rounds.count={rounds}"])
    many = load_recipe("smoke", [*overrides, "rounds.count=9", f"budget.{budget}"])
    said = []
    for settings in (few, many):
        left = TimeLeft(settings, Experiment(settings, "cpu").task, manifest([]))
        left.phase("train")
        clock.now += 10.0
        said.append(left.of_run(10.0, 0.5))
    assert said[0] == said[1]
    assert said[0] is not None


def test_nothing_is_said_before_anything_is_known(clock: Clock) -> None:
    settings = load_recipe("smoke")
    left = TimeLeft(settings, Experiment(settings, "cpu").task, manifest([]))
    assert left.of_run(None, 0.0) is None
    left.phase("train")
    assert left.of_run(None, 0.0) is None


@given(pace=st.floats(0.5, 100.0), before=st.floats(0.01, 5.0), compiled=st.floats(0.1, 60.0))
def test_a_rate_is_of_the_last_seconds_and_leaves_compiling_out(pace: float, before: float, compiled: float) -> None:
    with pytest.MonkeyPatch.context() as patched:
        clock = Clock(patched)
        window = Window()
        assert window.add(0, 0) is None
        clock.compile(compiled)
        window.add(1, 10_000)  # more than a second does
        clock.now += 29 / before  # slower or faster at first
        window.add(30, 10_290)
        for parts in range(31, 71):
            clock.now += 1.0 / pace
            rate = window.add(parts, 9_990 + 10 * parts)
        assert rate is not None
        if 40 / pace > module.WINDOW + 1 / pace:
            assert rate.parts == pytest.approx(pace)
        else:
            assert min(pace, before) * 0.99 <= rate.parts <= max(pace, before) * 1.01
        assert rate.tokens == pytest.approx(10 * rate.parts)


def test_the_plan_is_the_schedule_s(clock: Clock) -> None:
    settings = load_recipe("smoke")
    task = Experiment(settings, "cpu").task
    history = [task.evaluated_difficulties(3)]
    found = planned(settings.schedule, task, history, 2)
    assert found[0] == next_difficulties(settings.schedule, task, history)
    assert len(found) == 2

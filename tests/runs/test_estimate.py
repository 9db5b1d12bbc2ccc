"""The estimate: what is measured is added up over the schedule as a real run would do it."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from easy2hard.improvement.filters import relations_of
from easy2hard.learning.trainer import Step
from easy2hard.runs import probe as module
from easy2hard.runs.estimate import Estimate, RoundEstimate, estimate
from easy2hard.runs.experiment import Experiment
from easy2hard.runs.manifest import RunDirectory
from easy2hard.settings.recipes import load_recipe
from easy2hard.tasks.base import Difficulty, Task, hardest, parse_difficulty
from easy2hard.tasks.oracle import Oracle
from easy2hard.text import duration
from tests.helpers import Silent

CURRICULUM = ["supervised.curriculum=0.5", "supervised.difficulty=6", "supervised.warmup=0", "evaluation.examples=20"]
PAIRS = ["task.name=multiplication", "supervised.difficulty=2", "labels.count=30", "evaluation.examples=5"]


def length(task: Task, oracle: Oracle, difficulty: Difficulty) -> int:
    prompts = task.sample(np.random.default_rng(1), difficulty, 16)
    return prompts.shape[1] + oracle.solve(prompts).shape[1]


class Clock:
    """A clock on which every token that is trained on, answered or evaluated takes a second."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now

    def fit(self, members: Any, mixtures: Any, phase: Any, *rest: Any) -> None:
        on_step = rest[2]
        for step in range(phase.steps):
            tokens = sum(group.tokens.size for mixture in mixtures for group in mixture.batch(step, step / phase.steps))
            self.now += tokens
            on_step(Step(step, 0.0, 0.0, tokens))

    def accuracy(
        self, members: Any, task: Any, oracle: Any, seed: int, difficulties: Sequence[Any], examples: int
    ) -> None:
        self.now += examples * sum(length(task, oracle, difficulty) for difficulty in difficulties)

    def labeller(self, members: Any, task: Any, *rest: Any) -> "Clock":
        self.task = task
        return self

    def relations(self, filters: Any) -> frozenset[str]:
        return relations_of(filters)

    def draws(self, number: int, difficulty: Any) -> None:
        pass

    def propose(self, difficulty: Any, prompts: Any, relations: frozenset[str], draws: None) -> None:
        self.now += self.task.answer_bounds(prompts).sum() * (2 if relations else 1)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    monkeypatch.setattr(module, "fit", clock.fit)
    monkeypatch.setattr(module, "accuracy", clock.accuracy)
    monkeypatch.setattr(module, "Labeller", clock.labeller)
    monkeypatch.setattr(module, "STEPS", (30, 30))
    monkeypatch.setattr(module, "SECONDS", 1e12)
    monkeypatch.setattr(module, "SLOW", float("inf"))
    monkeypatch.setattr(module, "PHASE", float("inf"))
    return clock


@pytest.mark.parametrize("overrides", [[], CURRICULUM, PAIRS], ids=["plain", "curriculum", "pairs"])
def test_training_is_what_a_run_reads(
    clock: Clock, monkeypatch: pytest.MonkeyPatch, tmp_path: Any, overrides: list[str]
) -> None:
    """On a clock that counts tokens the estimate is the number of tokens that a real run notes down."""
    from easy2hard.runs import rounds, training_phase

    settings = load_recipe("smoke", ['labels.filters=[{name="none"}]', *overrides])
    estimated = estimate(settings)

    def fit(members: Any, mixtures: Any, phase: Any, *rest: Any) -> None:
        clock.fit(members, mixtures, phase, *rest[:3])

    monkeypatch.setattr(training_phase, "fit", fit)
    # Untrained members hardly ever end an answer; so the labels are made by the oracle, as many as a run proposes.
    monkeypatch.setattr(
        training_phase.TrainingPhase, "labels_of", lambda phase, number, member: probe._labels_of(number)
    )
    probe = module.Probe(Experiment(settings, "cpu"))
    store = rounds.start(settings, tmp_path / "run", Silent())
    records = RunDirectory(store.path).manifest.rounds
    assert [each.hardest for each in estimated.rounds] == [max(map(hardest, each.difficulties)) for each in records]
    assert [each.train for each in estimated.rounds] == pytest.approx([each.tokens for each in records], rel=0.06)
    expected = [
        settings.evaluation.examples * sum(length(probe.task, probe.oracle, parse_difficulty(d)) for d in each.accuracy)
        for each in records
    ]
    assert [each.evaluate for each in estimated.rounds] == pytest.approx(expected, rel=0.02)


def test_labels_are_priced_by_the_length_of_true_answers(clock: Clock) -> None:
    """A sum of two numbers has as many digits as it has, whatever its bound; the end counts as a token."""
    settings = load_recipe("smoke", ["task.name=reverse-addition", "labels.count=50", "rounds.count=1"])
    label = estimate(settings).rounds[1].label
    assert 50 * 5 < label <= 50 * 6
    topped = load_recipe("smoke", ["labels.count=50", "labels.top_up=80"])  # 80 % of the labels are kept
    assert estimate(topped).rounds[1].label == pytest.approx(5 * (50 + 16 + int(1.1 * 40 / 0.8)), rel=1e-6)


@pytest.mark.parametrize(
    ("budget", "rounds"), [("steps=139", 0), ("steps=140", 1), ("steps=1000", 2), ("minutes=1e-9", 0)]
)
def test_rounds_that_the_budget_does_not_allow_are_left_out(clock: Clock, budget: str, rounds: int) -> None:
    """The supervised phase of 120 steps comes whole, a round takes 20."""
    whole = estimate(load_recipe("smoke"))
    assert estimate(load_recipe("smoke", [f"budget.{budget}"])).rounds == whole.rounds[: rounds + 1]


def test_a_first_call_that_compiles_counts_for_nothing(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = load_recipe("smoke", ["rounds.count=1"])
    label = estimate(settings).rounds[1].label
    compiled: list[bool] = []

    def propose(difficulty: Any, prompts: Any, relations: frozenset[str], draws: None) -> None:
        clock.now += 0 if compiled else 1000
        compiled.append(True)
        Clock.propose(clock, difficulty, prompts, relations, draws)

    monkeypatch.setattr(clock, "propose", propose)
    assert estimate(settings).rounds[1].label == label


@pytest.mark.parametrize("recipe", ["copy-paper", "multiplication-gpu", "maze-hops-cpu"])
def test_what_takes_long_is_measured_in_part_and_says_so(
    clock: Clock, monkeypatch: pytest.MonkeyPatch, recipe: str
) -> None:
    """On a clock on which every token takes a while, few are measured, and the estimate stays about the same."""
    overrides = [] if recipe == "maze-hops-cpu" else ["rounds.count=4", "model.preset=tiny"]
    settings = load_recipe(recipe, overrides)
    whole, all_of_it = estimate(settings), clock.now
    monkeypatch.setattr(module, "SLOW", 1.5)
    monkeypatch.setattr(module, "PHASE", 8.0)
    clock.now = 0.0
    part = estimate(settings)
    assert clock.now < all_of_it / 20
    assert part.seconds == pytest.approx(whole.seconds, rel=0.35)
    assert module.IN_PART in part.notes
    assert module.IN_PART not in whole.notes


def test_twins_are_answered_too(clock: Clock) -> None:
    plain = load_recipe("smoke", ["task.name=reverse-addition", 'labels.filters=[{name="none"}]'])
    twins = load_recipe("smoke", ["task.name=reverse-addition", 'labels.filters=[{name="twin"}]'])
    assert estimate(twins).rounds[1].label == pytest.approx(2 * estimate(plain).rounds[1].label, rel=0.05)


def test_probed_members_answer_to_the_length_of_the_true_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is replaced here: the members that are measured write on until their bound."""
    settings = load_recipe("smoke")
    monkeypatch.setattr(module, "SECONDS", 0.01)
    probe = module.Probe(Experiment(settings, "cpu"))
    answered: list[Any] = []
    propose = module.Labeller.propose

    def watched(labeller: Any, *arguments: Any) -> Any:
        answered.append(propose(labeller, *arguments))
        return answered[-1]

    monkeypatch.setattr(module.Labeller, "propose", watched)
    assert probe.label(2) > 0
    lengths = np.concatenate([(each.answers != 0).sum(axis=1) for each in answered])
    assert (lengths <= 6).all()
    assert (lengths == 6).mean() > 0.9


def test_a_run_without_rounds_is_its_supervised_phase(clock: Clock) -> None:
    estimated = estimate(load_recipe("smoke", ["rounds.count=0"]))
    assert len(estimated.rounds) == 1
    assert estimated.phases["label"] == estimated.phases["train"] == 0
    assert estimated.seconds == pytest.approx(sum(estimated.phases.values()))


def test_the_accelerated_schedule_says_what_it_takes_for_granted(clock: Clock) -> None:
    estimated = estimate(load_recipe("smoke", ["schedule.name=accelerated"]))
    assert "schedule.most = 20" in "\n".join(estimated.lines())


def test_what_is_printed_adds_up() -> None:
    rounds = [RoundEstimate(0, 3, 0.0, 30.0, 1.0), RoundEstimate(1, 4, 5.0, 40.0, 2.0)]
    estimated = Estimate(rounds, "cpu", 2, 3.0, ["all is well"])
    assert estimated.seconds == 78
    assert estimated.cut(0).seconds == 31
    assert estimated.as_json()["phases"] == {"supervised": 30.0, "label": 5.0, "train": 40.0, "evaluate": 3.0}
    assert estimated.lines()[0].startswith("about 1 min 18 s on 2 cores")
    assert estimated.lines()[-1] == "it assumes that all is well"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (4.4, "4 s"),
        (59.4, "59 s"),
        (330, "5 min 30 s"),
        (900, "15 min"),
        (7500, "2 h 5 min"),
        (87_264_000, "1,010 days"),
    ],
)
def test_durations_are_said_as_people_say_them(seconds: float, text: str) -> None:
    assert duration(seconds) == text

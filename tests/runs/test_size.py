"""What cannot fit, or would take years, is refused before it begins, in a line with the figure."""

import re
import resource

import pytest
from hypothesis import given
from hypothesis import strategies as st

from easy2hard import memory
from easy2hard.errors import UserError
from easy2hard.runs import estimate, size
from easy2hard.runs.experiment import Experiment
from easy2hard.runs.preflight import doubts
from easy2hard.runs.size import amount, check_difficulties, check_size, long_step
from easy2hard.settings.recipes import load_recipe
from easy2hard.tasks.registry import load_task, task_names


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            ["task.name=multiplication", "supervised.difficulty=10000"],
            r"difficulty = 10000: leads to about 100,000,000",
        ),
        (
            ["rounds.count=1000", "schedule.stride=1000"],
            r"count = 1000 with schedule.stride = 1000: leads to about 1,000",
        ),
        (["labels.count=100000000"], r"labels.count = 100000000: the run would take at least 26.0 GB, .* has 16.0"),
        (["model.width=65536", "model.layers=1000"], r"million weights of all members: the run would take at least"),
        (["training.batch=1000000", "model.width=1024"], r"training.batch = 1000000: the run would take at least"),
        (
            ["supervised.steps=1000000000", "training.batch=1000", "model.width=1024"],
            r"supervised.steps = 10+: the run would take at least .* years",
        ),
        (
            ["rounds.steps=1000000000", "training.batch=1000", "model.width=1024"],
            r"rounds.steps = 10+: the run would take at least .* years",
        ),
        (["evaluation.examples=1000000", "rounds.count=999", "schedule.stride=1000"], r"at least .* years"),
    ],
)
def test_what_no_machine_can_do_is_refused(settings: list[str], message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "total", lambda: 16 * 10**9)
    experiment = Experiment(load_recipe("smoke", settings))
    with pytest.raises(UserError, match=message):  # noqa: PT012 - which of them does is of no interest
        check_difficulties(experiment.settings, experiment.task)
        check_size(experiment)


def test_a_limit_of_address_space_limits_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    limits = {resource.RLIMIT_AS: 1 << 30, resource.RLIMIT_STACK: 8 << 20}
    monkeypatch.setattr(resource, "getrlimit", lambda of: (limits.get(of, resource.RLIM_INFINITY),) * 2)
    assert size.threads() == 64
    limits[resource.RLIMIT_AS] = resource.RLIM_INFINITY
    assert size.threads() > 64


def test_a_machine_with_few_threads_trains_few_members(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(size, "threads", lambda: 100)
    check_size(Experiment(load_recipe("smoke", ["model.members=50"])))
    with pytest.raises(UserError, match=r"model.members = 51: train in 102 threads, and this process may have 100"):
        check_size(Experiment(load_recipe("smoke", ["model.members=51"])))


@given(st.sampled_from(task_names()), st.integers(65, 90))
def test_difficulties_are_counted_without_a_list_of_them(name: str, hardest: int) -> None:
    task = load_task(name)
    for difficulties in (task.supervised_difficulties, task.evaluated_difficulties):
        assert amount(difficulties, hardest) == pytest.approx(len(difficulties(hardest)), rel=0.1)


def test_a_step_that_takes_minutes_is_said_and_what_would_be_right(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(size, "cores", lambda: 2)

    def said(difficulty: int, *more: str) -> str | None:
        settings = load_recipe("copy-cpu", [f"supervised.difficulty={difficulty}", *more])
        return long_step(Experiment(settings, "cpu"))

    message = said(10_000)
    assert message is not None
    assert re.match(
        r"supervised\.difficulty = 10000: a step of \d+ rows reads [\d,]+ tokens .* and takes about .* on 2 cores",
        message,
    )
    right = re.search(r"with (\d+) it takes (\d+) s$", message)
    assert right is not None
    assert int(right[2]) <= size.SHORT_STEP
    assert said(int(right[1])) is None
    with pytest.raises(UserError, match=r"supervised\.difficulty = 10000: a step of 8 rows .*; nothing is measured"):
        estimate.estimate(load_recipe("copy-cpu", ["supervised.difficulty=10000"]), device="cpu")
    heavy = said(5, "model.width=8192", "model.feed_forward=32768", "model.heads=64")
    assert heavy is not None
    assert heavy.startswith("training.batch = ")


@pytest.mark.parametrize("recipe", ["smoke", "copy-cpu", "copy-vote-cpu", "reverse-addition-cpu", "multiplication-cpu"])
def test_shipped_recipes_raise_no_doubts(recipe: str) -> None:
    assert doubts(Experiment(load_recipe(recipe), "cpu")) == []


def test_a_length_filter_that_drops_right_answers_is_said_with_the_threshold_that_does_not() -> None:
    def said(task: str, threshold: int) -> list[str]:
        settings = [f"task.name={task}", f"labels.filters=[{{name='length',threshold={threshold}}}]"]
        return doubts(Experiment(load_recipe("smoke", settings), "cpu"))

    (message,) = said("reasoning-gym", 1)
    assert re.match(r"labels\.filters: length with threshold = 1 would drop \d+% of the right answers at", message)
    right = re.search(r"threshold = (\d+) drops none of them$", message)
    assert right is not None
    assert said("reasoning-gym", int(right[1])) == said("copy", 1) == []
    assert int(right[1]) > 1

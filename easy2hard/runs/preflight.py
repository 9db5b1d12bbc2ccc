"""Settings that are each allowed and together cannot run, refused before anything is written."""

from typing import Any

import numpy as np

from easy2hard.contracts import check_thing
from easy2hard.errors import UserError
from easy2hard.huggingface.sharding import check_sharding
from easy2hard.improvement.filters import relations_of
from easy2hard.improvement.filters.length import LengthFilter
from easy2hard.improvement.schedules import History, Ready, planned
from easy2hard.plugins import FILTERS, POSITIONS, SCHEDULES, Kind
from easy2hard.positions import NO_POSITIONS, Tabled, build_positions
from easy2hard.runs.experiment import Experiment
from easy2hard.runs.size import check_difficulties, long_step
from easy2hard.runs.tracking import check_tracking
from easy2hard.seeding import numpy_generator
from easy2hard.settings.schema import Settings
from easy2hard.tasks.base import Difficulty, Task, difficulty_text, hardest
from easy2hard.tasks.contract import check_contract
from easy2hard.tasks.registry import is_built_in, load_oracle
from easy2hard.vocabulary import PAD

ASKED = 200
"""Prompts whose true answers' lengths are looked at."""
DROPPED = 0.05
"""The share of right answers from which it is said that a filter drops them."""


def check(experiment: Experiment) -> None:
    """Refuse what cannot run.

    Raises:
        UserError: naming the setting and what would be right.
    """
    settings = experiment.settings
    check_tracking(settings.tracking)
    check_sharding(settings.model)
    task = experiment.task
    check_difficulties(settings, task)
    _check_difficulties(settings, task)
    _check_answers(settings, task)
    if not is_built_in(task.name):
        check_contract(task, load_oracle(task))
    for each in settings.labels.filters:
        _check_contract(FILTERS, each.name)
    _check_contract(SCHEDULES, settings.schedule.name)
    if settings.model.positions != NO_POSITIONS:
        _check_contract(POSITIONS, settings.model.positions)
    _check_positions(settings, task)


def _check_contract(kind: Kind[Any], name: str) -> None:
    """Refuse what a third party has added and does not keep its contract."""
    thing = kind.find(name)
    if name not in kind.built_in:
        check_thing(thing)


def doubts(experiment: Experiment) -> list[str]:
    """Return in a line each what can run and is hardly meant; asks the oracle about the supervised range alone."""
    return [*_short_answers(experiment), *filter(None, [long_step(experiment), _more_rounds_than_steps(experiment)])]


def _more_rounds_than_steps(experiment: Experiment) -> str | None:
    """Return that the task has fewer difficulties than the rounds would take, if so."""
    count, task = experiment.settings.rounds.count, experiment.task
    slowest = _history(experiment.settings, task, lambda difficulty: False)
    if (there := len(slowest) - 1) == count:
        return None
    return (
        f"rounds.count = {count}: difficulty {_reached(slowest)} is the greatest of task {task.name}, which round "
        f"{there} labels; the others are left for rounds that the watch has done again"
    )


def _short_answers(experiment: Experiment) -> list[str]:
    """Return what the filter ``length`` would do to the true answers of the hardest supervised difficulty."""
    task, said = experiment.task, []
    hard = task.supervised_difficulties(experiment.settings.supervised.difficulty)[-1]
    for each in experiment.settings.labels.filters:
        if isinstance(each, LengthFilter):
            prompts = task.sample(numpy_generator(0, "length"), hard, ASKED)
            lengths = (experiment.oracle.solve(prompts) != PAD).sum(axis=1)
            dropped, right = float((lengths < each.least(lengths)).mean()), each.least(lengths) + each.threshold
            if dropped >= DROPPED:
                said.append(
                    f"labels.filters: length with threshold = {each.threshold} would drop {dropped:.0%} of the right "
                    f"answers at difficulty {difficulty_text(hard)}, of {lengths.min()} to {lengths.max()} tokens; "
                    f"threshold = {right - lengths.min()} drops none of them"
                )
    return said


def planned_frontier(experiment: Experiment) -> int:
    """Return the hardest difficulty that the rounds lead to, one small step at a time where the members decide."""
    slowest = _history(experiment.settings, experiment.task, lambda difficulty: False)
    return _reached(slowest)


def _history(settings: Settings, task: Task, ready: Ready) -> list[list[Difficulty]]:
    """Return the difficulties of every round, the supervised phase first, if the members were ready as told."""
    easy = task.evaluated_difficulties(settings.supervised.difficulty)
    return [easy, *planned(settings.schedule, task, [easy], settings.rounds.count, ready)]


def _reached(history: History) -> int:
    return max(hardest(difficulty) for difficulties in history for difficulty in difficulties)


def _check_difficulties(settings: Settings, task: Task) -> None:
    """Refuse what is too easy or too hard for the task."""
    easy = settings.supervised.difficulty
    if not task.supervised_difficulties(easy):
        raise UserError(f"supervised.difficulty = {easy}: task {task.name} has nothing that easy")
    if easy > task.capped(easy):
        raise UserError(f"supervised.difficulty = {easy}: at most {task.greatest} here")
    slowest = _history(settings, task, lambda difficulty: False)
    if settings.rounds.count and len(slowest) == 1:
        raise UserError(
            f"supervised.difficulty = {easy}: nothing of task {task.name} is harder, so there is no round "
            f"(rounds.count = {settings.rounds.count}); lower it"
        )
    for number, difficulties in enumerate(slowest[1:], start=1):
        reached = max(map(hardest, difficulties))
        if reached > task.capped(reached):
            raise UserError(
                f"rounds.count = {settings.rounds.count}: round {number} would pass difficulty {task.greatest}, "
                f"the greatest of task {task.name}"
            )


def _check_answers(settings: Settings, task: Task) -> None:
    """Refuse what asks more of a task's answers than there is in them."""
    used = {*relations_of(settings.labels.filters), *([settings.readiness] if settings.schedule.asks else [])}
    easiest = task.supervised_difficulties(settings.supervised.difficulty)[0]
    if "twin" in used and task.twin(task.sample(np.random.default_rng(0), easiest, 1)) is None:
        raise UserError(f"task {task.name}: has no twin prompts for labels.filters or schedule.readiness = 'twin'")
    if "parts" in used and type(task).parts is Task.parts:
        raise UserError(f"task {task.name}: declares no parts for labels.filters or schedule.readiness = 'parts'")
    if settings.labels.compose and not task.composes:
        raise UserError(f"labels.compose = true: task {task.name} has no parts that make whole answers")
    if settings.noise and "0" not in task.vocabulary.symbols:
        raise UserError(f"noise: only digits are spoilt, and the answers of task {task.name} have none")


def _check_positions(settings: Settings, task: Task) -> None:
    """Refuse position schemes that do not fit the task, or whose tables the run could outgrow."""
    scheme = build_positions(settings.model, task)
    if scheme is None:
        return
    if not isinstance(scheme, Tabled):
        easiest = task.supervised_difficulties(settings.supervised.difficulty)[0]
        prompts = task.sample(np.random.default_rng(0), easiest, 1)
        scheme.ids(prompts, prompts.shape[1])  # raises where the task has no such numbers
        return
    fastest = _history(settings, task, lambda difficulty: True)
    evaluated = task.evaluated_difficulties(task.capped(_reached(fastest) + settings.evaluation.beyond))
    needed = {}
    for difficulty in (*evaluated[-1:], *fastest[-1]):
        prompts = task.sample(np.random.default_rng(0), difficulty, 1)
        needed[difficulty] = scheme.places(prompts, int(task.answer_bounds(prompts).max()))
    difficulty = max(needed, key=lambda each: needed[each])
    if needed[difficulty] > settings.model.capacity:
        raise UserError(
            f"model.position_capacity = {settings.model.capacity}: difficulty {difficulty_text(difficulty)}, which the "
            f"run could come to, needs {needed[difficulty]} places"
        )

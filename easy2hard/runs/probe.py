"""Pieces of a run, measured on this machine at their real sizes.

The members that are measured are untrained, but they are given what a run that goes well would give them: batches of
the curriculum's and the rounds' lengths, and prompts whose answers end where the true ones do. An untrained member
writes on to its bound, a trained one ends its answers, and that is most of what labelling costs. So the true answers'
lengths are used; nothing that is made here outlives the estimate.
"""

import copy
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from typing_extensions import override

from easy2hard.engines.engine import Group, Part
from easy2hard.evaluation.exact_match import accuracy
from easy2hard.improvement.labeller import Labeller
from easy2hard.improvement.schedules import planned
from easy2hard.learning.batches import LabelledSource, Mixture
from easy2hard.learning.trainer import fit
from easy2hard.models.member import Member
from easy2hard.models.transformer import Transformer
from easy2hard.runs.experiment import Experiment
from easy2hard.runs.time_left import Work
from easy2hard.runs.training_phase import build_mixture
from easy2hard.seeding import numpy_generator
from easy2hard.settings.schema import Settings
from easy2hard.settings.training import PhaseSettings
from easy2hard.tasks.base import Difficulty, Task, difficulty_text, hardest
from easy2hard.tasks.prompts import fresh_prompts
from easy2hard.vocabulary import EOS, PAD, Tokens

SECONDS = 1.0
"""Each measurement goes on for about so long, or to the end of what there is to measure."""
STEPS = 4, 200
"""Fewest and most training steps measured."""
SLOW = 1.5
"""Seconds from which a batch, prompts or an evaluation are measured by fewer rows; the rest is in proportion."""
PHASE = 8.0
"""Seconds after which nothing further of a phase is measured but what is known by nothing else."""
IN_PART = "the parts that were measured stand for the rest: all of it would have taken over a minute to measure"
FEW = 8
"""Rows that are measured first."""


class Probe:
    """Measures pieces of what a run does; each of them is in seconds.

    Args:
        experiment: what the run is made of; its members are used up.
    """

    def __init__(self, experiment: Experiment) -> None:
        self.settings = experiment.settings
        self.task = experiment.task
        self.oracle = experiment.oracle
        self.reserved = experiment.reserved
        self.supervised = experiment.supervised
        self.engine = experiment.engine
        self.members = experiment.members
        self.notes = ["the run goes well: answers end, nothing is held, rolled back or labelled again"]
        self.plan = self._plan()
        """The difficulties of each round."""
        self._work = Work(experiment.settings, experiment.task)
        self._labelled: dict[int, LabelledSource] = {}

    def _plan(self) -> list[list[Difficulty]]:
        settings = self.settings
        easy = self.task.evaluated_difficulties(settings.supervised.difficulty)
        if settings.schedule.asks:
            self.notes.append(
                f"each round takes one small step; the accelerated schedule takes up to schedule.most = "
                f"{settings.schedule.most}, and longer for it"
            )
        return planned(settings.schedule, self.task, [easy], settings.rounds.count)

    def _in_part(self) -> None:
        """Note that not all was measured."""
        if IN_PART not in self.notes:
            self.notes.append(IN_PART)

    def _measured(self, sizes: Sequence[float], measure: Callable[[int], float]) -> list[float]:
        """Return a measure of each of some things: of the smallest, the middle and the greatest, lines between them.

        What there is no time for is in proportion to the greatest that was measured.

        Args:
            sizes: the tokens of each thing, which it takes about so long to measure.
            measure: measures the one of an index.
        """
        order = sorted(range(len(sizes)), key=lambda index: sizes[index])
        known: dict[float, float] = {}
        spent = last = 0.0
        for index in dict.fromkeys(order[at] for at in (0, len(order) // 2, -1)) if order else []:
            if known and spent + last * sizes[index] / max(known) > PHASE:
                self._in_part()
                break
            begin = time.perf_counter()
            known[sizes[index]] = measure(index)
            last = time.perf_counter() - begin
            spent += last
        return [
            float(np.interp(size, list(known), list(known.values()))) * max(1.0, size / max(known)) for size in sizes
        ]

    def _of_rounds(self, phase: str, measure: Callable[[int], float]) -> list[float]:
        easy = self.task.evaluated_difficulties(self.settings.supervised.difficulty)
        rounds = [easy, *self.plan]
        sizes = [self._work(rounds[:at], rounds[at])[phase] for at in range(1, len(rounds))]
        return self._measured(sizes, lambda index: measure(index + 1))

    def supervised_step(self) -> float:
        """Return the seconds of a step of the supervised phase: the mean over its curriculum."""
        stages = self.settings.supervised.stages
        curriculum = self.settings.supervised.curriculum or (stages[-1] if stages else 0.0)
        begin = time.perf_counter()
        late = self._seconds_of_step(0, [], None, 1 - 1e-9)
        if not curriculum:
            return late
        if 3 * (time.perf_counter() - begin) > PHASE:
            self._in_part()
            return late
        early = self._seconds_of_step(0, [], None, 0.0)
        half = self._seconds_of_step(0, [], None, curriculum / 2)
        return curriculum * float(np.trapezoid([early, half, late], dx=0.5)) + (1 - curriculum) * late

    def steps(self) -> list[float]:
        """Return the seconds of a step of each round."""
        return self._of_rounds("train", self._step)

    def labels(self) -> list[float]:
        """Return the seconds that labelling takes in each round."""
        return self._of_rounds("label", self.label)

    def _step(self, number: int) -> float:
        older = [self._labels_of(each) for each in range(1, number)]
        return self._seconds_of_step(number, older, self._labels_of(number), 0.5)

    def _labels_of(self, number: int) -> LabelledSource:
        """Return a batch of labels of each difficulty of a round: all that the sizes of batches depend on."""
        if number not in self._labelled:
            rows = self.settings.rounds.batch or self.settings.training.batch
            groups = []
            for difficulty in self.plan[number - 1]:
                prompts = self.task.sample(
                    numpy_generator(0, "estimate", difficulty_text(difficulty)), difficulty, rows
                )
                groups.append(Group.join(prompts, self.oracle.solve(prompts)))
            self._labelled[number] = LabelledSource(groups)
        return self._labelled[number]

    def _seconds_of_step(
        self, number: int, older: Sequence[LabelledSource], newest: LabelledSource | None, progress: float
    ) -> float:
        batch = (number > 0 and self.settings.rounds.batch) or self.settings.training.batch

        def seconds(steps: int, rows: int = batch) -> float:
            """Return the seconds of a phase of so many steps on batches of so many rows."""
            settings = _with_batch(self.settings, rows)
            mixtures = [
                _At(build_mixture(settings, self.supervised, older, newest, number, at, place=member.place), progress)
                for at, member in enumerate(self.members)
            ]
            begin, phase = time.perf_counter(), PhaseSettings(steps=steps)
            fit(self.engine, mixtures, phase, self.settings.optimiser, 0.0, lambda step: None)
            return time.perf_counter() - begin

        few = min(batch, max(FEW, self.settings.training.groups))
        seconds(1, few)  # the first call of anything takes longer
        little = seconds(1, few)
        if little * batch / few > SLOW and few < batch:
            more = min(batch, max(2 * few, int(few * SLOW / little)))
            took = seconds(1, more)
            # A part of a step takes as long for any batch: at most half of it, lest noise makes the line fall.
            whole = took + max((took - little) / (more - few), 0.5 * took / more) * (batch - more)
            if whole > SLOW:
                self._in_part()
                return whole
        seconds(1)
        alone = seconds(1)
        if alone > SECONDS / 2:  # long enough for what a phase begins with to count for nothing
            return alone
        fewest, most = STEPS
        rough = max((seconds(3) - alone) / 2, 1e-4)
        count = min(max(fewest, math.ceil(SECONDS / rough)), most)
        return (seconds(count + 1) - alone) / count

    def label(self, number: int) -> float:
        """Return the seconds that labelling takes in round ``number``, from 1 on."""
        schedule, labels = self.settings.schedule, self.settings.labels
        difficulties = self.plan[number - 1]
        ends = [difficulties[0], difficulties[-1]] if len(difficulties) > 1 else difficulties
        per_prompt = float(np.mean([self._seconds_of_prompt(difficulty) for difficulty in ends]))
        asked = schedule.probe if schedule.asks else 0
        older = sum(map(len, self.plan[: number - 1])) if labels.relabel else 0
        return per_prompt * (len(difficulties) * (self._prompts() + asked) + older * self._prompts())

    def _prompts(self) -> int:
        """Return how many prompts of a difficulty are labelled, topping up included."""
        settings = self.settings.labels
        share = math.prod(each.expected for each in settings.filters)
        missing = (settings.top_up or 0) - settings.count * share
        return settings.count + (16 + int(1.1 * missing / share) if missing > 0 else 0)

    def _seconds_of_prompt(self, difficulty: Difficulty) -> float:
        """Return the seconds of a prompt of many: sampled, answered by all members, their votes counted."""
        settings = self.settings
        task = _ending(self.task, self.oracle.solve)
        labeller = Labeller(self.engine, task, settings.seed, self.reserved, settings.labels)
        relations = labeller.relations(settings.labels.filters)
        draws = labeller.draws(0, difficulty)
        generator = numpy_generator(settings.seed, "estimate", difficulty_text(difficulty))
        taken = self.reserved.prompts(difficulty)

        def seconds(count: int) -> tuple[float, int]:
            """Return the seconds of so many prompts, and how many there are."""
            begin = time.perf_counter()
            prompts = fresh_prompts(self.task, generator, difficulty, count, taken)
            labeller.propose(difficulty, prompts, relations, draws)
            return time.perf_counter() - begin, max(1, len(prompts))

        with _never_ending(self.members, compiled=draws is None):
            few, count = min(FEW, self._prompts()), min(64, self._prompts())
            # What compiles at its first call must not count for every prompt.
            labeller.propose(difficulty, self.task.sample(generator, difficulty, few), relations, draws)
            took, prompts = seconds(few)
            if took * count / few > SLOW:
                self._in_part()
                return took / prompts
            labeller.propose(difficulty, self.task.sample(generator, difficulty, count), relations, draws)
            while True:  # with fewer, the start of the work costs more than the work
                took, prompts = seconds(count)
                if took >= SECONDS / 2 or count >= self._prompts() or prompts < count:
                    return took / prompts
                count = min(4 * count, self._prompts())

    def evaluations(self) -> list[float]:
        """Return the seconds of the evaluation after each round, the supervised phase first."""
        settings = self.settings
        frontiers = [settings.supervised.difficulty, *(max(map(hardest, each)) for each in self.plan)]
        evaluated = [
            self.task.evaluated_difficulties(self.task.capped(max(frontiers[: index + 1]) + settings.evaluation.beyond))
            for index in range(len(frontiers))
        ]
        lengths = {difficulty: self._work.length(difficulty) for difficulty in evaluated[-1]}
        ordered = sorted(lengths, key=lambda difficulty: lengths[difficulty])
        measured = self._measured(
            [lengths[difficulty] for difficulty in ordered], lambda index: self._seconds_of_evaluation(ordered[index])
        )
        seconds = dict(zip(ordered, measured, strict=True))
        return [sum(seconds[difficulty] for difficulty in each) for each in evaluated]

    def _seconds_of_evaluation(self, difficulty: Difficulty) -> float:
        settings = self.settings

        def seconds(examples: int) -> float:
            begin = time.perf_counter()
            accuracy(self.engine, self.task, self.oracle, settings.seed, [difficulty], examples)
            return time.perf_counter() - begin

        examples = settings.evaluation.examples
        few = min(FEW, examples)
        seconds(few)  # the first call of anything takes longer
        took = seconds(few)
        if took * examples / few > SLOW:
            self._in_part()
            return took * examples / few
        return seconds(examples)


def _with_batch(settings: Settings, rows: int) -> Settings:
    """Return the settings with batches of so many rows."""
    training = settings.training.model_copy(update={"batch": rows})
    rounds = settings.rounds.model_copy(update={"batch": rows})
    return settings.model_copy(update={"training": training, "rounds": rounds})


@contextmanager
def _never_ending(members: Sequence[Member], compiled: bool) -> Iterator[None]:
    """Keep members from ending an answer by themselves: their bounds end it where the true one ends."""
    with ExitStack() as hooks, torch.no_grad():
        for member in members:
            if isinstance(member, Transformer) and compiled:
                member.lm_head.weight[EOS] = 0  # a logit of 0 is hardly ever the greatest
            else:
                hooks.callback(member.register_forward_hook(_without_end).remove)
        yield


def _without_end(member: Any, inputs: Any, logits: Tensor) -> Tensor:
    return logits.index_fill(-1, torch.tensor([EOS], device=logits.device), float("-inf"))


class _At(Mixture):
    """The batches of a mixture at one point of its phase."""

    def __init__(self, mixture: Mixture, progress: float) -> None:
        self._mixture = mixture
        self._progress = progress

    @override
    def batch(self, step: int, progress: float) -> list[Group]:
        return self._mixture.batch(step, self._progress)

    @property
    @override
    def key(self) -> int:
        return self._mixture.key

    @override
    def parts(self) -> list[Part]:
        return [replace(part, shares=partial(_fixed, part, self._progress)) for part in self._mixture.parts()]


def _fixed(part: Part, at: float, progress: float) -> NDArray[np.float64]:
    return part.shares(at)


def _ending(task: Task, solve: Callable[[Tokens], Tokens]) -> Task:
    """Return a task whose answers are bounded by the length of the true ones."""
    ending = copy.copy(task)
    ending.answer_bounds = lambda prompts: (solve(prompts) != PAD).sum(axis=1)  # type: ignore[method-assign]
    return ending

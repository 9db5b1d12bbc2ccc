"""What the oracle tells a label phase: what the settings mark as supervised, and what the manifest has for comparison.

The label phase holds no oracle. All that it knows of a true answer it has from here.
"""

from collections.abc import Callable, Sequence

from easy2hard.evaluation.counter_examples import counter_examples
from easy2hard.evaluation.exact_match import right
from easy2hard.improvement.filters import Filtered, Mask
from easy2hard.improvement.proposals import Draws, Proposals, count_votes
from easy2hard.runs.experiment import Experiment
from easy2hard.seeding import numpy_generator
from easy2hard.settings.filters import LearnedFilter, Scorer
from easy2hard.tasks.base import difficulty_text


class Supervision:
    """What true answers a run's settings ask for in its label phases.

    Args:
        experiment: what the run is made of.
    """

    def __init__(self, experiment: Experiment) -> None:
        self._experiment = experiment
        self._settings = experiment.settings
        self._verifier: tuple[str, Scorer] | None = None  # the newest, and the weights whose answers it learned from

    @property
    def verify(self) -> Callable[[Proposals], Mask] | None:
        """Says which proposals are right; None but for the supervised filter ``verifier``."""
        return self._right if self._settings.verified else None

    def readiness(self, proposals: Proposals) -> dict[str, float]:
        """Return the share that is right, for comparison; nothing but the diagnostic readiness ``oracle`` reads it.

        Under a blindfold there is none.
        """
        if self._experiment.blindfold:
            return {}
        return {"oracle": float(self._right(proposals).mean()) if len(proposals.prompts) else 0.0}

    def solved(self, labels: Sequence[Filtered]) -> list[Filtered]:
        """Return labels, or where the settings ask for counter-examples, what is wrong of them with true answers."""
        if not self._settings.labels.counter_examples:
            return list(labels)
        return [counter_examples(self._experiment.oracle, each) for each in labels]

    def verifier(self, number: int, weights: str) -> Scorer | None:
        """Return a verifier that learned from the answers of the members, as they are, to supervised prompts.

        Args:
            number: the round.
            weights: digest of the members' weights; others need another verifier.
        """
        for each in self._settings.labels.filters:
            if isinstance(each, LearnedFilter):
                if self._verifier is None or self._verifier[0] != weights:
                    self._verifier = (weights, self._learn(number, each))
                return self._verifier[1]
        return None

    def _right(self, proposals: Proposals) -> Mask:
        return right(self._experiment.oracle, proposals)

    def _learn(self, number: int, settings: LearnedFilter) -> Scorer:
        task, engine, seed = self._experiment.task, self._experiment.engine, self._settings.seed
        proposals = []
        for difficulty in task.supervised_difficulties(self._settings.supervised.difficulty):
            stream = ("verifier", number, difficulty_text(difficulty))
            prompts = self._experiment.reserved.sample(numpy_generator(seed, *stream), difficulty, settings.examples)
            draws = Draws(settings.temperature, 1, seed, stream)
            samplings = [draws.of(member) for member in range(len(engine.members))]
            answers = engine.sample(prompts, task.answer_bounds(prompts), samplings)
            proposals += [count_votes(difficulty, prompts, each) for each in answers]
        return settings.fit(proposals, [self._right(each) for each in proposals])

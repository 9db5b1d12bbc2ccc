"""Which prompts a run uses for what: evaluation has its own, and nothing is trained on them where there is room."""

from functools import cache

import numpy as np
from numpy.typing import NDArray

from easy2hard.seeding import numpy_generator
from easy2hard.tasks.base import Difficulty, Task, difficulty_text
from easy2hard.vocabulary import Tokens

_CHUNK = 100
_PROBE = 1000
_ROOM = 0.5
"""Greatest share of a difficulty's prompts that may be kept for evaluation alone."""


def evaluation_prompts(task: Task, seed: int, difficulty: Difficulty, count: int, hard: bool = False) -> Tokens:
    """Return the run's evaluation prompts of a difficulty; the first ``n`` are the same for every count >= n.

    Args:
        task: samples the prompts.
        seed: the run's seed.
        difficulty: of the prompts.
        count: how many.
        hard: those of the task's hard split. Nobody keeps these apart from what is trained on: there are so many of
            them but at the very easiest difficulties that none is met twice.
    """
    if isinstance(difficulty, tuple) and difficulty[0] == difficulty[1]:
        difficulty = difficulty[0]  # one number d stands for (d, d): they are the same prompts
    draw, stream = (task.sample_hard, "evaluation-hard") if hard else (task.sample, "evaluation")
    chunks = [
        draw(numpy_generator(seed, stream, difficulty_text(difficulty), start), difficulty, _CHUNK)
        for start in range(0, count, _CHUNK)
    ]
    return np.concatenate(chunks)[:count]


def fresh_prompts(
    task: Task, generator: np.random.Generator, difficulty: Difficulty, count: int, reserved: Tokens
) -> Tokens:
    """Return ``count`` distinct prompts, none of them among the ``reserved`` ones (those of evaluation).

    Fewer come back only where the space of prompts is used up: as soon as a draw brings nothing new.
    """
    prompts = reserved
    while len(prompts) < len(reserved) + count:
        drawn = np.concatenate([prompts, task.sample_practice(generator, difficulty, count)])
        first = np.sort(np.unique(drawn, axis=0, return_index=True)[1])
        new = first[first >= len(prompts)]
        if not len(new):
            break
        prompts = np.concatenate([prompts, drawn[new]])
    return prompts[len(reserved) : len(reserved) + count]


class Reserved:
    """The evaluation prompts of a run, which neither labels nor supervised data may repeat.

    Args:
        task: samples the prompts.
        seed: the run's seed.
        examples: evaluation prompts of each difficulty.
    """

    def __init__(self, task: Task, seed: int, examples: int) -> None:
        self.task = task
        self.seed = seed
        self.examples = examples
        self._keys: dict[Difficulty, NDArray[np.uint64]] = {}
        self._shares: dict[Difficulty, float] = {}

    def prompts(self, difficulty: Difficulty) -> Tokens:
        """Return (examples, length) prompts that are kept for evaluation; some may be equal."""
        return evaluation_prompts(self.task, self.seed, difficulty, self.examples)

    def overlap(self, difficulty: Difficulty) -> float:
        """Return the share of supervised prompts that are evaluation prompts too.

        It is 0 unless the space of prompts is so small that evaluation takes more than half of it.
        """
        if difficulty not in self._shares:
            generator = numpy_generator(self.seed, "overlap", difficulty_text(difficulty))
            self._keys[difficulty] = np.unique(_keys(self.prompts(difficulty)))
            drawn = self.task.sample_supervised(generator, difficulty, _PROBE)
            share = float(self._among(difficulty, drawn).mean())
            self._shares[difficulty] = share if share > _ROOM else 0.0
        return self._shares[difficulty]

    def few(self, difficulty: Difficulty) -> tuple[int, int] | None:
        """Return how many supervised prompts there are, and how many of them are evaluation's; None without overlap.

        They are drawn until as many draws as evaluation has bring nothing new; hardly one is left out then.
        """
        if not self.overlap(difficulty):
            return None
        generator = numpy_generator(self.seed, "few", difficulty_text(difficulty))
        there, new = self._keys[difficulty][:0], 1
        while new:
            drawn = np.union1d(there, _keys(self.task.sample_supervised(generator, difficulty, self.examples)))
            there, new = drawn, len(drawn) - len(there)
        return len(there), len(np.intersect1d(there, self._keys[difficulty]))

    def sample(self, generator: np.random.Generator, difficulty: Difficulty, count: int) -> Tokens:
        """Return (count, length) supervised prompts, none of evaluation's among them where :meth:`overlap` is 0."""
        prompts = self.task.sample_supervised(generator, difficulty, count)
        if not self.overlap(difficulty):
            while len(taken := np.flatnonzero(self._among(difficulty, prompts))):
                prompts[taken] = self.task.sample_supervised(generator, difficulty, len(taken))
        return prompts

    def _among(self, difficulty: Difficulty, prompts: Tokens) -> NDArray[np.bool_]:
        kept, keys = self._keys[difficulty], _keys(prompts)
        found: NDArray[np.bool_] = kept[np.searchsorted(kept, keys).clip(max=len(kept) - 1)] == keys
        return found


def _keys(prompts: Tokens) -> NDArray[np.uint64]:
    """Return (count,) hashes of prompts of one length. Two prompts with one hash cost a fresh draw, nothing else."""
    keys: NDArray[np.uint64] = prompts.astype(np.uint64) @ _weights(prompts.shape[1])
    return keys


@cache  # every batch asks for them
def _weights(length: int) -> NDArray[np.uint64]:
    return np.random.default_rng(0).integers(0, 1 << 63, length, dtype=np.uint64) * np.uint64(2) + np.uint64(1)

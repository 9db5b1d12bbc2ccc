"""How well a task can be answered without being learned: the baseline that it names, against the oracle."""

import numpy as np
from numpy.typing import NDArray

from easy2hard.tasks.oracle import Oracle
from easy2hard.vocabulary import Tokens


def baseline_right(oracle: Oracle, prompts: Tokens, generator: np.random.Generator) -> NDArray[np.bool_]:
    """Return (count,) whether the answers of the task's baseline to (count, length) prompts are the true ones.

    Raises:
        UserError: the task names no baseline.
    """
    texts = oracle.task.vocabulary.decode_answers
    given, truth = texts(oracle.task.baseline_answers(generator, prompts)), texts(oracle.solve(prompts))
    return np.array([one == other for one, other in zip(given, truth, strict=True)], dtype=np.bool_)

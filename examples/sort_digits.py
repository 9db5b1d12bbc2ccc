"""Sort the digits of a string: ``3120=`` -> ``0123``. A whole task of your own; see docs/tasks.md.

easy2hard run copy-vote-cpu --plugin examples/sort_digits.py --out runs/sort
"""

import re

import numpy as np

from easy2hard.tasks.base import Task
from easy2hard.tasks.oracle import Oracle
from easy2hard.vocabulary import EOS, Vocabulary


class SortDigits(Task):
    name, summary, example = "sort-digits", "sort the digits of a string", "3120="
    vocabulary, grammar = Vocabulary("0123456789="), re.compile("[0-9]+=")

    def sample(self, generator, difficulty, count):
        digits = generator.integers(0, 10, (count, difficulty))
        return self.frame(digits + self.vocabulary.id("0"), "=")

    def answer_bounds(self, prompts):
        return np.full(len(prompts), prompts.shape[1] - 1)


class SortDigitsOracle(Oracle):
    task_class = SortDigits

    def solve(self, prompts):
        return np.concatenate([np.sort(prompts[:, 1:-1]), np.full((len(prompts), 1), EOS)], axis=1)

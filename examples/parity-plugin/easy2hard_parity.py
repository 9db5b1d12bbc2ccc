"""Parity with a scratchpad: ``1011=`` -> ``1101``, the parity of the first bit, of the first two, … of all."""

import re

import numpy as np

from easy2hard.tasks.base import Task
from easy2hard.tasks.oracle import Oracle
from easy2hard.vocabulary import EOS, Vocabulary


class Parity(Task):
    name, summary, example = "parity", "parity of the first bit, of two, of all", "1011="
    vocabulary, grammar, unit = Vocabulary("01="), re.compile("[01]+="), "bits"

    def sample(self, generator, difficulty, count):
        bits = generator.integers(0, 2, (count, difficulty))
        return self.frame(bits + self.vocabulary.id("0"), "=")

    def answer_bounds(self, prompts):
        return np.full(len(prompts), prompts.shape[1] - 1)


class ParityOracle(Oracle):
    task_class = Parity

    def solve(self, prompts):
        zero = self.task.vocabulary.id("0")
        parities = np.cumsum(prompts[:, 1:-1] - zero, axis=1) % 2 + zero
        return np.concatenate([parities, np.full((len(prompts), 1), EOS)], axis=1)

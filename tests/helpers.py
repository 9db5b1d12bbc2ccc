"""What several tests share: plain reference code to compare with, and a half-trained pair of members."""

from collections.abc import Sequence
from functools import cache

import numpy as np
import torch
from hypothesis import settings

from easy2hard.config import ModelSize, OptimiserSettings, PhaseSettings, TrainingSettings
from easy2hard.learning.batches import Mixture, SupervisedSource
from easy2hard.learning.trainer import Step, fit
from easy2hard.models.transformer import Transformer
from easy2hard.runs.manifest import Manifest
from easy2hard.seeding import numpy_generator, torch_generator
from easy2hard.tasks.base import Task
from easy2hard.tasks.oracle import Oracle
from easy2hard.tasks.prompts import Reserved
from easy2hard.tasks.registry import load_oracle, load_task
from easy2hard.vocabulary import EOS, Tokens

torch.set_num_threads(1)  # these models are so small that a second thread only waits

SIZE = ModelSize(width=32, layers=2, heads=2, feed_forward=64)
HARDEST = 3
"""Hardest difficulty that the half-trained members were taught; they are right there about half of the time."""

properties = settings(deadline=None, max_examples=50)
"""Settings of the property tests: nothing depends on how fast the machine is."""


class Silent:
    """A listener that shows nothing; tests override what they want to hear."""

    def phase(self, number: int, rounds: int, name: str, total: int) -> None:
        pass

    def step(self, step: Step) -> None:
        pass

    def advance(self, count: int) -> None:
        pass

    def round(self, manifest: Manifest) -> None:
        pass

    def note(self, text: str) -> None:
        pass


def new_member(seed: int, vocabulary: int = 14, size: ModelSize = SIZE) -> Transformer:
    """Return an untrained member."""
    return Transformer(size, vocabulary, torch_generator(seed, "weights"))


def supervised_mixture(task: Task, member: int, batch: int = 64, groups: int = 2) -> Mixture:
    """Return batches of the easy range alone."""
    source = SupervisedSource(Reserved(task, 0, 1000), load_oracle(task), HARDEST)
    return Mixture(0, ("batches", 0, member), (source, float(HARDEST)), [], None, batch, groups)


@cache
def copy_task() -> tuple[Task, Oracle]:
    """Return the task that the half-trained members learn, and its oracle."""
    task = load_task("copy")
    return task, load_oracle(task)


@cache
def half_trained() -> list[Transformer]:
    """Return two members that know the easy range in part, trained once for all tests; do not change them."""
    task, _ = copy_task()
    members = [new_member(seed, len(task.vocabulary)) for seed in range(2)]
    mixtures = [supervised_mixture(task, member) for member in range(len(members))]
    phase = PhaseSettings(steps=120, warmup=5, decay=60)
    fit(members, mixtures, phase, OptimiserSettings(), TrainingSettings(), 1.0, lambda step: None)
    return members


def prompts_of(difficulty: int, count: int, purpose: str = "test") -> Tokens:
    """Return prompts for the half-trained members."""
    return copy_task()[0].sample(numpy_generator(0, purpose, str(difficulty)), difficulty, count)


@torch.inference_mode()
def answer_plainly(model: Transformer, prompt: Sequence[int], bound: int) -> tuple[list[int], list[float]]:
    """Return the greedy answer to one prompt and its tokens' log-probabilities: no cache, no batch."""
    tokens, answer, log_probabilities = list(prompt), [], []
    while len(answer) < bound and EOS not in answer:
        logits = model(torch.tensor([tokens]))[0, -1]
        choices = [(float(logits[token]), -token) for token in range(EOS, len(logits))]
        token = -max(choices)[1]
        answer.append(token)
        log_probabilities.append(float(logits.log_softmax(dim=-1)[token]))
        tokens.append(token)
    return answer, log_probabilities


def padded(rows: Sequence[Sequence[int]], length: int) -> Tokens:
    """Return rows of token ids, padded on the right to ``length``."""
    return np.array([[*row, *[0] * (length - len(row))] for row in rows], dtype=np.int32).reshape(-1, length)

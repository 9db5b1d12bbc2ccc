"""What several tests share: plain reference code to compare with, and a half-trained pair of members."""

from collections.abc import Callable, Sequence
from functools import cache

import numpy as np
import torch
import torch.nn.functional as F
from hypothesis import settings
from torch import Tensor

from easy2hard.engines import decoding
from easy2hard.engines.choice import build_engine
from easy2hard.engines.cpu.runner import CpuRunner, why_not
from easy2hard.engines.decoding import Answers, Sampling
from easy2hard.engines.engine import Engine
from easy2hard.engines.reference import Runner
from easy2hard.learning.batches import Mixture, SupervisedSource
from easy2hard.learning.trainer import Step, fit
from easy2hard.models.member import Member
from easy2hard.models.transformer import NORM_EPS, Transformer
from easy2hard.runs.manifest import Manifest
from easy2hard.runs.progress_file import RunProgress
from easy2hard.seeding import numpy_generator, torch_generator
from easy2hard.settings.model import ModelSize
from easy2hard.settings.training import OptimiserSettings, PhaseSettings
from easy2hard.tasks.base import Task
from easy2hard.tasks.oracle import Oracle
from easy2hard.tasks.prompts import Reserved
from easy2hard.tasks.registry import load_oracle, load_task, task_names
from easy2hard.vocabulary import EOS, Tokens

torch.set_num_threads(1)  # these models are so small that a second thread only waits

SIZE = ModelSize(width=32, layers=2, heads=2, feed_forward=64)
HARDEST = 3
"""Hardest difficulty that the half-trained members were taught; they are right there about half of the time."""

TASKS = [name for name in task_names() if name != "reasoning-gym"]
"""The tasks of our own. What reasoning-gym's promises depends on its data set: test_reasoning_gym.py."""

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

    def where(self, now: RunProgress) -> None:
        pass

    def round(self, manifest: Manifest) -> None:
        pass

    def note(self, text: str) -> None:
        pass


class Interrupting(Silent):
    """Interrupts the run at one step of one round's training."""

    def __init__(self, number: int, step: int) -> None:
        self.at, self.now = (number, step), 0

    def phase(self, number: int, rounds: int, name: str, total: int) -> None:
        self.now = number

    def step(self, step: Step) -> None:
        if (self.now, step.step) == self.at:
            raise KeyboardInterrupt


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
    fit(engine_of(members), mixtures, phase, OptimiserSettings(), 1.0, lambda step: None)
    return members


def engine_of(members: Sequence[Member], precision: str = "float32") -> Engine:
    """Return what computes these members."""
    return build_engine(members, precision)


@cache
def half_trained_engine() -> Engine:
    """Return what computes the half-trained members."""
    return engine_of(half_trained())


def build_runner(member: Member) -> Runner:
    """Return what computes a member on a CPU."""
    return (CpuRunner if why_not(member) is None else Runner)(member)


def decode(
    member: Member,
    prompts: Tokens,
    bounds: np.ndarray,
    draft: Tokens | None = None,
    sampling: Sampling | None = None,
) -> Answers:
    """Return a member's answers, all at once."""
    return decoding.decode(build_runner(member), prompts, bounds, draft, sampling)


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


def plain_block(x: Tensor, first: int, heads: int, weights: list[Tensor]) -> Tensor:
    """The block as its papers write it: RMSNorm, causal softmax attention, SwiGLU."""
    norm1, wq, wk, wv, wo, norm2, gate, up, down = weights
    batch, time, width = x.shape

    def split(y: Tensor) -> Tensor:
        return y.view(batch, time, heads, width // heads).transpose(1, 2)

    h = F.rms_norm(x, (width,), norm1, NORM_EPS)
    o = F.scaled_dot_product_attention(split(h @ wq.T), split(h @ wk.T), split(h @ wv.T), is_causal=True)
    x = x + o.transpose(1, 2).reshape(batch, time, width) @ wo.T
    h = F.rms_norm(x, (width,), norm2, NORM_EPS)
    return (x + (F.silu(h @ gate.T) * (h @ up.T)) @ down.T)[:, first:]


def refusal(call: Callable[[], object]) -> str | None:
    """Return the line by which a call refuses what it was given; None where it takes it."""
    try:
        call()
    except ValueError as error:
        return str(error)
    return None

"""What an engine does: take a training step of every member on its batch, answer prompts, score given answers.

An engine has all members of a run. It decides which of them go together, what is done side by side, and in which
portions; none of it changes a result by more than rounding.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from typing_extensions import override

from easy2hard.engines.decoding import Answers, Bounds, Sampling
from easy2hard.engines.threads import StepError as StepError
from easy2hard.engines.threads import give_back_freed_memory
from easy2hard.engines.threads import side_by_side as side_by_side
from easy2hard.models.member import Member
from easy2hard.settings.training import OptimiserSettings
from easy2hard.vocabulary import PAD, Tokens

Examples = tuple[Tokens, Tokens]
"""(count, length) prompts, and their (count, length) answers, EOS included, padded on the right."""
Told = Callable[[int], None]
"""Is told how many prompts are done, portion by portion."""


def nobody(count: int) -> None:
    """Tell nobody."""


@dataclass(frozen=True)
class Group:
    """Examples whose prompts have one length: (rows, time) prompt and answer, padded on the right only."""

    tokens: NDArray[Any]
    prompt_length: int
    positions: NDArray[np.int64] | None = None
    """(rows, time - 1) numbers of the places of all tokens but the last, where they are drawn."""

    @classmethod
    def join(cls, prompts: Tokens, answers: Tokens) -> "Group":
        """Return the group of (rows, length) prompts and their answers, cut at the longest answer."""
        longest = int((answers != PAD).any(axis=0).sum())
        return cls(np.concatenate([prompts, answers[:, :longest]], axis=1), prompts.shape[1])

    def rows(self, rows: slice) -> "Group":
        """Return some of the examples."""
        return Group(self.tokens[rows], self.prompt_length, None if self.positions is None else self.positions[rows])


@dataclass(frozen=True)
class Part:
    """Examples of each batch that are drawn from one stock."""

    rows: int
    """Examples of a batch."""
    strata: Sequence[Group]
    """The stock: each of its groups is drawn from evenly."""
    shares: Callable[[float], NDArray[np.float64]]
    """Weights of the strata, by the share of the phase that is done."""


class Batches(Protocol):
    """The training examples of one member in a phase, for two kinds of engines; a batch depends on its step alone."""

    def batch(self, step: int, progress: float) -> list[Group]:
        """Return the batch of a step; ``progress`` in [0, 1) is the share of the phase that is done."""

    def parts(self) -> list[Part]:
        """Return what an engine draws batches from that draws them itself, where it computes."""

    @property
    def key(self) -> int:
        """What such an engine's draws are hashes of, 64 bits."""


@dataclass(frozen=True)
class Taken:
    """A training step that one member took."""

    loss: float
    """Mean cross-entropy of an answer token, in nats."""
    norm: float
    """Of the gradient before clipping. Where it or the loss is no number, the step changed no weight."""
    tokens: int
    """Tokens read, prompts included."""
    batch: str
    """Where its examples come from, in words."""


class DeviceFullError(Exception):
    """The device's memory does not hold what is asked for; names the settings to lower."""


@contextmanager
def lowered_by(settings: str) -> Iterator[None]:
    """Name the settings that would lower what is needed here, where the device's memory is full."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        reason = str(error).split(". ")[0]
        raise DeviceFullError(f"{reason}; lower {settings}, or take another --device") from error


TRAINING = "training.batch (rounds.batch), model.members or the model's size"
ANSWERING = "model.members or the model's size"


class Crew(AbstractContextManager["Crew"], ABC):
    """Members that take their training steps together; entered by whoever takes the steps.

    Attributes:
        members: their numbers.
    """

    members: Sequence[int]

    @override
    def __exit__(self, *error: object) -> None:
        pass

    @abstractmethod
    def step(self, step: int, progress: float, rate: float) -> None:
        """Begin a step of every member on its batch, at ``rate`` times the optimiser's peak rates."""

    @abstractmethod
    def taken(self, all_of_them: bool) -> list[list[Taken]]:
        """Return the steps that are done and were not returned before, in order: one of each member.

        Args:
            all_of_them: wait for those that are not done.
        """

    @abstractmethod
    def state(self, member: int) -> Iterator[tuple[str, Tensor]]:
        """Give all that a member needs to go on, whole and on the CPU, one tensor at a time; all processes together.

        The names and shapes are the same whichever engine computes: ``model.…`` are the weights, ``optimiser.…`` what
        the optimisers remember.
        """

    @abstractmethod
    def load(self, member: int, state: Mapping[str, Tensor]) -> None:
        """Bring a member to where :meth:`state` left one."""


class Engine(ABC):
    """All members of a run, and how they are computed.

    Attributes:
        members: the models; whoever changes their weights in place changes what is computed.
        note: what the user should know about the choice of this engine; None for nothing.
        block: portions answered in one go, where answers are kept.
    """

    members: Sequence[Member]
    block: int
    note: str | None = None

    @contextmanager
    def training(self) -> Iterator["Engine"]:
        """Give the engine that trains the members; theirs are the weights again when it is left."""
        yield self

    @abstractmethod
    def crews(self, batches: Sequence[Batches], optimiser: OptimiserSettings) -> Sequence[Crew]:
        """Return the members, each with its batches and with fresh optimisers, in crews that train side by side."""

    @abstractmethod
    def answer(self, prompts: Tokens, bounds: Bounds, on_done: Told = nobody) -> list[Answers]:
        """Return each member's greedy answers to (count, length) prompts."""

    @abstractmethod
    def sample(
        self, prompts: Tokens, bounds: Bounds, samplings: Sequence[Sequence[Sampling]], on_done: Told = nobody
    ) -> list[list[Answers]]:
        """Return each member's sampled answers to (count, length) prompts, one for each of its ``samplings``."""

    @abstractmethod
    def portions(self, prompts: Tokens, bounds: Bounds) -> list[slice]:
        """Return the slices of prompts that are answered at a time; one of none where there are none."""

    def blocks(self, prompts: Tokens, bounds: Bounds) -> list[slice]:
        """Return the slices in which prompts are best answered one after another, where answers are to be kept."""
        parts = self.portions(prompts, bounds)
        return [
            slice(parts[start].start, parts[min(start + self.block, len(parts)) - 1].stop)
            for start in range(0, len(parts), self.block)
        ]

    @abstractmethod
    def matches(self, examples: Sequence[Examples], on_done: Told = nobody) -> list[NDArray[np.bool_]]:
        """Return, for each set of examples, (members, count) whether a member's greedy answer is the given one.

        It is exactly where every arg-max of one pass over prompt and given answer is the given next token: as long as
        what comes before is right, decoding sees the same. So no answer is decoded.

        Args:
            examples: sets of examples, the prompts of each of one length.
            on_done: told about (prompts x members).
        """

    def rest(self) -> None:
        """Give back what is kept for work of the same kind; for the end of a phase."""
        give_back_freed_memory()

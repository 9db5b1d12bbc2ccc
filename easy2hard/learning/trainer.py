"""Training of members in lockstep on their batches."""

import math
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn
from typing_extensions import override

from easy2hard import processes
from easy2hard.config import OptimiserSettings, PhaseSettings, TrainingSettings
from easy2hard.learning.batches import Group, Mixture
from easy2hard.learning.optimisers import build_optimisers, learning_rate
from easy2hard.models.member import Member
from easy2hard.models.sharding import whole
from easy2hard.models.threads import Workers
from easy2hard.vocabulary import PAD


@dataclass(frozen=True)
class Step:
    """What one lockstep step of all members did."""

    step: int
    loss: float
    """Mean over the members of the mean cross-entropy of an answer token, in nats."""
    learning_rate: float
    """Share of the peak rate."""
    tokens: int
    """Tokens read by all members, prompts included."""


@dataclass
class Progress:
    """How far a member has come in a phase; with its weights and optimisers, all that is needed to go on."""

    losses: list[float] = field(default_factory=list)
    """Mean cross-entropy of an answer token in each step that is done, in nats."""
    tokens: list[int] = field(default_factory=list)
    """Tokens read in each step."""


class Checkpoints(Protocol):
    """Keeps members' states within a phase. Each member has one of its own, at a step of its own."""

    def load(self, member: int, model: nn.Module, optimisers: Sequence[torch.optim.Optimizer]) -> Progress:
        """Bring a member to where it was last kept, and say how far that is."""

    def save(
        self, member: int, model: nn.Module, optimisers: Sequence[torch.optim.Optimizer], progress: Progress
    ) -> None:
        """Keep a member's state."""

    def due(self, member: int) -> bool:
        """Return whether it is time to keep a member's state."""


class NoCheckpoints(Checkpoints):
    """Keeps nothing."""

    @override
    def load(self, member: int, model: nn.Module, optimisers: Sequence[torch.optim.Optimizer]) -> Progress:
        return Progress()

    @override
    def save(
        self, member: int, model: nn.Module, optimisers: Sequence[torch.optim.Optimizer], progress: Progress
    ) -> None:
        pass

    @override
    def due(self, member: int) -> bool:
        return False


class NonFiniteLossError(RuntimeError):
    """A loss or a gradient that is not a number; the step was not taken.

    Attributes:
        member: whose it is.
        step: the step.
        batch: where its examples come from.
    """

    def __init__(self, member: int, step: int, what: str, batch: Sequence[Group]) -> None:
        groups = ", ".join(f"{len(group.tokens)} prompts of {group.prompt_length} tokens" for group in batch)
        super().__init__(f"member {member}, step {step}: {what} (batch: {groups}); lower optimiser.learning_rate")
        self.member = member
        self.step = step
        self.batch = groups


def fit(
    members: Sequence[Member],
    mixtures: Sequence[Mixture],
    phase: PhaseSettings,
    optimiser: OptimiserSettings,
    training: TrainingSettings,
    scale: float,
    on_step: Callable[[Step], None],
    checkpoints: Checkpoints | None = None,
) -> None:
    """Train every member for one phase, in place; optimisers start fresh, or where a checkpoint left them.

    Members are trained side by side and share nothing, so each ends as it would alone. When one of them fails or the
    user interrupts, every other one ends its step and is kept.

    Args:
        members: the models.
        mixtures: one stream of batches for each member.
        phase: number of steps and shape of the learning rate.
        optimiser: optimiser settings.
        training: precision.
        scale: the phase's peak rates relative to the optimiser's.
        on_step: called for each step in order, once all members have done it, from one of their threads; also for the
            steps that were done before a checkpoint.
        checkpoints: keep the members' states on the way.

    Raises:
        NonFiniteLossError: a member's loss is not a number.
    """
    lockstep = _Lockstep(len(members), on_step)
    kept = checkpoints or NoCheckpoints()

    def fit_member(index: int) -> Iterator[None]:
        own = build_optimisers(members[index], optimiser)
        progress = kept.load(index, members[index], own)
        groups = [group for each in own for group in each.param_groups]  # loading a state makes them anew
        peaks = [group["lr"] for group in groups]
        device = next(members[index].parameters()).device
        for step, (loss, tokens) in enumerate(zip(progress.losses, progress.tokens, strict=True)):
            lockstep.done(Step(step, loss, rate_of(step), tokens))
        threads = device.type == "cpu" and not members[index].in_parts
        with Workers(torch.get_num_threads() if threads else 1) as workers:
            for step in range(len(progress.losses), phase.steps):
                if processes.current().any(lockstep.stopped):
                    kept.save(index, members[index], own, progress)
                    raise _StoppedError
                for group, peak in zip(groups, peaks, strict=True):
                    group["lr"] = rate_of(step) * peak
                batch = mixtures[index].batch(step, step / phase.steps)
                loss, norm = _train_step(members[index], batch, own, optimiser.clip, training.precision, workers)
                if not math.isfinite(loss) or not math.isfinite(norm):
                    raise NonFiniteLossError(index, step, f"loss is {loss}, the gradient's norm {norm}", batch)
                progress.losses.append(loss)
                progress.tokens.append(sum(group.tokens.size for group in batch))
                lockstep.done(Step(step, loss, rate_of(step), progress.tokens[-1]))
                if kept.due(index) or step == phase.steps - 1:
                    kept.save(index, members[index], own, progress)
                yield

    def rate_of(step: int) -> float:
        return scale * learning_rate(step, phase.steps, phase.warmup, phase.decay, optimiser.floor, phase.rest)

    def fit_in_turn(indices: Sequence[int]) -> None:
        """Take a step of each member at a time, so that all processes speak of the same one."""
        going = [fit_member(index) for index in indices]
        failure: Exception | None = None
        while going:
            for each in list(going):
                try:
                    next(each)
                except StopIteration:
                    going.remove(each)
                except (NonFiniteLossError, _StoppedError) as error:  # in all processes alike; the others are kept
                    lockstep.stop()
                    failure = failure or error
                    going.remove(each)
        if failure is not None:
            raise failure

    alone = processes.current().count == 1
    with Workers(len(members) if alone else 1, always=True) as workers:
        try:
            if alone:
                workers.map(lambda index: deque(fit_member(index), maxlen=0), range(len(members)))
            else:
                workers.map(fit_in_turn, [range(len(members))])
        except _StoppedError:  # another process was interrupted
            raise KeyboardInterrupt from None
        except BaseException:
            lockstep.stop()
            workers.finish()
            raise


class _StoppedError(Exception):
    """Ends a member's training after another one failed."""


class _Lockstep:
    """Joins the members' steps for reporting, and stops all members when one fails or the user interrupts."""

    def __init__(self, members: int, on_step: Callable[[Step], None]) -> None:
        self._members = members
        self._on_step = on_step
        self._lock = threading.Lock()
        self._waiting: dict[int, list[Step]] = {}
        self.stopped = False

    def stop(self) -> None:
        """Make every member end with the step it is at."""
        self.stopped = True

    def done(self, step: Step) -> None:
        """Note a member's step; the last member to reach a step reports it."""
        with self._lock:
            done = self._waiting.setdefault(step.step, [])
            done.append(step)
            if len(done) == self._members:
                del self._waiting[step.step]
                loss = math.fsum(each.loss for each in done) / self._members
                self._on_step(Step(step.step, loss, step.learning_rate, sum(each.tokens for each in done)))


def _train_step(
    model: Member,
    batch: Sequence[Group],
    optimisers: Sequence[torch.optim.Optimizer],
    clip: float,
    precision: str,
    workers: Workers,
) -> tuple[float, float]:
    """Take a step and return the loss and the gradient's norm; where one is not a number, leave the weights alone.

    Every process computes its rows of the batch; the sums over all of them are the same in each.
    """
    world = processes.current()
    parameters = [weight for weight in model.parameters() if weight.requires_grad]
    device = parameters[0].device
    tokens = sum(int((group.tokens[:, group.prompt_length :] != PAD).sum()) for group in batch)
    gradients = model.gradients(precision)

    def of(group: Group) -> tuple[float, Sequence[Tensor]]:
        rows = torch.from_numpy(group.tokens).to(device, torch.int64)
        return gradients.of(rows, group.prompt_length, 1 / tokens)

    # Pieces are computed side by side but added up in their own order: the sum does not depend on the cores.
    if model.in_parts:
        own = rows_of(batch, world.rank, world.count, blank=True)
    else:
        own = split(rows_of(batch, world.rank, world.count), device, PIECE_TOKENS)
    pieces = workers.map(of, own, size=lambda group: group.tokens.size)
    losses = torch.tensor([math.fsum(loss for loss, _ in pieces)], dtype=torch.float64)
    totals = gradients.summed([gradient for _, gradient in pieces])
    world.add_up([losses])
    for parameter, total in zip(parameters, totals, strict=True):
        parameter.grad = total
    norm = float(whole(nn.utils.clip_grad_norm_(parameters, clip)))
    loss = float(losses)
    if math.isfinite(norm) and math.isfinite(loss):
        for optimiser in optimisers:
            optimiser.step()
    return loss, norm


def rows_of(batch: Sequence[Group], rank: int, count: int, blank: bool = False) -> list[Group]:
    """Return the rows of a batch that are process ``rank``'s: one in ``count`` of each group.

    A group that has none for it is left out, or has one without an answer, where ``blank`` asks for it: so all
    processes have as many groups.
    """
    if count == 1:
        return list(batch)
    own = [Group(group.tokens[rank::count], group.prompt_length) for group in batch]
    if not blank:
        return [group for group in own if len(group.tokens)]
    return [mine if len(mine.tokens) else _blank(group) for mine, group in zip(own, batch, strict=True)]


def _blank(group: Group) -> Group:
    tokens = group.tokens[:1].copy()
    tokens[:, group.prompt_length :] = PAD
    return Group(tokens, group.prompt_length)


PIECE_TOKENS = 1024
"""Tokens of one piece on a CPU, about: their activations stay in the processor's cache (LOG.md)."""


def split(batch: Sequence[Group], device: torch.device, limit: int) -> list[Group]:
    """Return a batch in pieces of at most ``limit`` tokens, or one row; whole on a GPU."""
    if device.type != "cpu":
        return list(batch)
    pieces = []
    for group in batch:
        rows, time = group.tokens.shape
        count = -(-rows // max(1, limit // time))
        pieces += [Group(part, group.prompt_length) for part in np.array_split(group.tokens, count)]
    return pieces

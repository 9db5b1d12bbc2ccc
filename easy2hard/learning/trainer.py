"""Training of members in lockstep on their batches."""

import math
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from torch import Tensor
from typing_extensions import override

from easy2hard import processes
from easy2hard.engines.engine import Batches, Crew, Engine, StepError
from easy2hard.settings.training import OptimiserSettings, PhaseSettings


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


State = Mapping[str, Tensor]
"""What a member needs to go on, by name (``Crew.state``)."""


class Checkpoints(Protocol):
    """Keeps members' states within a phase. Each crew keeps its members at a step of its own."""

    def load(self, member: int) -> tuple[State, Progress] | None:
        """Return the state that was last kept of a member, and how far it had come; None where nothing was."""

    def save(self, member: int, state: Iterable[tuple[str, Tensor]], progress: Progress) -> None:
        """Keep a member's state."""

    def due(self, member: int) -> bool:
        """Return whether it is time to keep a member's state."""


class NoCheckpoints(Checkpoints):
    """Keeps nothing."""

    @override
    def load(self, member: int) -> tuple[State, Progress] | None:
        return None

    @override
    def save(self, member: int, state: Iterable[tuple[str, Tensor]], progress: Progress) -> None:
        pass

    @override
    def due(self, member: int) -> bool:
        return False


class NonFiniteLossError(StepError):
    """A loss or a gradient that is not a number; the step was not taken.

    Attributes:
        member: whose it is.
        step: the step.
        batch: where its examples come from.
    """

    def __init__(self, member: int, step: int, what: str, batch: str) -> None:
        super().__init__(f"member {member}, step {step}: {what} (batch: {batch}); lower optimiser.learning_rate")
        self.member = member
        self.step = step
        self.batch = batch


class _StoppedError(StepError):
    """Ends the training of a crew after another one failed."""


def fit(
    engine: Engine,
    batches: Sequence[Batches],
    phase: PhaseSettings,
    optimiser: OptimiserSettings,
    scale: float,
    on_step: Callable[[Step], None],
    checkpoints: Checkpoints | None = None,
) -> None:
    """Train every member for one phase, in place; optimisers start fresh, or where a checkpoint left them.

    Members are trained side by side and share nothing, so each ends as it would alone. When one of them fails or the
    user interrupts, every other one ends its step and is kept.

    Args:
        engine: the models, and what computes them.
        batches: one stream of batches for each member.
        phase: number of steps and shape of the learning rate.
        optimiser: optimiser settings.
        scale: the phase's peak rates relative to the optimiser's.
        on_step: called for each step in order, once all members have done it; also for the steps that were done
            before a checkpoint.
        checkpoints: keep the members' states on the way.

    Raises:
        NonFiniteLossError: a member's loss is not a number.
    """
    lockstep = _Lockstep(len(batches), on_step)
    kept = checkpoints or NoCheckpoints()

    def train(crew: Crew) -> Generator[Step, None, None]:
        progress = _gone_on(crew, kept)
        first = progress[0]
        for step, losses in enumerate(zip(*(each.losses for each in progress), strict=True)):
            for loss, each in zip(losses, progress, strict=True):
                yield Step(step, loss, rate_of(step), each.tokens[step])

        def taken(all_of_them: bool) -> Generator[Step, None, None]:
            for members in crew.taken(all_of_them):
                step = len(first.losses)
                for member, each in zip(crew.members, members, strict=True):
                    if not math.isfinite(each.loss) or not math.isfinite(each.norm):
                        what = f"loss is {each.loss}, the gradient's norm {each.norm}"
                        raise NonFiniteLossError(member, step, what, each.batch)
                for own, each in zip(progress, members, strict=True):
                    own.losses.append(each.loss)
                    own.tokens.append(each.tokens)
                    yield Step(step, each.loss, rate_of(step), each.tokens)

        def keep() -> None:
            for member, own in zip(crew.members, progress, strict=True):
                kept.save(member, crew.state(member), own)

        with crew:
            for step in range(len(first.losses), phase.steps):
                if processes.current().any(lockstep.stopped):
                    yield from taken(True)
                    keep()
                    raise _StoppedError
                crew.step(step, step / phase.steps, rate_of(step))
                last = step == phase.steps - 1
                due = last or kept.due(crew.members[0])
                yield from taken(due)
                if due:
                    keep()

    def rate_of(step: int) -> float:
        return scale * learning_rate(step, phase.steps, phase.warmup, phase.decay, optimiser.floor, phase.rest)

    try:
        engine.side_by_side([train(crew) for crew in engine.crews(batches, optimiser)], lockstep.done, lockstep.stop)
    except _StoppedError:  # another process was interrupted
        raise KeyboardInterrupt from None


def _gone_on(crew: Crew, kept: Checkpoints) -> list[Progress]:
    """Bring a crew to where it was last kept, and return how far each member has come: all of them to one step."""
    found = [kept.load(member) for member in crew.members]
    if any(each is None for each in found) or len({len(each[1].losses) for each in found if each}) > 1:
        return [Progress() for _ in crew.members]
    for member, each in zip(crew.members, found, strict=True):
        assert each is not None
        crew.load(member, each[0])
    return [each[1] for each in found if each]


class _Lockstep:
    """Joins the members' steps for reporting, and stops all crews when one fails or the user interrupts."""

    def __init__(self, members: int, on_step: Callable[[Step], None]) -> None:
        self._members = members
        self._on_step = on_step
        self._waiting: dict[int, list[Step]] = {}
        self.stopped = False

    def stop(self) -> None:
        """Make every crew end with the step it is at."""
        self.stopped = True

    def done(self, step: Step) -> None:
        """Note a member's step; the last member to reach a step reports it."""
        done = self._waiting.setdefault(step.step, [])
        done.append(step)
        if len(done) == self._members:
            del self._waiting[step.step]
            loss = math.fsum(each.loss for each in done) / self._members
            self._on_step(Step(step.step, loss, step.learning_rate, sum(each.tokens for each in done)))


def learning_rate(step: int, steps: int, warmup: int, decay: int, floor: float, rest: int = 0) -> float:
    """Return the share of the peak rate at ``step`` of ``steps``: linear warm-up, constant, linear decay to ``floor``.

    The first step of a warm-up is above zero, the last step of a decay is at the floor, and so are ``rest`` steps
    after it.
    """
    if step < warmup:
        return (step + 1) / warmup
    if step >= steps - rest:
        return floor
    if step >= steps - rest - decay:
        return floor + (1 - floor) * (steps - rest - 1 - step) / decay
    return 1.0

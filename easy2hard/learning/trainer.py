"""Training of members in lockstep on their batches."""

import math
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass

from easy2hard import processes
from easy2hard.engines.engine import Batches, Crew, Engine, StepError, side_by_side
from easy2hard.learning.checkpoints import Checkpoints, MemberProgress, NoCheckpoints
from easy2hard.learning.learning_rate import learning_rate
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

    def rate_of(step: int) -> float:
        return scale * learning_rate(step, phase.steps, phase.warmup, phase.decay, optimiser.floor, phase.rest)

    lockstep = _Lockstep(len(batches), on_step)
    kept = checkpoints or NoCheckpoints()
    works = [_Training(crew, phase.steps, rate_of, kept, lockstep).work() for crew in engine.crews(batches, optimiser)]
    try:
        side_by_side(works, lockstep.done, lockstep.stop)
    except _StoppedError:  # another process was interrupted
        raise KeyboardInterrupt from None


class _Training:
    """The training of one crew for a phase."""

    def __init__(
        self, crew: Crew, steps: int, rate_of: Callable[[int], float], kept: Checkpoints, lockstep: "_Lockstep"
    ) -> None:
        self._crew = crew
        self._steps = steps
        self._rate_of = rate_of
        self._kept = kept
        self._lockstep = lockstep
        self._progress: list[MemberProgress]

    def work(self) -> Generator[Step, None, None]:
        """Take every step that is not done; give each step of each member, those from before a checkpoint first."""
        self._progress = _gone_on(self._crew, self._kept)
        for step in range(self._done):
            for each in self._progress:
                yield self._step(step, each)
        with self._crew as crew:
            for step in range(self._done, self._steps):
                if processes.current().any(self._lockstep.stopped):
                    yield from self._taken(True)
                    self._keep()
                    raise _StoppedError
                crew.step(step, step / self._steps, self._rate_of(step))
                due = step == self._steps - 1 or self._kept.due(crew.members[0])
                yield from self._taken(due)
                if due:
                    self._keep()

    @property
    def _done(self) -> int:
        return len(self._progress[0].losses)

    def _step(self, step: int, of: MemberProgress) -> Step:
        return Step(step, of.losses[step], self._rate_of(step), of.tokens[step])

    def _taken(self, all_of_them: bool) -> Generator[Step, None, None]:
        for members in self._crew.taken(all_of_them):
            step = self._done
            for member, each in zip(self._crew.members, members, strict=True):
                if not math.isfinite(each.loss) or not math.isfinite(each.norm):
                    what = f"loss is {each.loss}, the gradient's norm {each.norm}"
                    raise NonFiniteLossError(member, step, what, each.batch)
            for own, each in zip(self._progress, members, strict=True):
                own.losses.append(each.loss)
                own.tokens.append(each.tokens)
                yield self._step(step, own)

    def _keep(self) -> None:
        for member, own in zip(self._crew.members, self._progress, strict=True):
            self._kept.save(member, self._crew.state(member), own)


def _gone_on(crew: Crew, kept: Checkpoints) -> list[MemberProgress]:
    """Bring a crew to where it was last kept, and return how far each member has come: all of them to one step."""
    found = [kept.load(member) for member in crew.members]
    if any(each is None for each in found) or len({len(each[1].losses) for each in found if each}) > 1:
        return [MemberProgress() for _ in crew.members]
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

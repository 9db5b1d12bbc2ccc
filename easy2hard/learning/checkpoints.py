"""What is kept of a member within a phase, so that its training can go on. Where it is kept is the caller's affair."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from torch import Tensor
from typing_extensions import override


@dataclass
class MemberProgress:
    """How far a member has come in a phase; with its weights and optimisers, all that is needed to go on."""

    losses: list[float] = field(default_factory=list)
    """Mean cross-entropy of an answer token in each step that is done, in nats."""
    tokens: list[int] = field(default_factory=list)
    """Tokens read in each step."""


State = Mapping[str, Tensor]
"""What a member needs to go on, by name (``Crew.state``)."""


class Checkpoints(Protocol):
    """Keeps members' states within a phase. Each crew keeps its members at a step of its own."""

    def load(self, member: int) -> tuple[State, MemberProgress] | None:
        """Return the state that was last kept of a member, and how far it had come; None where nothing was."""

    def save(self, member: int, state: Iterable[tuple[str, Tensor]], progress: MemberProgress) -> None:
        """Keep a member's state."""

    def due(self, member: int) -> bool:
        """Return whether it is time to keep a member's state."""


class NoCheckpoints(Checkpoints):
    """Keeps nothing."""

    @override
    def load(self, member: int) -> tuple[State, MemberProgress] | None:
        return None

    @override
    def save(self, member: int, state: Iterable[tuple[str, Tensor]], progress: MemberProgress) -> None:
        pass

    @override
    def due(self, member: int) -> bool:
        return False

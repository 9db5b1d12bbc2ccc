"""What a run tells whoever watches it."""

from typing import Protocol

from easy2hard.learning.trainer import Step
from easy2hard.runs.manifest import Manifest
from easy2hard.runs.progress_file import RunProgress


class Listener(Protocol):
    """Is told what happens, to show it."""

    def phase(self, number: int, rounds: int, name: str, total: int) -> None:
        """A phase of round ``number`` of ``rounds`` begins; ``total`` parts of it will be reported."""

    def step(self, step: Step) -> None:
        """A training step is done."""

    def advance(self, count: int) -> None:
        """``count`` parts of a phase other than training are done."""

    def where(self, now: RunProgress) -> None:
        """The run is here now: about once a second, and when something is compiled."""

    def round(self, manifest: Manifest) -> None:
        """A round is committed: the last one in the manifest."""

    def note(self, text: str) -> None:
        """Something happened that the user should know."""

"""A run that ends in the middle; a module of its own, so that the process that is to die imports nothing else."""

import os
import signal
from pathlib import Path

from helpers import Silent

from easy2hard.learning.trainer import Step
from easy2hard.runs import rounds
from easy2hard.settings.schema import Settings


class Deadly(Silent):
    """Kills its process at a step."""

    def __init__(self, last: int) -> None:
        self.left = last

    def step(self, step: Step) -> None:
        self.left -= 1
        if not self.left:
            os.kill(os.getpid(), signal.SIGKILL)


def start(settings: Settings, out: Path, last: int) -> None:
    """Start a run that is killed at its step number ``last``, counted over all phases and members."""
    rounds.start(settings, out, Deadly(last))

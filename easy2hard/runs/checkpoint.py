"""What is kept within a round, so that a run that is killed there loses minutes and not the round.

checkpoint/round-003-answers-….safetensors    labels so far: answers, votes and confidence of some prompts
checkpoint/round-003.json                     the label phase is over: what it came to, and its ledger's digest
checkpoint/round-003-restarts.json            members that went on with other batches, and why
checkpoint/round-003-member-0.safetensors     a member in training: weights, optimisers' state, losses so far

A batch depends on nothing but its stream's name and its step, so these are all the state there is. Each file ends with
the SHA-256 of the rest. They go when the round is committed.
"""

import hashlib
import time
from collections.abc import Callable, Iterable
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
import safetensors.torch
import torch
from torch import Tensor
from typing_extensions import override

from easy2hard import processes
from easy2hard.improvement.labeller import AnswerCheckpoints
from easy2hard.improvement.proposals import Draws, Proposals, Relations
from easy2hard.learning.checkpoints import Checkpoints, MemberProgress, State
from easy2hard.runs.manifest import read_sealed
from easy2hard.runs.store import write_sealed
from easy2hard.tasks.base import Difficulty
from easy2hard.vocabulary import Tokens


class LabelCheckpoints(AnswerCheckpoints):
    """Keeps the answers of a label phase, in files named by all that they depend on: members, difficulty, prompts,
    and how they are sampled.

    Args:
        path: gives the file of a name.
        weights: digest of the weights that answer; whoever loads others changes it.
        members: how many there are.
        seconds: how long answers may wait until they are kept.
        clock: tells the seconds.
    """

    def __init__(
        self,
        path: Callable[[str], Path],
        weights: str,
        members: int,
        seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.weights = weights
        self._path = path
        self._members = members
        self._seconds = seconds
        self._clock = clock
        self._kept = clock()
        self._waiting: list[tuple[Path, Proposals]] = []

    def _file(self, difficulty: Difficulty, prompts: Tokens, relations: Relations, draws: Draws | None) -> Path:
        named = (self.weights, difficulty, sorted(relations), draws, prompts.shape)
        digest = hashlib.sha256(repr(named).encode())
        digest.update(prompts.tobytes())
        return self._path(digest.hexdigest()[:32])

    @override
    def load(
        self, difficulty: Difficulty, prompts: Tokens, relations: Relations, draws: Draws | None
    ) -> Proposals | None:
        path = self._file(difficulty, prompts, relations, draws)
        content = processes.current().from_main(lambda: read_sealed(path) if path.exists() else None)
        if content is None:
            return None
        arrays: dict[str, Any] = safetensors.numpy.load(content)
        samples = draws.samples if draws else 1
        members = self._members * samples
        return Proposals(difficulty=difficulty, prompts=prompts, members=members, samples=samples, **arrays)

    @override
    def save(self, proposals: Proposals, relations: Relations, draws: Draws | None) -> None:
        path = self._file(proposals.difficulty, proposals.prompts, relations, draws)
        self._waiting.append((path, proposals))
        if self._clock() - self._kept >= self._seconds:
            self.flush()

    def flush(self) -> None:
        """Keep what waits for it."""
        if processes.current().main:
            for path, proposals in self._waiting:
                named = {each.name: getattr(proposals, each.name) for each in fields(Proposals)}
                arrays = {name: value for name, value in named.items() if isinstance(value, np.ndarray)}
                del arrays["prompts"]
                write_sealed(path, safetensors.numpy.save(arrays))
        self._waiting = []
        self._kept = self._clock()


class PhaseCheckpoints(Checkpoints):
    """Keeps each member's state within one phase, in a file of its own.

    Args:
        path: gives a member's file.
        seconds: how long a member trains before its state is kept again.
        clock: tells the seconds.
        writes: keep them; a process that is not the main one only loads, and gives its parts of what lies in parts.
    """

    def __init__(
        self,
        path: Callable[[int], Path],
        seconds: float,
        clock: Callable[[], float] = time.monotonic,
        writes: bool = True,
    ) -> None:
        self._writes = writes
        self._path = path
        self._seconds = seconds
        self._clock = clock
        self._kept: dict[int, float] = {}

    @override
    def load(self, member: int) -> tuple[State, MemberProgress] | None:
        self._kept[member] = self._clock()
        path = self._path(member)
        if not path.exists():
            return None
        tensors = safetensors.torch.load(read_sealed(path))
        return tensors, MemberProgress(tensors["losses"].tolist(), tensors["tokens"].tolist())

    @override
    def save(self, member: int, state: Iterable[tuple[str, Tensor]], progress: MemberProgress) -> None:
        tensors = {}
        for name, tensor in state:  # of all processes together, one at a time: they need not fit at once
            if self._writes:
                tensors[name] = tensor
        if not self._writes:
            return
        tensors["losses"] = torch.tensor(progress.losses, dtype=torch.float64)
        tensors["tokens"] = torch.tensor(progress.tokens, dtype=torch.int64)
        write_sealed(self._path(member), safetensors.torch.save(tensors))
        self._kept[member] = self._clock()

    @override
    def due(self, member: int) -> bool:
        # The main process's clock decides: what lies in parts is kept by all processes together.
        return processes.current().any(self._writes and self._clock() - self._kept[member] >= self._seconds)

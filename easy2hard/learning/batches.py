"""Where training examples come from: the supervised stream and the labels of earlier rounds, mixed into batches."""

import mmap
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from easy2hard.models.member import Place
from easy2hard.seeding import numpy_generator
from easy2hard.tasks.base import Difficulty
from easy2hard.tasks.oracle import Oracle
from easy2hard.tasks.prompts import Reserved
from easy2hard.vocabulary import PAD, Tokens


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


class Source(Protocol):
    """A pool of examples."""

    def draw(self, generator: np.random.Generator, rows: int, points: Sequence[float], progress: float) -> list[Group]:
        """Return ``rows`` examples in ``len(points)`` groups; points in [0, 1) spread the groups over the lengths."""
        ...


class SupervisedSource(Source):
    """D0: fresh prompts of the easy range with true answers.

    Args:
        prompts: samples the prompts of the task, those of evaluation left out.
        oracle: solves them.
        hardest: d0.
        curriculum: share of the phase over which the hardest sampled difficulty grows from 1 to d0.
        stages: instead, the shares of the phase from which the next difficulty is sampled; the last opens all the rest.
    """

    def __init__(
        self,
        prompts: Reserved,
        oracle: Oracle,
        hardest: int,
        curriculum: float = 0.0,
        stages: Sequence[float] = (),
    ) -> None:
        self.prompts = prompts
        self.task = prompts.task
        self.oracle = oracle
        self.hardest = hardest
        self.curriculum = curriculum
        self.stages = stages
        self._lengths: dict[int, list[tuple[list[Difficulty], NDArray[np.float64]]]] = {}

    @cached_property
    def whole(self) -> "SupervisedSource":
        """The same without a curriculum, for rounds: they go on with all of the easy range."""
        return SupervisedSource(self.prompts, self.oracle, self.hardest)

    def hardest_at(self, progress: float) -> int:
        """Return the hardest difficulty that is sampled once the share ``progress`` of the phase is done."""
        if self.stages and progress < self.stages[-1]:
            return 1 + sum(progress >= stage for stage in self.stages)
        if progress < self.curriculum:
            return max(1, int(np.ceil(self.hardest * progress / self.curriculum)))
        return self.hardest

    @property
    def overlap(self) -> dict[Difficulty, float]:
        """The difficulties that share prompts with evaluation, their space being too small, and the share that is."""
        shares = {each: self.prompts.overlap(each) for each in self.task.supervised_difficulties(self.hardest)}
        return {difficulty: share for difficulty, share in shares.items() if share}

    @override
    def draw(self, generator: np.random.Generator, rows: int, points: Sequence[float], progress: float) -> list[Group]:
        groups = self._by_length(self.hardest_at(progress))
        sums = [weights.sum() for _, weights in groups]
        shares = np.cumsum(sums) / sum(sums)
        drawn = []
        for point, size in zip(points, _split(generator, rows, len(points)), strict=True):
            difficulties, weights = groups[min(int(np.searchsorted(shares, point, side="right")), len(groups) - 1)]
            counts = generator.multinomial(size, weights / weights.sum())
            prompts = np.concatenate(
                [
                    self.prompts.sample(generator, difficulty, int(count))
                    for difficulty, count in zip(difficulties, counts, strict=True)
                    if count
                ]
            )
            drawn.append(Group.join(prompts, self.oracle.solve(prompts)))
        return drawn

    def _by_length(self, hardest: int) -> list[tuple[list[Difficulty], NDArray[np.float64]]]:
        """Return the supervised difficulties up to ``hardest`` with their weights, those of one length together."""
        if hardest not in self._lengths:
            lengths: dict[int, list[Difficulty]] = {}
            # A curriculum begins with the easiest there is.
            easiest = next(h for h in range(hardest, self.hardest + 1) if self.task.supervised_difficulties(h))
            for difficulty in self.task.supervised_difficulties(easiest):
                length = self.task.sample(np.random.default_rng(0), difficulty, 1).shape[1]
                lengths.setdefault(length, []).append(difficulty)
            self._lengths[hardest] = [
                (lengths[length], np.array([self.task.supervised_weight(each) for each in lengths[length]]))
                for length in sorted(lengths)
            ]
        return self._lengths[hardest]


RELEASED_ROWS = 1 << 14
"""Rows drawn from a file before its pages are given back: at most so many pages of it are ever in memory."""


class LabelledSource(Source):
    """D_r: the kept labels of one round, one array of examples for each of its difficulties.

    Args:
        labels: the examples.
        folder: where to keep them in unnamed files instead of in memory; the system removes the files by itself.
    """

    def __init__(self, labels: Sequence[Group], folder: Path | None = None) -> None:
        self.labels = [
            group if folder is None else Group(_to_file(group.tokens, folder), group.prompt_length)
            for group in labels
            if len(group.tokens)
        ]
        self._drawn = 0
        sizes = np.array([len(group.tokens) for group in self.labels], dtype=float)
        self._shares: NDArray[np.float64] = np.cumsum(sizes) / max(sizes.sum(), 1)

    def __len__(self) -> int:
        return sum(len(group.tokens) for group in self.labels)

    @override
    def draw(self, generator: np.random.Generator, rows: int, points: Sequence[float], progress: float) -> list[Group]:
        drawn = []
        for point, size in zip(points, _split(generator, rows, len(points)), strict=True):
            group = self.labels[min(int(np.searchsorted(self._shares, point, side="right")), len(self.labels) - 1)]
            chosen = group.tokens[generator.integers(0, len(group.tokens), size)].astype(np.int32)
            self._drawn += size
            drawn.append(Group.join(chosen[:, : group.prompt_length], chosen[:, group.prompt_length :]))
        if self._drawn >= RELEASED_ROWS:
            self._drawn = 0
            for group in self.labels:
                _give_back(group.tokens)
        return drawn


def _to_file(tokens: Tokens, folder: Path) -> NDArray[Any]:
    """Return the same tokens, read from an unnamed file in ``folder`` when they are needed."""
    small = tokens.astype(np.uint8 if tokens.max() < 256 else np.uint16)
    with tempfile.TemporaryFile(dir=folder) as file:
        file.write(np.ascontiguousarray(small).data)  # unlike tofile, it says so when the disk is full
        file.flush()
        return np.memmap(file, small.dtype, mode="r", shape=small.shape)


def _give_back(tokens: NDArray[Any]) -> None:
    """Let the system take back the memory of a file's pages; they are read again when needed."""
    mapping = getattr(tokens, "_mmap", None)
    if mapping is not None and hasattr(mmap, "MADV_DONTNEED"):
        mapping.madvise(mmap.MADV_DONTNEED)


class Mixture:
    """Batches of one member in one round (method.md, "Notation" and "Tasks").

    Half of each batch comes from the newest labels (less where there are fewer of them), the rest from D0, whose weight
    is its number of difficulties, and the older rounds, whose weight is 1 for each difficulty they cover. A batch
    depends on nothing but the stream's name and its step.

    Args:
        seed: the run's seed.
        stream: purpose of the random stream, for example ``("batches", round, member)``.
        supervised: D0, and its weight.
        older: labels of earlier rounds, and their weights.
        newest: labels of this round, or None in the supervised phase.
        batch: examples in a step.
        groups: length groups that the part of a batch from D0 and older rounds is drawn from.
        newest_share: share of a batch from the newest labels.
        place: draws the numbers of the examples' places, from a stream of its own; None where they are not drawn.
    """

    def __init__(
        self,
        seed: int,
        stream: tuple[str | int, ...],
        supervised: tuple[Source, float],
        older: Sequence[tuple[Source, float]],
        newest: LabelledSource | None,
        batch: int,
        groups: int,
        newest_share: float = 0.5,
        place: Place | None = None,
    ) -> None:
        self.seed = seed
        self.stream = stream
        self.place = place
        self.sources = [supervised[0], *(source for source, _ in older)]
        self._shares = np.cumsum([supervised[1], *(weight for _, weight in older)])
        self._shares = self._shares / self._shares[-1]
        self.newest = newest
        # A handful of labels must not be half of every batch: none counts twice in one.
        self.newest_rows = 0 if newest is None else min(round(batch * newest_share), len(newest))
        self.rest_rows = batch - self.newest_rows
        self.groups = min(groups, self.rest_rows)

    def batch(self, step: int, progress: float) -> list[Group]:
        """Return the batch of a step as groups; ``progress`` in [0, 1) is the share of the phase that is done."""
        generator = numpy_generator(self.seed, *self.stream, step)
        batch: list[Group] = []
        if self.newest is not None:
            parts = min(len(self.newest.labels), self.newest_rows)
            batch += self.newest.draw(generator, self.newest_rows, _spread(generator, parts), progress)
        points = np.array(_spread(generator, self.groups))
        sizes = np.array(_split(generator, self.rest_rows, self.groups))
        owners = np.minimum(np.searchsorted(self._shares, points, side="right"), len(self.sources) - 1)
        for owner in np.unique(owners):
            below = self._shares[owner - 1] if owner else 0.0
            inside = (points[owners == owner] - below) / (self._shares[owner] - below)
            rows = int(sizes[owners == owner].sum())
            batch += self.sources[owner].draw(generator, rows, inside.tolist(), progress)
        if self.place is None:
            return batch
        places = numpy_generator(self.seed, *self.stream, step, "positions")
        return [replace(g, positions=self.place(g.tokens[:, :-1], g.prompt_length, places)) for g in batch]


def _spread(generator: np.random.Generator, count: int) -> list[float]:
    """Return ``count`` evenly spaced points in [0, 1) with one random offset: every batch covers all lengths."""
    return ((np.arange(count) + generator.random()) / count).tolist()  # type: ignore[no-any-return]


def _split(generator: np.random.Generator, rows: int, parts: int) -> list[int]:
    """Return ``parts`` sizes that add up to ``rows``; chance decides which parts are one larger."""
    sizes = [rows // parts + (i < rows % parts) for i in range(parts)]
    if parts and rows % parts:
        generator.shuffle(sizes)
    return sizes

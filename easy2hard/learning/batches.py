"""Where training examples come from: the supervised stream and the labels of earlier rounds, mixed into batches."""

import mmap
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from easy2hard.engines.engine import Group, Part
from easy2hard.models.member import Place
from easy2hard.seeding import derive, numpy_generator
from easy2hard.tasks.base import Difficulty, difficulty_text
from easy2hard.tasks.oracle import Oracle
from easy2hard.tasks.prompts import Reserved
from easy2hard.vocabulary import Tokens


class Source(Protocol):
    """A pool of examples: drawn from here, or given away as a stock that an engine draws from where it computes."""

    def draw(self, generator: np.random.Generator, rows: int, points: Sequence[float], progress: float) -> list[Group]:
        """Return ``rows`` examples in ``len(points)`` groups; points in [0, 1) spread the groups over the lengths."""
        ...

    def stock(self, examples: int) -> Sequence[Group]:
        """Return the pool as groups, or where it has no end, about so many ``examples`` of it; always the same."""
        ...

    def shares(self, progress: float) -> NDArray[np.float64]:
        """Return the weights of the stock's groups."""
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
        self._weights: dict[int, NDArray[np.float64]] = {}
        self._stock: dict[int, list[Group]] = {}

    @cached_property
    def without_curriculum(self) -> "SupervisedSource":
        """This source for rounds: they go on with all of the easy range."""
        found = SupervisedSource(self.prompts, self.oracle, self.hardest)
        found._stock = self._stock
        return found

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

    @override
    def stock(self, examples: int) -> Sequence[Group]:
        """Return about ``examples`` examples, a group a difficulty; they are drawn once and kept."""
        if examples not in self._stock:
            difficulties = self.task.supervised_difficulties(self.hardest)
            weights = self.shares(1.0)
            counts = np.maximum(1, examples * weights / weights.sum()).astype(int)
            groups = []
            for difficulty, count in zip(difficulties, counts, strict=True):
                generator = numpy_generator(self.prompts.seed, "stock", difficulty_text(difficulty))
                prompts = self.prompts.sample(generator, difficulty, int(count))
                groups.append(Group.join(prompts, self.oracle.solve(prompts)))
            self._stock[examples] = groups
        return self._stock[examples]

    @override
    def shares(self, progress: float) -> NDArray[np.float64]:
        hardest = self.hardest_at(progress)
        if hardest not in self._weights:
            easy = {each for difficulties, _ in self._by_length(hardest) for each in difficulties}
            self._weights[hardest] = np.array(
                [
                    self.task.supervised_weight(each) if each in easy else 0.0
                    for each in self.task.supervised_difficulties(self.hardest)
                ]
            )
        return self._weights[hardest]

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

    @override
    def stock(self, examples: int) -> Sequence[Group]:
        return self.labels

    @override
    def shares(self, progress: float) -> NDArray[np.float64]:
        return np.array([float(len(group.tokens)) for group in self.labels])


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


STOCK = 1 << 20
"""Examples of D0 in the stock of an engine that draws batches itself, where nothing else is said."""


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
        stock: examples of D0 that an engine gets which draws batches itself.
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
        stock: int = STOCK,
    ) -> None:
        self.seed = seed
        self.stock = stock
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

    @property
    def key(self) -> int:
        """What an engine's draws are hashes of, where it draws itself."""
        return derive(self.seed, *self.stream)

    def parts(self) -> list[Part]:
        """Return what an engine draws batches from that draws them itself: the newest labels, and all the rest."""
        newest = self.newest
        parts = [] if newest is None else [Part(self.newest_rows, newest.labels, newest.shares)]

        def shares(progress: float) -> NDArray[np.float64]:
            of_sources = (source.shares(progress) for source in self.sources)
            owned = np.diff(self._shares, prepend=0.0)
            return np.concatenate([share * own / own.sum() for share, own in zip(owned, of_sources, strict=True)])

        strata = [group for source in self.sources for group in source.stock(self.stock)]
        return [*parts, Part(self.rest_rows, strata, shares)]


def _spread(generator: np.random.Generator, count: int) -> list[float]:
    """Return ``count`` evenly spaced points in [0, 1) with one random offset: every batch covers all lengths."""
    return ((np.arange(count) + generator.random()) / count).tolist()  # type: ignore[no-any-return]


def _split(generator: np.random.Generator, rows: int, parts: int) -> list[int]:
    """Return ``parts`` sizes that add up to ``rows``; chance decides which parts are one larger."""
    sizes = [rows // parts + (i < rows % parts) for i in range(parts)]
    if parts and rows % parts:
        generator.shuffle(sizes)
    return sizes

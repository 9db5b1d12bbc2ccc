"""Batches that are put together on the device, from examples that lie there.

A part of a batch is drawn from strata, examples of one length each: row j of n takes the stratum at the point
(j + r) / n of their cumulated shares, so that every batch covers all lengths, and any of its examples. What is random
is a hash of the stream, the step and the row. Strata are in the order of their lengths, so that the rows fall into
buckets of neighbouring lengths, whose shapes stay the same for a whole phase.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from easy2hard.engines.engine import Batches, Group, Part
from easy2hard.seeding import ODD, mixed, uniform
from easy2hard.vocabulary import PAD

BUCKETS = 4
"""Of a part, at most: more waste less padding, and launch more."""
FEWEST_ROWS = 32
"""Of a bucket, about."""


class Arena:
    """Examples on a device, end to end; ``tokens`` is how many token ids there are."""

    def __init__(self, device: torch.device, tokens: int) -> None:
        self.dtype = torch.uint8 if tokens <= 256 else torch.int16
        self.memory = torch.zeros(1 << 20, dtype=self.dtype, device=device)
        self.used = 0
        self._places: dict[int, tuple[NDArray[np.generic], int]] = {}

    def place(self, examples: NDArray[np.generic]) -> int:
        """Return where (rows, time) examples begin; they are brought there the first time."""
        if id(examples) not in self._places:
            end = self.used + examples.size
            if end > len(self.memory):
                larger = self.memory.new_zeros(max(end, 2 * len(self.memory)))
                larger[: self.used] = self.memory[: self.used]
                self.memory = larger
            flat = torch.from_numpy(np.ascontiguousarray(examples, dtype=np.int16).ravel())
            self.memory[self.used : end] = flat.to(self.dtype).to(self.memory.device)
            self._places[id(examples)] = examples, self.used  # kept alive: another array would take its number
            self.used = end
        return self._places[id(examples)][1]

    def forget(self, kept: Sequence[NDArray[np.generic]]) -> None:
        """Drop all examples but some; what is left is brought again when it is asked for."""
        if {id(each) for each in kept} >= self._places.keys():
            return
        self._places, self.used = {}, 0


class Bucket(NamedTuple):
    """Rows of a part of a batch that have one shape."""

    rows: range
    width: int
    """Tokens of each example, padding included."""


class DrawnPart:
    """One part of the batches of all members; ``progresses`` are where in the phase the strata's shares are looked at.

    Raises:
        ValueError: the members' parts do not have as many rows.
    """

    def __init__(self, parts: Sequence[Part], number: int, arena: Arena, progresses: Sequence[float]) -> None:
        self.parts, self.number = parts, number
        self.rows = parts[0].rows
        if any(part.rows != self.rows for part in parts):
            raise ValueError("members' batches have different sizes")
        different = {id(group): group for part in parts for group in part.strata}
        groups = sorted(different.values(), key=lambda group: group.tokens.shape[1])
        at = {id(group): index for index, group in enumerate(groups)}
        device = arena.memory.device
        self._own = [[at[id(group)] for group in part.strata] for part in parts]
        self._groups: list[Group] = groups
        self.widths = np.array([group.tokens.shape[1] for group in groups])
        self.starts = torch.tensor([arena.place(group.tokens) for group in groups], device=device)
        self.sizes = torch.tensor([len(group.tokens) for group in groups], device=device)
        self.lengths = torch.tensor(self.widths, device=device)
        self.prompts = torch.tensor([group.prompt_length for group in groups], device=device)
        seen = {share.tobytes(): share for share in map(self._cumulated, progresses)}
        self.buckets = self._bucketed(list(seen.values()))
        self._now = b""
        self.shares = torch.zeros(len(parts), len(groups), dtype=torch.float64, device=device)

    def _cumulated(self, progress: float) -> NDArray[np.float64]:
        """Return (members, strata) cumulated shares."""
        shares = np.zeros((len(self.parts), len(self._groups)))
        for row, (part, own) in enumerate(zip(self.parts, self._own, strict=True)):
            np.add.at(shares[row], own, part.shares(progress))
        cumulated: NDArray[np.float64] = np.cumsum(shares, axis=1)
        return cumulated / cumulated[:, -1:]

    def _bucketed(self, seen: Sequence[NDArray[np.float64]]) -> list[Bucket]:
        """Return buckets of the rows, each as wide as the longest example that could come to be in it."""
        count = max(1, min(BUCKETS, self.rows // FEWEST_ROWS))
        ends = [self.rows * (i + 1) // count for i in range(count)]
        buckets: list[Bucket] = []
        for start, stop in zip([0, *ends], ends, strict=False):
            ends_at = [int(np.searchsorted(row, stop / self.rows - 1e-12)) for each in seen for row in each]
            width = rounded(int(self.widths[min(max(ends_at), len(self.widths) - 1)]))
            if buckets and buckets[-1].width == width:
                buckets[-1] = Bucket(range(buckets[-1].rows.start, stop), width)
            else:
                buckets.append(Bucket(range(start, stop), width))
        return buckets

    def at(self, progress: float) -> None:
        """Set the strata's shares to what they are at a point of the phase."""
        shares = self._cumulated(progress)
        if (now := shares.tobytes()) != self._now:
            self.shares.copy_(torch.from_numpy(shares))
            self._now = now

    def draw(self, keys: Tensor, memory: Tensor, rank: int, processes: int) -> list[tuple[Tensor, Tensor]]:
        """Return for each bucket (members, rows, width) tokens and (members, rows) lengths of the prompts.

        ``keys`` are (members,) hashes of stream and step; process ``rank`` draws one row in ``processes``.
        """
        device = keys.device
        of_part = mixed(keys + torch.full((), self.number + 1, device=device) * ODD)
        moved = uniform(mixed(of_part))
        drawn = []
        for bucket in self.buckets:
            own = bucket.rows[rank::processes]
            rows = torch.arange(own.start, own.stop, own.step, device=device)
            points = (rows + moved[:, None]) / self.rows
            strata = torch.searchsorted(self.shares, points, right=True).clamp(max=self.shares.shape[1] - 1)
            chance = uniform(mixed(of_part[:, None] + (rows + 1) * ODD))
            chosen = torch.minimum((chance * self.sizes[strata]).long(), self.sizes[strata] - 1)
            length = self.lengths[strata]
            times = torch.arange(bucket.width, device=device)
            places = (self.starts[strata] + chosen * length)[..., None] + times
            inside = times < length[..., None]
            tokens = torch.where(inside, memory[torch.where(inside, places, 0)].long(), PAD)
            drawn.append((tokens, self.prompts[strata]))
        return drawn


def rounded(width: int) -> int:
    """Return a width, rounded up by an eighth at most, so that shapes change seldom; its inputs are one fewer."""
    step = 4
    while step * 16 <= width:
        step *= 2
    return int(-(-(width - 1) // step) * step + 1)


def parts_of(batches: Sequence[Batches], arena: Arena, progresses: Sequence[float]) -> list[DrawnPart]:
    """Return the parts that the members' batches are drawn in."""
    of_members = [each.parts() for each in batches]
    arena.forget([group.tokens for parts in of_members for part in parts for group in part.strata])
    return [
        DrawnPart(parts, number, arena, progresses)
        for number, parts in enumerate(zip(*of_members, strict=True))
        if parts[0].rows
    ]

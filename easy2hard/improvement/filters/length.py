"""The filter ``length``."""

from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from typing_extensions import override

from easy2hard.settings.filters import Filter, Mask
from easy2hard.vocabulary import PAD

if TYPE_CHECKING:
    from easy2hard.improvement.proposals import Proposals

QUANTILE = 0.9


class LengthFilter(Filter):
    """Drop answers ``threshold`` or more tokens shorter than nearly all others of their difficulty and round."""

    name: Literal["length"] = "length"
    threshold: int = Field(1, ge=1, le=1_000_000_000, description="tokens")

    @override
    def judge(self, proposals: "Proposals", kept: Mask) -> Mask:
        """Compare with the other answers of the difficulty, never with a true length (method.md, "Filters").

        What is expected is the 90 % quantile of all answers' lengths: most answers may be too short, as they are when a
        model drops a token, and a few may run on, without moving it.
        """
        lengths = (proposals.answers != PAD).sum(axis=1)
        passed: Mask = lengths >= self.least(lengths[proposals.finished] if kept.any() else lengths[:0])
        return passed

    def least(self, lengths: NDArray[np.int64]) -> int:
        """Return the fewest tokens of an answer that passes, among others of these (count,) lengths."""
        expected = int(np.quantile(lengths, QUANTILE, method="higher")) if len(lengths) else 0
        return expected - self.threshold + 1

"""A filter of your own; see docs/extending.md.

easy2hard run copy-cpu --plugin examples/repeats.py --set labels.filters='[{name = "repeats", most = 4}]'
"""

from typing import Literal

import numpy as np
from pydantic import Field

from easy2hard import Filter


class Repeats(Filter):
    """Drop answers in which one symbol comes more than ``most`` times in a row."""

    name: Literal["repeats"] = "repeats"
    most: int = Field(5, ge=1, description="times in a row that are still kept")

    def judge(self, proposals, kept):
        return self.columns(proposals)["longest_repeat"] <= self.most

    def columns(self, proposals):
        longest = run = np.zeros(len(proposals.answers), dtype=np.int32)
        for before, now in zip(proposals.answers.T, proposals.answers.T[1:], strict=False):
            run = np.where((now == before) & (now > 2), run + 1, 0)  # 0, 1 and 2 are padding, begin and end
            longest = np.maximum(longest, run)
        return {"longest_repeat": longest + 1}

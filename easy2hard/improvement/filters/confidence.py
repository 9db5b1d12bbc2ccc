"""The filter ``confidence``."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import numpy as np
from pydantic import Field, model_validator
from typing_extensions import override

from easy2hard.settings.filters import Filter, Mask

if TYPE_CHECKING:
    from easy2hard.improvement.proposals import Proposals


class ConfidenceFilter(Filter):
    """Keep the most confident ``keep`` share, or everything at or above ``threshold``."""

    example: ClassVar[Mapping[str, Any]] = {"keep": 0.5}

    name: Literal["confidence"] = "confidence"
    keep: float | None = Field(None, gt=0, le=1, description="share of the answers still kept")
    threshold: float | None = Field(None, ge=0, le=1, description="smallest token probability")

    @model_validator(mode="after")
    def _one_rule(self) -> Self:
        if (self.keep is None) == (self.threshold is None):
            raise ValueError("confidence takes either keep or threshold")
        return self

    @property
    @override
    def expected(self) -> float:
        return 1.0 if self.keep is None else self.keep

    @override
    def judge(self, proposals: "Proposals", kept: Mask) -> Mask:
        if self.threshold is not None:
            return proposals.confidence >= self.threshold
        assert self.keep is not None
        count = int(np.floor(self.keep * kept.sum() + 1e-9))
        # Ties are broken by the prompt, not by its place in the batch, so that order does not matter.
        order = np.lexsort((*proposals.prompts.T[::-1], -proposals.confidence, ~kept))
        passed = np.zeros(len(kept), dtype=np.bool_)
        passed[order[:count]] = True
        return passed

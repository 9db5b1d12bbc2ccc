"""The filter ``learned-verifier``; what it learns is in improvement/verifier.py."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from numpy.typing import NDArray
from pydantic import Field
from typing_extensions import override

from easy2hard.improvement.verifier import Verifier, learn
from easy2hard.settings.filters import LearnedFilter, Mask

if TYPE_CHECKING:
    from easy2hard.improvement.proposals import Proposals


class LearnedVerifierFilter(LearnedFilter):
    """Keep answers that a verifier takes for right, learned from right and wrong answers of the supervised range."""

    name: Literal["learned-verifier"] = "learned-verifier"
    threshold: float = Field(0.5, gt=0, lt=1, description="estimated probability of being right")

    @override
    def fit(self, answers: Sequence["Proposals"], right: Sequence[Mask]) -> Verifier:
        return learn(answers, right)

    @override
    def judge(self, proposals: "Proposals", kept: Mask) -> Mask:
        assert proposals.score is not None
        passed: Mask = proposals.score >= self.threshold
        return passed

    @override
    def columns(self, proposals: "Proposals") -> dict[str, NDArray[Any]]:
        assert proposals.score is not None
        return {"score": proposals.score}

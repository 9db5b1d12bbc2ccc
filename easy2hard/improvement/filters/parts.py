"""The filter ``parts``."""

from typing import TYPE_CHECKING, Literal

from pydantic import Field
from typing_extensions import override

from easy2hard.settings.filters import Filter, Mask

if TYPE_CHECKING:
    from easy2hard.improvement.proposals import Proposals


class PartsFilter(Filter):
    """Keep an answer that contains the members' answers to its parts, easier questions that the task declares."""

    needs = frozenset({"parts"})

    name: Literal["parts"] = "parts"
    reliable: float = Field(
        0.95,
        ge=0,
        le=1,
        description="share of watch.sample answers to parts that must contain the answers to parts of their own; below "
        "it the round holds its difficulty",
    )

    @property
    @override
    def parts_needed(self) -> float:
        return self.reliable

    @override
    def judge(self, proposals: "Proposals", kept: Mask) -> Mask:
        assert proposals.parts is not None
        return proposals.parts

"""The filter ``none``."""

from typing import TYPE_CHECKING, Literal

from typing_extensions import override

from easy2hard.settings.filters import Filter, Mask

if TYPE_CHECKING:
    from easy2hard.improvement.proposals import Proposals


class NoFilter(Filter):
    """Keep every answer that ended within its bound."""

    name: Literal["none"] = "none"

    @override
    def judge(self, proposals: "Proposals", kept: Mask) -> Mask:
        return kept

"""The filter ``twin``."""

from typing import TYPE_CHECKING, Literal

from typing_extensions import override

from easy2hard.settings.filters import Filter, Mask

if TYPE_CHECKING:
    from easy2hard.improvement.proposals import Proposals


class TwinFilter(Filter):
    """Keep an answer that agrees with the members' answer to the prompt's twin, such as b+a for a+b."""

    needs = frozenset({"twin"})

    name: Literal["twin"] = "twin"

    @override
    def judge(self, proposals: "Proposals", kept: Mask) -> Mask:
        assert proposals.twin is not None
        return proposals.twin

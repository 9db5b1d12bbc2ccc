"""The filter ``verifier``: SUPERVISED. It is the one that may ask for ``truth``."""

from typing import TYPE_CHECKING, Literal

from typing_extensions import override

from easy2hard.settings.filters import Filter, Mask

if TYPE_CHECKING:
    from easy2hard.improvement.proposals import Proposals


class VerifierFilter(Filter):
    """Keep right answers, by the oracle: an upper bound (STaR, ReST-EM) that is SUPERVISED, not self-improvement."""

    needs = frozenset({"truth"})

    name: Literal["verifier"] = "verifier"

    @override
    def judge(self, proposals: "Proposals", kept: Mask) -> Mask:
        raise AssertionError("unreachable: what is right is asked of the run's oracle, which no filter holds")

"""The filter ``vote``; votes that do not all count the same are in improvement/jury.py."""

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from typing_extensions import override

from easy2hard.improvement.filters import STUDENTS
from easy2hard.improvement.jury import accepted, agreement, as_bits, students
from easy2hard.settings.filters import Filter, Mask

if TYPE_CHECKING:
    from easy2hard.improvement.proposals import Proposals


class VoteFilter(Filter):
    """Keep an answer whose share of the members' answers reaches ``threshold``; ties lose."""

    needs = frozenset({"votes"})

    name: Literal["vote"] = "vote"
    threshold: float = Field(0.7, gt=0, le=1, description="share of the members that gave the answer")
    weights: Literal["agreement"] | None = Field(
        None,
        description="agreement: a member counts by how often it agrees with the others on the prompts of this "
        "difficulty and round, and the share is one of all weights (Dawid and Skene 1979). Default: all count the same",
    )
    voters: Literal["others"] | None = Field(
        None,
        description="others: a member trains on what the other members alone accept, whatever it says itself "
        "(tri-training, Zhou and Li 2005); a label is kept where one member may train on it. Default: all vote, and "
        "train on the same labels",
    )

    @property
    @override
    def teaches(self) -> bool:
        return self.voters is not None

    @override
    def misfit(self, members: int, samples: int) -> str | None:
        if (self.weights or self.voters) and members not in range(3, 64):
            what = f"voters = {self.voters!r}" if self.voters else f"weights = {self.weights!r}"
            return f"vote with {what} needs model.members from 3 to 63, it is {members}"
        return super().misfit(members, samples)

    @override
    def judge(self, proposals: "Proposals", kept: Mask) -> Mask:
        if self.voters:
            taught: Mask = self._students(proposals) > 0
            return taught
        if self.weights:
            return accepted(proposals, self._weights(proposals), self.threshold)
        # Votes are compared, not shares: 7 of 10 must reach a threshold of 0.7 whatever 0.7 * 10 rounds to.
        needed = np.ceil(self.threshold * proposals.members - 1e-9)
        passed: Mask = (proposals.votes >= needed) & (proposals.votes > proposals.runner_up)
        return passed

    @override
    def columns(self, proposals: "Proposals") -> dict[str, NDArray[Any]]:
        return {STUDENTS: self._students(proposals)} if self.voters else {}

    def _students(self, proposals: "Proposals") -> NDArray[np.int64]:
        return as_bits(students(proposals, self._weights(proposals), self.threshold))

    def _weights(self, proposals: "Proposals") -> NDArray[np.float64]:
        return agreement(proposals) if self.weights else np.ones(proposals.members)

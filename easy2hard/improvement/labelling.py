"""One difficulty's labels: fresh prompts -> the members' answers -> filters, topped up until enough are kept."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from easy2hard.config import FilterSettings, RoundsSettings
from easy2hard.improvement.filters import Filtered, Mask, apply_filters
from easy2hard.improvement.labels import Draws, Proposals, blocks, join, propose, with_twins
from easy2hard.models.member import Member
from easy2hard.seeding import numpy_generator
from easy2hard.tasks.base import Difficulty, Task, difficulty_text
from easy2hard.tasks.prompts import Reserved, fresh_prompts
from easy2hard.vocabulary import Tokens


@dataclass(frozen=True)
class Labelled:
    """The labels of one difficulty in one round."""

    filtered: Filtered
    ended: str | None
    """Why topping up ended before enough labels were kept; None where it did not."""


class AnswerCheckpoints(Protocol):
    """Keeps what is answered within a label phase."""

    def load(self, difficulty: Difficulty, prompts: Tokens, twins: bool, draws: Draws | None) -> Proposals | None:
        """Return the proposals for these prompts, if the same members' were kept, sampled alike."""

    def save(self, proposals: Proposals, draws: Draws | None) -> None:
        """Keep proposals, now or soon."""


class NoAnswerCheckpoints(AnswerCheckpoints):
    """Keeps nothing."""

    @override
    def load(self, difficulty: Difficulty, prompts: Tokens, twins: bool, draws: Draws | None) -> Proposals | None:
        return None

    @override
    def save(self, proposals: Proposals, draws: Draws | None) -> None:
        pass


class Labeller:
    """Labels prompts with the members' own answers.

    Args:
        members: the models that answer and vote.
        task: samples prompts and bounds answers.
        seed: the run's seed.
        reserved: the prompts that are evaluation's.
        rounds: how many labels, how they are topped up, and whether they are sampled.
        verify: says which proposals are right, for the supervised filter ``verifier`` alone.
        on_done: told about prompts as they are answered.
        kept: keeps answers, so that a resumed run need not give them again.
        score: says how likely each proposal is right, for the filter ``learned-verifier`` alone.
    """

    def __init__(
        self,
        members: Sequence[Member],
        task: Task,
        seed: int,
        reserved: Reserved,
        rounds: RoundsSettings,
        verify: Callable[[Proposals], Mask] | None = None,
        on_done: Callable[[int], None] = lambda count: None,
        kept: AnswerCheckpoints | None = None,
        score: Callable[[Proposals], NDArray[np.float64]] | None = None,
    ) -> None:
        self.members = members
        self.task = task
        self.seed = seed
        self.reserved = reserved
        self.rounds = rounds
        self.verify = verify
        self.on_done = on_done
        self.kept = kept or NoAnswerCheckpoints()
        self.score = score

    def label(self, number: int, difficulty: Difficulty, filters: Sequence[FilterSettings]) -> Labelled:
        """Return the labels of ``difficulty`` in round ``number``.

        With ``rounds.top_up`` more prompts are labelled, each time from a stream of their own and never one that was
        there before, until so many labels are kept. The filters judge all labels of the difficulty together.
        """
        settings = self.rounds
        twins = any(each.name == "twin" for each in filters)
        taken, parts = self.reserved.prompts(difficulty), []
        wanted = settings.labels
        for attempt in range(1000):
            stream: list[str | int] = ["labels", number, difficulty_text(difficulty), *([attempt] if attempt else [])]
            prompts = fresh_prompts(self.task, numpy_generator(self.seed, *stream), difficulty, wanted, taken)
            taken = np.concatenate([taken, prompts])
            parts.append(self.propose(difficulty, prompts, twins, self.draws(number, difficulty)))
            filtered = self._filtered(filters, join(parts))
            kept = int(filtered.kept.sum())
            if settings.top_up is None or kept >= settings.top_up:
                return Labelled(filtered, None)
            proposed = len(filtered.kept)
            short = f"{kept:,} of the {settings.top_up:,} labels wanted were kept"
            if len(prompts) < wanted:
                return Labelled(filtered, f"{short}: there are no more prompts")
            if kept < settings.least_acceptance * proposed:
                share = f"{kept / proposed:.3f} of {proposed:,}, is below rounds.least_acceptance"
                return Labelled(filtered, f"{short}: the share kept, {share} = {settings.least_acceptance}")
            # As many as the share kept so far asks for, and a few more.
            wanted = min(settings.labels, 16 + int(1.1 * (settings.top_up - kept) * proposed / kept))
        return Labelled(filtered, f"{short} after {len(parts)} attempts")

    def relabel(
        self, number: int, difficulty: Difficulty, prompts: Tokens, filters: Sequence[FilterSettings]
    ) -> Filtered:
        """Return the labels that prompts of an older round get in round ``number``, answered and filtered afresh."""
        twins = any(each.name == "twin" for each in filters)
        proposals = self.propose(difficulty, prompts, twins, self.draws(number, difficulty))
        return self._filtered(filters, proposals)

    def _filtered(self, filters: Sequence[FilterSettings], proposals: Proposals) -> Filtered:
        if self.score is not None:
            proposals = replace(proposals, score=self.score(proposals))
        return apply_filters(filters, proposals, self.verify)

    def propose(self, difficulty: Difficulty, prompts: Tokens, twins: bool, draws: Draws | None = None) -> Proposals:
        """Return the members' joint answers, with their twins' where ``twins`` are asked for.

        They are greedy, whatever the settings say of labels, but where ``draws`` says how they are sampled.
        """
        parts = blocks(self.members, self.task, prompts)
        return join([self._answered(difficulty, prompts[part], twins, draws) for part in parts])

    def draws(self, number: int, difficulty: Difficulty) -> Draws | None:
        """Return how labels of round ``number`` are sampled, if they are."""
        if not self.rounds.temperature:
            return None
        stream = (number, difficulty_text(difficulty))
        return Draws(self.rounds.temperature, self.rounds.samples, self.seed, stream)

    def _answered(self, difficulty: Difficulty, prompts: Tokens, twins: bool, draws: Draws | None) -> Proposals:
        kept = self.kept.load(difficulty, prompts, twins, draws)
        if kept is not None:
            self.on_done(len(prompts))
            return kept
        proposals = propose(self.members, self.task, difficulty, prompts, self.on_done, draws, self.verify)
        proposals = with_twins(proposals, self.members, self.task, draws) if twins else proposals
        self.kept.save(proposals, draws)
        return proposals

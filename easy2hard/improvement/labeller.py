"""One difficulty's labels: fresh prompts -> the members' answers -> filters, topped up until enough are kept."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from easy2hard.engines.engine import Engine
from easy2hard.improvement.filters import Filtered, Mask, apply_filters, relations_of
from easy2hard.improvement.proposals import Draws, Proposals, Relations, join, propose, with_parts
from easy2hard.seeding import numpy_generator
from easy2hard.settings.filters import Filter, Scorer
from easy2hard.settings.rounds import LabelsSettings
from easy2hard.tasks.base import Difficulty, Task, difficulty_text
from easy2hard.tasks.prompts import Reserved, fresh_prompts
from easy2hard.vocabulary import Tokens

ATTEMPTS = 1000
"""Draws of prompts of one difficulty in one round, at most."""

PARTS: Relations = frozenset({"parts"})


@dataclass(frozen=True)
class Labelled:
    """The labels of one difficulty in one round."""

    filtered: Filtered
    ended: str | None
    """Why topping up ended before enough labels were kept; None where it did not."""


class AnswerCheckpoints(Protocol):
    """Keeps what is answered within a label phase."""

    def load(
        self, difficulty: Difficulty, prompts: Tokens, relations: Relations, draws: Draws | None
    ) -> Proposals | None:
        """Return the proposals for these prompts, if the same members' were kept, sampled alike."""

    def save(self, proposals: Proposals, relations: Relations, draws: Draws | None) -> None:
        """Keep proposals, now or soon."""


class Labeller:
    """Labels prompts with the members' own answers.

    Args:
        engine: the members that answer and vote.
        task: samples prompts and bounds answers.
        seed: the run's seed.
        reserved: the prompts that are evaluation's.
        labels: how many labels, how they are topped up, and whether they are sampled.
        verify: says which proposals are right, for the supervised filter ``verifier`` alone.
        on_done: told about prompts as they are answered.
        kept: keeps answers, so that a resumed run need not give them again.
    """

    def __init__(
        self,
        engine: Engine,
        task: Task,
        seed: int,
        reserved: Reserved,
        labels: LabelsSettings,
        verify: Callable[[Proposals], Mask] | None = None,
        on_done: Callable[[int], None] = lambda count: None,
        kept: AnswerCheckpoints | None = None,
    ) -> None:
        self.engine = engine
        self.task = task
        self.seed = seed
        self.reserved = reserved
        self.labels = labels
        self.verify = verify
        self.on_done = on_done
        self.kept = kept

    def label(
        self, number: int, difficulty: Difficulty, filters: Sequence[Filter], scorer: Scorer | None = None
    ) -> Labelled:
        """Return the labels of ``difficulty`` in round ``number``.

        With ``labels.top_up`` more prompts are labelled, each time from a stream of their own and never one that was
        there before, until so many labels are kept. The filters judge all labels of the difficulty together.
        """
        settings = self.labels
        relations = self.relations(filters)
        draws = self.draws(number, difficulty)
        taken, wanted = self.reserved.prompts(difficulty), settings.count
        pieces: list[Proposals] = []
        for attempt in range(ATTEMPTS):
            stream: list[str | int] = ["labels", number, difficulty_text(difficulty), *([attempt] if attempt else [])]
            prompts = fresh_prompts(self.task, numpy_generator(self.seed, *stream), difficulty, wanted, taken)
            taken = np.concatenate([taken, prompts])
            pieces += self._pieces(difficulty, prompts, relations, draws)
            filtered = self._filtered(filters, pieces, scorer)
            kept = int(filtered.kept.sum())
            if settings.top_up is None or kept >= settings.top_up:
                return Labelled(filtered, None)
            proposed = len(filtered.kept)
            short = f"{kept:,} of the {settings.top_up:,} labels wanted were kept"
            if len(prompts) < wanted:
                return Labelled(filtered, f"{short}: there are no more prompts")
            if kept < settings.least_acceptance * proposed:
                share = f"{kept / proposed:.3f} of {proposed:,}, is below labels.least_acceptance"
                return Labelled(filtered, f"{short}: the share kept, {share} = {settings.least_acceptance}")
            # As many as the share kept so far asks for, and a few more.
            wanted = min(settings.count, 16 + int(1.1 * (settings.top_up - kept) * proposed / kept))
        return Labelled(filtered, f"{short} after {ATTEMPTS} attempts")

    def relabel(
        self,
        number: int,
        difficulty: Difficulty,
        prompts: Tokens,
        filters: Sequence[Filter],
        scorer: Scorer | None = None,
    ) -> Filtered:
        """Return the labels that prompts of an older round get in round ``number``, answered and filtered afresh."""
        draws = self.draws(number, difficulty)
        return self._filtered(filters, self._pieces(difficulty, prompts, self.relations(filters), draws), scorer)

    def propose(
        self, difficulty: Difficulty, prompts: Tokens, relations: Relations, draws: Draws | None = None
    ) -> Proposals:
        """Return the members' joint answers, compared with those that ``relations`` ask for.

        They are greedy, whatever the settings say of labels, but where ``draws`` says how they are sampled.
        """
        return join(list(self._pieces(difficulty, prompts, relations, draws)))

    def relations(self, filters: Sequence[Filter]) -> Relations:
        """Return the relations between questions that make the labels and judge them."""
        made: Relations = frozenset({"compose"} if self.labels.compose else ())
        return made | relations_of(filters)

    def draws(self, number: int, difficulty: Difficulty) -> Draws | None:
        """Return how labels of round ``number`` are sampled, if they are."""
        if not self.labels.temperature:
            return None
        stream = (number, difficulty_text(difficulty))
        return Draws(self.labels.temperature, self.labels.samples, self.seed, stream)

    def agreement_with_parts(self, number: int, labels: Filtered, judged: bool, count: int) -> float | None:
        """Return how well the parts of some labels are answered, judged by what is easier still.

        Args:
            number: the round.
            labels: of one difficulty.
            judged: the labels were judged by their parts. Then these are the question: the share of their answers that
                contain the answers to parts of their own. Otherwise it is the share of kept labels that contain the
                answers to their parts.
            count: labels to look at, at most: the first ones.

        Returns:
            A share, or None where there is nothing to ask: no label, or a difficulty without parts.
        """
        own = labels.proposals.rows(np.flatnonzero(labels.kept | judged)[:count])
        if judged:
            easier = self.task.parts(own.prompts, own.answers) if len(own.prompts) else []
            asked = [
                self.propose(each.difficulty, each.prompts, PARTS, self.draws(number, each.difficulty))
                for each in easier
            ]
        else:  # the labels are answered already: their parts alone are questions
            asked = [with_parts(own, self.engine, self.task, self.draws(number, own.difficulty))]
        found = [
            each.parts[each.questions > 0] for each in asked if each.parts is not None and each.questions is not None
        ]
        shares = np.concatenate(found) if found else np.zeros(0)
        return float(shares.mean()) if len(shares) else None

    def _pieces(
        self, difficulty: Difficulty, prompts: Tokens, relations: Relations, draws: Draws | None
    ) -> Iterator[Proposals]:
        """Give the joint answers, in the pieces in which they are kept."""
        for rows in self.engine.blocks(prompts, self.task.answer_bounds(prompts)):
            own = prompts[rows]
            piece = self.kept.load(difficulty, own, relations, draws) if self.kept else None
            if piece is not None:
                self.on_done(len(own))
            else:
                piece = propose(self.engine, self.task, difficulty, own, relations, self.on_done, draws, self.verify)
                if self.kept:
                    self.kept.save(piece, relations, draws)
            yield piece

    def _filtered(self, filters: Sequence[Filter], pieces: Iterable[Proposals], scorer: Scorer | None) -> Filtered:
        proposals = join(list(pieces))
        if scorer is not None:
            proposals = replace(proposals, score=scorer.score(proposals))
        return apply_filters(filters, proposals, self.verify)

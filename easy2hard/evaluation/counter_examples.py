"""Prompts that the members fail on, with their true answers: SUPERVISED, not self-improvement.

The smallest form of counter-example-driven curricula (Vejendla 2025, arXiv 2512.01187): the model answers candidates, a
verifier finds those it gets wrong, and training goes on with them solved. Candidates are the prompts that a round would
label.
"""

from dataclasses import replace

import numpy as np

from easy2hard.evaluation.exact_match import right
from easy2hard.improvement.filters import KEPT, Filtered
from easy2hard.improvement.proposals import pad_answers
from easy2hard.tasks.oracle import Oracle

NAME = "counter-examples"


def counter_examples(oracle: Oracle, filtered: Filtered) -> Filtered:
    """Return labels with what is wrong solved and kept, and what is right dropped; their filters no longer count."""
    proposals = filtered.proposals
    wrong = ~right(oracle, proposals)
    truth = oracle.solve(proposals.prompts)
    length = max(truth.shape[1], proposals.answers.shape[1])
    answers = np.where(wrong[:, None], pad_answers(truth, length), pad_answers(proposals.answers, length))
    counts = [{"name": NAME, "supervised": True, "in": len(wrong), "kept": int(wrong.sum())}]
    why = np.where(wrong, KEPT, NAME).astype(object)
    return Filtered(replace(proposals, answers=answers, finished=proposals.finished | wrong), why, counts)

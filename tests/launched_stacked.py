"""Stacked members take the steps of one process; started by test_processes.py in two, writes a file if all is well."""

import sys
from pathlib import Path

import torch
from helpers import HARDEST, copy_task, new_member, prompts_of

from easy2hard import processes
from easy2hard.engines.cuda.engine import CudaEngine
from easy2hard.learning.batches import Mixture, SupervisedSource
from easy2hard.models.transformer import Transformer
from easy2hard.settings.training import OptimiserSettings
from easy2hard.tasks.prompts import Reserved

torch.set_num_threads(1)
world = processes.current()
assert world.count == 2
task, oracle = copy_task()
source = SupervisedSource(Reserved(task, 0, 100), oracle, HARDEST)
mixtures = [Mixture(0, ("stacked", number), (source, 1.0), [], None, 65, 2, stock=500) for number in range(2)]


def trained() -> tuple[list[Transformer], list[list[float]]]:
    """Take steps; return the members and their losses."""
    members = [new_member(seed, len(task.vocabulary)) for seed in range(2)]
    (crew,) = CudaEngine(members).crews(mixtures, OptimiserSettings(eps=1e-4))
    with crew:
        for step in range(3):
            crew.step(step, step / 3, 1.0)
        return members, [[each.loss for each in step] for step in crew.taken(True)]


together, losses = trained()
prompts = prompts_of(HARDEST, 50)
answers = CudaEngine(together).answer(prompts, task.answer_bounds(prompts))
processes.current = processes.Processes  # alone
alone, expected = trained()
for one, two in zip(losses, expected, strict=True):
    torch.testing.assert_close(torch.tensor(one), torch.tensor(two), rtol=1e-4, atol=1e-5)
for one, two in zip(together, alone, strict=True):
    for ours, theirs in zip(one.parameters(), two.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4)
for mine, theirs in zip(answers, CudaEngine(together).answer(prompts, task.answer_bounds(prompts)), strict=True):
    assert (mine.tokens == theirs.tokens).all()
(Path(sys.argv[1]) / str(world.rank)).touch()

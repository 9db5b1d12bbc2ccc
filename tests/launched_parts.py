"""A member in parts takes the steps of a whole one; started by test_processes.py in two processes under FSDP."""

import copy
import sys
from pathlib import Path

import numpy as np
import torch
from bases import base_of, member_of

from easy2hard import processes
from easy2hard.engines.engine import Group
from easy2hard.engines.reference import MemberCrew, Runner
from easy2hard.huggingface.sharding import in_parts
from easy2hard.models.member import Member
from easy2hard.settings.training import OptimiserSettings
from easy2hard.tasks.registry import load_oracle, load_task

torch.set_num_threads(1)
folder = Path(sys.argv[1])
world = processes.current()
assert (world.count, world.sharded) == (2, True)
task = load_task("copy")
base = base_of(folder / "base", task)
# The second group has a row for one process only.
prompts = [task.sample(np.random.default_rng(0), difficulty, count) for difficulty, count in ((4, 5), (3, 1))]
batch = [Group.join(each, load_oracle(task).solve(each)) for each in prompts]


class Same:
    """One batch, in every step."""

    def batch(self, step: int, progress: float) -> list[Group]:
        return batch


def trained(member: Member, precision: str) -> list[tuple[float, float]]:
    """Take steps; return losses and norms."""
    optimiser = OptimiserSettings(name="adamw", eps=1e-4, learning_rate=0.01, clip=0.1)
    with MemberCrew(0, Runner(member), Same(), optimiser, precision) as crew:
        for step in range(3):
            crew.step(step, 0.0, 1.0)
        return [(each.loss, each.norm) for (each,) in crew.taken(True)]


for precision, close in (("float32", 1e-4), ("bfloat16", 2e-2)):
    member, expected = member_of(base), member_of(base)
    numbers = sum(weight.numel() for weight in member.parameters())
    before = copy.deepcopy(member.state_dict())
    with in_parts([member]) as (part,):
        assert [weight.numel() for weight in member.parameters()] == [0] * len(before)
        own = [weight.to_local() for weight in part.state_dict().values()]
        assert part.state_dict().keys() == before.keys()
        assert sum(weight.numel() for weight in own) * 2 == numbers  # all rows are even here
        found = trained(part, precision)
        kept = copy.deepcopy(part.state_dict())
        part.load_state_dict(before)  # whole ones, and parts
        part.load_state_dict(kept)
    np.testing.assert_allclose(found, trained(expected, precision), rtol=close)
    for name, weight in member.state_dict().items():
        assert weight.device.type == "cpu"
        torch.testing.assert_close(weight, expected.state_dict()[name], rtol=close, atol=close, msg=name)
        assert not torch.equal(weight, before[name]), name
(folder / str(world.rank)).touch()
processes.leave(0)

"""What processes tell each other; started by test_processes.py in two processes, writes a file where all is well."""

import sys
from pathlib import Path

import pytest
import torch

from easy2hard import processes


def fail() -> None:
    raise ZeroDivisionError("by hand")


world = processes.current()
assert world.count == 2

# What the main process is asked, the others are told; they do not do it themselves.
asked: list[int] = []
assert world.from_main(lambda: asked.append(1) or 5) == 5  # type: ignore[func-returns-value]
assert len(asked) == world.main

# Where it fails, it fails everywhere, and the others know where.
with pytest.raises(ZeroDivisionError if world.main else processes.ElsewhereError, match="by hand"):
    world.from_main(fail)
with pytest.raises(processes.ElsewhereError if world.main else ZeroDivisionError, match="by hand"):
    world.gather(lambda: None if world.main else fail())

assert world.gather(lambda: world.rank * 2) == [0, 2]
assert world.any(not world.main)
assert not world.any(False)
tensors = [torch.full((2, 3), 1.0 + world.rank), torch.tensor(10.0 * world.rank)]
world.add_up(tensors)
assert torch.equal(tensors[0], torch.full((2, 3), 3.0))
assert tensors[1] == 10
copied = torch.tensor([float(world.rank)])
world.copy_from_main([copied])
assert copied == 0
(Path(sys.argv[1]) / str(world.rank)).touch()
processes.leave(0)

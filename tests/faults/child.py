"""Runs or resumes a run and kills itself, by SIGKILL, at the n-th of all moments that matter.

    python child.py OUT [N]

Moments are before and after each flush, rename and removal of a file, each training step and each batch of answers.
Without N it lives and prints how many there were.
"""

import os
import pathlib
import signal
import sys
from collections.abc import Callable
from typing import Any

import torch

from easy2hard.config import load_recipe
from easy2hard.errors import UserError
from easy2hard.improvement import labelling
from easy2hard.learning import trainer
from easy2hard.runs import rounds
from easy2hard.runs.store import Store

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))
from helpers import Silent

torch.set_num_threads(1)
moments = 0
deadly = int(sys.argv[2]) if len(sys.argv) > 2 else 0


def moment() -> None:
    global moments
    moments += 1
    if moments == deadly:
        os.kill(os.getpid(), signal.SIGKILL)


def around(function: Callable[..., Any]) -> Callable[..., Any]:
    def wrapped(*arguments: Any, **named: Any) -> Any:
        moment()
        result = function(*arguments, **named)
        moment()
        return result

    return wrapped


os.fsync = around(os.fsync)
for name in ("replace", "unlink"):
    setattr(pathlib.Path, name, around(getattr(pathlib.Path, name)))
trainer._train_step = around(trainer._train_step)
labelling.propose = around(labelling.propose)

out = pathlib.Path(sys.argv[1])
settings = load_recipe("smoke", ["storage.checkpoint_minutes=0", "supervised.steps=40", "supervised.decay=20"])
try:
    store = Store(out)
except UserError:  # killed before there was a run
    rounds.start(settings, out, Silent())
else:
    rounds.resume(store, Silent())
print(moments)

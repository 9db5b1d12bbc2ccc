"""Runs or resumes a run, by the command line, and kills or interrupts itself at the n-th of all moments that matter.

    python child.py OUT [N [kill|kill-step|interrupt|interrupt-twice|launcher [RECIPE [SETTING...]]]]

Moments are before and after each flush, rename and removal of a file, each training step and each block of answers; a
label phase has several blocks; with `kill-step` only the beginnings of training steps count, each member's. With
`launcher` the process that launched this one is terminated. Without N it lives and prints how many there were.
"""

import atexit
import os
import pathlib
import signal
import sys
from collections.abc import Callable
from typing import Any

import torch

from easy2hard.cli import main
from easy2hard.engines.reference import MemberCrew, ReferenceEngine
from easy2hard.improvement import labeller

torch.set_num_threads(1)
moments, steps = 0, 0
deadly = int(sys.argv[2]) if len(sys.argv) > 2 else 0
how = sys.argv[3] if len(sys.argv) > 3 else "kill"


def moment() -> None:
    global moments
    moments += 1
    if how == "kill" and moments == deadly:
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "launcher" and moments == deadly:
        os.kill(os.getppid(), signal.SIGTERM)
    if how.startswith("interrupt") and moments in (deadly, deadly + 1 if how == "interrupt-twice" else deadly):
        os.kill(os.getpid(), signal.SIGINT)


def step(*arguments: Any) -> Any:
    global steps
    steps += 1
    if how == "kill-step" and steps == deadly:
        os.kill(os.getpid(), signal.SIGKILL)
    return train_step(*arguments)


def around(function: Callable[..., Any]) -> Callable[..., Any]:
    def wrapped(*arguments: Any, **named: Any) -> Any:
        moment()
        result = function(*arguments, **named)
        moment()
        return result

    return wrapped


for name in ("fsync", "replace", "unlink"):
    setattr(os, name, around(getattr(os, name)))
train_step = MemberCrew._take
MemberCrew._take = around(step)
labeller.propose = around(labeller.propose)
ReferenceEngine.blocks = lambda self, prompts, bounds: [slice(at, at + 30) for at in range(0, len(prompts), 30)]

out = sys.argv[1]
recipe = sys.argv[4] if len(sys.argv) > 4 else "smoke"
few = ["storage.checkpoint_minutes=0", "supervised.steps=40", "supervised.decay=20", *sys.argv[5:]]
begin = ["run", recipe, "--out", out, *[part for each in few for part in ("--set", each)]]
# Killed early there is no run yet.
sys.argv[1:] = ["resume", out] if (pathlib.Path(out) / "manifest.json").exists() else begin
atexit.register(lambda: print(moments))
main()

"""Compiled loops give the same bits in the process that compiles them and in those that load them from disk."""

import os
import subprocess
import sys
from pathlib import Path

CHILD = """
import hashlib

import torch

from easy2hard.config import ModelSize
from easy2hard.models.transformer import Transformer
from easy2hard.seeding import torch_generator

torch.set_num_threads(1)
size = ModelSize(width=64, layers=2, heads=4, feed_forward=256)
model = Transformer(size, 14, torch_generator(0, "weights"))
tokens = torch.randint(3, 14, (32, 20), generator=torch_generator(0, "tokens"))
loss, gradients = model.gradients("float32").of(tokens, 10, 0.01)
print(loss, hashlib.sha256(b"".join(each.detach().numpy().tobytes() for each in gradients)).hexdigest())
"""


def said(cache: Path) -> str:
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(cache), "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-c", CHILD]
    return subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout


def test_a_process_that_compiles_ends_with_the_bits_of_one_that_loads(tmp_path: Path) -> None:
    compiled = said(tmp_path)
    assert list(tmp_path.rglob("*.nbc"))
    assert said(tmp_path) == compiled

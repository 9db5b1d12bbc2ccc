"""The loops that numba compiles, kept on disk for all processes of the tests.

Started as a program it trains a step, answers prompts, and prints a digest of what came out.
"""

import hashlib
import os
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

from llvmlite.binding import get_host_cpu_name

ROOT = Path(__file__).parents[1]


def _cache() -> Path:
    """Return a folder for what is compiled of these sources, with these versions, for this processor.

    Numba itself goes by the date of a function's own file: what it calls may have changed (simd.py).
    """
    sources = [path.read_bytes() for path in sorted((ROOT / "easy2hard" / "engines" / "cpu").glob("*.py"))]
    compilers = [get_host_cpu_name(), *map(version, ("numba", "llvmlite", "torch"))]
    digest = hashlib.sha256(b"".join([*sources, Path(__file__).read_bytes(), *map(str.encode, compilers)])).hexdigest()
    return ROOT / ".pytest_cache" / f"numba-{digest[:16]}"


CACHE = _cache()
SAID = CACHE / "said.txt"
"""What the process printed that began with an empty cache; missing where none did."""


def said(cache: Path) -> str:
    """Return what a process prints that finds its loops in ``cache``, or compiles them into it."""
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(cache), "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, __file__], env=environment, check=True, capture_output=True, text=True)
    assert list(cache.rglob("*.nbc"))
    return done.stdout


def compile_once() -> None:
    """Fill the cache before several processes need it at the same time, and note what the first one said."""
    if not SAID.exists():
        shutil.rmtree(CACHE, ignore_errors=True)
        SAID.write_text(said(CACHE))


def main() -> None:
    """Use the loops of training and of answering."""
    import numpy as np
    import torch

    from easy2hard.engines.cpu.runner import CpuRunner
    from easy2hard.engines.decoding import decode
    from easy2hard.engines.engine import Group
    from easy2hard.models.transformer import Transformer
    from easy2hard.seeding import numpy_generator, torch_generator
    from easy2hard.settings.model import ModelSize
    from easy2hard.tasks.registry import load_task

    torch.set_num_threads(1)
    task = load_task("copy")
    size = ModelSize(width=64, layers=2, heads=4, feed_forward=256)
    model = Transformer(size, len(task.vocabulary), torch_generator(0, "weights"))
    tokens = torch.randint(3, len(task.vocabulary), (32, 20), generator=torch_generator(0, "tokens"))
    loss, gradients = CpuRunner(model).gradients("float32").of(Group(tokens.numpy(), 10), 0.01)
    prompts = task.sample(numpy_generator(0, "prompts"), 10, 32)
    decoded = decode(CpuRunner(model), prompts, task.answer_bounds(prompts))
    numbers = [each.detach().numpy() for each in gradients] + [decoded.tokens, decoded.confidence]
    digest = hashlib.sha256(b"".join(np.ascontiguousarray(each).tobytes() for each in numbers)).hexdigest()
    print(loss, digest)


if __name__ == "__main__":
    main()

"""Processes that tests start and kill, without the seconds that each would take to import everything anew.

They are forked from one that has imported everything and has computed nothing. (A process that has used its threads
cannot be forked: the matrix library's own buffers do not survive it, and what two members then compute side by side can
end in an abort of the C library.)
"""

import atexit
import multiprocessing
import os
import runpy
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

_SERVER = multiprocessing.get_context("forkserver")
# Torch's own compiler is loaded by the first optimiser; models of transformers when they are first asked for.
_SERVER.set_forkserver_preload(
    ["easy2hard.cli", "easy2hard.runs.rounds", "torch._dynamo", "transformers.models.llama.modeling_llama", "peft"]
)


def exit_code(function: Callable[..., Any], *arguments: Any) -> int | None:
    """Call a function of a module in a process of its own, and return how that ended; below zero by a signal."""
    process = _SERVER.Process(target=function, args=arguments)
    process.start()
    process.join()
    return process.exitcode


def execute(program: Path, *arguments: str | Path) -> CompletedProcess[str]:
    """Execute a Python file as the interpreter would, in a process of its own."""
    words = [str(word) for word in (program, *arguments)]
    with tempfile.TemporaryDirectory() as folder:
        written = [Path(folder) / name for name in ("stdout", "stderr")]
        code = exit_code(_execute, words, *written)
        texts = [path.read_text() if path.exists() else "" for path in written]
    assert code is not None
    return CompletedProcess(words, code, *texts)


def _execute(words: list[str], stdout: Path, stderr: Path) -> None:
    for descriptor, path in ((1, stdout), (2, stderr)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), descriptor)
    sys.argv = words
    try:
        runpy.run_path(words[0], run_name="__main__")
    finally:
        atexit._run_exitfuncs()  # a process of this kind ends without them

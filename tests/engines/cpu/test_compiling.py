"""Compiled loops in hard places: nowhere to keep them, no room, several processes at once, no compiler."""

import errno
import fcntl
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numba
import numpy as np
import pytest
from helpers import new_member

from easy2hard.engines.choice import build_engine
from easy2hard.engines.cpu import kernels
from easy2hard.engines.cpu.runner import CpuRunner


def locked_by_another(folder: Path) -> bool:
    with (folder / "lock").open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def test_one_process_compiles_at_a_time(tmp_path: Path) -> None:
    """Also where a function is compiled because another one calls it."""
    seen: list[bool] = []
    stats = SimpleNamespace(cache_path=str(tmp_path / "new"))

    def inner(signature: str) -> None:
        seen.append(locked_by_another(tmp_path / "new"))

    def outer(signature: str) -> str:
        kernels._one_at_a_time(SimpleNamespace(stats=stats, compile=inner))(signature)
        seen.append(locked_by_another(tmp_path / "new"))
        return signature

    assert kernels._one_at_a_time(SimpleNamespace(stats=stats, compile=outer))("int64") == "int64"
    assert seen == [True, True]
    assert not locked_by_another(tmp_path / "new")


def test_no_room_for_what_was_compiled_is_no_failure(tmp_path: Path) -> None:
    compiled: list[str] = []

    def compile_(signature: str) -> str:
        if signature not in compiled:
            compiled.append(signature)
            raise OSError(errno.ENOSPC, "No space left on device")
        return "entry"

    (tmp_path / "file").write_text("")  # so that there is no folder to lock, either
    dispatcher = SimpleNamespace(stats=SimpleNamespace(cache_path=str(tmp_path / "file" / "below")), compile=compile_)
    assert kernels._one_at_a_time(dispatcher)("int64") == "entry"


def test_with_nowhere_to_keep_it_a_loop_is_compiled_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    njit = numba.njit

    def without_folder(*arguments: Any, **options: Any) -> Any:
        if options.get("cache"):
            raise RuntimeError("cannot cache function 'total': no locator available for file '/read-only/kernels.py'")
        return njit(*arguments, **options)

    monkeypatch.setattr(numba, "njit", without_folder)

    @kernels.compiled
    def total(values: kernels.Array) -> float:
        return float(values.sum())

    assert total(np.ones(5, dtype=np.float32)) == 5
    monkeypatch.setattr(kernels, "normed_loop", total)
    assert "NUMBA_CACHE_DIR" in (build_engine([new_member(0)]).note or "")


def test_without_a_compiler_the_plain_formulas_compute(monkeypatch: pytest.MonkeyPatch) -> None:
    assert build_engine([new_member(0)]).note is None
    monkeypatch.setattr(numba.config, "DISABLE_JIT", 1)
    engine = build_engine([new_member(0)])
    assert "NUMBA_DISABLE_JIT" in (engine.note or "")
    assert not isinstance(engine._runners[0], CpuRunner)  # type: ignore[attr-defined]

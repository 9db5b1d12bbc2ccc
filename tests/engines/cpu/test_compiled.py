"""Compiled loops give the same bits in the process that compiles them and in those that load them from disk."""

from pathlib import Path

from compiled import CACHE, SAID, said


def test_a_process_that_compiles_ends_with_the_bits_of_one_that_loads(tmp_path: Path) -> None:
    """Where the tests began by compiling, what was said then counts; it takes half a minute."""
    compiled = SAID.read_text() if SAID.exists() else said(tmp_path)
    assert said(CACHE if SAID.exists() else tmp_path) == compiled

"""How something is computed is known to the engines alone; the import contracts in pyproject.toml hold the rest."""

import re
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "easy2hard"
WORDS = {
    "a device's type": r"device\.type|is_cuda|torch\.(cuda|backends|mps)|autocast",
    "threads": r"num_threads|ThreadPool|threading",
    "the compiler": r"numba|llvmlite",
    "portions": r"\bchunks\(|PIECE_TOKENS|PASSED_TOKENS|packed|shared_rows",
    "captures": r"CUDAGraph|\bcaptures?\b|Captured",
}
EXCEPTIONS = {
    "a device's type": {"processes.py"},  # it chooses how processes talk: between GPUs where there are some
    "captures": {"cli/output.py"},  # of what rich writes
}
OUTSIDE = [path for path in sorted(PACKAGE.rglob("*.py")) if "engines" not in path.relative_to(PACKAGE).parts]


@pytest.mark.parametrize("what", WORDS)
def test_no_module_outside_knows(what: str) -> None:
    found = [str(path.relative_to(PACKAGE)) for path in OUTSIDE if re.search(WORDS[what], path.read_text())]
    assert set(found) == EXCEPTIONS.get(what, set())


@pytest.mark.parametrize("what", WORDS)
def test_the_engines_do(what: str) -> None:
    """Else the words above are no longer those that are used."""
    assert any(re.search(WORDS[what], path.read_text()) for path in (PACKAGE / "engines").rglob("*.py"))


def test_the_seam_is_narrow() -> None:
    """What the rest of the package imports of the engines: the interface, the choice, and no more."""
    pattern = re.compile(r"from (easy2hard\.engines[.\w]*) import")
    used = {name for path in OUTSIDE for name in pattern.findall(path.read_text())}
    assert used == {f"easy2hard.engines.{name}" for name in ("choice", "compiling", "decoding", "engine")}

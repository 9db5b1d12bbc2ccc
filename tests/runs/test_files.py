"""Whoever writes a file leaves a whole one or none, and names it where there is no room for it."""

import errno
import os
import resource
import shutil
import sys
from collections.abc import Callable
from io import BufferedRandom
from pathlib import Path
from subprocess import CompletedProcess

import pytest
from forks import exit_code

import easy2hard
from easy2hard import files
from easy2hard.errors import UserError
from easy2hard.files import open_inside, read_inside, write_file

OUTPUTS = [
    (["report", "RUN", "--out", "new.html"], "new.html"),
    (["plot", "RUN", "--out", "new.png"], "new.png"),
    (["export", "RUN", "new"], "new"),
    (["export", "RUN", "new", "--labels"], "new"),
    (["init", "new.toml", "--task", "copy", "--minutes", "1000", "--hardware", "cpu", "--yes"], "new.toml"),
]


def with_small_files(folder: Path, words: list[str]) -> None:
    """Call a command where no file may have more than 1,000 bytes; ``said`` is what it said."""
    from easy2hard.cli import main

    os.chdir(folder)
    os.dup2(os.open("said", os.O_WRONLY | os.O_CREAT), 2)
    sys.argv = ["easy2hard", *words]
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
    main()


@pytest.mark.parametrize(("words", "name"), OUTPUTS, ids=[" ".join(words) for words, _ in OUTPUTS])
def test_a_limit_of_file_sizes_is_a_line_that_names_the_file(
    words: list[str], name: str, smoke: easy2hard.Run, tmp_path: Path
) -> None:
    command = [str(smoke.path) if word == "RUN" else word for word in words]
    assert exit_code(with_small_files, tmp_path, command) == 2
    assert (tmp_path / "said").read_text().endswith(f"error: {name}: File too large\n")
    assert [path.name for path in tmp_path.iterdir()] == ["said"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES])
def test_what_cannot_be_written_into_a_run_may_go_elsewhere(
    number: int,
    smoke: easy2hard.Run,
    tmp_path: Path,
    cli: Callable[..., CompletedProcess[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A read-only run can be read by every command."""
    run = tmp_path / "run"
    shutil.copytree(smoke.path, run)
    begun = files._begun

    def refused(path: Path, folder: int) -> BufferedRandom:
        if path.is_relative_to(run):
            raise OSError(number, os.strerror(number))
        return begun(path, folder)

    monkeypatch.setattr(files, "_begun", refused)
    for command, name in (("report", "report.html"), ("plot", "overview.pdf")):
        result = cli(command, str(run))
        line = f"error: {run / name}: {os.strerror(number)}; --out FILE names another place\n"
        assert (result.returncode, result.stderr) == (2, line)
        assert cli(command, str(run), "--out", name).returncode == 0
        assert Path(name).stat().st_size > 1000
    for command in ("verify", "audit", "du"):
        assert cli(command, str(run)).returncode == 0


def test_a_file_that_the_user_names_may_be_a_link_and_one_of_a_run_may_not(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "real").write_text("old")
    link = tmp_path / "run" / "link"
    link.symlink_to(tmp_path / "real")
    for act in (
        lambda: write_file(link, b"new", tmp_path / "run"),
        lambda: read_inside(link, tmp_path / "run", 100),
        lambda: open_inside(tmp_path / "run" / ".." / "real", tmp_path / "run"),
    ):
        with pytest.raises(UserError, match=r"a symbolic link|leads out of"):
            act()
    assert (tmp_path / "real").read_text() == "old"
    write_file(link, b"new")
    assert link.is_symlink()
    assert (tmp_path / "real").read_text() == "new"


def test_a_file_is_read_up_to_a_size(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"12345")
    assert read_inside(tmp_path / "file", tmp_path, 5) == b"12345"
    with pytest.raises(UserError, match=r"has 5 bytes, and no such file has more than 4"):
        read_inside(tmp_path / "file", tmp_path, 4)


def test_a_device_that_the_user_names_is_written_to(
    smoke: easy2hard.Run, cli: Callable[..., CompletedProcess[str]]
) -> None:
    assert cli("report", str(smoke.path), "--out", "/dev/null").returncode == 0
    result = cli("report", str(smoke.path), "--out", "/dev/full")
    assert (result.returncode, result.stderr) == (2, "error: /dev/full: No space left on device\n")

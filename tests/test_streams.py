"""Standard streams that are closed, full, unread or in another encoding; text of others."""

import io
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

import pytest
from helpers import refusal
from hypothesis import given
from hypothesis import strategies as st

from easy2hard import text
from easy2hard.cli import main
from easy2hard.cli.output import say, say_table, streams, warn
from easy2hard.errors import UserError
from easy2hard.settings.recipes import load_recipe, read_toml

ROOT = Path(__file__).parents[1]
anything = st.text(st.characters(exclude_categories=()))
SAMPLE = ["sample", "copy", "--difficulty", "50", "--count", "2000"]


@given(anything)
def test_what_is_printed_does_nothing_to_a_terminal(words: str) -> None:
    shown = text.printable(words)
    assert shown.isprintable()
    assert shown == words or not words.isprintable()
    assert text.as_line(words).isprintable()
    assert max(map(len, text.as_line(words).split()), default=0) <= text.LONGEST


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_text_is_utf8_with_or_without_a_mark(words: str) -> None:
    assert text.decode(words.encode()) == words.removeprefix("\ufeff")
    assert text.decode(words.encode("utf-8-sig")) == words


@given(
    st.text(st.characters(min_codepoint=0x80, max_codepoint=0xFF), min_size=1), st.sampled_from(["utf-16", "latin-1"])
)
def test_another_encoding_is_refused_in_a_line(words: str, encoding: str) -> None:
    content = f"x{words}x".encode(encoding)
    said = refusal(lambda: text.decode(content))
    if said is None:
        assert text.decode(content).encode() == content  # by chance it is UTF-8
    else:
        assert said.startswith("not UTF-8")
        assert said.endswith("save it as UTF-8")
        assert ("UTF-16" in said) == (encoding == "utf-16")


@given(anything, st.sampled_from(["ascii", "latin-1", "utf-8"]))
def test_every_text_can_be_said_under_every_locale(words: str, encoding: str) -> None:
    out, error = (io.TextIOWrapper(io.BytesIO(), encoding=encoding) for _ in range(2))
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = out, error
    try:
        with streams():
            say(words)
            warn(words)
    finally:
        sys.stdout, sys.stderr = before
    for stream in (out, error):
        said = stream.buffer.getvalue().decode(encoding)  # type: ignore[attr-defined]
        assert said.count("\n") == 1
        assert said.removesuffix("\n").replace("\t", "").isprintable()


@pytest.mark.parametrize("command", ["oracle copy", "check copy", "solve run", "init new.toml"])
def test_a_closed_standard_input_is_named(
    fake_run: Callable[[Path], object],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    command: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    fake_run(Path("run"))
    monkeypatch.setattr(sys, "argv", ["easy2hard", *command.split()])
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 2
    assert "standard input" in capsys.readouterr().err


def test_a_result_is_not_lost_without_a_word(monkeypatch: pytest.MonkeyPatch) -> None:
    from rich.table import Table

    monkeypatch.setattr(sys, "stdout", None)
    with pytest.raises(UserError, match="standard output: it is closed"):
        say("a result")
    with pytest.raises(UserError, match="standard output: it is closed"):
        say_table(Table())


def ended(arguments: list[str], monkeypatch: pytest.MonkeyPatch, stdout: TextIO) -> int:
    with monkeypatch.context() as within, stdout:
        within.setattr(sys, "argv", ["easy2hard", *arguments])
        within.setattr(sys, "stdout", stdout)
        with pytest.raises(SystemExit) as end:
            main()
    assert isinstance(end.value.code, int)
    return end.value.code


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
@pytest.mark.parametrize("arguments", [SAMPLE, ["--help"], ["tasks", "--help"], ["recipes"], ["list", "."]], ids=str)
def test_a_full_standard_output_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str], tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    with Path("/dev/full").open("w", encoding="utf-8") as full:
        assert ended(arguments, monkeypatch, full) == 2
    assert capsys.readouterr().err == "error: standard output: No space left on device\n"


@pytest.mark.parametrize("arguments", [SAMPLE, ["--help"], ["recipes"], ["list", "."]], ids=str)
def test_nobody_reading_is_no_mistake(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str], tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    reader, writer = os.pipe()
    os.close(reader)
    assert ended(arguments, monkeypatch, os.fdopen(writer, "w", encoding="utf-8")) == 0
    assert capsys.readouterr().err == ""


def test_no_file_takes_the_place_of_a_closed_stream() -> None:
    """With the numbers 0 to 2 closed, the next file to be opened would be standard output."""
    code = (
        "import os, sys\n"
        "from easy2hard.cli.output import streams\n"
        "with streams():\n"
        "    sys.exit(os.open(os.devnull, os.O_RDONLY))\n"
    )
    command = f'"{sys.executable}" -c "$CODE" <&- >&- 2>&-'
    done = subprocess.run(["sh", "-c", command], env={**os.environ, "CODE": code, "PYTHONPATH": str(ROOT)})
    assert done.returncode > 2


def test_a_recipe_comes_from_a_pipe() -> None:
    reader, writer = os.pipe()
    with os.fdopen(writer, "wb") as file:
        file.write(load_recipe("smoke").to_toml().encode("utf-8-sig"))
    try:
        assert load_recipe(f"/dev/fd/{reader}") == load_recipe("smoke")
    finally:
        os.close(reader)


def test_a_recipe_without_an_end_is_refused() -> None:
    with pytest.raises(UserError, match="16 MiB is no recipe"):
        read_toml("recipe", "/dev/zero")

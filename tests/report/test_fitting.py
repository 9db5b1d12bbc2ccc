"""Tables and lines on terminals of any width: nothing is wider, and no number, range or command is broken."""

import io
import re
import sys
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from rich.table import Table

from easy2hard.cli.output import tell
from easy2hard.report.fitting import fitted
from easy2hard.report.terminal import Listed, list_table
from easy2hard.text import counted, in_lines

WIDTH = 80
PIECE = r"[a-z0-9]+[/_-]?"


def printed(table: Table, width: int = WIDTH) -> str:
    out = io.StringIO()
    console = Console(file=out, width=width)
    for part in fitted(table, width):
        console.print(part)
    return out.getvalue()


NUMBERS = st.one_of(
    st.integers(0, 10**7).map("{:,}".format),
    st.floats(0, 1).map("{:.3f}".format),
    st.tuples(st.integers(1, 60_000), st.integers(1, 60_000)).map(lambda pair: "{:,}/{:,}".format(*pair)),
    st.tuples(st.floats(0, 99), st.floats(0, 99)).map(lambda pair: "{:.2f} ({:.2f} to {:.2f})".format(*pair, pair[1])),
)
NAMES = st.lists(st.from_regex(r"[a-z0-9]{1,12}", fullmatch=True), min_size=1, max_size=6)


@given(
    rows=st.integers(1, 9).flatmap(lambda columns: st.lists(st.tuples(*[NUMBERS] * columns), min_size=1, max_size=4)),
    name=st.tuples(st.sampled_from("/-_"), NAMES).map(lambda parts: parts[0].join(parts[1])),
    boxed=st.booleans(),
    width=st.integers(60, 200),
)
def test_every_cell_is_there_whole_and_no_line_is_too_long(
    rows: list[tuple[str, ...]], name: str, boxed: bool, width: int
) -> None:
    head = ["exact match at the hardest", "lowest label precision", "gap in reach"] * 3
    table = Table() if boxed else Table(box=None, pad_edge=False)
    table.add_column("variant", overflow="fold")
    for title in head[: len(rows[0])]:
        table.add_column(title)
    for row in rows:
        table.add_row(name, *row)
    text = printed(table, width)
    assert max(map(len, text.splitlines())) <= width
    for value, brackets in (re.fullmatch(r"(\S+)( \(.*\))?", cell).groups() for row in rows for cell in row):  # type: ignore[union-attr]
        assert re.search(rf"(?<![^\s│]){re.escape(value)}(?![^\s│])", text)
        assert (brackets or "").strip() in text
    assert set(re.findall(PIECE, name)) <= set(re.findall(PIECE, text))


@given(
    run=st.sampled_from(["runs/copy-vote-cpu-seed0", "runs/filters-reverse/none-of-them-at-all-seed2", "a"]),
    state=st.sampled_from(["finished", "running", "killed", "damaged: settings.toml: is not TOML"]),
    number=st.integers(0, 10_000),
    age=st.floats(0, 10**7),
)
def test_the_list_fits_a_narrow_terminal(run: str, state: str, number: int, age: float) -> None:
    listed = Listed(run, "reverse-addition", number, state, number, 10_000, number, number, number, age)
    text = printed(list_table([listed, replace(listed, run="b", state="running")]))
    assert max(map(len, text.splitlines())) <= WIDTH
    assert "…" not in text
    assert f"{number}/10000" in text
    assert {"reverse-", "addition", *re.findall(PIECE, run)} <= set(re.findall(PIECE, text))


@given(scores=st.lists(st.tuples(st.integers(1, 200), st.floats(0, 1)), max_size=20), width=st.integers(40, 120))
def test_lines_break_between_parts_alone(scores: list[tuple[int, float]], width: int) -> None:
    parts = ["round 12", "difficulty 20-22", "kept 1,659 of 2,000", *(f"{d}: {share:.3f}" for d, share in scores)]
    lines = in_lines(parts, width)
    assert [part for line in lines for part in line.strip().split("  ")] == parts
    assert all(len(line) <= width for line in lines)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@given(
    words=st.lists(
        st.one_of(
            st.from_regex(r"[a-z]{1,12}[,;:]?", fullmatch=True),
            NAMES.map(lambda names: f"`easy2hard {' '.join(names)}`"),
            st.integers(0, 10**6).map("{:,} min".format),
        ),
        min_size=1,
        max_size=30,
    ),
    indent=st.integers(0, 4),
    width=st.integers(40, 120),
)
def test_a_terminal_breaks_sentences_between_words_and_a_pipe_not_at_all(
    words: list[str], indent: int, width: int
) -> None:
    line = " " * indent + " ".join(words)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLUMNS", str(width))
        for stream in (Terminal(), io.StringIO()):
            patch.setattr(sys, "stdout", stream)
            tell(line)
            lines = stream.getvalue().splitlines()
            assert " ".join(" ".join(lines).split()) == " ".join(line.split())
            if not stream.isatty():
                assert lines == [line]
                continue
            assert max(map(len, lines)) <= width
            fitting = [word for word in words if len(word) <= width - indent - 2]
            assert all(any(word in each for each in lines) for word in fitting)


def test_one_thing_is_one() -> None:
    assert [counted(n, "round") for n in (0, 1, 2, 2000)] == ["0 rounds", "1 round", "2 rounds", "2,000 rounds"]

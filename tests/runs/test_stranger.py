"""Somebody else's run directory harms nothing: no command reads or writes outside, runs code, hangs or fills memory."""

import contextlib
import io
import os
import resource
import shutil
import sys
from pathlib import Path

import pytest
from forks import exit_code
from strangers import PLANTED

import easy2hard

COMMANDS = [
    ["list", ".."],
    ["verify", "../run"],
    ["report", "../run"],
    ["watch", "../run", "--once"],
    ["plot", "../run"],
    ["audit", "../run"],
    ["eval", "../run", "--examples", "5", "--difficulties", "3"],
    ["solve", "../run", "123="],
    ["du", "../run"],
    ["export", "../run", "labels", "--labels"],
    ["export", "../run", "model"],
    ["resume", "../run"],
]
GIBIBYTE = 1 << 30
QUICK = {
    "outputs_are_links",
    "temporaries_are_links",
    "the_weights_are_a_linked_folder",
    "a_pipe_for_manifest.json",
    "a_difficulty_is_none",
    "a_ledger_repeats_a_long_text",
    "the_settings_declare_more_than_memory",
    "a_plugin_lies_beside_the_run",
}
"""One of each kind; the others are slow together."""


def look(folder: Path, name: str) -> None:
    """Plant a run and have every command look at it; a file for each has what it said, ``codes`` how it ended."""
    from easy2hard.cli import main

    os.chdir(folder / "work")
    PLANTED[name](Path("../run"), Path("../outside"))
    os.environ["OMP_NUM_THREADS"] = "1"
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with (folder / "codes").open("w") as codes:
        for command in COMMANDS:
            sys.argv = ["easy2hard", *command]
            said = io.StringIO()
            code: object = "no end"
            try:
                with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
                    main()
            except SystemExit as end:
                code = end.code
            except BaseException as error:
                code = repr(error)
            text = said.getvalue()
            harmed = [] if (folder / "outside/precious").read_text() == "precious" else ["wrote outside"]
            harmed += ["control characters"] if "\x1b" in text else []
            print(command[0], code, *harmed, text.strip().splitlines()[-1:], file=codes, flush=True)
        grown = 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
        print("memory", 0 if grown < GIBIBYTE else f"{grown:,}", file=codes)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name in QUICK else [pytest.mark.slow]) for name in PLANTED]
)
def test_a_stranger_s_run_harms_nothing(name: str, smoke: easy2hard.Run, tmp_path: Path) -> None:
    shutil.copytree(smoke.path, tmp_path / "run")
    shutil.copytree(smoke.path, tmp_path / "honest")
    (tmp_path / "work").mkdir()
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/precious").write_text("precious")
    assert exit_code(look, tmp_path, name) == 0
    said = (tmp_path / "codes").read_text()
    print(said)
    ended = [line.split(" ")[:2] for line in said.splitlines()]
    assert [words[0] for words in ended] == [*(command[0] for command in COMMANDS), "memory"]
    assert {words[1] for words in ended} <= {"0", "1", "2"}
    assert "wrote outside" not in said
    assert ended[0] == ["list", "0"]

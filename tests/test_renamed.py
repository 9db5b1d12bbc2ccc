"""Settings of version 0.1: refused in recipes and `--set`, translated where a run of 0.1 is read."""

import copy
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pyarrow.parquet as pq
import pytest
import tomli_w
from hypothesis import given
from hypothesis import strategies as st

from easy2hard.errors import UserError
from easy2hard.runs.manifest import RunDirectory, file_digest
from easy2hard.runs.store import Store
from easy2hard.settings.recipes import load_recipe, parse_settings, read_toml
from easy2hard.settings.renamed import RENAMED, translated
from easy2hard.settings.schema import Settings

DATA = Path(__file__).parent / "data"
RUN = DATA / "run-0.1"
"""A run of version 0.1: recipe smoke with members of one layer of width 16, a few steps, topped up."""
RECIPES: dict[str, dict[str, Any]] = json.loads((DATA / "recipes-0.1.json").read_text())
"""Every recipe that version 0.1 shipped, and how it was rewritten for 0.2."""

OLD = st.sets(st.sampled_from(sorted(RENAMED)), min_size=1)


def assert_names_what_is_new(message: str, old: set[str]) -> None:
    assert len(message.splitlines()) == 1
    assert "version 0.2" in message
    said = dict(each.split(" is now ") for each in message.partition(": ")[2].split(", "))
    assert said == {each: RENAMED[each] for each in old}


def is_a_setting(path: str) -> bool:
    section, key = path.split(".")
    fields = Settings.model_fields
    return section in fields and key in getattr(fields[section].annotation, "model_fields", {})


def test_the_table_leads_from_keys_that_are_gone_to_keys_that_are_there() -> None:
    assert not any(map(is_a_setting, RENAMED))
    assert all(map(is_a_setting, RENAMED.values()))
    assert len(set(RENAMED.values())) == len(RENAMED)


@given(OLD, st.sampled_from(["1", "'text'", "[]", "{a=1}"]))
def test_an_old_key_is_refused_on_the_command_line_with_its_new_name(old: set[str], value: str) -> None:
    with pytest.raises(UserError) as error:
        load_recipe("smoke", [f"{each}={value}" for each in sorted(old)])
    assert_names_what_is_new(str(error.value), old)


@given(OLD)
def test_an_old_key_is_refused_in_a_recipe_with_its_new_name(old: set[str]) -> None:
    values = read_toml("recipe", "smoke")
    for each in old:
        section, key = each.split(".")
        values[section][key] = 1
    with pytest.raises(UserError) as error:
        parse_settings(values)
    assert_names_what_is_new(str(error.value), old)


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_every_recipe_of_0_1_is_refused_and_translates_to_that_of_0_2(name: str, tmp_path: Path) -> None:
    old, new = RECIPES[name]["0.1"], RECIPES[name]["0.2"]
    before = copy.deepcopy(old)
    (tmp_path / "old.toml").write_text(tomli_w.dumps(old))
    with pytest.raises(UserError, match=r"renamed in version 0\.2: .*rounds\.labels is now labels.count"):
        load_recipe(str(tmp_path / "old.toml"))
    assert translated(old) == new
    assert parse_settings(translated(old)) == parse_settings(new)
    assert old == before


@given(st.sampled_from(sorted(RECIPES)))
def test_what_has_no_old_key_stays(name: str) -> None:
    new = RECIPES[name]["0.2"]
    assert translated(new) == new


def test_an_old_key_beside_its_new_one_is_not_dropped() -> None:
    values = {**RECIPES["smoke"]["0.1"], "labels": {"count": 3}}
    with pytest.raises(UserError, match=r"rounds\.labels is now labels.count"):
        parse_settings(translated(values))


def digests(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): file_digest(path, folder) for path in folder.rglob("*") if path.is_file()}


def test_a_run_of_0_1_is_read_but_not_resumed(cli: Callable[..., CompletedProcess[str]], tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(RUN, run)
    before = digests(run)
    opened = RunDirectory(run)
    assert opened.manifest.easy2hard == "0.1.0"
    assert (opened.settings.labels.count, opened.settings.labels.top_up) == (30, 10)
    assert (opened.settings.schedule.name, opened.settings.schedule.stride) == ("standard", 1)
    assert [each.name for each in opened.settings.labels.filters] == ["vote", "confidence"]

    def read(*arguments: str) -> str:
        done = cli(*arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert "intact" in read("verify", "run")
    evaluated = json.loads(read("eval", "run", "--json"))
    labelled = json.loads(read("audit", "run", "--json"))
    assert evaluated
    assert [record.kept for record in opened.manifest.rounds[1:]] == [10, 12]
    assert labelled
    counts = [(row["proposed"], row["kept"]) for row in labelled]
    lines = read("frame", "run", "--labels", "--audit").splitlines()
    assert len(lines) == 1 + sum(proposed for proposed, _ in counts)
    read("frame", "run", "--audit", "--out", "scores.parquet")
    table = pq.read_table("scores.parquet").to_pandas().groupby("round")[["proposed", "kept"]].sum()
    assert [tuple(row) for row in table.loc[1:].to_numpy()] == counts
    read("report", "run", "--out", "page.html")
    page = (tmp_path / "page.html").read_text()
    assert "settings renamed" not in page
    assert "not a run" not in page
    read("export", "run", "exported")
    read("export", "run", "labels", "--labels")

    refused = cli("resume", "run")
    assert refused.returncode == 2
    assert refused.stderr.count("\n") == 1
    for words in ["begun before version 0.2", "report, eval, audit and export", "new run"]:
        assert words in refused.stderr
    with pytest.raises(UserError, match="cannot be resumed"):
        Store(run).branch(tmp_path / "branch", 1, opened.settings)
    assert not (tmp_path / "branch").exists()
    after = digests(run)
    assert {name: after[name] for name in before} == before

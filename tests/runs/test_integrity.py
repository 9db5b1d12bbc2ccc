"""A damaged run is found by `verify` and refused by `resume`; no file of it can harm."""

import json
import os
import pickle
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest
from helpers import Silent

from easy2hard.errors import UserError
from easy2hard.runs import rounds
from easy2hard.runs.integrity import problems
from easy2hard.runs.manifest import RunDirectory, manifest_digest
from easy2hard.runs.store import Store
from easy2hard.settings.recipes import load_recipe

CASES = int(os.environ.get("CORRUPTIONS", "200"))
SHORT = ["supervised.steps=6", "supervised.decay=0", "rounds.steps=3", "rounds.decay=0", "labels.count=40"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A run that was stopped after round 1 of 2."""
    out = tmp_path_factory.mktemp("whole") / "run"
    return rounds.start(load_recipe("smoke", [*SHORT, "rounds.count=1"]), out, Silent())


def damage(path: Path, chance: random.Random) -> str:
    """Cut off, flip or delete part of a file, and say what was done."""
    content = bytearray(path.read_bytes())
    kind = chance.choice(["cut off", "flipped", "left out", "deleted"])
    place = chance.randrange(len(content) - 1)  # without its last line break, a manifest says what it said
    if kind == "cut off":
        del content[place:]
    elif kind == "flipped":
        for at in range(place, min(len(content), place + chance.randint(1, 20))):
            content[at] ^= chance.randint(1, 255)
    elif kind == "left out":
        del content[place : place + chance.randint(1, 200)]
    if kind == "deleted":
        path.unlink()
    else:
        path.write_bytes(content)
    return f"{path.name} {kind} at {place}"


def found_by_verify(path: Path) -> bool:
    try:
        run = RunDirectory(path)
        return bool(problems(run, run.manifest))
    except UserError:
        return True


def test_every_damage_is_found_and_refused(whole: Store, tmp_path: Path) -> None:
    seed = int(os.environ.get("CORRUPTIONS_SEED", "0"))
    chance = random.Random(seed)
    names = sorted(str(path.relative_to(whole.path)) for path in whole.path.rglob("*") if path.is_file())
    names.remove("lock")
    for case in range(CASES):
        copy = tmp_path / str(case)
        shutil.copytree(whole.path, copy)
        done = damage(copy / chance.choice(names), chance)
        assert found_by_verify(copy), (seed, case, done)
        before = {path: path.read_bytes() for path in copy.rglob("*") if path.is_file() and path.name != "lock"}
        with pytest.raises(UserError):
            rounds.resume(Store(copy), Silent())
        assert all(path.read_bytes() == content for path, content in before.items()), (seed, case, done)
        shutil.rmtree(copy)


def test_an_intact_run_has_no_problems(whole: Store) -> None:
    assert problems(whole, whole.manifest) == {}


def test_verify_names_all_that_is_wrong(
    whole: Store, tmp_path: Path, cli: Callable[..., CompletedProcess[str]]
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(whole.path, copy)
    assert cli("verify", str(copy)).stdout == f"{copy}: intact, 2 rounds\n"
    (copy / "ledger/round-001.parquet").unlink()
    (copy / "weights/round-000.safetensors").write_bytes(b"short")
    result = cli("verify", str(copy))
    assert result.returncode == 1
    assert result.stdout.splitlines() == [
        "weights/round-000.safetensors: changed or cut off since it was written",
        "ledger/round-001.parquet: missing",
    ]


def test_a_changed_file_is_not_read_by_other_commands(
    whole: Store, tmp_path: Path, cli: Callable[..., CompletedProcess[str]]
) -> None:
    """One bit of a weight is enough, and says more than an answer would."""
    copy = tmp_path / "copy"
    shutil.copytree(whole.path, copy)
    for name, commands in (
        ("weights/round-001.safetensors", (["eval"], ["solve"])),
        ("ledger/round-001.parquet", (["audit"],)),
    ):
        before = (copy / name).read_bytes()
        for content in (before[:-5] + bytes([before[-5] ^ 1]) + before[-4:], b"", None):
            (copy / name).unlink() if content is None else (copy / name).write_bytes(content)
            for command in commands:
                result = cli(*command, str(copy), *(["24="] if command == ["solve"] else []))
                assert (result.returncode, result.stderr.count("\n")) == (2, 1), (name, command)
                assert name in result.stderr
                assert f"easy2hard verify {copy}" in result.stderr
        (copy / name).write_bytes(before)
    assert cli("audit", str(copy)).returncode == 0


@pytest.mark.parametrize(
    ("name", "content"),
    [("manifest.json", "[" * 100_000), ("manifest.json", '{"a":' * 100_000), ("settings.toml", "x=" + "[" * 100_000)],
)
def test_nesting_without_end_is_damage(
    name: str, content: str, whole: Store, tmp_path: Path, cli: Callable[..., CompletedProcess[str]]
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(whole.path, copy)
    (copy / name).write_text(content)
    for command in ("resume", "eval", "audit"):
        result = cli(command, str(copy))
        assert (result.returncode, result.stderr.count("\n")) == (2, 1)
        assert name in result.stderr


def test_a_folder_lost_in_a_copy_is_made_again(whole: Store, tmp_path: Path) -> None:
    """What keeps or sends folders often leaves out empty ones."""
    copy = tmp_path / "copy"
    shutil.copytree(whole.path, copy)
    (copy / "checkpoint").rmdir()
    rounds.resume(Store(copy), Silent())
    assert Store(copy).manifest.status == "finished"


def test_a_run_says_what_it_was_made_with_and_when_that_changed(whole: Store, tmp_path: Path) -> None:
    class Noted(Silent):
        def __init__(self) -> None:
            self.notes: list[str] = []

        def note(self, text: str) -> None:
            self.notes.append(text)

    assert set(whole.manifest.environment) == {"python", "numpy", "system", "processor"}
    assert all(whole.manifest.environment.values())
    copy = tmp_path / "copy"
    shutil.copytree(whole.path, copy)
    rounds.resume(Store(copy), same := Noted())
    assert same.notes == []
    reseal(copy / "manifest.json", lambda content: content.update(torch="1.13.0", threads=64))
    rounds.resume(Store(copy), other := Noted())
    assert len(other.notes) == 1
    assert "begun with torch 1.13.0, now " in other.notes[0]
    assert "threads 64, now " in other.notes[0]


def test_resume_offers_the_round_before_the_damage(
    whole: Store, tmp_path: Path, cli: Callable[..., CompletedProcess[str]]
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(whole.path, copy)
    path = copy / "weights/round-001.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    result = cli("resume", str(copy))
    assert result.returncode == 2
    assert f"easy2hard branch {copy} --from-round 0 --out DIR" in result.stderr
    again = cli("branch", str(copy), "--from-round", "0", "--out", "again")
    assert again.returncode == 0
    assert Store(Path("again")).manifest.rounds[1].weights_sha256 == whole.manifest.rounds[1].weights_sha256
    assert path.stat().st_size > 0


@pytest.mark.parametrize("arguments", [["--from-round", "0"], ["--out", "again"]])
def test_a_copy_needs_a_round_and_a_place(
    arguments: list[str], whole: Store, cli: Callable[..., CompletedProcess[str]]
) -> None:
    result = cli("branch", str(whole.path), *arguments)
    assert (result.returncode, result.stderr.count("\n")) == (2, 1)
    assert "Missing option" in result.stderr
    assert "--from-round; it is `easy2hard branch` now" in cli("resume", str(whole.path), "--from-round", "0").stderr


class Evil:
    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, ("touch harmed",)


def reseal(path: Path, change: Callable[[dict], None]) -> None:
    """Change a manifest and give it the digest that belongs to the change."""
    content = json.loads(path.read_text())
    change(content)
    del content["sha256"]
    path.write_text(json.dumps({**content, "sha256": manifest_digest(content)}))


def test_a_pickle_in_place_of_weights_is_never_run(
    whole: Store, tmp_path: Path, cli: Callable[..., CompletedProcess[str]]
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(whole.path, copy)
    weights = copy / "weights/round-001.safetensors"
    weights.write_bytes(pickle.dumps(Evil()))
    for command in (["resume"], ["eval"], ["solve"]):
        result = cli(command[0], str(copy), *(["24="] if command == ["solve"] else []))
        assert (result.returncode, result.stderr.count("\n")) == (2, 1)
        assert "damaged" in result.stderr
    assert not (tmp_path / "harmed").exists()


@pytest.mark.parametrize("name", ["../../secret", "/etc/passwd", "weights/../../secret"])
def test_a_manifest_cannot_name_files_outside(whole: Store, tmp_path: Path, name: str) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(whole.path, copy)
    (tmp_path / "secret").write_text("secret")

    def lead_out(content: dict) -> None:
        files = content["rounds"][1]["files"]
        files[name] = files.pop("weights/round-001.safetensors")

    reseal(copy / "manifest.json", lead_out)
    assert found_by_verify(copy)
    with pytest.raises(UserError, match="lists files that are not its own"):
        rounds.resume(Store(copy), Silent())


def test_a_link_out_of_the_run_is_refused(whole: Store, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(whole.path, copy)
    outside = tmp_path / "outside.safetensors"
    weights = copy / "weights/round-001.safetensors"
    weights.rename(outside)
    weights.symlink_to(outside)
    with pytest.raises(UserError, match=r"weights/round-001.safetensors: a symbolic link"):
        rounds.resume(Store(copy), Silent())


def test_a_link_in_place_of_the_lock_harms_nothing(whole: Store, tmp_path: Path) -> None:
    """The lock is opened for writing before anything else is looked at."""
    copy = tmp_path / "copy"
    shutil.copytree(whole.path, copy)
    (tmp_path / "precious").write_text("precious")
    (copy / "lock").unlink(missing_ok=True)
    (copy / "lock").symlink_to(tmp_path / "precious")
    with pytest.raises(UserError, match="lock is a symbolic link"):
        rounds.resume(Store(copy), Silent())
    assert (tmp_path / "precious").read_text() == "precious"


@pytest.mark.parametrize("layout", [1, 99, None])
def test_a_run_of_another_layout_says_what_to_do(whole: Store, tmp_path: Path, layout: int | None) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(whole.path, copy)
    reseal(copy / "manifest.json", lambda content: content.update(format=layout))
    with pytest.raises(UserError, match=r"layout .* reads layouts 2 and 3: use .*, or run .*settings.toml again"):
        _ = Store(copy).manifest

"""The run directory: atomic files, the lock, weights."""

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from helpers import half_trained, new_member

from easy2hard.errors import UserError
from easy2hard.files import writing
from easy2hard.runs import store as store_module
from easy2hard.runs.store import Store, load_weights
from easy2hard.settings.recipes import load_recipe


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.create(tmp_path / "run", load_recipe("smoke"), torch.device("cpu"))


def test_a_new_run_has_its_settings_and_no_round(store: Store) -> None:
    assert store.settings == load_recipe("smoke")
    assert store.manifest.rounds == []
    assert (store.manifest.status, store.manifest.frontier) == ("running", 0)


def test_an_empty_directory_may_become_a_run(tmp_path: Path) -> None:
    Store.create(tmp_path, load_recipe("smoke"), torch.device("cpu"))


@pytest.mark.parametrize("kind", ["file", "full directory", "run"])
def test_what_is_there_is_never_overwritten(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "out"
    if kind == "file":
        path.write_text("mine")
    elif kind == "full directory":
        path.mkdir()
        (path / "mine").write_text("mine")
    else:
        Store.create(path, load_recipe("smoke"), torch.device("cpu"))
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UserError, match="resume"):
        Store.create(path, load_recipe("smoke"), torch.device("cpu"))
    assert sorted(tmp_path.rglob("*")) == before


def test_what_is_no_run_is_not_opened(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not a run directory"):
        Store(tmp_path)


def test_a_damaged_manifest_is_the_users_to_know(store: Store) -> None:
    (store.path / "manifest.json").write_text('{"rounds": [')
    with pytest.raises(UserError, match="damaged"):
        _ = store.manifest


def test_a_second_lock_is_refused_until_the_first_is_let_go(store: Store) -> None:
    with store.lock():
        with pytest.raises(UserError, match="another process"), Store(store.path).lock():
            pass
        refused = subprocess.run([sys.executable, "-c", _LOCK, str(store.path)], capture_output=True, text=True)
        assert refused.returncode == 1
        assert "another process is writing this run" in refused.stderr
    with Store(store.path).lock():
        pass


_LOCK = """
import sys
from pathlib import Path
from easy2hard.runs.store import Store
with Store(Path(sys.argv[1])).lock():
    pass
"""


def test_an_exception_lets_go_of_the_lock(store: Store) -> None:
    with pytest.raises(ZeroDivisionError), store.lock():
        raise ZeroDivisionError
    with store.lock():
        pass


def test_weights_come_back_bit_by_bit_with_their_digest(store: Store) -> None:
    digest = store.save_weights(3, half_trained())
    assert hashlib.sha256(store.weights_path(3).read_bytes()).hexdigest() == digest
    loaded = [new_member(seed) for seed in (8, 9)]
    load_weights(store.weights_path(3), loaded)
    for one, other in zip(loaded, half_trained(), strict=True):
        assert all(map(torch.equal, one.state_dict().values(), other.state_dict().values()))


def test_a_file_is_replaced_only_once_it_is_complete(store: Store) -> None:
    path = store.ledger_path(1)
    path.write_text("old")

    def write(content: str, fails: bool) -> None:
        with writing(path, store.path) as file:
            file.write(content.encode())
            assert path.read_text() == "old"
            if fails:
                raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write("half", fails=True)
    assert (path.read_text(), list(path.parent.iterdir())) == ("old", [path])
    write("new", fails=False)
    assert path.read_text() == "new"
    assert list(path.parent.iterdir()) == [path]


def test_the_steps_of_a_round_are_a_table(store: Store) -> None:
    store.save_training(2, [(0, 1.5, 0.2, 640), (1, 0.25, 1.0, 700)])
    assert store.training_path(2).read_text() == "step,loss,learning_rate,tokens\n0,1.5,0.2,640\n1,0.25,1.0,700\n"


def test_a_run_that_could_not_begin_leaves_no_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever stands under the run's name can be resumed."""

    def full(path: Path, manifest: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(store_module, "_write_manifest", full)
    with pytest.raises(OSError, match="No space left"):
        Store.create(tmp_path / "runs" / "new", load_recipe("smoke"), torch.device("cpu"))
    assert not list((tmp_path / "runs").iterdir())


def test_a_new_run_may_take_an_empty_directory(tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    store = Store.create(tmp_path / "new", load_recipe("smoke"), torch.device("cpu"))
    assert sorted(path.name for path in store.path.iterdir()) == [
        "checkpoint",
        "ledger",
        "manifest.json",
        "settings.toml",
        "training",
        "weights",
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["new"]


def test_the_current_directory_is_no_place_for_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"--out \.: is the current directory"):
        Store.create(Path(), load_recipe("smoke"), torch.device("cpu"))
    assert not list(tmp_path.iterdir())


def test_a_run_is_not_written_into_a_run(tmp_path: Path) -> None:
    settings = load_recipe("smoke")
    Store.create(tmp_path / "outer", settings, torch.device("cpu"))
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UserError, match=r"--out .*inner: is inside the run .*outer; a run needs a directory"):
        Store.create(tmp_path / "outer" / "deep" / "inner", settings, torch.device("cpu"))
    assert sorted(tmp_path.rglob("*")) == before

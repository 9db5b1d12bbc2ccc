"""Which device, which engine, and what is said about it."""

from collections.abc import Callable
from subprocess import CompletedProcess
from typing import Any

import pytest
import torch
from helpers import SIZE, Silent, new_member

from easy2hard.engines.choice import build_engine, find_device
from easy2hard.engines.cpu.runner import CpuRunner
from easy2hard.engines.engine import DeviceFullError, lowered_by
from easy2hard.engines.reference import ReferenceEngine, Runner
from easy2hard.errors import UserError
from easy2hard.models.transformer import Transformer
from easy2hard.positions.rotary import Rope
from easy2hard.runs import rounds
from easy2hard.settings.recipes import load_recipe


def gpus(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)


def test_auto_takes_a_gpu_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    gpus(0, monkeypatch)
    assert find_device() == torch.device("cpu")
    gpus(2, monkeypatch)
    assert find_device() == torch.device("cuda", 0)
    assert find_device("cuda:1") == torch.device("cuda", 1)
    assert find_device("cpu") == torch.device("cpu")
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert find_device() == find_device("cuda") == torch.device("cuda", 1)


@pytest.mark.parametrize(
    ("name", "count", "said"),
    [
        ("cuda", 0, "finds no GPU here; use auto or cpu"),
        ("cuda:2", 2, "this machine has GPUs 0 to 1"),
        ("cuda:x", 2, "expected one of auto, cpu, cuda, cuda:N, mps"),
        ("tpu", 2, "expected one of auto, cpu, cuda, cuda:N, mps"),
        ("mps", 0, "this machine has none; use auto or cpu"),
    ],
)
def test_a_device_that_is_not_there_is_refused(
    name: str, count: int, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    gpus(count, monkeypatch)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(UserError, match=f"--device {name}: .*{said}"):
        find_device(name)


def test_the_engine_is_the_one_that_knows_the_members() -> None:
    plain = new_member(0)
    engine = build_engine([plain])
    assert isinstance(engine, ReferenceEngine)
    assert (engine.note, type(engine._runners[0])) == (None, CpuRunner)
    rope = Transformer(SIZE, 14, torch.Generator(), Rope(16))
    other = build_engine([rope])
    assert other.note is not None
    assert "rope" in other.note
    assert isinstance(other, ReferenceEngine)
    assert type(other._runners[0]) is Runner


def test_a_run_says_which_engine_it_could_not_have(tmp_path: Any) -> None:
    notes: list[str] = []

    class Noted(Silent):
        def note(self, text: str) -> None:
            notes.append(text)

    few = ["supervised.steps=1", "supervised.warmup=0", "supervised.decay=0", "rounds.count=0", "model.positions=rope"]
    store = rounds.start(load_recipe("smoke", few), tmp_path / "run", Noted(), device="cpu")
    assert store.manifest.device == "cpu"
    assert sum("rope" in note for note in notes) == 1


def test_a_full_device_is_a_line_that_names_settings_and_an_exit_code(
    cli: Callable[..., CompletedProcess[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full() -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 3 GiB. GPU 0 has 1 GiB free.")

    with pytest.raises(DeviceFullError, match=r"^CUDA out of memory; lower model.members, or take another --device$"):
        lowered_by("model.members")(full)()
    monkeypatch.setattr(ReferenceEngine, "matches", lambda *_: lowered_by("model.members")(full)())
    few = ["supervised.steps=1", "supervised.warmup=0", "supervised.decay=0"]
    done = cli("run", "smoke", *(part for each in few for part in ("--set", each)), "--out", "full", "--device", "cpu")
    assert done.returncode == 6
    assert done.stderr.startswith("out of memory: CUDA out of memory; lower model.members")
    assert "easy2hard resume full" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert cli("eval", "full", "--device", "tpu").returncode == 2

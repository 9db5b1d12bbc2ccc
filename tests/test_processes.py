"""Two processes on one machine, launched as a user would, give what one gives."""

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import safetensors.numpy
from bases import LORA_OVERRIDES, quick_recipe, save_base
from helpers import Silent

from easy2hard import processes
from easy2hard.engines.choice import find_device
from easy2hard.errors import UserError
from easy2hard.learning.trainer import Step
from easy2hard.runs import rounds
from easy2hard.runs.store import Store
from easy2hard.settings.recipes import load_recipe

TESTS = Path(__file__).parent
CHILD = TESTS / "faults" / "child.py"
# Adam divides by the gradient's size: with its tiny eps a gradient that is nothing but rounding moves a weight as far
# as any other, in a direction of its own.
SMALL = ["optimiser.eps=1e-4", "supervised.steps=60"]
BOTH = [sys.executable, "-m", "accelerate.commands.launch", "--num_processes=2", "--num_machines=1"]
BOTH += ["--mixed_precision=no", "--dynamo_backend=no", "--main_process_port=0"]
LAUNCH = [*BOTH, "--multi_gpu"]
SHARDED = [*BOTH, "--use_fsdp", "--fsdp_version=2", "--fsdp_auto_wrap_policy=TRANSFORMER_BASED_WRAP"]
ENVIRONMENT = {
    **os.environ,
    "CUDA_VISIBLE_DEVICES": "",
    "OMP_NUM_THREADS": "1",
    "PYTHONPATH": os.pathsep.join([str(TESTS.parent), str(TESTS)]),
}


def call(*command: str | Path) -> subprocess.CompletedProcess[str]:
    """Run a command; one that waits for ever is an error."""
    words = [str(word) for word in command]
    return subprocess.run(words, capture_output=True, text=True, env=ENVIRONMENT, timeout=240)


def launch(out: Path, deadly: int = 10**9, how: str = "kill") -> subprocess.CompletedProcess[str]:
    """Begin or resume a run in two processes; something happens to them at a moment of its life."""
    return call(*LAUNCH, CHILD, out, str(deadly), how, "smoke", *SMALL)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """The run of one process."""
    overrides = [*SMALL, "supervised.decay=20", "storage.checkpoint_minutes=0"]
    return rounds.start(load_recipe("smoke", overrides), tmp_path_factory.mktemp("alone") / "run", Silent())


@pytest.fixture(scope="module")
def launched(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, int]:
    """That run, of two processes, and the number of moments in the life of the main one."""
    out = tmp_path_factory.mktemp("launched") / "run"
    result = launch(out)
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("finished: ") == 1  # one of them speaks
    assert sum(line.isdecimal() for line in result.stdout.splitlines()) == 1  # also at its end
    return Store(out), int(result.stdout.split()[-1])


def assert_same(one: Store, other: Store) -> None:
    """Same labels, same evaluation; weights and confidences up to rounding."""
    assert one.settings == other.settings
    assert one.manifest.status == other.manifest.status == "finished"
    assert len(one.manifest.rounds) == len(other.manifest.rounds) == 3
    for first, second in zip(one.manifest.rounds, other.manifest.rounds, strict=True):
        measured = {"seconds", "phase_seconds", "member_seconds", "loss", "signals", "weights_sha256", "files"}
        assert first.model_dump(exclude=measured) == second.model_dump(exclude=measured)
        assert first.loss == pytest.approx(second.loss, abs=1e-4)
        weights, others = (safetensors.numpy.load_file(each.weights_path(first.round)) for each in (one, other))
        assert weights.keys() == others.keys()
        for name in weights:
            np.testing.assert_allclose(weights[name], others[name], rtol=1e-3, atol=1e-3, err_msg=name)
        if first.round:
            assert_same_labels(one.ledger_path(first.round), other.ledger_path(first.round))
    assert not list(other.checkpoint_folder.iterdir())


def assert_same_labels(one: Path, other: Path) -> None:
    labels, others = pq.read_table(one), pq.read_table(other)
    assert labels.num_rows == 100
    for name in labels.column_names:
        if name in ("confidence", "mean_log_probability"):
            np.testing.assert_allclose(labels[name], others[name], rtol=1e-2, atol=1e-3, err_msg=name)
        elif name != "weights_sha256":
            assert labels[name].equals(others[name]), name


def test_two_processes_give_what_one_gives(alone: Store, launched: tuple[Store, int]) -> None:
    assert_same(alone, launched[0])
    assert all(record.kept for record in alone.manifest.rounds[1:])


@pytest.mark.parametrize("how", [pytest.param("kill", marks=pytest.mark.slow), "launcher"])
def test_two_processes_that_are_stopped_are_resumed_by_one(
    how: str, alone: Store, launched: tuple[Store, int], tmp_path: Path
) -> None:
    """One of them is killed; the launcher is told to end."""
    out = tmp_path / "run"
    first = launch(out, launched[1] * 3 // 4, how)
    assert first.returncode != 0
    store = Store(out)
    assert 0 < len(store.manifest.rounds) < 3
    assert list(store.checkpoint_folder.iterdir())
    if how == "launcher":
        assert first.stderr.count("stopped and kept") == 1
        assert store.manifest.status == "stopped: interrupted"
    rounds.resume(store, Silent())
    assert_same(alone, store)


def test_one_process_that_is_interrupted_is_resumed_by_two(alone: Store, tmp_path: Path) -> None:
    class Interrupting(Silent):
        def step(self, step: Step) -> None:
            if step.step == 10 and store.manifest.rounds:
                raise KeyboardInterrupt

    out = tmp_path / "run"
    store = Store.create(out, alone.settings, find_device("auto"))
    with pytest.raises(KeyboardInterrupt):
        rounds.resume(store, Interrupting())
    assert len(store.manifest.rounds) == 1
    assert list(store.checkpoint_folder.iterdir())
    second = launch(out)
    assert second.returncode == 0, second.stderr
    assert_same(alone, store)


def test_a_failure_of_one_process_ends_both(tmp_path: Path) -> None:
    result = call(*LAUNCH, TESTS / "launched_failures.py", tmp_path)
    assert result.returncode == 0, result.stdout + result.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0", "1"]


def test_stacked_members_take_the_steps_of_one_process(tmp_path: Path) -> None:
    result = call(*LAUNCH, TESTS / "launched_stacked.py", tmp_path)
    assert result.returncode == 0, result.stdout + result.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0", "1"]


def test_evaluation_is_shared_and_printed_once(
    launched: tuple[Store, int], cli: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    question = ["eval", str(launched[0].path), "--examples", "50", "--json"]
    together = call(*LAUNCH, "-m", "easy2hard", *question)
    assert together.returncode == 0, together.stderr
    assert together.stdout == cli(*question).stdout != ""


def test_a_mistake_is_told_once_on_each_machine(
    cli: Callable[..., subprocess.CompletedProcess[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdout", sys.stdout)  # what these processes print goes nowhere
    for name, value in {"WORLD_SIZE": "4", "RANK": "2", "LOCAL_RANK": "0"}.items():
        monkeypatch.setenv(name, value)
    assert cli("run", "no-such-recipe").stderr.count("neither a TOML file nor a shipped recipe") == 1
    monkeypatch.setenv("LOCAL_RANK", "1")
    silent = cli("run", "no-such-recipe")
    assert (silent.returncode, silent.stderr) == (2, "")


def test_an_ordinary_run_is_one_process_without_accelerate() -> None:
    lines = "import easy2hard.runs.rounds as r, sys; print(r.processes.current().count, 'accelerate' in sys.modules)"
    assert call(sys.executable, "-c", lines).stdout.split() == ["1", "False"]


@pytest.mark.parametrize("name", ["DEEPSPEED", "MEGATRON_LM"])
def test_splitting_a_model_is_refused_not_ignored(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"ACCELERATE_USE_{name}", "true")
    with pytest.raises(UserError, match=f"accelerate is set to use {name}"):
        processes.LaunchedProcesses()


def test_one_process_does_everything_itself() -> None:
    world = processes.Processes()
    assert world.main
    assert world.from_main(lambda: 3) == 3
    assert world.gather(lambda: 3) == [3]
    assert [world.any(True), world.any(False)] == [True, False]


class Pretrained:
    """One run of a pretrained model, alone and launched.

    Args:
        folder: to work in.
        overrides: of the recipe.
    """

    def __init__(self, folder: Path, overrides: Sequence[str]) -> None:
        folder.mkdir()
        few = ["optimiser.eps=1e-4", "supervised.steps=12", "supervised.decay=4"]
        few += ["rounds.count=2", "labels.count=100", "rounds.steps=5"]
        self.folder = folder
        self.recipe = quick_recipe(folder)
        self.overrides = [*few, f"model.pretrained={save_base('subwords', folder / 'base')}", *overrides]
        self.settings = load_recipe(self.recipe, self.overrides)
        self.alone = rounds.start(self.settings, folder / "alone", Silent())

    def launch(self, how: Sequence[str], name: str, deadly: int = 10**9) -> subprocess.CompletedProcess[str]:
        """Begin or resume a run in two processes; the main one is killed at a training step of a member."""
        return call(*how, CHILD, self.folder / name, str(deadly), "kill-step", self.recipe, *self.overrides)

    def killed(self, how: Sequence[str], name: str) -> Store:
        """Begin a run in two processes; they die in the last round's training."""
        assert self.launch(how, name, 2 * (12 + 5) + 6).returncode != 0
        store = Store(self.folder / name)
        assert len(store.manifest.rounds) == 2
        assert list(store.checkpoint_folder.glob("*-member-0.safetensors"))
        return store


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Pretrained:
    """All weights of a pretrained model are trained."""
    return Pretrained(tmp_path_factory.mktemp("pretrained") / "full", [])


def test_two_processes_train_all_of_a_pretrained_model_as_one_does(full: Pretrained) -> None:
    result = full.launch(LAUNCH, "two")
    assert result.returncode == 0, result.stderr
    assert_same(full.alone, Store(full.folder / "two"))
    assert all(record.kept for record in full.alone.manifest.rounds[1:])


@pytest.mark.slow
def test_two_processes_that_train_adapters_are_killed_and_resumed_by_one(tmp_path: Path) -> None:
    lora = Pretrained(tmp_path / "lora", LORA_OVERRIDES)
    store = lora.killed(LAUNCH, "killed")
    rounds.resume(store, Silent())
    assert_same(lora.alone, store)


def test_a_member_in_parts_takes_the_steps_of_a_whole_one(full: Pretrained) -> None:
    result = call(*SHARDED, TESTS / "launched_parts.py", full.folder)
    assert result.returncode == 0, result.stdout + result.stderr
    assert (full.folder / "0").exists()
    assert (full.folder / "1").exists()


@pytest.mark.slow
def test_a_model_in_parts_is_killed_and_resumed_whole_by_one(full: Pretrained) -> None:
    store = full.killed(SHARDED, "parts")
    rounds.resume(store, Silent())
    assert_same(full.alone, store)


def test_a_whole_model_that_is_interrupted_is_resumed_in_parts(full: Pretrained) -> None:
    class Interrupting(Silent):
        def step(self, step: Step) -> None:
            if step.step == 3 and store.manifest.rounds:
                raise KeyboardInterrupt

    store = Store.create(full.folder / "whole", full.settings, find_device("auto"))
    with pytest.raises(KeyboardInterrupt):
        rounds.resume(store, Interrupting())
    assert list(store.checkpoint_folder.glob("*-member-0.safetensors"))
    second = full.launch(SHARDED, "whole")
    assert second.returncode == 0, second.stderr
    assert_same(full.alone, store)

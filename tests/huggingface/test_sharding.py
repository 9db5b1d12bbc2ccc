"""What accelerate is set to and is not there is refused in a line; tests/test_processes.py shows the rest at work."""

import pytest
import torch

from easy2hard import processes
from easy2hard.errors import UserError
from easy2hard.huggingface.sharding import check_sharding, in_parts, placed, whole
from easy2hard.settings.model import LoraSettings, ModelSettings

FULL = ModelSettings(pretrained="some/model")


class ShardedProcesses(processes.Processes):
    sharded = True


@pytest.fixture
def fsdp(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several processes under the FSDP that the launcher sets up by default, but of the version that there is."""
    monkeypatch.setattr(processes, "current", ShardedProcesses)
    monkeypatch.setenv("FSDP_VERSION", "2")
    for name in ("OFFLOAD_PARAMS", "ACTIVATION_CHECKPOINTING"):
        monkeypatch.setenv(f"FSDP_{name}", "false")


@pytest.mark.usefixtures("fsdp")
def test_what_is_not_sharded_is_refused() -> None:
    check_sharding(FULL)
    with pytest.raises(UserError, match=r"model\.preset = 'tiny'.*--multi_gpu"):
        check_sharding(ModelSettings(preset="tiny"))
    with pytest.raises(UserError, match=r"model\.lora\.rank = 4.*--multi_gpu"):
        check_sharding(ModelSettings(pretrained="some/model", lora=LoraSettings(rank=4, alpha=8)))


@pytest.mark.usefixtures("fsdp")
@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("VERSION", "1", "--fsdp_version 1"),
        ("OFFLOAD_PARAMS", "true", "--fsdp_offload_params true"),
        ("ACTIVATION_CHECKPOINTING", "true", "--fsdp_activation_checkpointing true"),
        ("IGNORED_MODULES", "lm_head", "--fsdp_ignored_modules lm_head"),
        ("RESHARD_AFTER_FORWARD", "FULL_SHARD", "full_shard"),
        ("AUTO_WRAP_POLICY", "BY_HAND", "BY_HAND"),
    ],
)
def test_what_accelerate_is_set_to_and_is_not_there_is_a_line(
    name: str, value: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"FSDP_{name}", value)
    with pytest.raises(UserError, match=f"accelerate's FSDP: .*{said}") as caught:
        check_sharding(FULL)
    assert "\n" not in str(caught.value)


def test_without_fsdp_members_and_tensors_stay_as_they_are() -> None:
    check_sharding(ModelSettings(preset="tiny"))
    members = [object(), object()]
    with in_parts(members) as same:  # type: ignore[arg-type]
        assert same is members
    tensor = torch.ones(2)
    assert whole(tensor) is placed(tensor, torch.zeros(2)) is tensor

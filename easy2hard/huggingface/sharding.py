"""Members that lie in parts over the processes while they train: FSDP (docs/scale.md).

Whether, and where a model is cut, is accelerate's own configuration (``accelerate launch --use_fsdp``); the cutting is
torch's ``fully_shard`` (FSDP2), which needs no accelerator. Each process holds its part of the weights, gradients and
optimiser's state, and gathers the others' weights a piece of the model at a time. Outside of training members are whole
in every process: it decodes and evaluates prompts of its own, as many as it likes, without a word to the others.
"""

import copy
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, cast

from torch import Tensor, nn
from typing_extensions import override

from easy2hard import processes
from easy2hard.errors import UserError
from easy2hard.huggingface.member import Pretrained
from easy2hard.models.member import Member
from easy2hard.settings.model import ModelSettings


def check_sharding(model: ModelSettings) -> None:
    """Refuse what is not sharded here, where accelerate is set to FSDP.

    Raises:
        UserError: naming the setting and what would be right.
    """
    if not processes.current().sharded:
        return
    if not model.pretrained:
        raise UserError(f"accelerate is set to use FSDP: model.preset = {model.preset!r} needs none; use --multi_gpu")
    if model.lora:
        raise UserError(
            f"accelerate is set to use FSDP: model.lora.rank = {model.lora.rank}: adapters train beside weights that "
            "labelling needs whole, and that all members share; use --multi_gpu"
        )
    _plugin()


def _plugin() -> Any:
    """Return accelerate's configuration of FSDP, from the environment that its launcher sets.

    Raises:
        UserError: it asks for something that there is not.
    """
    from accelerate import FullyShardedDataParallelPlugin

    try:
        plugin = FullyShardedDataParallelPlugin()
    except ValueError as error:
        raise UserError(f"accelerate's FSDP: {str(error).splitlines()[0]}") from error
    if plugin.fsdp_version != 2:
        raise UserError(f"accelerate's FSDP: --fsdp_version {plugin.fsdp_version} is not supported; use 2")
    for option in ("offload_params", "activation_checkpointing", "ignored_modules"):
        given = os.environ.get(f"FSDP_{option.upper()}", "false")
        if given.lower() != "false":
            raise UserError(f"accelerate's FSDP: --fsdp_{option} {given} is not supported; leave it out")
    return plugin


@contextmanager
def in_parts(members: Sequence[Member]) -> Iterator[Sequence[Member]]:
    """Give members as they are to be trained: in parts where accelerate is set to FSDP, else as they are.

    All processes enter together. The members have no weights until all have left; after an exception they have none.
    """
    if not processes.current().sharded:
        yield members
        return
    parts = [Sharded(cast(Pretrained, member)) for member in members]
    yield parts
    for member, part in zip(members, parts, strict=True):
        part.give_back(member)


class Sharded(Pretrained):
    """A pretrained member in parts, which is left without its weights.

    Every pass through it is one of all processes together, forwards and backwards.
    """

    def __init__(self, member: Pretrained) -> None:
        from torch.distributed.fsdp import FSDPModule, fully_shard

        nn.Module.__init__(self)
        shared: dict[int, Any] = {id(weight): weight for weight in member.parameters()}
        self.__dict__.update(vars(copy.deepcopy(member, {**shared, id(member.base): member.base})))
        plugin = _plugin()
        mesh = processes.mesh(member.device)
        for module in _cut(plugin, self.model):
            fully_shard(module, mesh=mesh, reshard_after_forward=plugin.reshard_after_forward)
        for module in self.model.modules():
            if isinstance(module, FSDPModule):
                module.set_gradient_divide_factor(1.0)
                module.set_force_sum_reduction_for_comms(True)  # gloo knows no other
        for weight in member.parameters():
            weight.data = weight.data.new_empty(0)

    def give_back(self, member: nn.Module) -> None:
        """Put the whole weights where they came from; all processes together."""
        parts = dict(self.named_parameters())
        for name, weight in member.named_parameters():
            weight.data = whole(parts[name].detach())

    @override
    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Take over weights, whole or in parts.

        Raises:
            RuntimeError: they are not those of this member.
        """
        own = self.state_dict()
        super().load_state_dict(
            {name: placed(each, own[name]) if name in own else each for name, each in state_dict.items()}
        )


def _cut(plugin: Any, model: nn.Module) -> list[nn.Module]:
    """Return the modules that are gathered one after another, inner ones first; the last is the model.

    Raises:
        UserError: the model has no such layers as accelerate is told to cut at.
    """
    from accelerate.utils.fsdp_utils import fsdp2_prepare_auto_wrap_policy

    try:
        plugin.set_auto_wrap_policy(model)
        policy: Callable[[nn.Module], bool] | None = fsdp2_prepare_auto_wrap_policy(plugin, model)
    except ValueError as error:
        raise UserError(f"accelerate's FSDP: {str(error).splitlines()[0]}") from error
    inner = [module for module in model.modules() if module is not model and policy is not None and policy(module)]
    return [*reversed(inner), model]


def whole(tensor: Tensor) -> Tensor:
    """Return a tensor whole, where it lies in parts; then all processes ask together."""
    gather = getattr(tensor, "full_tensor", None)  # a DTensor's; its module is slow to import
    return tensor if gather is None else gather()


def placed(tensor: Tensor, like: Tensor) -> Tensor:
    """Return this process's part of a whole tensor, where ``like``, of its shape, lies in parts."""
    if not hasattr(like, "full_tensor") or hasattr(tensor, "full_tensor") or tensor.shape != like.shape:
        return tensor
    from torch.distributed.tensor import DTensor, distribute_tensor

    lying = cast(DTensor, like)
    # Every process has the whole: nothing is sent.
    return distribute_tensor(tensor.to(like.device), lying.device_mesh, lying.placements, src_data_rank=None)

"""The members of a run: built before any training, or loaded from its last committed round."""

from collections.abc import Sequence

import torch

from easy2hard.engines.choice import build_engine, find_device
from easy2hard.engines.engine import Engine
from easy2hard.errors import UserError
from easy2hard.models.member import Member
from easy2hard.models.pretrained import Pretrained, load_base, trained_weights
from easy2hard.models.transformer import build_transformer
from easy2hard.runs.manifest import RunDirectory
from easy2hard.runs.store import load_weights
from easy2hard.seeding import torch_generator
from easy2hard.settings.schema import Settings
from easy2hard.tasks.base import Task
from easy2hard.tasks.registry import load_task


def build_members(settings: Settings, task: Task, device: torch.device) -> list[Member]:
    """Return the members of a run before any training, each from its own seed.

    Raises:
        UserError: the pretrained model that they start from cannot be had.
    """
    generators = [torch_generator(settings.seed, "weights", member) for member in range(settings.model.members)]
    model = settings.model
    if model.pretrained:
        # Whoever trains all weights copies them, and needs the first ones no more.
        home = device if model.lora else torch.device("cpu")
        base = load_base(model, settings.training.precision, task.name, task.vocabulary, home)
        return [Pretrained(base, model.lora, generator).to(device) for generator in generators]
    return [build_transformer(model, task, generator, settings.training).to(device) for generator in generators]


def load_members(run: RunDirectory, device: str = "auto") -> Engine:
    """Return the members of a run after its last committed round.

    Args:
        run: the run.
        device: where they compute (engines/choice.py).

    Raises:
        UserError: no round is committed yet, they started from another pretrained model, or there is no such device.
    """
    rounds = run.manifest.rounds
    if not rounds:
        raise UserError(f"{run.path}: no round is committed yet; `easy2hard resume {run.path}` goes on")
    settings = run.settings
    task = load_task(settings.task.name, settings.task.options)
    members = build_members(settings, task, find_device(device))
    check_base(run, members)
    load_weights(run.intact(run.weights_path(rounds[-1].round)), members)
    return build_engine(members, settings.training.precision)


def check_base(run: RunDirectory, members: Sequence[Member]) -> str:
    """Return the digest of the pretrained model that the members start from; empty where there is none.

    Raises:
        UserError: the run began with another one.
    """
    base = members[0].base.digest() if isinstance(members[0], Pretrained) else ""
    if run.manifest.base_sha256 not in ("", base):
        raise UserError(
            f"{run.path}: model.pretrained = {run.settings.model.pretrained!r} is no longer the model that this run "
            "began with (its weights or its tokenizer have changed)"
        )
    return base


def trained_parameters(settings: Settings, task: Task) -> int:
    """Return how many numbers of one member training changes."""
    if settings.model.pretrained:
        return trained_weights(settings.model, task.name, task.vocabulary)
    with torch.device("meta"):
        member = build_transformer(settings.model, task, torch_generator(0, "space"), settings.training)
    return sum(weight.numel() for weight in member.parameters())

"""All that a run is made of, put together in one place."""

from functools import cached_property
from typing import TYPE_CHECKING

from easy2hard.errors import UserError
from easy2hard.evaluation.blindfold import Blindfold
from easy2hard.runs.manifest import RunDirectory
from easy2hard.seeding import torch_generator
from easy2hard.settings.schema import Settings
from easy2hard.tasks.base import Task
from easy2hard.tasks.oracle import Oracle
from easy2hard.tasks.prompts import Reserved
from easy2hard.tasks.registry import load_oracle, load_task

if TYPE_CHECKING:
    import torch

    from easy2hard.engines.engine import Engine
    from easy2hard.learning.batches import SupervisedSource
    from easy2hard.models.member import Member


class Experiment:
    """All that a run is made of. Each part is made when it is first asked for, and once.

    So whoever asks for the task or the oracle alone does without torch. It knows true answers: it stays in ``runs`` and
    above, and what labels gets its task, its reserved prompts and its engine, one by one.

    Args:
        settings: of the run.
        device: where the members compute (engines/choice.py).
        blindfold: make the oracle raise beyond the supervised range.
        reading: run no code of a third party that is not loaded.
    """

    def __init__(
        self, settings: Settings, device: str = "auto", blindfold: bool = False, reading: bool = False
    ) -> None:
        self.settings = settings
        self.reading = reading
        self.blindfold = blindfold
        self._device = device

    @cached_property
    def task(self) -> Task:
        """What self-labelling may know.

        Raises:
            UserError: there is no such task, or it has no such option.
        """
        return load_task(self.settings.task.name, self.settings.task.options, self.reading)

    @cached_property
    def oracle(self) -> Oracle:
        """For supervised data and evaluation, and for what the settings mark as supervised."""
        oracle = load_oracle(self.task)
        return Blindfold(oracle, self.settings.supervised.difficulty) if self.blindfold else oracle

    @cached_property
    def reserved(self) -> Reserved:
        """The prompts that are evaluation's."""
        return Reserved(self.task, self.settings.seed, self.settings.evaluation.reserved)

    @cached_property
    def supervised(self) -> "SupervisedSource":
        """D0, as the supervised phase samples it."""
        from easy2hard.learning.batches import SupervisedSource

        easy = self.settings.supervised
        return SupervisedSource(self.reserved, self.oracle, easy.difficulty, easy.curriculum, easy.stages)

    @cached_property
    def device(self) -> "torch.device":
        """Where the members compute.

        Raises:
            UserError: there is no such device.
        """
        from easy2hard.engines.choice import find_device

        return find_device(self._device)

    @cached_property
    def members(self) -> "list[Member]":
        """The members before any training, each from its own seed.

        Raises:
            UserError: the pretrained model that they start from cannot be had, or there is no such device.
        """
        import torch

        from easy2hard.huggingface.loading import load_base
        from easy2hard.huggingface.member import Pretrained
        from easy2hard.models.transformer import build_transformer

        settings, task, device = self.settings, self.task, self.device
        model = settings.model
        generators = [torch_generator(settings.seed, "weights", member) for member in range(model.members)]
        if model.pretrained:
            # Whoever trains all weights copies them, and needs the first ones no more.
            home = device if model.lora else torch.device("cpu")
            base = load_base(model, settings.training.precision, task.name, task.vocabulary, home)
            return [Pretrained(base, model.lora, generator).to(device) for generator in generators]
        return [build_transformer(model, task, generator, settings.training).to(device) for generator in generators]

    @cached_property
    def engine(self) -> "Engine":
        """The members, and what computes them."""
        from easy2hard.engines.choice import build_engine

        return build_engine(self.members, self.settings.training.precision)

    @cached_property
    def parameters(self) -> int:
        """How many numbers of one member training changes; nothing is built for it."""
        import torch

        from easy2hard.huggingface.loading import trained_weights
        from easy2hard.models.transformer import build_transformer

        settings, task = self.settings, self.task
        if settings.model.pretrained:
            return trained_weights(settings.model, task.name, task.vocabulary)
        with torch.device("meta"):
            member = build_transformer(settings.model, task, torch_generator(0, "space"), settings.training)
        return sum(weight.numel() for weight in member.parameters())

    def load(self, run: RunDirectory) -> "Engine":
        """Bring the members to where they are after the last committed round of a run.

        Raises:
            UserError: no round is committed yet, or they started from another pretrained model.
        """
        from easy2hard.runs.store import check_weights, load_weights

        rounds = run.manifest.rounds
        if not rounds:
            raise UserError(f"{run.path}: no round is committed yet; `easy2hard resume {run.path}` goes on")
        path = run.intact(run.weights_path(rounds[-1].round))
        if not self.settings.model.pretrained:
            check_weights(path, 4 * self.parameters * self.settings.model.members)
        self.check_base(run)
        load_weights(path, self.members)
        return self.engine

    def check_base(self, run: RunDirectory) -> str:
        """Return the digest of the pretrained model that the members start from; empty where there is none.

        Raises:
            UserError: the run began with another one.
        """
        from easy2hard.huggingface.member import Pretrained

        first = self.members[0]
        base = first.base.digest() if isinstance(first, Pretrained) else ""
        if run.manifest.base_sha256 not in ("", base):
            raise UserError(
                f"{run.path}: model.pretrained = {self.settings.model.pretrained!r} is no longer the model that this "
                "run began with (its weights or its tokenizer have changed)"
            )
        return base

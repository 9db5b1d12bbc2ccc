"""Settings of optimiser steps: the optimiser, what a step sees, and the phases that steps come in."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from easy2hard.settings.base import FLOAT32, SettingsModel


class OptimiserSettings(SettingsModel):
    """AdamW on everything, or Muon on the hidden matrices and AdamW on the rest."""

    name: Literal["adamw", "muon"] = Field(
        "muon", description="muon has AdamW take care of all but the hidden matrices"
    )
    learning_rate: float = Field(3e-3, gt=0, le=FLOAT32, description="peak rate of AdamW")
    muon_learning_rate: float = Field(0.02, gt=0, le=FLOAT32, description="peak rate of Muon, hidden matrices only")
    betas: Annotated[list[Annotated[float, Field(ge=0, lt=1)]], Field(min_length=2, max_length=2)] = Field(
        [0.9, 0.98], description="decay of AdamW's means of gradients and of their squares"
    )
    eps: float = Field(1e-12, gt=0, le=FLOAT32, description="added to AdamW's root of the mean square")
    weight_decay: float = Field(
        0.01, ge=0, le=FLOAT32, description="of AdamW and of Muon, relative to the learning rate"
    )
    muon_weight_decay: float | None = Field(
        None, ge=0, le=FLOAT32, description="of Muon, relative to its learning rate; default: weight_decay"
    )
    floor: float = Field(0.01, ge=0, le=1, description="final learning rate as a share of the peak")
    clip: float = Field(1.0, gt=0, le=FLOAT32, description="greatest norm of a member's gradient")

    @property
    def decay_of_muon(self) -> float:
        """Weight decay of the hidden matrices where Muon trains them."""
        return self.weight_decay if self.muon_weight_decay is None else self.muon_weight_decay

    @model_validator(mode="after")
    def _muon_has_a_decay(self) -> Self:
        if self.muon_weight_decay is not None and self.name != "muon":
            raise ValueError(f"muon_weight_decay = {self.muon_weight_decay} needs name = 'muon'")
        return self


class TrainingSettings(SettingsModel):
    """What one optimiser step sees."""

    batch: int = Field(256, ge=1, le=1_000_000, description="examples in a step of the supervised phase")
    groups: int = Field(4, ge=1, le=1_000_000, description="length groups a batch is drawn from")
    precision: Literal["float32", "bfloat16"] = Field(
        "float32", description="of the products; weights and sums stay float32"
    )
    stock: int | None = Field(
        None,
        ge=1,
        le=1_000_000_000,
        description="supervised examples that batches on a GPU are drawn from; elsewhere each is new. Default: as many "
        "as the supervised phase reads, 1,048,576 at most",
    )
    restarts: int = Field(
        3,
        ge=0,
        le=1000,
        description="returns to the last checkpoint, with other batches, after a loss that is not a number",
    )
    second_target: float = Field(
        0.0,
        ge=0,
        le=100,
        description="weight of a second target beside the next token of an answer, learned by a head of its own that "
        "training alone uses (the node after next of a way); 0: none",
    )
    second_offset: int = Field(2, ge=1, le=1000, description="tokens from the next one to the second target")

    @model_validator(mode="after")
    def _groups_fit(self) -> Self:
        if self.groups > self.batch:
            raise ValueError(f"groups = {self.groups} must be at most batch = {self.batch}")
        return self


class PhaseSettings(SettingsModel):
    """A warm-up/constant/decay phase of optimiser steps, perhaps with a rest at the floor."""

    steps: int = Field(ge=1, le=1_000_000_000, description="optimiser steps, warm-up and decay included")
    warmup: int = Field(0, ge=0, le=1_000_000_000, description="steps of linear warm-up")
    decay: int = Field(0, ge=0, le=1_000_000_000, description="steps of linear decay to the floor")
    rest: int = Field(0, ge=0, le=1_000_000_000, description="steps at the floor after the decay")

    @model_validator(mode="after")
    def _parts_fit(self) -> Self:
        parts = self.warmup + self.decay + self.rest
        if parts > self.steps:
            shares = f"{self.warmup} + {self.decay} + {self.rest}"
            raise ValueError(f"warmup + decay + rest = {parts} must be at most steps = {self.steps} (it is {shares})")
        return self


class SupervisedSettings(PhaseSettings):
    """Round 0: the only phase that sees true answers."""

    difficulty: int = Field(ge=1, le=10_000, description="hardest supervised difficulty, d0")
    curriculum: float = Field(
        0.0,
        ge=0,
        le=1,
        description="share of the steps over which the hardest sampled difficulty grows to d0, evenly",
    )
    stages: list[Annotated[float, Field(ge=0, lt=1)]] = Field(
        [],
        description="instead of an even curriculum: shares of the steps from which the next difficulty is sampled too",
    )

    @model_validator(mode="after")
    def _one_curriculum(self) -> Self:
        if self.stages and self.curriculum:
            raise ValueError(f"stages and curriculum = {self.curriculum}: either of them")
        if self.stages != sorted(self.stages) or len(self.stages) >= self.difficulty:
            raise ValueError(f"stages = {self.stages}: must be growing, and fewer than difficulty = {self.difficulty}")
        return self

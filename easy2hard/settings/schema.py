"""Everything a run depends on: frozen, validated, unknown keys are errors."""

from typing import Literal, Self

import tomli_w
from pydantic import Field, model_validator

from easy2hard.settings.base import GREATEST_SEED, SettingsModel, TaskOptions
from easy2hard.settings.filters import RELATIONS
from easy2hard.settings.model import ModelSettings
from easy2hard.settings.rounds import LabelsSettings, NoiseSettings, RoundsSettings, ScheduleSettings, WatchSettings
from easy2hard.settings.training import OptimiserSettings, SupervisedSettings, TrainingSettings


class TaskSettings(SettingsModel):
    """Which task."""

    name: str = Field(description="name of the task, one of `easy2hard tasks`")
    options: TaskOptions = Field(
        {}, description="what the task lets one choose, such as the nodes of a maze (docs/tasks.md)"
    )


class EvaluationSettings(SettingsModel):
    """Exact match after each round; diagnostic only, nothing in training reads it."""

    examples: int = Field(200, ge=1, le=1_000_000, description="prompts for each difficulty, the same in every round")
    beyond: int = Field(5, ge=0, le=1000, description="difficulties evaluated past the frontier")

    @property
    def reserved(self) -> int:
        """Evaluation prompts of each difficulty that are never trained on; those of an evaluation afterwards too."""
        return max(1000, self.examples)


class StorageSettings(SettingsModel):
    """What is kept on disk, and how often."""

    checkpoint_minutes: float = Field(
        5.0, ge=0, le=1e9, description="minutes of training between checkpoints within a round"
    )
    keep_weights: int | None = Field(
        None,
        ge=1,
        le=10_000_000,
        description="rounds whose weights stay on disk, the newest; default: all",
    )


class BudgetSettings(SettingsModel):
    """What a run may spend. It ends between two rounds, finished, with what it has committed by then."""

    minutes: float | None = Field(
        None, gt=0, le=1e9, description="no round begins once the rounds so far took as long, by the manifest's seconds"
    )
    steps: int | None = Field(
        None,
        ge=1,
        le=1_000_000_000_000,
        description="no round begins that would bring a member's optimiser steps above it, all rounds added",
    )

    @model_validator(mode="after")
    def _one_of_them(self) -> Self:
        if (self.minutes is None) == (self.steps is None):
            raise ValueError("takes either minutes or steps")
        return self

    def spent(self, steps: int, seconds: float, coming: int) -> str | None:
        """Return why a round of ``coming`` steps may not begin after so many steps and seconds; None where it may."""
        if self.steps is not None and steps + coming > self.steps:
            return f"budget.steps = {self.steps}: {steps} are done and a round takes {coming}"
        if self.minutes is not None and seconds >= 60 * self.minutes:
            return f"budget.minutes = {self.minutes:g}: {seconds / 60:.1f} are spent"
        return None


class TrackingSettings(SettingsModel):
    """Where else a run is shown while it goes; changes nothing about it."""

    trackers: list[Literal["tensorboard", "wandb", "trackio", "mlflow"]] = Field(
        [], description="told about steps and rounds; needs pip install '.[tracking]'"
    )
    project: str = Field("easy2hard", min_length=1, description="the trackers' name for runs that belong together")
    every: int = Field(10, ge=1, le=1_000_000_000, description="training steps between two entries")


class Settings(SettingsModel):
    """Everything a run depends on."""

    description: str = Field("", description="what the recipe is, in a line, for `easy2hard recipes`")
    seed: int = Field(0, ge=0, le=GREATEST_SEED, description="all randomness comes from it")
    task: TaskSettings
    model: ModelSettings = ModelSettings()
    optimiser: OptimiserSettings = OptimiserSettings()
    training: TrainingSettings = TrainingSettings()
    supervised: SupervisedSettings
    rounds: RoundsSettings
    labels: LabelsSettings
    schedule: ScheduleSettings = ScheduleSettings()
    watch: WatchSettings = WatchSettings()
    noise: NoiseSettings | None = None
    budget: BudgetSettings | None = None
    evaluation: EvaluationSettings = EvaluationSettings()
    storage: StorageSettings = StorageSettings()
    tracking: TrackingSettings = TrackingSettings()

    @property
    def readiness(self) -> str:
        """How the accelerated schedule judges a difficulty."""
        return self.schedule.readiness or ("vote" if self.model.members > 1 else "confidence")

    @property
    def verified(self) -> bool:
        """Whether the oracle says which labels are right: the filter ``verifier``, which is supervised."""
        return any("truth" in each.needs for each in self.labels.filters)

    @property
    def relations(self) -> list[str]:
        """The settings, if any, that make or judge labels by a relation the task declares; the paper has none."""
        found = ["labels.compose = true"] if self.labels.compose else []
        found += [f"labels.filters: {each.name}" for each in self.labels.filters if each.needs & RELATIONS]
        if self.schedule.asks and self.readiness in RELATIONS:
            found.append(f"schedule.readiness = {self.readiness!r}")
        return found

    @property
    def supervised_signals(self) -> list[str]:
        """The settings, if any, that use true answers beyond the supervised phase."""
        found = ["labels.filters: verifier"] if self.verified else []
        if self.schedule.asks and self.readiness == "oracle":
            found.append("schedule.readiness = 'oracle'")
        if self.labels.counter_examples:
            found.append("labels.counter_examples")
        return found

    @model_validator(mode="after")
    def _rounds_and_labels_fit(self) -> Self:
        if self.labels.relabel and self.rounds.data == "replace":
            raise ValueError("labels.relabel = true: rounds.data = 'replace' leaves no older labels to answer afresh")
        if self.labels.averaging > 1 and self.rounds.start == "scratch":
            raise ValueError(
                f"labels.averaging = {self.labels.averaging} needs rounds.start = 'continue': others share nothing to "
                "average"
            )
        return self

    @model_validator(mode="after")
    def _votes_need_members(self) -> Self:
        for each in self.labels.filters:
            if problem := each.misfit(self.model.members, self.labels.samples):
                raise ValueError(f"labels.filters: {problem}")
        if self.model.members == 1 and self.schedule.asks and self.schedule.readiness == "vote":
            raise ValueError("schedule.readiness = 'vote' needs model.members of at least 2")
        back = (self.watch.holds + 2) * (self.watch.rollbacks + 1) if self.watch.enabled else 1
        needed = back + self.labels.averaging - 1
        if self.storage.keep_weights and self.storage.keep_weights < needed:
            why = (
                "the collapse watch has something to roll back to (or watch.enabled = false)"
                if self.watch.enabled
                else f"labels.averaging = {self.labels.averaging} has something to average"
            )
            raise ValueError(
                f"storage.keep_weights = {self.storage.keep_weights} must be at least {needed}, so that {why}"
            )
        if self.model.pretrained and self.training.second_target:
            raise ValueError(
                f"training.second_target = {self.training.second_target}: a pretrained model has one target (0)"
            )
        if self.model.pretrained and self.optimiser.name == "muon":
            raise ValueError("optimiser.name = 'muon': pretrained models train with adamw")
        if self.noise and self.noise.round > self.rounds.count:
            raise ValueError(f"noise.round = {self.noise.round} must be at most rounds.count = {self.rounds.count}")
        if self.budget and self.budget.steps is not None and self.budget.steps < self.supervised.steps:
            raise ValueError(
                f"budget.steps = {self.budget.steps} must be at least supervised.steps = {self.supervised.steps}"
            )
        return self

    def to_toml(self) -> str:
        """Return the settings as a recipe that gives the same settings again."""
        return tomli_w.dumps(self.model_dump(exclude_none=True))

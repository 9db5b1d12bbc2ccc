"""Settings of a run: frozen, validated, unknown keys are errors. A recipe is a TOML file of them."""

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from importlib import resources
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal, Self, get_args

import tomli_w
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from easy2hard.errors import UserError
from easy2hard.scaling import SCALES


class _Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class TaskSettings(_Settings):
    """Which task."""

    name: str = Field(description="name of the task, one of `easy2hard tasks`")
    options: dict[str, int] = Field(
        {}, description="what the task lets one choose, such as the nodes of a maze (docs/tasks.md)"
    )


class ModelSize(_Settings):
    """Width, depth, heads and feed-forward width of a decoder."""

    width: int = Field(ge=1, le=65_536)
    layers: int = Field(ge=1, le=1000)
    heads: int = Field(ge=1, le=65_536)
    feed_forward: int = Field(ge=1, le=1_000_000)


PRESETS = {
    "tiny": ModelSize(width=64, layers=3, heads=4, feed_forward=256),  # 0.2 M parameters
    "small": ModelSize(width=128, layers=3, heads=4, feed_forward=512),  # 0.8 M
    "paper": ModelSize(width=384, layers=6, heads=6, feed_forward=1536),  # 14.2 M (method.md, "Model and optimiser")
}


POSITION_CAPACITY = 128
"""Entries of a table of positions where nothing else is said: enough for what the recipes of a laptop climb to."""


class LoraSettings(_Settings):
    """Low-rank adapters beside the frozen weights of a pretrained model."""

    rank: int = Field(64, ge=1, description="inner width of an adapter")
    alpha: float = Field(128.0, gt=0, description="the adapters' output counts alpha / rank times")
    targets: list[str] = Field([], description="names of layers; default: all linear ones but the last")


class ModelSettings(_Settings):
    """The decoder: a preset, any part of which may be replaced, or a pretrained model; and how many members train."""

    preset: Literal["tiny", "small", "paper"] = Field(
        "tiny", description="0.2 M, 0.8 M or 14.2 M parameters: width 64, 128 or 384 in 3, 3 or 6 blocks"
    )
    width: int | None = Field(None, ge=1, le=65_536, description="replaces the preset's width")
    layers: int | None = Field(None, ge=1, le=1000, description="replaces the preset's number of blocks")
    heads: int | None = Field(None, ge=1, le=65_536, description="replaces the preset's number of attention heads")
    feed_forward: int | None = Field(None, ge=1, le=1_000_000, description="replaces the preset's feed-forward width")
    pretrained: str | None = Field(
        None,
        min_length=1,
        description="a causal language model of transformers to start from: hub name or folder",
    )
    lora: LoraSettings | None = Field(None, description="train adapters instead of all weights of a pretrained model")
    positions: Literal["none", "rope", "alibi", "fire", "randomized", "abacus", "coupled", "learned"] = Field(
        "none", description="how tokens know their places (docs/positions.md); none: by the causal mask alone"
    )
    position_capacity: int | None = Field(
        None,
        ge=1,
        le=1_000_000,
        description="places there are for randomized, abacus, coupled and learned positions; default: 128",
    )
    randomized_table: Literal["sinusoidal", "learned"] | None = Field(
        None, description="where the vectors of randomized positions come from; default: sinusoidal"
    )
    loops: int = Field(
        1, ge=1, le=1000, description="times that all blocks are applied, their weights shared, the input added anew"
    )
    loops_per: int | None = Field(
        None, ge=1, description="tokens of a prompt for each of which there is one loop more; default: no more"
    )
    members: int = Field(1, ge=1, le=1000, description="models of different seeds that train in lockstep and vote")

    @property
    def size(self) -> ModelSize:
        """The preset with its replacements."""
        replaced = {key: getattr(self, key) for key in ModelSize.model_fields if getattr(self, key) is not None}
        return PRESETS[self.preset].model_copy(update=replaced)

    @property
    def capacity(self) -> int:
        """Places that a table of positions has."""
        return self.position_capacity or POSITION_CAPACITY

    @model_validator(mode="after")
    def _pretrained_has_a_size(self) -> Self:
        given = [key for key in ModelSize.model_fields if getattr(self, key) is not None]
        if self.pretrained and given:
            raise ValueError(f"{given[0]} and pretrained: a pretrained model has its own size")
        if self.pretrained and self.positions != "none":
            raise ValueError(f"positions = {self.positions!r} and pretrained: a pretrained model has its own positions")
        if self.pretrained and (self.loops > 1 or self.loops_per):
            raise ValueError("loops and pretrained: a pretrained model has its own depth")
        if self.lora and not self.pretrained:
            raise ValueError("lora needs model.pretrained")
        return self

    @model_validator(mode="after")
    def _heads_divide_width(self) -> Self:
        if self.size.width % self.size.heads:
            raise ValueError(f"heads = {self.size.heads} must divide width = {self.size.width}")
        if self.positions == "rope" and self.size.width // self.size.heads % 2:
            raise ValueError(
                f"positions = 'rope' turns pairs of features: width / heads = {self.size.width // self.size.heads} "
                "must be even"
            )
        return self

    @model_validator(mode="after")
    def _positions_have_a_table(self) -> Self:
        if self.position_capacity is not None and self.positions not in ("randomized", "abacus", "coupled", "learned"):
            raise ValueError(
                f"position_capacity = {self.position_capacity}: positions = {self.positions!r} have no table (those "
                "that do: randomized, abacus, coupled, learned)"
            )
        if self.randomized_table is not None and self.positions != "randomized":
            raise ValueError(f"randomized_table = {self.randomized_table!r} needs positions = 'randomized'")
        return self


class OptimiserSettings(_Settings):
    """AdamW on everything, or Muon on the hidden matrices and AdamW on the rest."""

    name: Literal["adamw", "muon"] = Field(
        "muon", description="muon has AdamW take care of all but the hidden matrices"
    )
    learning_rate: float = Field(3e-3, gt=0, description="peak rate of AdamW")
    muon_learning_rate: float = Field(0.02, gt=0, description="peak rate of Muon, hidden matrices only")
    betas: Annotated[list[float], Field(min_length=2, max_length=2)] = Field(
        [0.9, 0.98], description="decay of AdamW's means of gradients and of their squares"
    )
    eps: float = Field(1e-12, gt=0, description="added to AdamW's root of the mean square")
    weight_decay: float = Field(0.01, ge=0, description="of AdamW and of Muon, relative to the learning rate")
    muon_weight_decay: float | None = Field(
        None, ge=0, description="of Muon, relative to its learning rate; default: weight_decay"
    )
    floor: float = Field(0.01, ge=0, le=1, description="final learning rate as a share of the peak")
    clip: float = Field(1.0, gt=0, description="greatest norm of a member's gradient")

    @property
    def decay_of_muon(self) -> float:
        """Weight decay of the hidden matrices where Muon trains them."""
        return self.weight_decay if self.muon_weight_decay is None else self.muon_weight_decay

    @model_validator(mode="after")
    def _muon_has_a_decay(self) -> Self:
        if self.muon_weight_decay is not None and self.name != "muon":
            raise ValueError(f"muon_weight_decay = {self.muon_weight_decay} needs name = 'muon'")
        return self


class TrainingSettings(_Settings):
    """What one optimiser step sees."""

    batch: int = Field(256, ge=1, le=1_000_000, description="examples in a step of the supervised phase")
    groups: int = Field(4, ge=1, description="length groups a batch is drawn from")
    precision: Literal["float32", "bfloat16"] = Field(
        "float32", description="of the products; weights and sums stay float32"
    )
    stock: int | None = Field(
        None,
        ge=1,
        description="supervised examples that batches on a GPU are drawn from; elsewhere each is new. Default: as many "
        "as the supervised phase reads, 1,048,576 at most",
    )
    restarts: int = Field(
        3, ge=0, description="returns to the last checkpoint, with other batches, after a loss that is not a number"
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


class PhaseSettings(_Settings):
    """A warm-up/constant/decay phase of optimiser steps, perhaps with a rest at the floor."""

    steps: int = Field(ge=1, description="optimiser steps, warm-up and decay included")
    warmup: int = Field(0, ge=0, description="steps of linear warm-up")
    decay: int = Field(0, ge=0, description="steps of linear decay to the floor")
    rest: int = Field(0, ge=0, description="steps at the floor after the decay")

    @model_validator(mode="after")
    def _parts_fit(self) -> Self:
        parts = self.warmup + self.decay + self.rest
        if parts > self.steps:
            raise ValueError(f"warmup + decay + rest = {parts} must be at most steps = {self.steps}")
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


class NoFilter(_Settings):
    """Keep every answer that ended within its bound."""

    name: Literal["none"]


class VoteFilter(_Settings):
    """Keep an answer whose share of the members' answers reaches ``threshold``; ties lose."""

    name: Literal["vote"]
    threshold: float = Field(0.7, gt=0, le=1, description="share of the members that gave the answer")


class ConfidenceFilter(_Settings):
    """Keep the most confident ``keep`` share, or everything at or above ``threshold``."""

    name: Literal["confidence"]
    keep: float | None = Field(None, gt=0, le=1, description="share of the answers still kept")
    threshold: float | None = Field(None, ge=0, le=1, description="smallest token probability")

    @model_validator(mode="after")
    def _one_rule(self) -> Self:
        if (self.keep is None) == (self.threshold is None):
            raise ValueError("confidence takes either keep or threshold")
        return self


class LengthFilter(_Settings):
    """Drop answers ``threshold`` or more tokens shorter than nearly all others of their difficulty and round."""

    name: Literal["length"]
    threshold: int = Field(1, ge=1, description="tokens")


class TwinFilter(_Settings):
    """Keep an answer that agrees with the members' answer to the prompt's twin, such as b+a for a+b."""

    name: Literal["twin"]


class PartsFilter(_Settings):
    """Keep an answer that contains the members' answers to its parts, easier questions that the task declares."""

    name: Literal["parts"]
    reliable: float = Field(
        0.95,
        ge=0,
        le=1,
        description="share of watch.sample answers to parts that must contain the answers to parts of their own; below "
        "it the round holds its difficulty",
    )


class VerifierFilter(_Settings):
    """Keep right answers, by the oracle: an upper bound (STaR, ReST-EM) that is SUPERVISED, not self-improvement."""

    name: Literal["verifier"]


class LearnedVerifierFilter(_Settings):
    """Keep answers that a verifier takes for right, learned from right and wrong answers of the supervised range."""

    name: Literal["learned-verifier"]
    threshold: float = Field(0.5, gt=0, lt=1, description="estimated probability of being right")
    examples: int = Field(
        200,
        ge=1,
        le=1_000_000,
        description="prompts of each supervised difficulty that it learns from in each round; their truth is D0's",
    )
    temperature: float = Field(1.0, gt=0, le=100, description="of the answers to them, some of which must be wrong")


FilterSettings = Annotated[
    NoFilter
    | VoteFilter
    | ConfidenceFilter
    | LengthFilter
    | TwinFilter
    | PartsFilter
    | VerifierFilter
    | LearnedVerifierFilter,
    Field(discriminator="name"),
]


class RoundsSettings(PhaseSettings):
    """Rounds of label -> filter -> train -> evaluate."""

    count: int = Field(ge=0, le=1000, description="rounds after the supervised phase")
    schedule: Literal["standard", "accelerated", "grid", "grid-accelerated"] = Field(
        "standard",
        description="standard: `step` small steps a round; accelerated: as many as the members are ready for; "
        "grid, grid-accelerated: the paper's orders for pairs",
    )
    step: int = Field(1, ge=1, le=1000, description="small steps one round of the standard schedule adds")
    readiness: Literal["vote", "confidence", "twin", "parts", "oracle"] | None = Field(
        None,
        description="how the accelerated schedule judges a difficulty: share of prompts on which all members agree, "
        "mean probability of the answers, share that agrees with the twin or with the parts; oracle is SUPERVISED, a "
        "diagnostic. Default: vote, or confidence for one member",
    )
    ready: float = Field(0.99, gt=0, le=1, description="readiness from which a difficulty is taken")
    probe: int = Field(200, ge=1, le=1_000_000, description="prompts that judge one difficulty's readiness")
    most: int = Field(20, ge=1, le=1000, description="small steps an accelerated round takes at most")
    labels: int = Field(ge=1, le=100_000_000, description="prompts labelled in a round, for each of its difficulties")
    top_up: int | None = Field(
        None,
        ge=1,
        description="labels of each difficulty that must pass the filters; more prompts are labelled until they do",
    )
    least_acceptance: float = Field(
        0.05, gt=0, le=1, description="share of labels kept below which topping up ends, with a report"
    )
    batch: int | None = Field(None, ge=2, description="examples in a step; default: training.batch")
    data: Literal["accumulate", "replace"] = Field(
        "accumulate",
        description="which labels a round trains on beside D0: those of all rounds so far, or its own alone",
    )
    temperature: float = Field(
        0.0,
        ge=0,
        le=100,
        description="labels are sampled at this temperature, by the plain loop and not the compiled one; 0: greedy",
    )
    samples: int = Field(
        1,
        ge=1,
        le=1000,
        description="answers that each member gives to a prompt; each has a vote, and with the filter verifier any "
        "right one is the label",
    )
    counter_examples: bool = Field(
        False,
        description="whether a round trains on the prompts that its members answer wrongly, with their true answers, "
        "instead of on labels: SUPERVISED, not self-improvement",
    )
    averaging: int = Field(
        1,
        ge=1,
        le=1000,
        description="labels are given by the mean of the members' weights after so many rounds, the newest ones",
    )
    relabel: bool = Field(
        False,
        description="whether each round answers the prompts of older rounds afresh, filters them again, and trains on "
        "that instead of the older labels",
    )
    start: Literal["continue", "scratch"] = Field(
        "continue",
        description="weights that a round's training begins with: the newest, or those before any training",
    )
    newest_share: float = Field(0.5, gt=0, lt=1, description="share of a batch from the newest round's labels")
    supervised_share: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="share of D0 in the rest of a batch, so that many rounds do not crowd it out; default: D0 and "
        "older rounds weigh 1 for each of their difficulties",
    )
    learning_rate_scale: float = Field(
        1.0, gt=0, description="peak rates of the rounds relative to the supervised phase"
    )
    filters: list[FilterSettings] = Field(
        [NoFilter(name="none")], description="which labels are kept, one filter after another (docs/labels.md)"
    )

    @property
    def judged_by_parts(self) -> PartsFilter | None:
        """The filter ``parts``, if there is one."""
        return next((each for each in self.filters if isinstance(each, PartsFilter)), None)

    @model_validator(mode="after")
    def _variants_fit(self) -> Self:
        if self.relabel and self.data == "replace":
            raise ValueError("relabel = true: data = 'replace' leaves no older labels to answer afresh")
        if sum(isinstance(each, LearnedVerifierFilter) for each in self.filters) > 1:
            raise ValueError("filters: one learned-verifier at most")
        if self.counter_examples and (self.relabel or any(each.name != "none" for each in self.filters)):
            other = "relabel = false" if self.relabel else "filters = [{name = 'none'}]"
            raise ValueError(f"counter_examples = true needs {other}: the oracle says what is kept")
        if self.averaging > 1 and self.start == "scratch":
            raise ValueError(f"averaging = {self.averaging} needs start = 'continue': others share nothing to average")
        if self.samples > 1 and not self.temperature:
            raise ValueError(f"samples = {self.samples} needs a temperature above 0: greedy answers are all the same")
        return self


class WatchSettings(_Settings):
    """Notices a collapse without a single true answer: holds the difficulty, rolls back, and stops, in this order."""

    enabled: bool = Field(True, description="whether the watch acts")
    agreement: float = Field(0.2, ge=0, le=1, description="share of prompts that all members must answer alike")
    acceptance: float = Field(0.05, ge=0, le=1, description="share of its labels that a round must keep")
    unfinished: float = Field(0.5, ge=0, le=1, description="share of answers without an end that is too much")
    confidence: float = Field(
        0.7, ge=0, le=1, description="mean probability of an answer, as a share of the best round's, that is needed"
    )
    parts: float = Field(
        0.8,
        ge=0,
        le=1,
        description="where the task has parts: share of sampled labels that must contain the answers to their parts; "
        "where the filter parts judged the labels, the same share of these parts",
    )
    sample: int = Field(200, ge=1, le=1_000_000, description="labels of each difficulty whose parts the watch asks")
    holds: int = Field(2, ge=0, description="rounds in a row that label the last difficulty afresh before a roll-back")
    rollbacks: int = Field(2, ge=0, description="returns to the round before the trouble, before the run stops")
    stricter: float = Field(
        0.8, gt=0, le=1, description="share of the labels, the most confident, that is still kept after each roll-back"
    )


class NoiseSettings(_Settings):
    """Spoils kept labels of one round on purpose, for the study of how errors grow (paper, label noise)."""

    round: int = Field(ge=1, description="the round whose labels are spoilt")
    kind: Literal["random", "drop", "off-by-one", "drop-off-by-one"] = Field(
        description="all digits random; the last digits left out; the last digits one more or less; both"
    )
    share: float = Field(gt=0, le=1, description="share of the round's kept labels that is spoilt")
    digits: int = Field(3, ge=1, description="greatest number of last digits that are spoilt; 1 to this, by chance")


class StorageSettings(_Settings):
    """What is kept on disk, and how often."""

    checkpoint_minutes: float = Field(5.0, ge=0, description="minutes of training between checkpoints within a round")
    keep_weights: int | None = Field(
        None,
        ge=1,
        description="rounds whose weights stay on disk, the newest; default: all",
    )


class EvaluationSettings(_Settings):
    """Exact match after each round; diagnostic only, nothing in training reads it."""

    examples: int = Field(200, ge=1, le=1_000_000, description="prompts for each difficulty, the same in every round")
    beyond: int = Field(5, ge=0, le=1000, description="difficulties evaluated past the frontier")

    @property
    def reserved(self) -> int:
        """Evaluation prompts of each difficulty that are never trained on; those of an evaluation afterwards too."""
        return max(1000, self.examples)


class BudgetSettings(_Settings):
    """What a run may spend. It ends between two rounds, finished, with what it has committed by then."""

    minutes: float | None = Field(
        None, gt=0, description="no round begins once the rounds so far took as long, by the manifest's seconds"
    )
    steps: int | None = Field(
        None, ge=1, description="no round begins that would bring a member's optimiser steps above it, all rounds added"
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


class TrackingSettings(_Settings):
    """Where else a run is shown while it goes; changes nothing about it."""

    trackers: list[Literal["tensorboard", "wandb", "trackio", "mlflow"]] = Field(
        [], description="told about steps and rounds; needs easy2hard[tracking]"
    )
    project: str = Field("easy2hard", min_length=1, description="the trackers' name for runs that belong together")
    every: int = Field(10, ge=1, description="training steps between two entries")


class Settings(_Settings):
    """Everything a run depends on."""

    description: str = Field("", description="what the recipe is, in a line, for `easy2hard recipes`")
    seed: int = Field(0, ge=0, description="all randomness comes from it")
    task: TaskSettings
    model: ModelSettings = ModelSettings()
    optimiser: OptimiserSettings = OptimiserSettings()
    training: TrainingSettings = TrainingSettings()
    supervised: SupervisedSettings
    rounds: RoundsSettings
    watch: WatchSettings = WatchSettings()
    noise: NoiseSettings | None = None
    budget: BudgetSettings | None = None
    evaluation: EvaluationSettings = EvaluationSettings()
    storage: StorageSettings = StorageSettings()
    tracking: TrackingSettings = TrackingSettings()

    @property
    def readiness(self) -> str:
        """How the accelerated schedule judges a difficulty."""
        return self.rounds.readiness or ("vote" if self.model.members > 1 else "confidence")

    @property
    def verified(self) -> bool:
        """Whether the oracle says which labels are right: the filter ``verifier``, which is supervised."""
        return any(isinstance(each, VerifierFilter) for each in self.rounds.filters)

    @property
    def relations(self) -> list[str]:
        """The settings, if any, that judge labels by a relation the task declares; the paper has none."""
        found = [f"rounds.filters: {each.name}" for each in self.rounds.filters if each.name in ("twin", "parts")]
        if self.rounds.schedule == "accelerated" and self.readiness in ("twin", "parts"):
            found.append(f"rounds.readiness = {self.readiness!r}")
        return found

    @property
    def supervised_signals(self) -> list[str]:
        """The settings, if any, that use true answers beyond the supervised phase."""
        found = ["rounds.filters: verifier"] if self.verified else []
        if self.rounds.schedule == "accelerated" and self.readiness == "oracle":
            found.append("rounds.readiness = 'oracle'")
        if self.rounds.counter_examples:
            found.append("rounds.counter_examples")
        return found

    @model_validator(mode="after")
    def _votes_need_members(self) -> Self:
        if self.model.members * self.rounds.samples == 1 and any(
            isinstance(f, VoteFilter) for f in self.rounds.filters
        ):
            raise ValueError("rounds.filters: a vote needs model.members of at least 2, or rounds.samples")
        if self.model.members == 1 and self.rounds.schedule == "accelerated" and self.rounds.readiness == "vote":
            raise ValueError("rounds.readiness = 'vote' needs model.members of at least 2")
        back = (self.watch.holds + 2) * (self.watch.rollbacks + 1) if self.watch.enabled else 1
        needed = back + self.rounds.averaging - 1
        if self.storage.keep_weights and self.storage.keep_weights < needed:
            why = (
                "the collapse watch has something to roll back to (or watch.enabled = false)"
                if self.watch.enabled
                else f"rounds.averaging = {self.rounds.averaging} has something to average"
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


def shipped(folder: str) -> list[str]:
    """Return the names of the TOML files in a folder of the package, sorted."""
    items = (resources.files("easy2hard") / folder).iterdir()
    return sorted(item.name.removesuffix(".toml") for item in items if item.name.endswith(".toml"))


def read_toml(kind: str, name: str) -> dict[str, Any]:
    """Return what a shipped TOML file or one of the user's holds.

    Args:
        kind: ``recipe`` or ``sweep``; the shipped ones are in the folder of the package that is called so, with an s.
        name: one of :func:`shipped`, or a path.

    Raises:
        UserError: there is no such file, or it is not TOML.
    """
    if name in shipped(f"{kind}s"):
        content = (resources.files("easy2hard") / f"{kind}s" / f"{name}.toml").read_bytes()
    elif Path(name).is_file():
        content = Path(name).read_bytes()
    else:
        raise UserError(f"{kind} {name!r}: neither a TOML file nor a shipped {kind} ({', '.join(shipped(f'{kind}s'))})")
    try:
        return tomllib.loads(content.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UserError(f"{kind} {name!r}: not valid TOML: {error}") from error


def recipe_names() -> list[str]:
    """Return the names of the shipped recipes, sorted."""
    return shipped("recipes")


def load_recipe(
    recipe: str,
    overrides: Sequence[str] = (),
    replaced: Mapping[str, Any] = MappingProxyType({}),
    scale: str | None = None,
) -> Settings:
    """Return the settings of a shipped recipe or a TOML file.

    Args:
        recipe: a name of :func:`recipe_names`, or the path of a file that ends in ``.toml``.
        overrides: ``section.key=value`` texts, applied in order; a value is TOML, or else a plain string.
        replaced: values by ``section.key``, applied after the texts.
        scale: a size to bring the recipe to first (scaling.py); default: as it is.

    Raises:
        UserError: the recipe or the scale is unknown or a setting is not allowed.
    """
    values = read_toml("recipe", recipe)
    if scale is not None:
        if scale not in SCALES:
            raise UserError(f"--scale {scale}: unknown (allowed: {', '.join(SCALES)})")
        values = SCALES[scale](parse_settings(values).model_dump(exclude_none=True))
    for override in overrides:
        _override(values, override)
    for path, value in replaced.items():
        _replace(values, path, value, f"{path} = {value!r}")
    return parse_settings(values)


def parse_settings(values: dict[str, Any]) -> Settings:
    """Return validated settings.

    Raises:
        UserError: one line naming the first setting that is not allowed, its value and what would be right.
    """
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        raise UserError(one_line(error)) from error


def _override(values: dict[str, Any], override: str) -> None:
    path, equals, text = override.partition("=")
    if not equals or not all(path.strip().split(".")):
        raise UserError(f"--set {override!r}: expected section.key=value")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except (tomllib.TOMLDecodeError, RecursionError):
        value = text.strip()
    _replace(values, path.strip(), value, f"--set {override!r}")


def _replace(values: dict[str, Any], path: str, value: Any, what: str) -> None:
    *sections, last = path.split(".")
    for section in sections:
        values = values.setdefault(section, {})
        if not isinstance(values, dict):
            raise UserError(f"{what}: {section} is a value, not a section")
    values[last] = value


def one_line(error: ValidationError, root: type[BaseModel] = Settings) -> str:
    """Return what is wrong, and what would be right, of the first of the errors in a file of ``root``."""
    first = error.errors()[0]
    setting = ".".join(str(part) for part in first["loc"]) or root.__name__.lower()
    if first["type"] == "extra_forbidden":
        return f"{setting}: unknown setting (allowed: {', '.join(_known_keys(first['loc'][:-1], root))})"
    if first["type"] == "missing":
        return f"{setting}: missing"
    message = first["msg"].removeprefix("Value error, ")
    message = message[0].lower() + message[1:]
    if first["type"] == "value_error":
        return f"{setting}: {message}"
    return f"{setting} = {first['input']!r}: {message}"


def _known_keys(location: tuple[int | str, ...], root: type[BaseModel]) -> list[str]:
    model = root
    for part in location:
        if root is Settings and part in FILTERS:
            model = FILTERS[str(part)]
        elif isinstance(part, str) and part in model.model_fields:
            model = next(_models_in(model.model_fields[part].annotation), model)
    return sorted(model.model_fields)


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """Yield the sections that an annotation names: its own, one that may be left out, those of a table of them."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for each in get_args(annotation):
        yield from _models_in(each)


FILTERS: dict[str, type[BaseModel]] = {
    "none": NoFilter,
    "vote": VoteFilter,
    "confidence": ConfidenceFilter,
    "length": LengthFilter,
    "twin": TwinFilter,
    "parts": PartsFilter,
    "verifier": VerifierFilter,
    "learned-verifier": LearnedVerifierFilter,
}

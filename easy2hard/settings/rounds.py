"""Settings of the rounds: their training, their labels, their difficulties, and what watches over them."""

from typing import Literal, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator

from easy2hard.plugins import SCHEDULES
from easy2hard.settings.base import FLOAT32, Options, SettingsModel
from easy2hard.settings.filters import READING, Filter, FilterSettings, no_filter
from easy2hard.settings.training import PhaseSettings


class RoundsSettings(PhaseSettings):
    """Rounds of label -> filter -> train -> evaluate: how many, and the training of each."""

    count: int = Field(ge=0, le=1000, description="rounds after the supervised phase")
    batch: int | None = Field(None, ge=2, le=1_000_000, description="examples in a step; default: training.batch")
    data: Literal["accumulate", "replace"] = Field(
        "accumulate",
        description="which labels a round trains on beside D0: those of all rounds so far, or its own alone",
    )
    newest_share: float = Field(0.5, gt=0, lt=1, description="share of a batch from the newest round's labels")
    supervised_share: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="share of D0 in the rest of a batch, so that many rounds do not crowd it out; default: D0 and "
        "older rounds weigh 1 for each of their difficulties",
    )
    start: Literal["continue", "scratch"] = Field(
        "continue",
        description="weights that a round's training begins with: the newest, or those before any training",
    )
    learning_rate_scale: float = Field(
        1.0, gt=0, le=FLOAT32, description="peak rates of the rounds relative to the supervised phase"
    )


class LabelsSettings(SettingsModel):
    """The labels of a round: how many there are, how the members give them, and which are kept."""

    count: int = Field(ge=1, le=100_000_000, description="prompts labelled in a round, for each of its difficulties")
    top_up: int | None = Field(
        None,
        ge=1,
        le=100_000_000,
        description="labels of each difficulty that must pass the filters; more prompts are labelled until they do",
    )
    least_acceptance: float = Field(
        0.05, gt=0, le=1, description="share of labels kept below which topping up ends, with a report"
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
    counter_examples: bool = Field(
        False,
        description="whether a round trains on the prompts that its members answer wrongly, with their true answers, "
        "instead of on labels: SUPERVISED, not self-improvement",
    )
    compose: bool = Field(
        False,
        description="whether a label is put together: of the members' answer where it begins, and of their answer to "
        "the part that is left, where a task has such parts",
    )
    filters: list[FilterSettings] = Field(
        default_factory=no_filter, description="which labels are kept, one filter after another (docs/labels.md)"
    )

    @property
    def judged_by_parts(self) -> Filter | None:
        """The filter that judges by parts, if there is one."""
        return next((each for each in self.filters if "parts" in each.needs), None)

    @property
    def taught_by_others(self) -> bool:
        """Whether members train on labels of their own, those that the others accept."""
        return any(each.teaches for each in self.filters)

    @model_validator(mode="after")
    def _variants_fit(self) -> Self:
        if sum(each.teaches for each in self.filters) > 1:
            raise ValueError("filters: one vote with voters = 'others' at most")
        if len(learned := [each.name for each in self.filters if "score" in each.needs]) > 1:
            raise ValueError(f"filters: one that learns at most, such as learned-verifier, got {', '.join(learned)}")
        if self.counter_examples and (self.relabel or any(each.name != "none" for each in self.filters)):
            other = "relabel = false" if self.relabel else "filters = [{name = 'none'}]"
            raise ValueError(f"counter_examples = true needs {other}: the oracle says what is kept")
        if self.samples > 1 and not self.temperature:
            raise ValueError(f"samples = {self.samples} needs a temperature above 0: greedy answers are all the same")
        return self


class ScheduleSettings(SettingsModel):
    """The difficulties of a round: in small steps beyond the supervised range, each as small as the task has them."""

    name: str = Field(
        "standard",
        description="standard: `stride` small steps a round; accelerated: as many as the members are ready for; "
        "grid, grid-accelerated: the paper's orders for pairs; or one of your own (docs/extending.md)",
    )
    options: Options = Field({}, description="what a schedule of your own lets one choose")
    stride: int = Field(1, ge=1, le=1000, description="small steps one round of the standard schedule adds")
    readiness: Literal["vote", "confidence", "twin", "parts", "oracle"] | None = Field(
        None,
        description="how the accelerated schedule judges a difficulty: share of prompts on which all members agree, "
        "mean probability of the answers, share that agrees with the twin or with the parts; oracle is SUPERVISED, a "
        "diagnostic. Default: vote, or confidence for one member",
    )
    ready: float = Field(0.99, gt=0, le=1, description="readiness from which a difficulty is taken")
    probe: int = Field(200, ge=1, le=1_000_000, description="prompts that judge one difficulty's readiness")
    most: int = Field(20, ge=1, le=1000, description="small steps an accelerated round takes at most")

    @field_validator("name")
    @classmethod
    def _is_known(cls, name: str, info: ValidationInfo) -> str:
        if info.context != READING:
            SCHEDULES.find(name)
        return name

    @property
    def asks(self) -> bool:
        """Whether it asks how ready the members are; a schedule that is not loaded might."""
        schedule = SCHEDULES.loaded(self.name)
        return schedule is None or schedule.asks


class WatchSettings(SettingsModel):
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
    holds: int = Field(
        2, ge=0, le=1000, description="rounds in a row that label the last difficulty afresh before a roll-back"
    )
    rollbacks: int = Field(
        2, ge=0, le=1000, description="returns to the round before the trouble, before the run stops"
    )
    stricter: float = Field(
        0.8, gt=0, le=1, description="share of the labels, the most confident, that is still kept after each roll-back"
    )


class NoiseSettings(SettingsModel):
    """Spoils kept labels of one round on purpose, for the study of how errors grow (paper, label noise)."""

    round: int = Field(ge=1, le=1000, description="the round whose labels are spoilt")
    kind: Literal["random", "drop", "off-by-one", "drop-off-by-one"] = Field(
        description="all digits random; the last digits left out; the last digits one more or less; both"
    )
    share: float = Field(gt=0, le=1, description="share of the round's kept labels that is spoilt")
    digits: int = Field(
        3, ge=1, le=1_000_000, description="greatest number of last digits that are spoilt; 1 to this, by chance"
    )

"""Settings of the members: their size, their positions, how many there are."""

from typing import Literal, NamedTuple, Self

from pydantic import Field, model_validator

from easy2hard.settings.base import FLOAT32, Options, SettingsModel


class ModelSize(SettingsModel):
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


class Loops(NamedTuple):
    """Times that the blocks are applied.

    Each time the embeddings are added to what the blocks gave before (Yang et al. 2024, "Looped Transformers are Better
    at Learning Learning Algorithms", section 4).
    """

    fixed: int = 1
    per: int | None = None
    """Tokens of a prompt for each of which there is one more: so the number grows with the difficulty, of which
    decoding knows the prompt alone (Fan et al. 2024, "Looped Transformers for Length Generalization")."""

    @property
    def several(self) -> bool:
        """Whether it can be more than one."""
        return self.fixed > 1 or self.per is not None

    def of(self, prompt_length: int) -> int:
        """Return the times where prompts have so many tokens."""
        return self.fixed + (prompt_length // self.per if self.per else 0)


POSITION_CAPACITY = 128
"""Entries of a table of positions where nothing else is said: enough for what the recipes of a laptop climb to."""


class LoraSettings(SettingsModel):
    """Low-rank adapters beside the frozen weights of a pretrained model."""

    rank: int = Field(64, ge=1, le=65_536, description="inner width of an adapter")
    alpha: float | None = Field(
        None,
        gt=0,
        le=FLOAT32,
        description="the adapters' output is multiplied by alpha / rank; default: twice the rank, as in the paper",
    )
    targets: list[str] = Field([], description="names of layers; default: all linear ones but the last")


class ModelSettings(SettingsModel):
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
    positions: str = Field(
        "none",
        description="how tokens know their places: rope, coupled-bias, alibi, fire, randomized, abacus, coupled, "
        "learned (docs/positions.md) or a scheme of your own (docs/extending.md); none: by the causal mask alone",
    )
    position_options: Options = Field({}, description="what a position scheme of your own lets one choose")
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
        None,
        ge=1,
        le=1_000_000,
        description="tokens of a prompt for each of which there is one loop more; default: no more",
    )
    members: int = Field(1, ge=1, le=1000, description="models of different seeds that train in lockstep and vote")

    @property
    def size(self) -> ModelSize:
        """The preset with its replacements."""
        replaced = {key: getattr(self, key) for key in ModelSize.model_fields if getattr(self, key) is not None}
        return PRESETS[self.preset].model_copy(update=replaced)

    @property
    def looping(self) -> Loops:
        """Times that the blocks are applied."""
        return Loops(self.loops, self.loops_per)

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
        if self.pretrained and self.looping.several:
            raise ValueError("loops and pretrained: a pretrained model has its own depth")
        if self.lora and not self.pretrained:
            raise ValueError("lora needs model.pretrained")
        return self

    @model_validator(mode="after")
    def _heads_divide_width(self) -> Self:
        if self.size.width % self.size.heads:
            raise ValueError(f"heads = {self.size.heads} must divide width = {self.size.width}")
        return self

"""Settings of the filters: the tables that ``labels.filters`` is a list of."""

from typing import Annotated, Literal, Self

from pydantic import BaseModel, Field, model_validator

from easy2hard.settings.base import SettingsModel


class NoFilter(SettingsModel):
    """Keep every answer that ended within its bound."""

    name: Literal["none"]


class VoteFilter(SettingsModel):
    """Keep an answer whose share of the members' answers reaches ``threshold``; ties lose."""

    name: Literal["vote"]
    threshold: float = Field(0.7, gt=0, le=1, description="share of the members that gave the answer")
    weights: Literal["agreement"] | None = Field(
        None,
        description="agreement: a member counts by how often it agrees with the others on the prompts of this "
        "difficulty and round, and the share is one of all weights (Dawid and Skene 1979). Default: all count the same",
    )
    voters: Literal["others"] | None = Field(
        None,
        description="others: a member trains on what the other members alone accept, whatever it says itself "
        "(tri-training, Zhou and Li 2005); a label is kept where one member may train on it. Default: all vote, and "
        "train on the same labels",
    )


class ConfidenceFilter(SettingsModel):
    """Keep the most confident ``keep`` share, or everything at or above ``threshold``."""

    name: Literal["confidence"]
    keep: float | None = Field(None, gt=0, le=1, description="share of the answers still kept")
    threshold: float | None = Field(None, ge=0, le=1, description="smallest token probability")

    @model_validator(mode="after")
    def _one_rule(self) -> Self:
        if (self.keep is None) == (self.threshold is None):
            raise ValueError("confidence takes either keep or threshold")
        return self


class LengthFilter(SettingsModel):
    """Drop answers ``threshold`` or more tokens shorter than nearly all others of their difficulty and round."""

    name: Literal["length"]
    threshold: int = Field(1, ge=1, description="tokens")


class TwinFilter(SettingsModel):
    """Keep an answer that agrees with the members' answer to the prompt's twin, such as b+a for a+b."""

    name: Literal["twin"]


class PartsFilter(SettingsModel):
    """Keep an answer that contains the members' answers to its parts, easier questions that the task declares."""

    name: Literal["parts"]
    reliable: float = Field(
        0.95,
        ge=0,
        le=1,
        description="share of watch.sample answers to parts that must contain the answers to parts of their own; below "
        "it the round holds its difficulty",
    )


class VerifierFilter(SettingsModel):
    """Keep right answers, by the oracle: an upper bound (STaR, ReST-EM) that is SUPERVISED, not self-improvement."""

    name: Literal["verifier"]


class LearnedVerifierFilter(SettingsModel):
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

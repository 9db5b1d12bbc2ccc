"""The records that a run writes: what each phase of a round came to. A key that nobody knows is refused."""

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue

from easy2hard.improvement.watch import Signals
from easy2hard.tasks.base import GREATEST_DIFFICULTY, Difficulty, hardest, parse_difficulty

GREATEST = 10**7
"""No round is beyond it."""


def _written_difficulty(text: str) -> str:
    _known_difficulty(parse_difficulty(text))
    return text


def _known_difficulty(difficulty: Difficulty) -> Difficulty:
    numbers = (difficulty,) if isinstance(difficulty, int) else difficulty
    if min(numbers) < 1 or hardest(difficulty) > GREATEST_DIFFICULTY:
        raise ValueError(f"{difficulty} is no difficulty: from 1 to {GREATEST_DIFFICULTY}")
    return difficulty


# What is written is checked when it is read, not when somebody uses it: a record may be a stranger's.
DifficultyText = Annotated[str, Field(max_length=20), AfterValidator(_written_difficulty)]
Known = Annotated[Difficulty, AfterValidator(_known_difficulty)]
Number = Annotated[int, Field(ge=0, le=GREATEST)]
"""Of a round or a member."""
Count = Annotated[int, Field(ge=0, le=2**53)]
Share = Annotated[float, Field(ge=0, le=1)]
Seconds = Annotated[float, Field(ge=0)]


class Record(BaseModel):
    """Something written down for good."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class FilterRecord(Record):
    """What one filter did in a round. An answer without an end is dropped first, as if by a filter ``unfinished``."""

    name: str
    settings: dict[str, JsonValue] = {}
    """The filter's own."""
    proposed: Count
    """Labels that came to it."""
    kept: Count
    supervised: bool = False
    """It uses true answers."""
    relation: str | None = None
    """Whose knowledge it uses beside the members', where it compares the answers to related prompts."""
    questions: Count | None = None
    """Easier questions that were asked, by the filter ``parts``."""


class WatchRecord(Record):
    """What was turned down in a round, by the collapse watch or because its parts cannot judge it yet."""

    action: Literal["hold", "roll back"]
    reason: str
    difficulties: list[str]
    signals: Signals
    """Of the labels that were turned down."""


class VerifierRecord(Record):
    """A learned verifier."""

    truth: str
    """Where its true answers come from."""
    seen: Count
    """Answers of the supervised range that it learned from."""
    right: Count
    """Of them."""
    weights: dict[str, float]
    """By feature."""


class RelabelledRecord(Record):
    """The labels that the prompts of an older round got afresh."""

    round: Number
    proposed: Count
    kept: Count


class RestartRecord(Record):
    """A step whose loss was not a number; the member went on with other batches."""

    member: Number
    step: Count
    what: str


class LabelRecord(Record):
    """What the labels of a round came to. The supervised phase has none."""

    round: Number
    difficulties: list[Known]
    proposed: Count = 0
    kept: Count = 0
    filters: list[FilterRecord] = []
    signals: Signals | None = None
    """What the labels show without a true answer; None in the supervised phase."""
    watch: WatchRecord | None = None
    """What was turned down before these labels."""
    from_round: Number | None = None
    """The round whose weights gave the labels and were trained on; the round before unless the run rolled back."""
    readiness: dict[DifficultyText, dict[str, Share]] = {}
    """For each difficulty the accelerated schedule asked about: its readiness, label-free and by the oracle."""
    top_up: dict[DifficultyText, str] = {}
    """Difficulties that kept fewer labels than wanted, and why topping up ended."""
    put_off: dict[DifficultyText, str] = {}
    """Difficulties that it was too early for: their labels were left out, the round had others. With the reason."""
    spoilt: Count = 0
    """Kept labels that were spoilt on purpose (settings ``noise``)."""
    averaged: list[Number] = []
    """The rounds whose weights' mean gave the labels (labels.averaging); empty where one round's did."""
    verifier: VerifierRecord | None = None
    relabelled: list[RelabelledRecord] = []
    member_seconds: list[Seconds] = []
    """Processor time of each member's answers in the label phase."""


class TrainingRecord(Record):
    """What the training of a round came to."""

    steps: Count
    tokens: Count
    loss: float
    """Mean of the last 20 steps, in nats an answer token."""
    restarts: list[RestartRecord] = []


class ScoreRecord(Record):
    """What the evaluation after a round came to."""

    accuracy: dict[DifficultyText, Share]
    """Exact match by difficulty, the members' mean."""
    examples: Annotated[int, Field(ge=0, le=1_000_000)] = 0
    """Prompts that each score is of; 0 where a record of an older version does not say."""
    baseline: dict[DifficultyText, Share] = {}
    """Exact match of the task's baseline on the same prompts; empty where there is none, or under a blindfold."""


class LabelCheckpoint(Record):
    """What is kept of a label phase that is over, until its round is committed."""

    labels: LabelRecord
    past: Number
    """The round whose weights gave the labels and are trained on."""
    seconds: Seconds
    ledger_sha256: str
    relabelled_sha256: str = ""
    """Of the file of older rounds' prompts that were answered afresh; empty where there is none."""


class RestartsCheckpoint(Record):
    """Which members left a round's batches for others, until the round is committed."""

    restarts: list[RestartRecord] = []


def filter_record(counts: dict[str, object]) -> FilterRecord:
    """Return what a filter counted, its name and settings beside the counts, as a record."""
    own = {"name", "in", "kept", "supervised", "relation", "questions"}
    return FilterRecord.model_validate(
        {
            **{name: counts[name] for name in own - {"in"} if name in counts},
            "proposed": counts["in"],
            "settings": {name: value for name, value in counts.items() if name not in own},
        }
    )

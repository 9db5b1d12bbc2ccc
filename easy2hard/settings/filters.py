"""What a filter is: settings and behaviour in one object. The tables of ``labels.filters`` become such objects.

Those that are built in are in improvement/filters, one file each; how to add one is in docs/extending.md.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Protocol, get_args

import numpy as np
from numpy.typing import NDArray
from pydantic import BeforeValidator, ConfigDict, Field, SerializeAsAny, ValidationError, ValidationInfo
from pydantic_core import InitErrorDetails
from typing_extensions import override

from easy2hard.errors import UserError
from easy2hard.plugins import FILTERS, Extension
from easy2hard.settings.base import SettingsModel

if TYPE_CHECKING:
    from easy2hard.improvement.proposals import Proposals

Mask = NDArray[np.bool_]
Need = Literal["votes", "twin", "parts", "score", "truth"]
RELATIONS: frozenset[Literal["twin", "parts"]] = frozenset({"twin", "parts"})
"""What a task declares (tasks/base.py): knowledge of its author, and no true answer."""
READING = "reading"
"""Validation context of a run's settings: what is not there is let be, and no code of a third party is run."""


class Filter(SettingsModel, Extension, ABC):
    """Which labels are kept. The fields are its settings; ``name`` tells it from others."""

    kind: ClassVar[str] = "filter"
    needs: ClassVar[frozenset[Need]] = frozenset()
    """What must be known of an answer beyond itself: ``votes`` of several answers to its prompt; the answers to its
    ``twin`` or ``parts``; a ``score`` (:class:`LearnedFilter`). ``truth`` is for the filter ``verifier`` alone."""
    example: ClassVar[Mapping[str, Any]] = {}
    """Settings that a contract check tries; needed where the defaults are not allowed."""

    name: str

    @abstractmethod
    def judge(self, proposals: "Proposals", kept: Mask) -> Mask:
        """Return (count,) which labels pass.

        Args:
            proposals: the members' joint answers to (count,) prompts of one difficulty.
            kept: (count,) what the filters before this one kept; whatever they dropped stays dropped.
        """

    def columns(self, proposals: "Proposals") -> dict[str, NDArray[Any]]:
        """Return what else the ledger says about each label, by column: (count,) numbers or truth values."""
        return {}

    def words(self) -> str:
        """Return in a line what it does, for the manifest and the report."""
        settings = {key: value for key, value in self.model_dump(exclude_none=True).items() if key != "name"}
        said = f" ({', '.join(f'{key} = {value}' for key, value in settings.items())})" if settings else ""
        text = " ".join((type(self).__doc__ or "").split()).replace("``", "").rstrip(".")
        return f"{self.name}: {text}{said}"

    @property
    def parts_needed(self) -> float:
        """Of a filter that needs ``parts``: the share of sampled answers to parts that must agree with their own."""
        return 0.95

    @property
    def teaches(self) -> bool:
        """Whether it says which members may train on a label, by the bits of the ledger's column ``students``."""
        return False

    def misfit(self, members: int, samples: int) -> str | None:
        """Return why it does not suit so many members and answers of each, or None."""
        if "votes" in self.needs and members * samples == 1:
            return "a vote needs model.members of at least 2, or labels.samples"
        return None

    @property
    def expected(self) -> float:
        """The share of the labels that it keeps, as far as its settings say; for estimates."""
        return 1.0

    @override
    @classmethod
    def extension_name(cls) -> str | None:
        """Return the value of ``name``."""
        field = cls.model_fields.get("name")
        names = get_args(field.annotation) if field else ()
        return names[0] if len(names) == 1 and isinstance(names[0], str) else None


class Scorer(Protocol):
    """What a learned filter came to."""

    def score(self, proposals: "Proposals") -> NDArray[np.float64]:
        """Return a (count,) number for each answer; ``proposals.score`` is that when the filter judges."""

    def record(self) -> dict[str, Any]:
        """Return what was learned, for the manifest.

        ``truth`` says where right answers came from, ``seen`` and ``right`` how many answers were learned from and how
        many of them were right, ``weights`` has numbers by name.
        """


class LearnedFilter(Filter):
    """A filter that learns from right and wrong answers of the supervised range, whose truth is D0's."""

    needs = frozenset({"score"})
    examples: int = Field(
        200,
        ge=1,
        le=1_000_000,
        description="prompts of each supervised difficulty that it learns from in each round; their truth is D0's",
    )
    temperature: float = Field(1.0, gt=0, le=100, description="of the answers to them, some of which must be wrong")

    @abstractmethod
    def fit(self, answers: Sequence["Proposals"], right: Sequence[Mask]) -> Scorer:
        """Learn, once for each round's weights.

        Args:
            answers: of each member to the prompts of each supervised difficulty.
            right: for each, (count,) which are right.
        """


class AbsentFilter(Filter):
    """A filter of a plug-in that is not loaded: a run that has it can be read."""

    model_config = ConfigDict(extra="allow")

    @override
    def judge(self, proposals: "Proposals", kept: Mask) -> Mask:
        raise UserError(f"filter {self.name}: of a plug-in that is not loaded; --plugin FILE names it")


def _filter(value: Any, info: ValidationInfo) -> Any:
    """Return a table as the filter that its ``name`` chooses."""
    if not isinstance(value, dict):
        return value
    name = value.get("name")
    if not isinstance(name, str):
        raise ValueError(f"a filter needs a name (known: {', '.join(FILTERS.names())})")
    reading = info.context == READING
    found = FILTERS.loaded(name) if reading else FILTERS.find(name)
    try:
        return (found or AbsentFilter).model_validate(value)
    except ValidationError as error:
        lines = [
            InitErrorDetails(type=e["type"], loc=(name, *e["loc"]), input=e["input"], ctx=e.get("ctx", {}))
            for e in error.errors()
        ]
        raise ValidationError.from_exception_data(error.title, lines) from error


FilterSettings = Annotated[SerializeAsAny[Filter], BeforeValidator(_filter)]


def no_filter() -> list[Filter]:
    """Return the filters of a recipe that names none: every answer that ended is kept."""
    return [FILTERS.find("none").model_validate({"name": "none"})]

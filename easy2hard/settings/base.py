"""What every section of the settings is."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, PlainValidator
from pydantic_core import PydanticCustomError


class SettingsModel(BaseModel):
    """A section: frozen, strict about types; unknown keys are errors, and no number is infinite or none."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


Options = dict[str, Annotated[int, Field(ge=-1_000_000_000, le=1_000_000_000)]]
"""What something with options of its own lets one choose."""


def _option(value: object) -> object:
    if isinstance(value, str) and len(value) <= 100:
        return value
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) <= 1_000_000_000:
        return value
    raise PydanticCustomError(
        "option", "must be a whole number from -1,000,000,000 to 1,000,000,000, or a text of at most 100 characters"
    )


TaskOptions = dict[
    str, Annotated[Annotated[int, Field(ge=-1_000_000_000, le=1_000_000_000)] | str, PlainValidator(_option)]
]
"""What a task lets one choose: some options are texts."""

GREATEST_SEED = (1 << 63) - 1
"""What TOML can write."""

FLOAT32 = 3e38
"""The greatest number that weights and what changes them can hold, about."""

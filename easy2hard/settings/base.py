"""What every section of the settings is."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field


class SettingsModel(BaseModel):
    """A section: frozen, strict about types; unknown keys are errors, and no number is infinite or none."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


Options = dict[str, Annotated[int, Field(ge=-1_000_000_000, le=1_000_000_000)]]
"""What something with options of its own lets one choose."""

GREATEST_SEED = (1 << 63) - 1
"""What TOML can write."""

FLOAT32 = 3e38
"""The greatest number that weights and what changes them can hold, about."""

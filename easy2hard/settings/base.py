"""What every section of the settings is."""

from pydantic import BaseModel, ConfigDict


class SettingsModel(BaseModel):
    """A section: frozen, strict about types; unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

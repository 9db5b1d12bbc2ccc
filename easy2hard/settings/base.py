"""What every section of the settings is."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidatorFunctionWrapHandler, WrapValidator
from pydantic_core import PydanticCustomError


class SettingsModel(BaseModel):
    """A section: frozen, strict about types; unknown keys are errors, and no number is infinite or none."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


_Whole = Annotated[int, Field(ge=-1_000_000_000, le=1_000_000_000)]

Options = dict[str, _Whole]
"""What something with options of its own lets one choose."""


def _option(value: object, valid: ValidatorFunctionWrapHandler) -> object:
    try:
        return valid(value)
    except ValidationError as error:  # it would say what is wrong for a number, and what for a text
        raise PydanticCustomError(
            "option", "must be a whole number from -1,000,000,000 to 1,000,000,000, or a text of at most 100 characters"
        ) from error


TaskOptions = dict[str, Annotated[_Whole | Annotated[str, Field(max_length=100)], WrapValidator(_option)]]
"""What a task lets one choose: some options are texts."""

GREATEST_SEED = (1 << 63) - 1
"""What TOML can write."""

FLOAT32 = 3e38
"""The greatest number that weights and what changes them can hold, about."""

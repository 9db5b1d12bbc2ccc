"""Hugging Face's libraries, which the package does without until one is asked for."""

import importlib
from typing import Any

from easy2hard.errors import UserError


def load_library(name: str) -> Any:
    """Return transformers, quiet, or peft.

    Raises:
        UserError: it is not installed.
    """
    try:
        library = importlib.import_module(name)
    except ImportError as error:
        raise UserError(
            f"model.pretrained and export need the package {name}: pip install '.[pretrained]' ({error})"
        ) from error
    if name == "transformers":
        library.utils.logging.set_verbosity_error()
        library.utils.logging.disable_progress_bar()
    return library

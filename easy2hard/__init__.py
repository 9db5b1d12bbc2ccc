"""easy2hard: transformers that teach themselves harder instances of a task than they were taught."""

from importlib.metadata import version

__version__ = version("easy2hard")

"""The command line: a file a group of commands.

Heavy imports wait until a command needs them, so that help is quick.
"""

from easy2hard.cli import data, judge, look, run, sweep  # noqa: F401 - each makes its commands known
from easy2hard.cli.app import app
from easy2hard.cli.entry import main

__all__ = ["app", "main"]

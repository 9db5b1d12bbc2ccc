"""``python -m easy2hard``."""

from easy2hard.cli import main

main()

"""Experiments that take longer than a test; their results are in RESULTS.md, their runs in ``runs/``."""

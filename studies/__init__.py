"""Experiments that take longer than a test; their results are in docs/results, their runs in ``runs/``."""

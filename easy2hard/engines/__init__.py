"""Who computes: all members of a run together, on a processor or a GPU. Nothing outside knows how.

engine.py    what an engine does for the rest of the package
compiling.py whether loops are being compiled now, and a clock that stands still meanwhile
choice.py    which device, and which engine for it: the one place where this is decided
reference.py members one by one, by their own forward pass and torch's derivatives; any member, any device
cpu/         the same by compiled loops, for our own decoder on a processor
cuda/        members stacked on an axis of their own, shapes that stay, steps that are captured; for GPUs
"""

"""The learning rate over a phase."""


def learning_rate(step: int, steps: int, warmup: int, decay: int, floor: float, rest: int = 0) -> float:
    """Return the share of the peak rate at ``step`` of ``steps``: linear warm-up, constant, linear decay to ``floor``.

    The first step of a warm-up is above zero, the last step of a decay is at the floor, and so are ``rest`` steps
    after it.
    """
    if step < warmup:
        return (step + 1) / warmup
    if step >= steps - rest:
        return floor
    if step >= steps - rest - decay:
        return floor + (1 - floor) * (steps - rest - 1 - step) / decay
    return 1.0

"""Numbers as text, in one form for the page and the terminal."""


def duration(seconds: float) -> str:
    """Return a time in its two greatest units: ``1 h 5 min``, ``5 min 3 s``, ``12.3 s``."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours < 24 else f"{hours // 24} d {hours % 24} h"

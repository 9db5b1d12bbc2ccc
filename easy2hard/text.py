"""Text of others: read as UTF-8 whatever the locale, and shown so that it does nothing to a terminal."""

from collections.abc import Sequence

LONGEST = 300
"""Characters of a word that an error message shows."""


def decode(content: bytes) -> str:
    """Return UTF-8 text, with or without the byte order mark that editors on Windows write.

    Raises:
        ValueError: it is in another encoding; says where, and what to do.
    """
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        which = " (it looks like UTF-16)" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else ""
        raise ValueError(
            f"not UTF-8{which}: byte {error.start + 1} is 0x{content[error.start]:02x}; save it as UTF-8"
        ) from error


def printable(text: str, kept: str = "") -> str:
    """Return text with every character that is no visible one escaped, such as ``\\x1b``, but those ``kept``."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in kept else c.encode("unicode_escape").decode() for c in text)


def shown(value: object) -> str:
    """Return a value as messages show it. Python writes no number of more than 4,300 digits."""
    try:
        return repr(value)
    except ValueError:
        return "a number too long to be shown"


def as_line(message: str) -> str:
    """Return a message as one line in which no word is longer than anyone would read."""
    words = (
        f"{word[: LONGEST // 2]}…{word[-20:]} ({len(word):,} characters)" if len(word) > LONGEST else word
        for word in message.split()
    )
    return printable(" ".join(words))


def duration(seconds: float) -> str:
    """Return seconds as people say them: ``4 min 30 s``."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 10:
        return f"{int(seconds) // 60} min {int(seconds) % 60} s"
    if minutes < 60:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60} min" if minutes < 48 * 60 else f"{round(minutes / 1440):,} days"


def counted(number: int, thing: str) -> str:
    """Return how many there are of a thing: ``1 round``, ``2,000 labels``."""
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def in_lines(parts: Sequence[str], width: int) -> list[str]:
    """Return the parts in lines of ``width`` characters, two spaces between them; no part is broken.

    Later lines are indented. A part that is longer than a line has a line of its own.
    """
    lines: list[str] = []
    for part in parts:
        if lines and len(lines[-1]) + 2 + len(part) <= width:
            lines[-1] += f"  {part}"
        else:
            lines.append(f"  {part}" if lines else part)
    return lines

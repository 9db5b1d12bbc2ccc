"""Text of others: read as UTF-8 whatever the locale, and shown so that it does nothing to a terminal."""

import re
from collections.abc import Iterator, Sequence

LONGEST = 300
"""Characters of a word that an error message shows."""
_WHOLE = re.compile(r"(?:`[^`]+`|\([^()]{1,24}\)|\d[\d.,]* (?:s|min|h|days|MB|GB|%)(?!\w)|\S)+")
"""What no line break comes into: a command, a range in parentheses, a number with its unit, a word."""
_NAMES = re.compile(r"[^\s/_-]*[/_-]+|[^\s/_-]+")
"""The same in a column of paths and names."""


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


def broken(text: str, width: int, indent: int = 0, names: bool = False) -> list[tuple[int, int]]:
    """Return where each line of a text begins and ends, so that none is longer than ``width``.

    Args:
        text: in one line.
        width: characters of a line; a word that is longer is left whole, a command that is longer is not.
        indent: characters by which later lines are shorter.
        names: lines may also end after ``/``, ``-`` and ``_``.
    """
    lines: list[tuple[int, int]] = []
    for start, end in _pieces(text, width - indent, names):
        room = width - indent * (len(lines) > 1)
        if lines and end - lines[-1][0] <= room:
            lines[-1] = lines[-1][0], end
        else:
            lines.append((start if lines else 0, end))  # what a line begins with is its own indentation
    return lines


def _pieces(text: str, width: int, names: bool) -> Iterator[tuple[int, int]]:
    for piece in (_NAMES if names else _WHOLE).finditer(text):
        start, end = piece.span()
        if end - start <= width:
            yield start, end
        else:
            yield from ((start + word.start(), start + word.end()) for word in re.finditer(r"\S+", piece[0]))


def widest_piece(text: str, names: bool = False) -> int:
    """Return the characters that a line needs at least for a text (:func:`broken`)."""
    return max((end - start for start, end in _pieces(text, len(text), names)), default=0)


def wrapped(line: str, width: int) -> list[str]:
    """Return a line of words in lines of ``width`` characters, the later ones indented."""
    if len(line) <= width:
        return [line]
    indent = len(line) - len(line.lstrip()) + 2
    return [" " * indent * (at > 0) + line[start:end] for at, (start, end) in enumerate(broken(line, width, indent))]

"""Symbols <-> token ids. Three special tokens come first in every vocabulary: padding, begin and end."""

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from easy2hard.errors import UserError

Tokens = NDArray[np.int32]
"""Token ids; prompts are (count, length) without padding, answers (count, length) padded on the right."""

PAD, BOS, EOS = 0, 1, 2
SPECIAL = 3


class Vocabulary:
    """The symbols of a task, one token each.

    Args:
        symbols: distinct symbols; the token id of ``symbols[i]`` is ``SPECIAL + i``. A symbol is one character, or a
            decimal number of several digits. Where there are such numbers, digits that stand together are read as one
            number, and a space keeps two neighbouring numbers apart.
    """

    def __init__(self, symbols: Sequence[str]) -> None:
        if len(set(symbols)) != len(symbols):
            raise ValueError(f"symbols are not distinct: {symbols!r}")
        if any(len(symbol) != 1 and not symbol.isdecimal() for symbol in symbols):
            raise ValueError(f"a symbol is one character or a decimal number: {symbols!r}")
        self.symbols = tuple(symbols)
        self.has_numbers = any(len(symbol) > 1 for symbol in symbols)
        self._ids = {symbol: SPECIAL + i for i, symbol in enumerate(symbols)}
        # "\0" for the special tokens: nothing is written for them.
        points = [[0], [0], [0], *([ord(c) for c in symbol] for symbol in symbols)]
        longest = max(map(len, points))
        # Code points of each token, the first place kept free for a space before it.
        self._points = np.array([[0] + p + [0] * (longest - len(p)) for p in points], dtype=np.uint32)
        self._is_number = np.array([False] * SPECIAL + [symbol.isdecimal() for symbol in symbols])
        self._codes = np.zeros(max(ord(symbol[0]) for symbol in symbols) + 1, dtype=np.int32)  # code point -> token id
        for symbol in symbols:
            if len(symbol) == 1:
                self._codes[ord(symbol)] = self._ids[symbol]

    def __len__(self) -> int:
        return SPECIAL + len(self.symbols)

    def id(self, symbol: str) -> int:
        """Return the token id of one symbol."""
        return self._ids[symbol]

    def encode(self, text: str) -> list[int]:
        """Return the token ids of ``text``, without begin and end.

        Raises:
            UserError: a character or number is not in the vocabulary.
        """
        symbols = self.split(text)
        for symbol in symbols:
            if symbol not in self._ids:
                kind = "number" if len(symbol) > 1 else "character"
                raise UserError(f"{text!r}: {kind} {symbol!r} is not in the task's alphabet (allowed: {self.allowed})")
        return [self._ids[symbol] for symbol in symbols]

    @property
    def allowed(self) -> str:
        """The symbols in a line, for error messages."""
        if not self.has_numbers:
            return " ".join(self.symbols)
        numbers = sorted(int(symbol) for symbol in self.symbols if symbol.isdecimal())
        others = [symbol for symbol in self.symbols if not symbol.isdecimal()]
        return " ".join([f"{numbers[0]}-{numbers[-1]}", *others])

    def encode_prompts(self, texts: Sequence[str]) -> Tokens:
        """Return (count, length + 1) tokens of prompts of one length, each beginning with BOS."""
        rows = self._rows(texts)
        return np.concatenate([np.full((len(rows), 1), BOS, dtype=np.int32), rows], axis=1)

    def encode_answers(self, texts: Sequence[str]) -> Tokens:
        """Return (count, longest + 1) tokens of answers, each ended by EOS and padded on the right."""
        rows = np.pad(self._rows(texts), ((0, 0), (0, 1)), constant_values=PAD)
        rows[np.arange(len(rows)), (rows != PAD).sum(axis=1)] = EOS
        return rows

    def decode_prompts(self, prompts: Tokens) -> list[str]:
        """Return the texts of (count, length) prompts, without BOS."""
        return self._strings(prompts[:, 1:])

    def decode_answers(self, answers: Tokens) -> list[str]:
        """Return the texts of (count, length) answers, each cut at its EOS."""
        ended = np.cumsum(answers == EOS, axis=1) > 0
        return self._strings(np.where(ended, PAD, answers))

    def lengths(self, texts: Sequence[str]) -> NDArray[np.int64]:
        """Return (count,) numbers of tokens of texts, begin and end not counted."""
        return np.array([len(self.split(text)) for text in texts], dtype=np.int64)

    def split(self, text: str) -> Sequence[str]:
        """Return the symbols of a text, in order, whether the vocabulary has them or not."""
        return re.findall(r"[0-9]+|[^ ]", text, re.DOTALL) if self.has_numbers else text

    def _rows(self, texts: Sequence[str]) -> Tokens:
        """Return (count, longest) token ids, padded on the right."""
        if self.has_numbers:
            return self._rows_of_numbers(texts)
        longest = max(map(len, texts), default=0)
        if longest == 0:
            return np.zeros((len(texts), 0), dtype=np.int32)
        points = np.array(texts, dtype=f"U{longest}").view(np.uint32).reshape(len(texts), longest)
        return self._codes[points]

    def _rows_of_numbers(self, texts: Sequence[str]) -> Tokens:
        # All texts at once, a line each; the end of a line has no id.
        symbols = self.split("".join(f"{text}\n" for text in texts))
        ids = np.array([self._ids.get(symbol, PAD) for symbol in symbols], dtype=np.int32)
        row = np.cumsum(ids == PAD) - (ids == PAD)
        ends = np.flatnonzero(ids == PAD)
        starts = np.concatenate([[0], ends[:-1] + 1])[: len(ends)]
        rows = np.zeros((len(texts), int((ends - starts).max(initial=0))), dtype=np.int32)
        inside = ids != PAD
        rows[row[inside], np.arange(len(ids))[inside] - starts[row[inside]]] = ids[inside]
        return rows

    def _strings(self, rows: Tokens) -> list[str]:
        points = self._points[rows]  # (count, length, characters)
        if self.has_numbers:
            numbers = self._is_number[rows]
            points[:, 1:, 0] = np.where(numbers[:, 1:] & numbers[:, :-1], ord(" "), 0)
        points = points.reshape(len(rows), points.shape[1] * points.shape[2])
        written = points != 0
        text = points[written].astype("<u4").tobytes().decode("utf-32-le", errors="surrogatepass")
        ends = np.cumsum(written.sum(axis=1)).tolist()
        return [text[begin:end] for begin, end in zip([0, *ends[:-1]], ends, strict=True)] if ends else []

"""Symbols <-> token ids. Three special tokens come first in every vocabulary: padding, begin and end."""

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
        symbols: distinct single characters; the token id of ``symbols[i]`` is ``SPECIAL + i``.
    """

    def __init__(self, symbols: str) -> None:
        if len(set(symbols)) != len(symbols):
            raise ValueError(f"symbols are not distinct: {symbols!r}")
        self.symbols = symbols
        self._ids = {symbol: SPECIAL + i for i, symbol in enumerate(symbols)}
        # "\0" for the special tokens: NumPy drops trailing NULs when a row of characters becomes a string.
        self._characters = np.array(["\0"] * SPECIAL + list(symbols), dtype="U1")
        self._codes = np.zeros(max(map(ord, symbols)) + 1, dtype=np.int32)  # code point -> token id
        self._codes[[ord(symbol) for symbol in symbols]] = np.arange(SPECIAL, len(self))

    def __len__(self) -> int:
        return SPECIAL + len(self.symbols)

    def id(self, symbol: str) -> int:
        """Return the token id of one symbol."""
        return self._ids[symbol]

    def encode(self, text: str) -> list[int]:
        """Return the token ids of ``text``, without begin and end.

        Raises:
            UserError: a character is not in the vocabulary.
        """
        for character in text:
            if character not in self._ids:
                allowed = " ".join(self.symbols)
                raise UserError(f"{text!r}: character {character!r} is not in the task's alphabet (allowed: {allowed})")
        return [self._ids[character] for character in text]

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

    def _rows(self, texts: Sequence[str]) -> Tokens:
        """Return (count, longest) token ids, padded on the right."""
        longest = max(map(len, texts), default=0)
        if longest == 0:
            return np.zeros((len(texts), 0), dtype=np.int32)
        points = np.array(texts, dtype=f"U{longest}").view(np.uint32).reshape(len(texts), longest)
        return self._codes[points]

    def _strings(self, rows: Tokens) -> list[str]:
        if rows.shape[1] == 0:
            return [""] * len(rows)
        characters = np.ascontiguousarray(self._characters[rows])
        return characters.view(f"U{rows.shape[1]}")[:, 0].tolist()  # type: ignore[no-any-return]

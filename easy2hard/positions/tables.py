"""Schemes that add a vector to each embedding: learned, randomized, abacus and coupled places."""

from abc import ABC, abstractmethod
from typing import Any, Self

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn
from typing_extensions import override

from easy2hard.errors import UserError
from easy2hard.positions.scheme import BASE, Ids, Positions
from easy2hard.settings.model import ModelSettings
from easy2hard.tasks.base import Task
from easy2hard.vocabulary import SPECIAL, Tokens, Vocabulary


class Tabled(Positions, ABC):
    """A scheme that adds a vector to each embedding, one of a table with ``capacity`` places."""

    def __init__(self, capacity: int, table: "Learned | Sinusoidal") -> None:
        super().__init__()
        self.capacity = capacity
        self.table = table

    @override
    def initialise(self, generator: torch.Generator) -> None:
        self.table.initialise(generator)

    @override
    def embed(self, x: Tensor, ids: Tensor) -> Tensor:
        vectors: Tensor = self.table(ids)
        return x + vectors

    @abstractmethod
    def places(self, prompts: Tokens, bound: int) -> int:
        """Return how many places these prompts and answers of up to ``bound`` tokens, EOS included, could need."""

    def require(self, places: int) -> None:
        """Refuse more places than there are.

        Raises:
            UserError: naming the setting and what would be right.
        """
        if places > self.capacity:
            raise UserError(f"model.position_capacity = {self.capacity}: {places} places are needed")


class Learned(nn.Module):
    """A table whose vectors are learned; their first variance is that of the tokens' embeddings."""

    def __init__(self, entries: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(entries, width))

    def initialise(self, generator: torch.Generator) -> None:
        """Draw the vectors."""
        with torch.no_grad():
            self.weight.normal_(0.0, 1.0, generator=generator)

    @override
    def forward(self, ids: Tensor) -> Tensor:
        return F.embedding(ids, self.weight)


class Sinusoidal(nn.Module):
    """Sines, then cosines, of the place at falling rates (Vaswani et al. 2017, "Attention is all you need", 3.5)."""

    rates: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width
        self.register_buffer("rates", BASE ** -(torch.arange(0, width, 2) / width), persistent=False)

    def initialise(self, generator: torch.Generator) -> None:
        """Draw nothing."""

    @override
    def forward(self, ids: Tensor) -> Tensor:
        angles = ids[..., None] * self.rates
        return torch.cat([angles.sin(), angles.cos()], dim=-1)[..., : self.width]


class Absolute(Tabled):
    """A learned vector for each place from 0 on."""

    name = "learned"

    @override
    @classmethod
    def build(cls, model: ModelSettings, task: Task, **options: int) -> Self:
        return cls(model.capacity, model.size.width)

    def __init__(self, capacity: int, width: int) -> None:
        super().__init__(capacity, Learned(capacity, width))

    @override
    def ids(self, tokens: NDArray[Any], prompt_length: int, generator: np.random.Generator | None = None) -> Ids:
        self.require(tokens.shape[1])
        return super().ids(tokens, prompt_length, generator)

    @override
    def places(self, prompts: Tokens, bound: int) -> int:
        return int(prompts.shape[1]) + bound - 1  # nothing comes after an answer's last token


class Randomized(Tabled):
    """Training draws n of L places for n tokens, in order, anew for each example.

    Ruoss et al. 2023, "Randomized Positional Encodings Boost Length Generalization of Transformers", section 3. Answers
    must not be drawn by chance: there, place t of n is where the draw would put it on average, and n is the most that
    prompt and answer can have by the prompt alone.
    """

    name, drawn = "randomized", True

    @override
    @classmethod
    def build(cls, model: ModelSettings, task: Task, **options: int) -> Self:
        learned = model.randomized_table == "learned"
        table = Learned(model.capacity, model.size.width) if learned else Sinusoidal(model.size.width)
        return cls(model.capacity, table, task)

    def __init__(self, capacity: int, table: "Learned | Sinusoidal", task: Task) -> None:
        super().__init__(capacity, table)
        self.task = task

    @override
    def ids(self, tokens: NDArray[Any], prompt_length: int, generator: np.random.Generator | None = None) -> Ids:
        count, time = tokens.shape
        if generator is not None:
            self.require(time)
            chosen = generator.random((count, self.capacity)).argpartition(time - 1, axis=1)[:, :time]
            return np.sort(chosen, axis=1)
        bounds = self.task.answer_bounds(tokens[:, :prompt_length].astype(np.int32))
        whole = prompt_length + bounds[:, None] - 1
        self.require(int(whole.max(initial=0)))
        spread: Ids = (np.arange(time) + 1) * (self.capacity + 1) // (whole + 1) - 1
        return np.minimum(spread, self.capacity - 1)  # what comes after the bound of its row is never asked for

    @override
    def places(self, prompts: Tokens, bound: int) -> int:
        return int(prompts.shape[1]) + bound - 1


class Abacus(Tabled):
    """Digits are numbered within their number, from 1 on; all other tokens have number 0.

    McLeish et al. 2024, "Transformers Can Do Arithmetic with the Right Embeddings", section 3. In training all numbers
    of an example are moved on by one offset, drawn from what the table has room for; in answers by none.
    """

    name, drawn = "abacus", True

    @override
    @classmethod
    def build(cls, model: ModelSettings, task: Task, **options: int) -> Self:
        if task.vocabulary.has_numbers or not set("0123456789") & set(task.vocabulary.symbols):
            raise UserError(
                f"model.positions = 'abacus': counts the digits of numbers, and task {task.name} has none that are "
                "tokens"
            )
        return cls(model.capacity, model.size.width, task.vocabulary)

    def __init__(self, capacity: int, width: int, vocabulary: Vocabulary) -> None:
        super().__init__(capacity, Learned(capacity + 1, width))
        self.is_digit = np.array([False] * SPECIAL + [symbol in set("0123456789") for symbol in vocabulary.symbols])

    @override
    def ids(self, tokens: NDArray[Any], prompt_length: int, generator: np.random.Generator | None = None) -> Ids:
        ids = self._counted(tokens)
        self.require(int(ids.max(initial=0)))
        return ids if generator is None else _moved(ids, self.capacity, generator)

    @override
    def places(self, prompts: Tokens, bound: int) -> int:
        written = np.full((len(prompts), bound - 1), int(self.is_digit.argmax()))  # an answer that is one long number
        return int(self._counted(np.concatenate([prompts, written], axis=1)).max(initial=0))

    def _counted(self, tokens: NDArray[Any]) -> Ids:
        digit = self.is_digit[tokens]
        at = np.arange(tokens.shape[1])
        before = np.maximum.accumulate(np.where(digit, -1, at), axis=1)  # the last token that was no digit
        return np.where(digit, at - before, 0)


class Coupled(Tabled):
    """Tokens that belong together have one number, which the task supplies; 0 is for those that belong to none.

    Cho et al. 2024, "Position Coupling", section 3. In training the numbers of an example are moved on by one offset,
    drawn from what the table has room for; in answers by none. Numbers that are names (``Task.coupled_by_name``) stay.
    """

    name, drawn = "coupled", True

    @override
    @classmethod
    def build(cls, model: ModelSettings, task: Task, **options: int) -> Self:
        return cls(model.capacity, model.size.width, task)

    def __init__(self, capacity: int, width: int, task: Task) -> None:
        super().__init__(capacity, Learned(capacity + 1, width))
        self.task = task

    @override
    def ids(self, tokens: NDArray[Any], prompt_length: int, generator: np.random.Generator | None = None) -> Ids:
        ids = self.task.coupled_ids(tokens[:, :prompt_length].astype(np.int32), tokens.shape[1])
        self.require(int(ids.max(initial=0)))
        if generator is None or self.task.coupled_by_name:
            return ids
        return _moved(ids, self.capacity, generator)

    @override
    def places(self, prompts: Tokens, bound: int) -> int:
        return int(self.task.coupled_ids(prompts, prompts.shape[1] + bound - 1).max(initial=0))


def _moved(ids: Ids, capacity: int, generator: np.random.Generator) -> Ids:
    """Return numbers moved on by one offset in each row that keeps them within the capacity; 0 stays 0."""
    offsets = generator.integers(0, capacity - ids.max(axis=1) + 1)
    return np.where(ids > 0, ids + offsets[:, None], 0)

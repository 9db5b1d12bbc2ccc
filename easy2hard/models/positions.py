"""Position schemes: how a member knows the places of its tokens, beyond what the causal mask shows.

A scheme numbers the tokens of a batch (:meth:`Positions.ids`) and puts the numbers to use by one of three hooks: on the
embeddings, on queries and keys, or on the scores of the attention. What it does not need stays as it is here, where
nothing happens at all. models/transformer.py calls the hooks; docs/positions.md has a line for each scheme.

Numbers depend on the tokens so far and on the prompt, so that an answer does not depend on its batch, and decoding sees
the numbers that one pass over the whole answer sees. Only training may draw them, from a generator that it is given.
"""

import math
from abc import ABC, abstractmethod
from typing import Any, ClassVar, Self

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn
from typing_extensions import override

from easy2hard.errors import UserError
from easy2hard.plugins import POSITIONS, Extension, made
from easy2hard.settings.model import ModelSettings
from easy2hard.tasks.base import Task
from easy2hard.vocabulary import SPECIAL, Tokens, Vocabulary

Ids = NDArray[np.int64]
"""(batch, time) numbers of places, or (1, time) where they are the same for all rows."""

BASE = 10_000.0
"""Of the wavelengths of rotations and sinusoids (Vaswani et al. 2017, section 3.5; Su et al. 2021, section 3.2.2)."""


NO_POSITIONS = "none"
"""What settings say where the causal mask alone tells places."""


class Positions(nn.Module, Extension):
    """A scheme that counts tokens from 0 and makes no use of it. How to add one is in docs/extending.md."""

    kind = "position scheme"
    name: ClassVar[str]
    drawn = False
    """Whether training draws the numbers."""

    @classmethod
    def build(cls, model: ModelSettings, task: Task, **options: int) -> Self:
        """Return the scheme of a member; by default it is made with these.

        Args:
            model: the section ``model``.
            task: which it is for.
            options: whole-number arguments of the constructor that have a default (``model.position_options``).

        Raises:
            UserError: it does not fit the model or the task.
        """
        return cls(model, task, **options)

    @property
    def only_embeds(self) -> bool:
        """Whether queries, keys and scores are what they are without a scheme."""
        return type(self).turn is Positions.turn and type(self).bias is Positions.bias

    def initialise(self, generator: torch.Generator) -> None:
        """Draw the weights, if there are any."""

    def ids(self, tokens: NDArray[Any], prompt_length: int, generator: np.random.Generator | None = None) -> Ids:
        """Return the numbers of tokens.

        Args:
            tokens: (batch, time) prompts, perhaps with answers or their beginnings behind them.
            prompt_length: tokens of each prompt.
            generator: draws the numbers of a training batch, where they are drawn; without it they are fixed.

        Raises:
            UserError: there are not as many places as the tokens need.
        """
        return np.arange(tokens.shape[1])[None]

    def embed(self, x: Tensor, ids: Tensor) -> Tensor:
        """Return the (batch, time, width) embeddings with what they need to know of their places."""
        return x

    def turn(self, heads: Tensor, ids: Tensor) -> Tensor:
        """Return (batch, heads, time, head width) queries or keys with what they need to know of their places."""
        return heads

    def bias(self, block: int, queries: Tensor, keys: Tensor) -> Tensor | None:
        """Return (batch or 1, heads, queries, keys) numbers that are added to the scores of a block; None for none.

        Args:
            block: index of the block.
            queries: (batch or 1, queries) numbers of the queries' places.
            keys: (batch or 1, keys) numbers of the keys' places.
        """
        return None


class Rope(Positions):
    """Pairs of features of queries and keys are turned by angles that grow with the place.

    Su et al. 2021, "RoFormer", equation 34: pair i of d / 2 by ``place * 10000^(-2i/d)``. As in Llama the pairs are
    feature i and feature i + d/2.
    """

    name = "rope"
    rates: Tensor

    @override
    @classmethod
    def build(cls, model: ModelSettings, task: Task, **options: int) -> Self:
        width = model.size.width // model.size.heads
        if width % 2:
            raise UserError(f"model.positions = 'rope' turns pairs of features: width / heads = {width} must be even")
        return cls(width)

    def __init__(self, head_width: int) -> None:
        super().__init__()
        self.register_buffer("rates", BASE ** -(torch.arange(0, head_width, 2) / head_width), persistent=False)

    @override
    def turn(self, heads: Tensor, ids: Tensor) -> Tensor:
        angles = ids[:, None, :, None] * self.rates
        cos, sin = angles.cos(), angles.sin()
        one, two = heads.chunk(2, dim=-1)
        return torch.cat([one * cos - two * sin, two * cos + one * sin], dim=-1)


class Alibi(Positions):
    """The score of a key falls by a fixed slope for each token that it is back (Press et al. 2022, "ALiBi")."""

    name = "alibi"
    slopes: Tensor

    @override
    @classmethod
    def build(cls, model: ModelSettings, task: Task, **options: int) -> Self:
        return cls(model.size.heads)

    def __init__(self, heads: int) -> None:
        super().__init__()
        self.register_buffer("slopes", torch.tensor(alibi_slopes(heads)), persistent=False)

    @override
    def bias(self, block: int, queries: Tensor, keys: Tensor) -> Tensor:
        return -self.slopes[:, None, None] * (queries[:, None, :, None] - keys[:, None, None, :])


def alibi_slopes(heads: int) -> list[float]:
    """Return the slope of each head (section 3, and the authors' rule for numbers that are no powers of two).

    For n = 2^k heads they are 2^(-8/n), 2^(-16/n), …, 2^-8. Otherwise those of the power of two below, and then every
    other one of the power of two above.
    """
    below = 2 ** int(math.log2(heads))
    slopes = [2.0 ** (-8 * (i + 1) / below) for i in range(below)]
    return slopes + [2.0 ** (-8 * (2 * i + 1) / (2 * below)) for i in range(heads - below)]


class Fire(Positions):
    """A small network says what is added to a score, from the distance relative to the query's place.

    Li et al. 2024, "Functional Interpolation for Relative Positions" (FIRE), equation 6, with weights of its own for
    each block: ``f(psi(i - j) / psi(max(L, i)))``, ``psi(x) = log(c * x + 1)``, where f, c and L are learned.
    """

    name = "fire"

    @override
    @classmethod
    def build(cls, model: ModelSettings, task: Task, **options: int) -> Self:
        return cls(model.size.layers, model.size.heads)

    def __init__(self, layers: int, heads: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(_FireBlock(heads) for _ in range(layers))

    @override
    def initialise(self, generator: torch.Generator) -> None:
        for block in self.blocks:
            assert isinstance(block, _FireBlock)
            block.initialise(generator)

    @override
    def bias(self, block: int, queries: Tensor, keys: Tensor) -> Tensor:
        return self.blocks[block](queries, keys)  # type: ignore[no-any-return]


class _FireBlock(nn.Module):
    """One block's bias; hidden width and first values are those of the paper's appendix."""

    hidden, scale, threshold, eps = 32, 0.1, 512.0, 1e-6

    def __init__(self, heads: int) -> None:
        super().__init__()
        self.c = nn.Parameter(torch.tensor(self.scale))
        self.threshold_share = nn.Parameter(torch.tensor(1.0))
        self.inner = nn.Linear(1, self.hidden)
        self.outer = nn.Linear(self.hidden, heads)

    def initialise(self, generator: torch.Generator) -> None:
        """Draw the network's weights as torch does by default: uniform, up to one over the root of the inputs."""
        with torch.no_grad():
            for linear in (self.inner, self.outer):
                most = linear.in_features**-0.5
                linear.weight.uniform_(-most, most, generator=generator)
                linear.bias.uniform_(-most, most, generator=generator)

    @override
    def forward(self, queries: Tensor, keys: Tensor) -> Tensor:
        back = (queries[:, :, None] - keys[:, None, :]).clamp(min=0)  # later keys are hidden anyway
        reach = torch.maximum(queries.to(self.c.dtype), (self.threshold * self.threshold_share).abs())[:, :, None]
        near = (self.c * back).abs().log1p() / ((self.c * reach).abs().log1p() + self.eps)
        added: Tensor = self.outer(F.relu(self.inner(near[..., None])))
        return added.permute(0, 3, 1, 2)


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
    drawn from what the table has room for; in answers by none.
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
        return ids if generator is None else _moved(ids, self.capacity, generator)

    @override
    def places(self, prompts: Tokens, bound: int) -> int:
        return int(self.task.coupled_ids(prompts, prompts.shape[1] + bound - 1).max(initial=0))


def _moved(ids: Ids, capacity: int, generator: np.random.Generator) -> Ids:
    """Return numbers moved on by one offset in each row that keeps them within the capacity; 0 stays 0."""
    offsets = generator.integers(0, capacity - ids.max(axis=1) + 1)
    return np.where(ids > 0, ids + offsets[:, None], 0)


def build_positions(model: ModelSettings, task: Task) -> Positions | None:
    """Return the scheme of the settings; None where tokens know their places by the causal mask alone.

    Raises:
        UserError: there is no such scheme, it does not fit the task, or another one has the settings.
    """
    chosen, name = None, model.positions
    if name != NO_POSITIONS:
        chosen = POSITIONS.find(name)
    if model.position_capacity is not None and (chosen is None or not issubclass(chosen, Tabled)):
        raise UserError(
            f"model.position_capacity = {model.position_capacity}: positions = {name!r} have no table (those that do: "
            f"{', '.join(each for each, scheme in POSITIONS.built_in.items() if issubclass(scheme, Tabled))})"
        )
    if model.randomized_table is not None and chosen is not Randomized:
        raise UserError(
            f"model.randomized_table = {model.randomized_table!r} needs positions = {Randomized.name!r}, "
            f"which are {name!r} here"
        )
    if chosen is None:
        return None
    who = f"position scheme {name}"
    return made(chosen.build, who, "model.position_options", model.position_options, model, task, thing=chosen)

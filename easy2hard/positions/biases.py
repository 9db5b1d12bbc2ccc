"""Schemes that add to the scores of the attention: ALiBi, FIRE, and a bias by coupled places."""

import math
from typing import Any, Self

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn
from typing_extensions import override

from easy2hard.errors import UserError
from easy2hard.positions.scheme import Ids, Positions
from easy2hard.settings.model import ModelSettings
from easy2hard.tasks.base import Task


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


class CoupledBias(Positions):
    """A learned number for each head is added to a score, by how far apart the coupled places of query and key are.

    The places are those of Cho et al. 2024, "Position Coupling", section 3: tokens that belong together have one, which
    the task supplies. The prompt's last token is an exception: the answer begins from it, so it has the place before
    that of the answer's first token. A number for each distance is the bias of Raffel et al. 2020 (T5), section 2.1;
    distances of ``farthest`` and more share one, as in Shaw et al. 2018, section 3.2. So a longer number has no
    distance that training did not see. The combination is ours.
    """

    name = "coupled-bias"
    farthest = 5
    gain = 8.0
    """Of the weights: AdamW moves each by its learning rate, and scores need larger steps than that."""

    @override
    @classmethod
    def build(cls, model: ModelSettings, task: Task, **options: int) -> Self:
        if task.coupled_by_name:
            raise UserError(
                f"model.positions = 'coupled-bias': task {task.name} couples its tokens by names, which have no "
                "distance; 'coupled' takes them"
            )
        return cls(model.size.layers, model.size.heads, task)

    def __init__(self, layers: int, heads: int, task: Task) -> None:
        super().__init__()
        self.task = task
        self.weight = nn.Parameter(torch.empty(layers, heads, 2 * self.farthest + 1))

    @override
    def initialise(self, generator: torch.Generator) -> None:
        with torch.no_grad():
            self.weight.normal_(0.0, 0.25, generator=generator)

    @override
    def ids(self, tokens: NDArray[Any], prompt_length: int, generator: np.random.Generator | None = None) -> Ids:
        time = max(tokens.shape[1], prompt_length + 2)
        ids = self.task.coupled_ids(tokens[:, :prompt_length].astype(np.int32), time)
        first, second = ids[:, prompt_length], ids[:, prompt_length + 1]
        last = prompt_length - 1
        ids[:, last] = np.where(second > 0, 2 * first - second, ids[:, last])  # one token alone has no direction
        return ids[:, : tokens.shape[1]]

    @override
    def bias(self, block: int, queries: Tensor, keys: Tensor) -> Tensor:
        apart = (keys[:, None, :] - queries[:, :, None]).clamp(-self.farthest, self.farthest) + self.farthest
        # A product with ones and zeros: on a CPU, looking up a few numbers for each pair of tokens takes far longer.
        distances = torch.arange(self.weight.shape[-1], device=apart.device)
        chosen = (apart.flatten() == distances[:, None]).to(self.weight.dtype)
        found: Tensor = (self.weight[block] @ chosen).unflatten(1, apart.shape)
        return self.gain * found.transpose(0, 1)

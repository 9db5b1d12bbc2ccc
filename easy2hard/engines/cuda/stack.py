"""Weights of all members in one tensor for each kind, and work that is captured once and replayed.

The members' own parameters become views of the stacked tensors: whoever loads, copies or stores a member's weights does
so in place, and nothing has to be kept in step.
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any, Generic, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from easy2hard.models.transformer import BlockWeights, Transformer, Weights, apply_block, embed, in_heads, in_rows

T = TypeVar("T")

# The matrix library gives the same bits in every run only with workspaces of fixed sizes, set before its first call.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")

MATRICES = ("qkv", "o", "gate_up", "down")
"""Stacked tensors of hidden matrices, which Muon takes care of."""

FEWEST_SUMMED = 512
"""Rows of a slice of :class:`SlicedProduct`, at the least."""
FILLING = 256 * 128 * 128
"""Numbers that products fill a GPU with: 128 by 128 for each of twice as many groups as it has multiprocessors."""

Stacked = dict[str, Tensor]
"""By kind: ``embedding``, ``head`` and ``norm`` have the members first; of the blocks' tensors, ``norm1``, ``qkv``,
``o``, ``norm2``, ``gate_up`` and ``down``, the blocks are first and the members second."""

Shape = tuple[int, int]
"""Rows of each member, tokens of each row."""


class SlicedProduct(torch.autograd.Function):
    """Rows times a matrix for each member; the matrix's gradient is summed over slices of the rows.

    It has few numbers, each a sum over all rows: as one product for each member it would keep a few of a GPU's
    multiprocessors busy, and the matrix library splits products by itself only where there is one.
    """

    @staticmethod
    def forward(ctx: Any, rows: Tensor, matrix: Tensor) -> Tensor:
        """Return (members, rows, outputs) of (members, rows, inputs) and (members, outputs, inputs)."""
        ctx.save_for_backward(rows, matrix)
        return rows @ matrix.mT

    @staticmethod
    def backward(ctx: Any, *given: Tensor) -> tuple[Tensor, Tensor]:
        """Return the gradients of rows and matrix."""
        (d,), (rows, matrix) = given, ctx.saved_tensors
        (members, count, _), (_, outputs, inputs) = rows.shape, matrix.shape
        most = max(1, min(count // FEWEST_SUMMED, FILLING // (members * outputs * inputs)))
        slices = next(number for number in range(most, 0, -1) if count % number == 0)
        first, second = (each.reshape(members * slices, count // slices, -1) for each in (d, rows))
        return d @ matrix, (first.mT @ second).view(members, slices, outputs, inputs).sum(dim=1)


def nothing(layer: int, keys: Tensor, values: Tensor) -> None:
    """Keep nothing."""


class Stack:
    """The weights of members, all of one shape, whose parameters become views of it."""

    def __init__(self, members: Sequence[Transformer]) -> None:
        first, count = members[0], len(members)
        size, vocabulary = first.size, len(first.lm_head.weight)
        width, hidden, layers = size.width, size.feed_forward, size.layers
        self.count, self.heads, self.vocabulary, self.size = count, size.heads, vocabulary, size
        self.device = first.device
        shapes = {
            "embedding": (count, vocabulary, width),
            "norm1": (layers, count, 1, width),
            "qkv": (layers, count, 3 * width, width),
            "o": (layers, count, width, width),
            "norm2": (layers, count, 1, width),
            "gate_up": (layers, count, 2 * hidden, width),
            "down": (layers, count, width, hidden),
            "norm": (count, 1, width),
            "head": (count, vocabulary, width),
        }
        self.tensors: Stacked = {name: torch.empty(shape, device=self.device) for name, shape in shapes.items()}
        for number, member in enumerate(members):
            views = self.of_member(self.tensors, number)
            for name, parameter in member.named_parameters():
                views[name].copy_(parameter.detach())
                parameter.data = views[name]
        for tensor in self.tensors.values():
            tensor.requires_grad_()

    def of_member(self, stacked: Mapping[str, Tensor], number: int) -> dict[str, Tensor]:
        """Return one member's part of tensors that are stacked as the weights are, by its parameters' names, in order.

        Kinds that are not there are left out.
        """
        width, hidden = self.size.width, self.size.feed_forward
        places: dict[str, tuple[str, tuple[int | slice, ...]]] = {"embed_tokens.weight": ("embedding", (number,))}
        for layer in range(self.size.layers):
            own = layer, number
            named: dict[str, tuple[str, tuple[int | slice, ...]]] = {
                "input_layernorm": ("norm1", (*own, 0)),
                "self_attn.q_proj": ("qkv", (*own, slice(width))),
                "self_attn.k_proj": ("qkv", (*own, slice(width, 2 * width))),
                "self_attn.v_proj": ("qkv", (*own, slice(2 * width, None))),
                "self_attn.o_proj": ("o", own),
                "post_attention_layernorm": ("norm2", (*own, 0)),
                "mlp.gate_proj": ("gate_up", (*own, slice(hidden))),
                "mlp.up_proj": ("gate_up", (*own, slice(hidden, None))),
                "mlp.down_proj": ("down", own),
            }
            places |= {f"layers.{layer}.{name}.weight": place for name, place in named.items()}
        places |= {"norm.weight": ("norm", (number, 0)), "lm_head.weight": ("head", (number,))}
        return {name: stacked[kind].detach()[index] for name, (kind, index) in places.items() if kind in stacked}

    def folded(self, dtype: torch.dtype) -> Stacked:
        """Return the stacked tensors as :meth:`weights` takes them: gains in the matrices, these in a precision."""
        gains = {"qkv": "norm1", "gate_up": "norm2", "head": "norm"}
        found = {name: each for name, each in self.tensors.items() if not name.startswith("norm")}
        for name in (*MATRICES, "head"):
            found[name] = (found[name] * self.tensors[gains[name]] if name in gains else found[name]).to(dtype)
        return found

    def weights(self, folded: Stacked) -> Weights:
        """Return :meth:`folded` tensors as the decoder takes them."""
        blocks = map(BlockWeights, *(folded[name].unbind(0) for name in MATRICES))
        return Weights(folded["embedding"], list(blocks), folded["head"])

    def outputs(
        self,
        tokens: Tensor,
        weights: Weights,
        shapes: Sequence[Shape],
        keep: Callable[[int, Tensor, Tensor], None] = nothing,
    ) -> Tensor:
        """Return (members, tokens, width) outputs of the last block of (members, tokens), shape after shape.

        ``keep`` takes the keys and values of each block and shape, (members * rows, heads, time, head width).
        """
        sizes = [rows * time for rows, time in shapes]

        def attend(qkv: Tensor, layer: int) -> Tensor:
            seen = []
            for (rows, _), part in zip(shapes, qkv.split(sizes, dim=1), strict=True):
                queries, keys, values = in_heads(part, rows, self.heads)
                keep(layer, keys, values)
                seen.append(in_rows(F.scaled_dot_product_attention(queries, keys, values, is_causal=True), self.count))
            return seen[0] if len(seen) == 1 else torch.cat(seen, dim=1)

        x = embed(tokens, weights.embedding)
        for layer, block in enumerate(weights.blocks):
            x = apply_block(x, block, partial(attend, layer=layer), times=SlicedProduct.apply)
        return x


class Captured:
    """Work on fixed tensors: captured as a CUDA graph and replayed, or where there is no GPU simply done.

    Args:
        work: reads and writes tensors that stay where they are; must give the same launches every time.
        device: where it computes.
        guard: entered while it is captured.
    """

    def __init__(
        self,
        work: Callable[[], object],
        device: torch.device,
        guard: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        self._work, self._device = work, device
        self._graph: torch.cuda.CUDAGraph | None = None
        if device.type != "cuda":
            return
        with torch.cuda.device(device), guard():
            # The first calls prepare what must not be prepared while capturing.
            stream = torch.cuda.Stream()
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                for _ in range(2):
                    work()
            torch.cuda.current_stream().wait_stream(stream)
            self._graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self._graph, capture_error_mode="thread_local"):
                work()

    def __call__(self) -> None:
        """Do the work."""
        if self._graph is None:
            self._work()
            return
        with torch.cuda.device(self._device):
            self._graph.replay()


class Newest(Generic[T]):
    """Makes things for shapes, or finds them: the ``count`` newest are kept, since shapes often come again."""

    def __init__(self, count: int, make: Callable[..., T]) -> None:
        self._count, self._make = count, make
        self._made: dict[tuple[object, ...], T] = {}

    def __call__(self, *shape: object) -> T:
        """Return the thing for a shape."""
        found = self._made.pop(shape, None)
        if found is None:
            while len(self._made) >= self._count:  # first, for its memory
                del self._made[next(iter(self._made))]
            found = self._make(*shape)
        self._made[shape] = found
        return found

    def clear(self) -> None:
        """Keep nothing."""
        self._made.clear()


@contextmanager
def repeatable() -> Iterator[None]:
    """Have torch take derivatives that give the same bits every time; what has none of them does so anyway."""
    settings: Any = torch.utils.deterministic
    before = torch.are_deterministic_algorithms_enabled(), settings.fill_uninitialized_memory
    torch.use_deterministic_algorithms(True)
    settings.fill_uninitialized_memory = False  # every number is written before it is read
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0])
        settings.fill_uninitialized_memory = before[1]

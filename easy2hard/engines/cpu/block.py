"""The blocks of a decoder with a backward pass of their own: compiled whole, or for bfloat16 around torch's products.

More than half of a step went into small operations around the products. So the gains of the norms and the scale of the
attention are folded into the (small) weights instead of the (large) activations, and what stands between two products
is one pass over memory (kernels.py; LOG.md, 2026-11-24 and 25).
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from easy2hard.engines.cpu.attention import attend, attend_backward
from easy2hard.engines.cpu.compiled_block import CompiledBlock
from easy2hard.engines.cpu.kernels import flat, norm_backward, normed, swiglu, swiglu_backward
from easy2hard.engines.cpu.shared_prefixes import Rows
from easy2hard.engines.cpu.simd import LANES
from easy2hard.models.transformer import BlockWeights, Transformer, apply_block

Kept = tuple[Tensor, ...]
Bias = Callable[[int, int], Tensor]
"""What is added to the scores of a block, by its index and the first position asked for (:func:`attend`)."""
NO_BIAS = torch.empty(0)


def no_bias(block: int, first: int) -> Tensor:
    """Return nothing to be added, as an empty tensor."""
    return NO_BIAS


class LowBlock:
    """A block whose products are the matrix library's, in ``dtype``; norms, attention and residuals are float32.

    Its methods are those of :class:`CompiledBlock`.
    """

    def __init__(self, weights: BlockWeights, heads: int, dtype: torch.dtype = torch.float32) -> None:
        qkv, o, gate_up, down = (each.detach().to(dtype) for each in weights)
        self.weights = BlockWeights(qkv, o, gate_up, down)
        self.heads, self.dtype = heads, dtype

    def forward(self, x: Tensor, rows: Rows, first: int, bias: Tensor) -> tuple[Tensor, Kept]:
        """See :meth:`CompiledBlock.forward`."""
        kept: list[Tensor] = []

        def norm(x: Tensor) -> Tensor:
            n, r = normed(x)
            kept.extend((n := n.to(self.dtype), r))
            return n

        def see(products: Tensor) -> Tensor:
            qkv, (count, width) = products.float(), x.shape
            p = qkv.new_empty(rows.batch, self.heads, rows.time - first, -(-rows.time // LANES) * LANES)
            o = qkv.new_empty(rows.batch * (rows.time - first) if first else count, width)
            shape = first, self.heads, width // self.heads
            attend(flat(qkv), rows.index, rows.owner, *shape, flat(bias), flat(p), flat(o))
            kept.extend((qkv, p, o := o.to(self.dtype)))
            return o

        def gate(products: Tensor) -> Tensor:
            kept.append(gate_up := products.float())
            return swiglu(gate_up).to(self.dtype)

        y = apply_block(x, self.weights, see, lambda x: rows.asked(x, first), norm, gate)
        return y, tuple(kept)

    def backward(self, dy: Tensor, rows: Rows, first: int, kept: Kept, d_bias: Tensor) -> tuple[Tensor, Kept]:
        """See :meth:`CompiledBlock.backward`."""
        n1, r1, qkv, p, o, n2, r2, gate_up = kept
        low = self.dtype

        # Feed-forward: y = x2 + (silu(gate) * up) @ down.T
        dy_low = dy.to(low)
        d_gate_up, act = (each.to(low) for each in swiglu_backward(gate_up, (dy_low @ self.weights.down).float()))
        dx2 = norm_backward((d_gate_up @ self.weights.gate_up).float(), n2.float(), r2, dy, 0, 1, 0)

        # Attention: x2 = x + softmax(q k') v @ o.T
        dx2_low = dx2.to(low)
        do = (dx2_low @ self.weights.o).float()
        d_qkv = torch.empty_like(qkv)
        d_qkv[: rows.common] = 0
        shape = rows.shared, first, self.heads, dy.shape[1] // self.heads
        attend_backward(flat(qkv), rows.index, rows.owner, *shape, flat(p), flat(do), flat(d_bias), flat(d_qkv))
        d_qkv = d_qkv.to(low)
        common, time, hidden = (rows.common, rows.time - rows.shared, first - rows.shared) if first else (0, 1, 0)
        dx = norm_backward((d_qkv @ self.weights.qkv).float(), n1.float(), r1, dx2, common, time, hidden)
        products = (d_qkv.T @ n1, dx2_low.T @ o, d_gate_up.T @ n2, dy_low.T @ act)
        return dx, tuple(each.float() for each in products)


def folded(member: Transformer) -> list[BlockWeights]:
    """Return the blocks' weights ready for their products, with the scale of the attention."""
    scale = (member.size.width // member.size.heads) ** -0.5
    return [block.folded(scale) for block in member.blocks]


class Blocks:
    """All blocks of a member, with products in ``dtype``; in each loop but the first the embeddings are added."""

    def __init__(self, weights: Sequence[BlockWeights], heads: int, dtype: torch.dtype = torch.float32) -> None:
        self._blocks: list[CompiledBlock | LowBlock] = [
            CompiledBlock(each, heads) if dtype == torch.float32 else LowBlock(each, heads, dtype) for each in weights
        ]

    def forward(
        self,
        x: Tensor,
        rows: Rows,
        first: int,
        loops: int = 1,
        kept: list[Kept] | None = None,
        bias: Bias = no_bias,
    ) -> Tensor:
        """Return the last block's outputs; ``kept`` takes what :meth:`backward` needs. See :class:`CompiledBlock`."""
        embedded, count = x, len(self._blocks)
        for slot in range(loops * count):
            x = x + embedded if slot and not slot % count else x
            index, start = slot % count, first if slot == loops * count - 1 else 0
            x, saved = self._blocks[index].forward(x, rows, start, bias(index, start))
            if kept is not None:
                kept.append(saved)
            del saved  # the next block takes its memory, which is in the processor's cache
        return x

    def backward(
        self, dy: Tensor, rows: Rows, first: int, kept: Sequence[Kept], d_biases: Sequence[Tensor]
    ) -> tuple[Tensor, list[Tensor]]:
        """Return the gradients of the inputs and of all folded weights from that of the outputs.

        Those of the biases are added to ``d_biases``, one for each block in each loop; those of none are empty.
        """
        sums: list[Sequence[Tensor]] = [()] * len(self._blocks)
        into_embedded = []  # where loops begin
        for slot in reversed(range(len(kept))):
            index = slot % len(self._blocks)
            start = first if slot == len(kept) - 1 else 0
            dy, of_block = self._blocks[index].backward(dy, rows, start, kept[slot], d_biases[slot])
            sums[index] = list(map(torch.add, sums[index], of_block)) if sums[index] else of_block
            if slot and not index:
                into_embedded.append(dy)
        return sum(into_embedded, dy), [each for of_block in sums for each in of_block]

"""Decoding as one compiled loop: a few rows at a time, their keys and values beside the weights in the cache.

It takes so few rows that all it touches stays in the core's own cache, and holds no interpreter lock, so that threads
are enough. A row's numbers do not depend on the rows beside it.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from easy2hard.engines.cpu.attention import attend_one
from easy2hard.engines.cpu.compiled_block import Arrays
from easy2hard.engines.cpu.kernels import Array, compiled, swiglu_loop
from easy2hard.engines.cpu.matmul import product
from easy2hard.engines.cpu.simd import LANES
from easy2hard.engines.decoding import Bounds, Sampling
from easy2hard.models.transformer import NORM_EPS, BlockWeights
from easy2hard.vocabulary import EOS, PAD, Tokens

ROWS = 8
"""Rows that a matrix product takes at a time."""
CACHED_BYTES, LARGE_BYTES = 1_200_000, 256_000_000
"""Of keys and values at a time, or as many as the weights have: both stay in a core's own cache (LOG.md). The second,
where the weights alone are more than that cache has: then they are read seldom."""
OWN_CACHE = 8_000_000
"""Bytes of weights from which on they are too many for it."""

_f = np.float32


class Packed(NamedTuple):
    """A member's weights as the loop reads them: matrices transposed, blocks one after another."""

    embedding: Array
    qkv: Array
    o: Array
    gate_up: Array
    down: Array
    head: Array
    vocabulary: int
    width: int
    hidden: int
    layers: int
    heads: int


def pack(embedding: torch.Tensor, blocks: Sequence[BlockWeights], head: torch.Tensor, heads: int) -> Packed:
    """Return the weights of a member for the loop.

    Args:
        embedding: (vocabulary, width).
        blocks: folded weights of each block.
        head: (vocabulary, width), the gains of the last norm folded in.
        heads: heads of the attention; their width is a multiple of 16.
    """

    def turned(*weights: torch.Tensor) -> Array:
        return np.concatenate([weight.detach().T.numpy().ravel() for weight in weights])

    vocabulary, width = embedding.shape
    qkv, o, gate_up, down = (turned(*of_blocks) for of_blocks in zip(*blocks, strict=True))
    return Packed(
        embedding.detach().numpy().ravel(),
        qkv,
        o,
        gate_up,
        down,
        turned(torch.nn.functional.pad(head, (0, 0, 0, -vocabulary % LANES))),
        vocabulary,
        width,
        blocks[0].down.shape[1],
        len(blocks),
        heads,
    )


def rows_at_a_time(weights: Packed, length: int) -> int:
    """Return how many rows of ``length`` tokens are answered together."""
    row = 2 * 4 * weights.width * weights.layers * _up(length, LANES)
    matrices = sum(each.nbytes for each in (weights.qkv, weights.o, weights.gate_up, weights.down))
    room = max(CACHED_BYTES, matrices) if matrices < OWN_CACHE else max(LARGE_BYTES, matrices)
    return max(ROWS, room // row // ROWS * ROWS)


def _up(count: int, multiple: int) -> int:
    return -(-count // multiple) * multiple


def answer(
    weights: Packed, prompts: Tokens, bounds: Bounds, sampling: Sampling | None = None
) -> tuple[Tokens, Array, Array]:
    """Answer (count, length) prompts, greedily or with sampled tokens.

    Returns:
        (count, longest) answers ended by EOS where they finished, padded; (count,) the smallest log-probability of a
        token of each answer, and the sum of them.
    """
    count, longest = len(prompts), int(bounds.max())
    chosen = np.full((count, longest), PAD, dtype=np.int32)
    least, total = np.full(count, np.inf, dtype=np.float32), np.zeros(count, dtype=np.float32)
    width, hidden = weights.width, weights.hidden
    capacity = _up(prompts.shape[1] + longest, LANES)
    together = min(rows_at_a_time(weights, capacity), _up(count, ROWS))
    wide = max(3 * width, 2 * hidden, _up(weights.vocabulary, LANES))
    x, n, act, out = (np.zeros(together * size, dtype=np.float32) for size in (width, width, hidden, wide))
    keys, values = np.zeros((2, together * weights.layers * width * capacity), dtype=np.float32)
    buffers = (x, n, act, out, np.zeros(capacity, dtype=np.float32), keys, values)
    for start in range(0, count, together):
        part = slice(start, start + together)
        own = np.ascontiguousarray(prompts[part])
        noise = _noise(sampling, own, longest, weights.vocabulary)
        _answer(own, bounds[part], noise, weights, capacity, buffers, chosen[part], least[part], total[part])
    return chosen, least, total


def _noise(sampling: Sampling | None, prompts: Tokens, longest: int, vocabulary: int) -> Array:
    """Return (rows, steps, vocabulary) noise of the logits; (1, 1, vocabulary) zeros where tokens are not sampled."""
    if sampling is None:
        return np.zeros((1, 1, vocabulary), dtype=np.float32)
    keys, noise = sampling.keys(prompts), np.zeros((len(prompts), longest, vocabulary), dtype=np.float32)
    for step in range(longest):
        noise[:, step, EOS:] = sampling.noise(keys, step, vocabulary - EOS).numpy()
    return noise


@compiled
def _norm(x: Array, rows: int, width: int, n: Array) -> None:
    for r in range(rows):
        total = _f(0)
        for j in range(r * width, (r + 1) * width):
            total += x[j] * x[j]
        scale = _f(1) / np.sqrt(total / _f(width) + _f(NORM_EPS))
        for j in range(r * width, (r + 1) * width):
            n[j] = x[j] * scale


@compiled
def _answer(
    prompts: NDArray[np.int32], bounds: NDArray[np.int64], noise: Array, weights: Packed, capacity: int,
    buffers: Arrays, chosen: NDArray[np.int32], least: Array, total: Array,
) -> None:  # fmt: skip
    """Answer up to as many prompts as the buffers hold rows; all arrays of floats are seen as one row."""
    embedding, qkv, o, gate_up, down, head_weights, vocabulary, width, hidden, layers, heads = weights
    x, n, act, out, row, keys, values = buffers
    count, length = prompts.shape
    head = width // heads
    three, two, last = 3 * width, 2 * hidden, head_weights.size // width
    active = np.arange(count)
    going = count
    for t in range(length + chosen.shape[1] - 1):
        answering = t >= length - 1
        rows = (going + 7) // 8 * 8  # the buffers have room for them, and eight take as long as five
        for i in range(going):
            r = active[i]
            token = prompts[r, t] if t < length else chosen[r, t - length]
            for j in range(width):
                x[i * width + j] = embedding[token * width + j]
        for layer in range(layers):
            asked = answering or layer < layers - 1  # nothing reads what the last block says of a prompt
            _norm(x, going, width, n)
            skip, at = 0 if asked else width, layer * width * three
            product(n, 0, width, 1, qkv, at + skip, three, rows, width, three - skip, out, skip, three, False)
            for i in range(going):
                for h in range(heads):
                    at = ((active[i] * layers + layer) * heads + h) * head * capacity
                    q0 = i * three + h * head
                    for d in range(head):
                        keys[at + d * capacity + t] = out[q0 + width + d]
                        values[at + t * head + d] = out[q0 + 2 * width + d]
                    if asked:
                        attend_one(out, q0, keys, values, at, t + 1, capacity, head, row, n, i * width + h * head)
            if not asked:
                break
            product(n, 0, width, 1, o, layer * width * width, width, rows, width, width, x, 0, width, True)
            _norm(x, going, width, n)
            product(n, 0, width, 1, gate_up, layer * width * two, two, rows, width, two, out, 0, two, False)
            swiglu_loop(out, act, rows, hidden)
            product(act, 0, hidden, 1, down, layer * hidden * width, width, rows, hidden, width, x, 0, width, True)
        if not answering:
            continue
        _norm(x, going, width, n)
        product(n, 0, width, 1, head_weights, 0, last, rows, width, last, out, 0, last, False)
        step, still = t - length + 1, 0
        for i in range(going):
            r, at = active[i], i * last
            best = EOS
            most = out[at]
            of_row = noise[r % len(noise), step % noise.shape[1]]
            for j in range(vocabulary):
                most = max(most, out[at + j])
                if j > best and out[at + j] + of_row[j] > out[at + best] + of_row[best]:
                    best = j
            summed = _f(0)
            for j in range(vocabulary):
                summed += np.exp(out[at + j] - most)
            probability = out[at + best] - most - np.log(summed)
            chosen[r, step] = best
            least[r] = min(least[r], probability)
            total[r] += probability
            if best != EOS and step + 1 < bounds[r]:
                active[still] = r
                still += 1
        going = still
        if going == 0:
            break

"""The engine for GPUs. Its mathematics runs on a processor too, uncaptured: so it is tested everywhere."""

import time
from collections.abc import Sequence
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from typing_extensions import override

from easy2hard.engines.cuda.batches import Arena
from easy2hard.engines.cuda.decoding import ROWS, TOKENS, Decoder, as_answers, passed_rows, rows_at_a_time, up
from easy2hard.engines.cuda.stack import Newest, Stack
from easy2hard.engines.cuda.training import Gradients, StackedCrew, Update
from easy2hard.engines.decoding import Answers, Bounds, Sampling, greedy, no_answers
from easy2hard.engines.engine import ANSWERING, TRAINING, Batches, Crew, Engine, Examples, Told, lowered_by, nobody
from easy2hard.engines.reference import joined, rows_in
from easy2hard.engines.threads import map_chunks
from easy2hard.models.member import Member
from easy2hard.models.transformer import Transformer, Weights, logits_of
from easy2hard.settings.training import OptimiserSettings
from easy2hard.vocabulary import PAD, Tokens

DECODERS, BATCHES = 2, 2
"""Decoders, and shapes of training batches, that are kept for the next ones of their shapes."""
BLOCK = 4
"""Portions of prompts answered in one go, where answers are kept."""


def why_not(member: Member) -> str | None:
    """Return what this engine does not know of a member; None where it knows it."""
    if not isinstance(member, Transformer):
        return "a pretrained model"
    if member.loops.several:
        return "a member with loops"
    if member.positions is not None:
        return f"a member with positions ({member.positions.name})"
    if member.second is not None:
        return "a member with a second target"
    return None


class CudaEngine(Engine):
    """All members at once.

    Args:
        members: decoders of our own without positions and loops, all of one size and on one device; their parameters
            become views of stacked tensors.
        precision: ``float32`` throughout, or ``bfloat16`` for the matrix products, those of answers included.
    """

    block = BLOCK

    def __init__(self, members: Sequence[Member], precision: str = "float32") -> None:
        self.members = members
        self._stack = Stack(cast(Sequence[Transformer], members))
        self._dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
        self._arena = Arena(self._stack.device, self._stack.vocabulary)
        self._update: tuple[OptimiserSettings, Update, Newest[Gradients]] | None = None
        stack = self._stack
        self._folded = folded = {name: each.detach().clone() for name, each in stack.folded(self._dtype).items()}
        # It must not know this engine: in a circle the device's memory would be given back late.
        self._decoders = Newest(DECODERS, lambda *shape: Decoder(stack, folded, *shape))

    @override
    @lowered_by(TRAINING)
    def crews(self, batches: Sequence[Batches], optimiser: OptimiserSettings) -> Sequence[Crew]:
        self._decoders.clear()  # their memory is for training now
        if self._update is None or self._update[0] != optimiser:
            stack, dtype = self._stack, self._dtype
            update = Update(stack, optimiser, dtype)
            made = Newest(BATCHES, lambda *shapes: Gradients(stack, shapes, dtype, update.gradients, update.sums))
            self._update = optimiser, update, made
        _, update, gradients = self._update
        return [StackedCrew(self._stack, update, batches, self._arena, gradients)]

    @override
    def answer(self, prompts: Tokens, bounds: Bounds, on_done: Told = nobody) -> list[Answers]:
        return self._answers(prompts, bounds, None, on_done)

    @override
    def sample(
        self, prompts: Tokens, bounds: Bounds, samplings: Sequence[Sequence[Sampling]], on_done: Told = nobody
    ) -> list[list[Answers]]:
        numbers = list(zip(*samplings, strict=True))
        found = [
            self._answers(prompts, bounds, own, on_done if number == len(numbers) else nobody)
            for number, own in enumerate(numbers, start=1)
        ]
        return [[answers[member] for answers in found] for member in range(len(self.members))]

    @lowered_by(ANSWERING)
    @torch.inference_mode()
    def _answers(
        self, prompts: Tokens, bounds: Bounds, samplings: Sequence[Sampling] | None, on_done: Told
    ) -> list[Answers]:
        longest = int(bounds.max(initial=0))
        if not len(prompts):
            return [no_answers(0, longest) for _ in self.members]
        for name, now in self._stack.folded(self._dtype).items():
            self._folded[name].copy_(now)
        parts = self.portions(prompts, bounds)

        def work(part: slice) -> list[Answers]:
            begin = time.perf_counter()
            rows, tokens = rows_in(parts[0]), prompts.shape[1] + longest
            decoder = self._decoders(up(rows, ROWS), up(tokens, TOKENS), samplings is not None)
            found = decoder(prompts[part], bounds[part], samplings)
            seconds = (time.perf_counter() - begin) / len(self.members)
            return [as_answers(*each, longest, seconds) for each in zip(*found, strict=True)]

        done = map_chunks(work, parts, False, lambda part: on_done(rows_in(part)))
        return [joined([each[index] for each in done], longest) for index in range(len(self.members))]

    @override
    def portions(self, prompts: Tokens, bounds: Bounds) -> list[slice]:
        if not len(prompts):
            return [slice(0, 0)]
        together = rows_at_a_time(self._stack, prompts.shape[1] + int(bounds.max()), self._dtype)
        rows = -(-len(prompts) // -(-len(prompts) // together))
        return [slice(start, min(start + rows, len(prompts))) for start in range(0, len(prompts), rows)]

    @override
    @lowered_by(ANSWERING)
    @torch.inference_mode()
    def matches(self, examples: Sequence[Examples], on_done: Told = nobody) -> list[NDArray[np.bool_]]:
        widths = [prompts.shape[1] + answers.shape[1] for prompts, answers in examples]
        result = [np.zeros((len(self.members), len(prompts)), dtype=np.bool_) for prompts, _ in examples]
        weights = self._stack.weights(self._stack.folded(self._dtype))

        def work(part: list[tuple[int, slice]]) -> NDArray[np.bool_]:
            width = max(widths[index] for index, _ in part)
            tokens = np.full((sum(rows_in(rows) for _, rows in part), width), PAD, dtype=np.int64)
            begins, at = np.zeros(len(tokens), dtype=np.int64), 0
            for index, rows in part:
                prompts, answers = (each[rows] for each in examples[index])
                own, begin = slice(at, at := at + len(prompts)), prompts.shape[1]
                tokens[own, :begin], tokens[own, begin : widths[index]], begins[own] = prompts, answers, begin
            return self._right(weights, *(torch.from_numpy(each).to(self._stack.device) for each in (tokens, begins)))

        parts = self._portions(widths, [len(prompts) for prompts, _ in examples])
        told = len(self.members)
        done = map_chunks(work, parts, False, lambda part: on_done(told * sum(rows_in(rows) for _, rows in part)))
        for part, found in zip(parts, done, strict=True):
            at = 0
            for index, rows in part:
                result[index][:, rows] = found[:, at : (at := at + rows_in(rows))]
        return result

    def _portions(self, widths: Sequence[int], counts: Sequence[int]) -> list[list[tuple[int, slice]]]:
        """Return the sets' rows in portions of one pass each, those of neighbouring widths together."""
        portions: list[list[tuple[int, slice]]] = []
        room = 0
        for index in sorted(range(len(widths)), key=lambda index: -widths[index]):
            start = 0
            while start < counts[index]:
                narrow = not portions or 2 * widths[index] < widths[portions[-1][0][0]]
                if room == 0 or narrow:
                    portions.append([])
                    room = passed_rows(self._stack, widths[index])
                taken = min(room, counts[index] - start)
                portions[-1].append((index, slice(start, start + taken)))
                start, room = start + taken, room - taken
        return portions

    def _right(self, own: Weights, tokens: Tensor, begins: Tensor) -> NDArray[np.bool_]:
        """Return (members, rows) whether the greedy answers are the given ones, which begin at ``begins``."""
        stack = self._stack
        rows, width = tokens.shape
        x = stack.outputs(tokens[:, :-1].flatten().expand(stack.count, -1), own, [(rows, width - 1)])
        predicted = greedy(logits_of(x, own)).view(stack.count, rows, width - 1)
        targets = tokens[:, 1:]
        of_prompt = torch.arange(1, width, device=tokens.device) < begins[:, None]
        right: NDArray[np.bool_] = ((predicted == targets) | (targets == PAD) | of_prompt).all(dim=-1).cpu().numpy()
        return right

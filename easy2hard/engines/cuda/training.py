"""Training steps of all members at once: batch, gradients and update are captured each, in fixed tensors.

What the gradients are added up in lies between two captures, where several processes add theirs.
"""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from typing_extensions import override

from easy2hard import processes
from easy2hard.engines.cuda.batches import Arena, parts_of
from easy2hard.engines.cuda.stack import MATRICES, Captured, Newest, Shape, SlicedProduct, Stack, Stacked, repeatable
from easy2hard.engines.engine import TRAINING, Batches, Crew, Taken, lowered_by
from easy2hard.models.transformer import logits_of
from easy2hard.optimisers import MOMENTUM, orthogonalise
from easy2hard.seeding import ODD, mixed
from easy2hard.settings.training import OptimiserSettings
from easy2hard.vocabulary import PAD

TOLD = 20
"""Steps after which their losses are read: reading waits for the device."""


class Gradients:
    """Summed cross-entropy of the answers of a batch, and its gradients, in fixed tensors.

    Args:
        stack: the weights.
        shapes: of the buckets.
        dtype: of the matrix products.
        into: takes the gradients, by kind.
        sums: (2, members), takes the loss and the number of answer tokens.
    """

    def __init__(self, stack: Stack, shapes: Sequence[Shape], dtype: torch.dtype, into: Stacked, sums: Tensor) -> None:
        self.stack, self.shapes, self.dtype, self.into, self.sums = stack, shapes, dtype, into, sums
        device, count = stack.device, stack.count
        self.tokens = [torch.full((count, *shape), PAD, device=device) for shape in shapes]
        self.prompts = [torch.ones(count, rows, dtype=torch.int64, device=device) for rows, _ in shapes]
        self.compute = Captured(self._compute, device, repeatable)

    def _compute(self) -> None:
        names = list(self.into)
        with torch.enable_grad():
            loss, tokens = self.loss()
            found = torch.autograd.grad(loss.sum(), [self.stack.tensors[name] for name in names])
        for name, gradient in zip(names, found, strict=True):
            self.into[name].copy_(gradient)
        self.sums[0].copy_(loss.detach())
        self.sums[1].copy_(tokens)

    def loss(self) -> tuple[Tensor, Tensor]:
        """Return each member's summed cross-entropy, and its answer tokens."""
        stack, count = self.stack, self.stack.count
        weights = stack.weights(stack.folded(self.dtype))
        inputs = torch.cat([each[:, :, :-1].flatten(1) for each in self.tokens], dim=1)
        targets = [
            torch.where(torch.arange(1, width, device=stack.device) >= prompts[..., None], tokens[:, :, 1:], PAD)
            for tokens, prompts, (_, width) in zip(self.tokens, self.prompts, self.shapes, strict=True)
        ]
        x = stack.outputs(inputs, weights, [(rows, width - 1) for rows, width in self.shapes])
        wanted = torch.cat([each.flatten(1) for each in targets], dim=1).flatten()
        logits = logits_of(x, weights, SlicedProduct.apply).float().flatten(0, 1)
        losses = F.cross_entropy(logits, wanted, ignore_index=PAD, reduction="none").view(count, -1)
        return losses.sum(dim=1), (wanted != PAD).view(count, -1).sum(dim=1)


class Update:
    """Clipping by member, Muon and AdamW for stacked weights, in fixed tensors; Muon orthogonalises in ``dtype``."""

    def __init__(self, stack: Stack, settings: OptimiserSettings, dtype: torch.dtype) -> None:
        self.stack, self.settings, self.dtype = stack, settings, dtype
        device, count = stack.device, stack.count
        muon = settings.name == "muon"
        self.muon = [name for name in stack.tensors if muon and name in MATRICES]
        self.adamw = [name for name in stack.tensors if name not in self.muon]
        self.gradients: Stacked = {name: torch.zeros_like(each.detach()) for name, each in stack.tensors.items()}
        kept = {"momentum_buffer": self.muon, "exp_avg": self.adamw, "exp_avg_sq": self.adamw}
        self.kept: dict[str, Stacked] = {
            kind: {name: torch.zeros_like(self.gradients[name]) for name in names} for kind, names in kept.items()
        }
        self.steps = torch.zeros((), device=device)
        self.rate = torch.zeros((), device=device)
        """Share of the peak rates."""
        self.sums = torch.zeros(2, count, device=device)
        self.told = torch.zeros(TOLD, 2, count, device=device)
        """Mean loss and norm of the last steps."""
        self.at = torch.zeros(1, dtype=torch.int64, device=device)
        before = [each.detach().clone() for each in self._changed()]
        self.apply = Captured(self._apply, device)
        for tensor, first in zip(self._changed(), before, strict=True):
            tensor.detach().copy_(first)

    def _changed(self) -> list[Tensor]:
        states = (self.stack.tensors, *self.kept.values(), self.gradients)
        return [*(each for state in states for each in state.values()), self.steps, self.told, self.at]

    def reset(self) -> None:
        """Forget everything."""
        for state in self.kept.values():
            for tensor in state.values():
                tensor.zero_()
        self.steps.zero_()
        self.at.zero_()

    @torch.no_grad()
    def _apply(self) -> None:
        settings, stack = self.settings, self.stack
        loss, tokens = self.sums
        squares = torch.zeros_like(loss)
        for gradient in self.gradients.values():
            members = 1 if gradient.dim() == 4 else 0
            dims = [dim for dim in range(gradient.dim()) if dim != members]
            squares = squares + torch.linalg.vector_norm(gradient, dim=dims).square()
        norm = squares.sqrt() / tokens
        factor = (settings.clip / (norm + 1e-6)).clamp(max=1.0) / tokens
        for gradient in self.gradients.values():
            gradient.mul_(factor[:, None, None])
        self.told.index_copy_(0, self.at, torch.stack([loss / tokens, norm])[None])
        self.at.add_(1).remainder_(TOLD)
        self.steps.add_(1)
        torch._fused_adamw_(
            [stack.tensors[name].detach() for name in self.adamw],
            [self.gradients[name] for name in self.adamw],
            list(self.kept["exp_avg"].values()),
            list(self.kept["exp_avg_sq"].values()),
            [],
            [self.steps for _ in self.adamw],
            lr=self.rate * settings.learning_rate,
            beta1=settings.betas[0],
            beta2=settings.betas[1],
            weight_decay=settings.weight_decay,
            eps=settings.eps,
            amsgrad=False,
            maximize=False,
        )
        if self.muon:
            self._apply_muon()

    def _apply_muon(self) -> None:
        rate = self.rate * self.settings.muon_learning_rate
        updates: dict[str, Tensor] = {}
        for name in self.muon:
            gradient, momentum = self.gradients[name], self.kept["momentum_buffer"][name]
            momentum.lerp_(gradient, 1 - MOMENTUM)
            updates[name] = gradient.lerp(momentum, MOMENTUM)  # Nesterov
        # All matrices of one shape are orthogonalised together, wide: it commutes with transposing.
        square = torch.cat([updates["qkv"].unflatten(2, (3, -1)).flatten(0, 2), updates["o"].flatten(0, 1)])
        wide = torch.cat([updates["gate_up"].unflatten(2, (2, -1)).flatten(0, 2).mT, updates["down"].flatten(0, 1)])
        square, wide = self._orthogonal(square), self._orthogonal(wide)
        layers, count = self.stack.size.layers, self.stack.count
        rows, columns = self.stack.size.feed_forward, self.stack.size.width
        ways = {
            "qkv": (square[: 3 * layers * count], 1.0),
            "o": (square[3 * layers * count :], 1.0),
            "gate_up": (wide[: 2 * layers * count].mT, max(1.0, rows / columns) ** 0.5),
            "down": (wide[2 * layers * count :], max(1.0, columns / rows) ** 0.5),
        }
        for name, (update, scale) in ways.items():
            weight = self.stack.tensors[name].detach()
            weight.mul_(1 - rate * self.settings.decay_of_muon)
            weight.sub_(update.reshape(weight.shape) * (rate * scale))

    def _orthogonal(self, matrices: Tensor) -> Tensor:
        tall = matrices.shape[1] > matrices.shape[2]
        found = orthogonalise((matrices.mT if tall else matrices).to(self.dtype)).float()
        return found.mT if tall else found

    def state(self, number: int) -> Stacked:
        """Return a member's part of weights and of what is remembered, by the names of :meth:`Crew.state`."""
        own = {f"model.{name}": each for name, each in self.stack.of_member(self.stack.tensors, number).items()}
        for kind, stacked in self.kept.items():
            index = int(bool(self.muon) and kind != "momentum_buffer")  # Muon is the first of two
            for parameter, each in enumerate(self.stack.of_member(stacked, number).values()):
                own[f"optimiser.{index}.{parameter}.{kind}"] = each
                if kind == "exp_avg":
                    own[f"optimiser.{index}.{parameter}.step"] = self.steps
        return own


class StackedCrew(Crew):
    """All members, which take their steps together; ``update`` is reset, and ``arena`` takes the examples."""

    def __init__(
        self, stack: Stack, update: Update, batches: Sequence[Batches], arena: Arena, gradients: Newest[Gradients]
    ) -> None:
        self.members = range(stack.count)
        self.stack, self.update, self.batches = stack, update, batches
        update.reset()
        world = processes.current()
        self.arena = arena
        self.parts = parts_of(batches, arena, [point / 100 for point in range(101)])
        drawn = [bucket for each in self.parts for bucket in each.buckets]
        self.gradients = gradients(*((len(rows[world.rank :: world.count]), width) for rows, width in drawn))
        self.keys = torch.zeros(stack.count, dtype=torch.int64, device=stack.device)
        self._seeds = np.array([each.key & (1 << 63) - 1 for each in batches], dtype=np.int64)
        self.draw = Captured(self._draw, stack.device)
        self._size = sum(len(rows) * width for rows, width in drawn)
        self._said = ", ".join(f"{len(rows)} prompts and answers of up to {width} tokens" for rows, width in drawn)
        self._waiting = 0

    def _draw(self) -> None:
        world, at = processes.current(), 0
        for each in self.parts:
            for tokens, prompts in each.draw(self.keys, self.arena.memory, world.rank, world.count):
                self.gradients.tokens[at].copy_(tokens)
                self.gradients.prompts[at].copy_(prompts)
                at += 1

    @override
    @lowered_by(TRAINING)
    def step(self, step: int, progress: float, rate: float) -> None:
        for each in self.parts:
            each.at(progress)
        keys = mixed(torch.from_numpy(self._seeds) + torch.tensor(step + 1) * ODD)
        self.keys.copy_(keys, non_blocking=True)
        self.update.rate.fill_(rate)
        self.draw()
        self.gradients.compute()
        processes.current().add_up([*self.update.gradients.values(), self.update.sums])
        self.update.apply()
        self._waiting += 1

    @override
    def taken(self, all_of_them: bool) -> list[list[Taken]]:
        if self._waiting < TOLD and not (all_of_them and self._waiting):
            return []
        told = self.update.told[: self._waiting].tolist()
        self._waiting = 0
        self.update.at.zero_()
        return [[Taken(loss, norm, self._size, self._said) for loss, norm in zip(*each, strict=True)] for each in told]

    @override
    def state(self, member: int) -> Iterator[tuple[str, Tensor]]:
        for name, tensor in sorted(self.update.state(member).items()):
            yield name, tensor.detach().clone().cpu()

    @override
    def load(self, member: int, state: Mapping[str, Tensor]) -> None:
        for name, tensor in self.update.state(member).items():
            if name in state or name.startswith("model."):  # before the first step nothing is remembered
                tensor.copy_(state[name])

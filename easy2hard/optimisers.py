"""AdamW and Muon for one member."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from easy2hard.settings.training import OptimiserSettings

NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
"""Coefficients of the quintic iteration (Keller Jordan, "Muon", 2024)."""
MOMENTUM = 0.95
"""Of Muon."""


class Muon(torch.optim.Optimizer):
    """Momentum whose update is orthogonalised, for matrices (Keller Jordan, 2024).

    The same update as ``torch.optim.Muon``, except that matrices of one shape are orthogonalised as one batch and in
    float32: for small models the launches would cost more than the arithmetic.
    """

    def __init__(
        self, parameters: Iterable[Tensor], lr: float, weight_decay: float = 0.0, momentum: float = MOMENTUM
    ) -> None:
        super().__init__(parameters, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Update every matrix that has a gradient; ``closure`` is not supported."""
        for group in self.param_groups:
            # Wide and tall matrices of one shape go together: orthogonalising commutes with transposing.
            shapes: dict[tuple[int, ...], list[Tensor]] = {}
            for weight in group["params"]:
                shapes.setdefault(tuple(sorted(weight.shape)), []).append(weight)
            for weights in shapes.values():
                self._update(weights, group)

    def _update(self, weights: list[Tensor], group: dict[str, Any]) -> None:
        momentum = group["momentum"]
        updates = []
        for weight in weights:
            assert weight.grad is not None
            buffer = self.state[weight].setdefault("momentum_buffer", torch.zeros_like(weight))
            buffer.lerp_(weight.grad, 1 - momentum)
            update = weight.grad.lerp(buffer, momentum)  # Nesterov
            updates.append(update if update.shape[0] <= update.shape[1] else update.T)
        for weight, update in zip(weights, orthogonalise(torch.stack(updates)), strict=True):
            rows, columns = weight.shape
            weight.mul_(1 - group["lr"] * group["weight_decay"])
            weight.add_(update if rows <= columns else update.T, alpha=-group["lr"] * max(1, rows / columns) ** 0.5)


def orthogonalise(matrices: Tensor, steps: int = 5, eps: float = 1e-7) -> Tensor:
    """Return (count, rows, columns) matrices, rows <= columns, with singular values pushed near one."""
    a, b, c = NEWTON_SCHULZ
    x: Tensor = matrices / matrices.norm(dim=(1, 2), keepdim=True).clamp(min=eps)
    for _ in range(steps):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x


def build_optimisers(model: nn.Module, settings: OptimiserSettings) -> list[torch.optim.Optimizer]:
    """Return the optimisers of one member: Muon for hidden matrices where asked for, AdamW for the rest."""
    rest = [(name, weight) for name, weight in model.named_parameters() if weight.requires_grad]
    optimisers: list[torch.optim.Optimizer] = []
    if settings.name == "muon":
        hidden = [weight for name, weight in rest if name.startswith("layers.") and weight.dim() == 2]
        rest = [(name, weight) for name, weight in rest if not any(weight is matrix for matrix in hidden)]
        optimisers.append(Muon(hidden, settings.muon_learning_rate, settings.decay_of_muon))
    optimisers.append(
        torch.optim.AdamW(
            [weight for _, weight in rest],
            lr=settings.learning_rate,
            betas=(settings.betas[0], settings.betas[1]),
            eps=settings.eps,
            weight_decay=settings.weight_decay,
            fused=True,
        )
    )
    return optimisers

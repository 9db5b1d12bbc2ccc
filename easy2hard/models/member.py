"""What every model is to the rest of the package: our own decoder, or one of transformers (models/pretrained.py).

Tokens are those of the task's vocabulary everywhere. Training needs gradients of the logits, decoding a cache, and
storing ``state_dict``, which holds what training changes and nothing else.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from easy2hard import processes
from easy2hard.models.stepping import Packed
from easy2hard.vocabulary import PAD


class KeyValueCache(Protocol):
    """What a member remembers of the tokens seen so far."""

    def keep(self, rows: Tensor) -> None:
        """Drop the rows of the batch where the (batch,) mask ``rows`` is False."""


class Member(nn.Module, ABC):
    """One model that learns, answers and votes."""

    in_parts = False
    """Its weights lie in parts over the processes, which pass through it together (models/sharding.py)."""

    @abstractmethod
    def forward(self, tokens: Tensor, first: int = 0, cache: Any | None = None) -> Tensor:
        """Return (batch, time - first, vocabulary) logits of the positions from ``first`` on.

        Args:
            tokens: (batch, time) token ids, int64; with a cache, the tokens after those it holds.
            first: first position whose next token is wanted.
            cache: one of :meth:`make_cache`, extended in place.
        """

    @abstractmethod
    def make_cache(self, capacity: int) -> KeyValueCache:
        """Return an empty cache with room for ``capacity`` tokens of each row."""

    @property
    @abstractmethod
    def cached_bytes(self) -> int:
        """Bytes that a cache takes for one token."""

    def gradients(self, precision: str) -> "Gradients":
        """Return what computes this member's gradients for one step, with its weights as they are now.

        Args:
            precision: ``float32`` or ``bfloat16``, for the matrix products.
        """
        return Gradients(self, precision)

    def packed(self) -> Packed | None:
        """Return the weights for compiled decoding (models/stepping.py), or None where it does not apply."""
        return None

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device


class Gradients:
    """Loss and gradients of a member on examples, by torch's derivatives.

    Args:
        model: the member.
        precision: ``float32`` or ``bfloat16``, for the matrix products.
    """

    def __init__(self, model: Member, precision: str) -> None:
        self.model = model
        self.precision = precision
        self.parameters = [weight for weight in model.parameters() if weight.requires_grad]

    def of(self, tokens: Tensor, prompt_length: int, scale: float) -> tuple[float, Sequence[Tensor]]:
        """Return ``scale`` times the summed cross-entropy of the answers, and gradients; callable from any thread.

        Args:
            tokens: (batch, time) prompts and answers, int64, padded on the right.
            prompt_length: tokens of each prompt.
            scale: of loss and gradients.
        """
        with self.autocast():
            loss = answer_loss(self.model, tokens, prompt_length) * scale
        return float(loss.detach()), torch.autograd.grad(loss, self.parameters)

    def autocast(self) -> torch.autocast:
        """Return the context in which matrix products have the asked precision."""
        return torch.autocast(self.model.device.type, dtype=torch.bfloat16, enabled=self.precision == "bfloat16")

    def of_parameters(self, sums: Sequence[Tensor]) -> Sequence[Tensor]:
        """Return the gradients of the parameters that train, from sums of what :meth:`of` returned."""
        return sums

    def summed(self, pieces: Sequence[Sequence[Tensor]]) -> list[Tensor]:
        """Return the gradients of the parameters that train, over all pieces of all processes.

        Args:
            pieces: what :meth:`of` returned for each piece of this process.
        """
        totals = [torch.zeros_like(parameter) for parameter in self.parameters]
        if pieces:
            sums = list(pieces[0])
            for gradient in pieces[1:]:
                torch._foreach_add_(sums, list(gradient))
            totals = list(self.of_parameters(sums))
        processes.current().add_up(totals)
        return totals


def answer_loss(model: Callable[..., Tensor], tokens: Tensor, prompt_length: int) -> Tensor:
    """Return the summed cross-entropy of answer and EOS tokens of (rows, time) examples; padding does not count."""
    logits = model(tokens[:, :-1], first=prompt_length - 1)
    targets = tokens[:, prompt_length:]
    return F.cross_entropy(logits.float().flatten(0, 1), targets.flatten(), ignore_index=PAD, reduction="sum")

"""Causal language models of transformers behind the interface of a member (docs/models.md).

A member speaks the task's token ids. They are mapped to the ids of the tokenizer's own tokens, one for each symbol, and
the logits are those of the symbols and the end alone: what a model says about the rest of its vocabulary is left out,
in training, decoding and confidence alike. So nothing else in the package knows what kind of model it has.

How one is had is in loading.py.
"""

import copy
import hashlib
import inspect
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from typing_extensions import override

from easy2hard.errors import UserError
from easy2hard.huggingface.library import load_library
from easy2hard.models.member import Member
from easy2hard.settings.model import LoraSettings
from easy2hard.vocabulary import EOS


@dataclass(frozen=True)
class Base:
    """A pretrained model as one task uses it."""

    name: str
    model: Any
    """``PreTrainedModel``; its output layer is a :class:`SymbolHead`."""
    ids: tuple[int, ...]
    """The tokenizer's id of each token of the task's vocabulary."""

    def digest(self) -> str:
        """Return a SHA-256 of the weights, the architecture's class and the tokens: what a run builds on."""
        found = hashlib.sha256(repr((type(self.model).__name__, self.ids)).encode())
        for name, weight in self.model.named_parameters():
            found.update(repr((name, tuple(weight.shape), str(weight.dtype))).encode())
            found.update(weight.detach().cpu().contiguous().view(torch.uint8).numpy())
        return found.hexdigest()


class SymbolHead(nn.Module):
    """An output layer that computes the logits of a task's symbols only; its weights are those of the whole one.

    Args:
        head: the model's output layer.
        ids: the tokens whose logits are wanted.
    """

    ids: Tensor

    def __init__(self, head: nn.Linear, ids: Sequence[int]) -> None:
        super().__init__()
        self.weight = head.weight
        self.bias = head.bias
        self.register_buffer("ids", torch.tensor(ids), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return (batch, time, symbols) logits of (batch, time, width) states."""
        return F.linear(x, self.weight[self.ids], None if self.bias is None else self.bias[self.ids])

    def whole(self) -> nn.Linear:
        """Return the layer with all of its logits, with the same weights."""
        tokens, width = self.weight.shape
        head = nn.Linear(width, tokens, bias=self.bias is not None, device="meta")
        head.weight, head.bias = self.weight, self.bias
        return head


class PretrainedCache:
    """Keys and values as transformers keeps them."""

    def __init__(self, states: Any) -> None:
        self.states = states

    def keep(self, rows: Tensor) -> None:
        """Drop the rows of the batch where the (batch,) mask ``rows`` is False."""
        self.states.batch_select_indices(rows.nonzero()[:, 0])


class Pretrained(Member):
    """A member that starts from a pretrained model, and trains all of it or adapters beside it.

    Args:
        base: the model; shared with other members where only adapters are trained.
        lora: rank, strength and places of the adapters; None to train every weight.
        generator: draws the adapters' initial weights.
    """

    ids: Tensor

    def __init__(self, base: Base, lora: LoraSettings | None, generator: torch.Generator) -> None:
        super().__init__()
        # Frozen weights are shared; modules are each member's own.
        shared = {id(weight): weight for weight in base.model.parameters()} if lora else {}
        self.model = copy.deepcopy(base.model, shared)
        self.base = base
        accepted = inspect.signature(self.model.forward).parameters
        self._cache_argument = "cache" if "cache" in accepted else "past_key_values"
        if lora:
            self.model = with_adapters(self.model, lora)
            _initialise(self.model, generator)
        self.model.eval()  # no dropout: it would draw from a generator that is not ours
        self.register_buffer("ids", torch.tensor(base.ids), persistent=False)

    @override
    def forward(
        self, tokens: Tensor, first: int = 0, cache: PretrainedCache | None = None, positions: Tensor | None = None
    ) -> Tensor:
        remembered = {} if cache is None else {self._cache_argument: cache.states}
        logits = self.model(input_ids=self.ids[tokens], use_cache=cache is not None, **remembered).logits
        # Padding and BOS are never said; where a tokenizer has one token for begin and end it must not count twice.
        return F.pad(logits[:, first:], (EOS, 0), value=float("-inf"))

    @override
    def make_cache(self, capacity: int) -> PretrainedCache:
        from transformers import DynamicCache

        return PretrainedCache(DynamicCache(config=self.base.model.config))

    @property
    @override
    def cached_bytes(self) -> int:
        config = self.base.model.config.get_text_config()
        heads = config.num_attention_heads
        width = getattr(config, "head_dim", None) or config.hidden_size // heads
        kept = getattr(config, "num_key_value_heads", None) or heads
        return int(2 * config.num_hidden_layers * kept * width * self.base.model.dtype.itemsize)

    def whole(self) -> Any:
        """Return the model as transformers has it, in float32: adapters merged, all logits. The member is used up."""
        model = self.model.float()
        if hasattr(model, "merge_and_unload"):
            model = model.merge_and_unload()
        model.set_output_embeddings(model.get_output_embeddings().whole())
        return model

    @override
    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Any]:  # type: ignore[override]
        """Return the weights that training changes, each once: adapters, or everything."""
        return {name: weight.detach() for name, weight in self.named_parameters() if weight.requires_grad}

    @override
    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Take over weights of :meth:`state_dict`.

        Raises:
            RuntimeError: they are not those of this member.
        """
        own = self.state_dict()
        if {name: each.shape for name, each in own.items()} != {name: each.shape for name, each in state_dict.items()}:
            raise RuntimeError("the weights are not those of this model and its adapters")
        with torch.no_grad():
            for name, weight in own.items():
                weight.copy_(state_dict[name])


def with_adapters(model: Any, lora: LoraSettings) -> Any:
    """Return the model with adapters, the only weights that train."""
    peft = load_library("peft")
    settings = peft.LoraConfig(
        r=lora.rank,
        lora_alpha=2 * lora.rank if lora.alpha is None else lora.alpha,
        target_modules=list(lora.targets) or "all-linear",
        lora_dropout=0.0,
        task_type="CAUSAL_LM",
    )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # peft's, about names in transformers
            return peft.get_peft_model(model, settings)
    except ValueError as error:
        raise UserError(f"model.lora.targets = {lora.targets!r}: {str(error).splitlines()[0]}") from error


@torch.no_grad()
def _initialise(adapted: Any, generator: torch.Generator) -> None:
    """Draw the adapters' first factors as peft does, but from a stream of ours; the second ones start at zero."""
    for name, weight in adapted.named_parameters():
        if weight.requires_grad and "lora_A" in name:
            bound = weight[0].numel() ** -0.5
            weight.copy_(torch.empty(weight.shape).uniform_(-bound, bound, generator=generator))


def with_symbol_head(model: Any, name: str, ids: Sequence[int]) -> Any:
    """Return a model that computes the logits of some tokens only.

    Raises:
        UserError: its output layer is not a linear one.
    """
    head = model.get_output_embeddings()
    if not isinstance(head, nn.Linear):
        raise UserError(f"model.pretrained = {name!r}: its output layer, {type(head).__name__}, is no linear layer")
    model.set_output_embeddings(SymbolHead(head, ids[EOS:]))
    return model

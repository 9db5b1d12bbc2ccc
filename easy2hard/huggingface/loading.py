"""Models and tokenizers of transformers, from a folder or from the hub, for one task.

Weights are read from safetensors only, and no code that comes with a model is run.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from easy2hard.errors import UserError
from easy2hard.huggingface.library import load_library
from easy2hard.huggingface.member import Base, with_adapters, with_symbol_head
from easy2hard.settings.model import ModelSettings
from easy2hard.vocabulary import BOS, EOS, PAD, SPECIAL, Vocabulary

SHOWN = 3
"""Symbols without a token of their own that an error message names."""


def load_base(settings: ModelSettings, precision: str, task: str, vocabulary: Vocabulary, device: torch.device) -> Base:
    """Load a pretrained model for a task.

    Args:
        settings: name or folder of the model, and whether all of it trains.
        precision: of the training; with ``bfloat16`` frozen weights are kept in it.
        task: the task's name, for messages.
        vocabulary: the task's symbols.
        device: where to put it.

    Raises:
        UserError: the model cannot be had, or its tokenizer has no token for a symbol.
    """
    name = _known(settings)
    tokenizer = load_tokenizer(name)
    ids = token_ids(tokenizer, name, task, vocabulary)
    transformers = load_library("transformers")
    kept = torch.bfloat16 if settings.lora and precision == "bfloat16" else torch.float32
    model = _fetched(
        name,
        lambda: transformers.AutoModelForCausalLM.from_pretrained(
            name, dtype=kept, use_safetensors=True, trust_remote_code=False
        ),
    )
    return Base(name, with_symbol_head(model, name, ids).to(device), ids)


def trained_weights(settings: ModelSettings, task: str, vocabulary: Vocabulary) -> int:
    """Return how many numbers of one member training changes, without loading the model's weights.

    Raises:
        UserError: the model cannot be had, or it cannot serve this task.
    """
    name = _known(settings)
    ids = token_ids(load_tokenizer(name), name, task, vocabulary)
    transformers = load_library("transformers")
    config = _fetched(name, lambda: transformers.AutoConfig.from_pretrained(name, trust_remote_code=False))
    with torch.device("meta"):
        model = _fetched(name, lambda: transformers.AutoModelForCausalLM.from_config(config, trust_remote_code=False))
        model = with_symbol_head(model, name, ids)
        if settings.lora:
            model = with_adapters(model, settings.lora)
    return sum(weight.numel() for weight in model.parameters() if weight.requires_grad)


def load_tokenizer(name: str) -> Any:
    """Return the tokenizer of a model.

    Raises:
        UserError: there is none.
    """
    transformers = load_library("transformers")
    return _fetched(name, lambda: transformers.AutoTokenizer.from_pretrained(name, trust_remote_code=False))


def token_ids(tokenizer: Any, name: str, task: str, vocabulary: Vocabulary) -> tuple[int, ...]:
    """Return the tokenizer's id of each token of a task's vocabulary.

    Raises:
        UserError: a symbol has no token of its own, or the tokenizer has no token that ends a text.
    """
    end = tokenizer.eos_token_id
    if end is None:
        raise UserError(f"model.pretrained = {name!r}: its tokenizer has no token for the end of a text")
    special = [0] * SPECIAL
    special[EOS] = end
    special[BOS] = end if tokenizer.bos_token_id is None else tokenizer.bos_token_id
    special[PAD] = end if tokenizer.pad_token_id is None else tokenizer.pad_token_id
    known = tokenizer.get_vocab()
    found = {symbol: _id_of(tokenizer, known, symbol) for symbol in vocabulary.symbols}
    missing = [symbol for symbol, id_ in found.items() if id_ is None]
    if missing:
        read = "; ".join(
            f"{symbol!r} as {' '.join(tokenizer.convert_ids_to_tokens(_pieces(tokenizer, symbol))) or 'nothing'}"
            for symbol in missing[:SHOWN]
        )
        more = f" and {len(missing) - SHOWN} more" if len(missing) > SHOWN else ""
        raise UserError(
            f"model.pretrained = {name!r}: {len(missing)} of the {len(found)} symbols of task {task} are no single "
            f"token of its tokenizer, which reads {read}{more}; take a model whose tokenizer has them, or another task"
        )
    return (*special, *(id_ for id_ in found.values() if id_ is not None))


def _id_of(tokenizer: Any, known: Mapping[str, int], symbol: str) -> int | None:
    """Return the id of the token that is exactly this symbol, as it stands between other symbols."""
    alone = _pieces(tokenizer, symbol)
    candidates = [known[symbol]] if symbol in known else []
    candidates += alone if len(alone) == 1 else []
    for candidate in candidates:
        if candidate != tokenizer.unk_token_id and tokenizer.decode([candidate]).strip() == symbol:
            return int(candidate)
    return None


def _pieces(tokenizer: Any, symbol: str) -> list[int]:
    """Return the tokens a symbol is read as."""
    try:
        return list(tokenizer.encode(symbol, add_special_tokens=False))
    except Exception as error:  # tokenizers has no exceptions of its own
        if "UNK" not in str(error):
            raise
        return []  # neither known nor is there a token for the unknown


def _known(settings: ModelSettings) -> str:
    if settings.pretrained is None:
        raise ValueError("no pretrained model in these settings")
    name = str(Path(settings.pretrained).expanduser()) if settings.pretrained.startswith("~") else settings.pretrained
    if name.startswith((".", "/")) and not Path(name).is_dir():
        raise UserError(f"model.pretrained = {name!r}: there is no such folder")
    return name


def _fetched(name: str, load: Callable[[], Any]) -> Any:
    """Return what ``load`` gives; say in a line why it cannot be had.

    Raises:
        UserError: it is missing, gated, not in safetensors, or brings code of its own.
    """
    try:
        return load()
    except (OSError, ValueError, ImportError) as error:
        raise UserError(f"model.pretrained = {name!r}: {_reason(error)}") from error


def _reason(error: BaseException) -> str:
    chain: list[BaseException] = [error]
    while following := chain[-1].__cause__ or chain[-1].__context__:
        chain.append(following)
    names = {type(each).__name__ for each in chain}
    first = str(error).strip().splitlines()[0]
    if "GatedRepoError" in names or "gated repo" in first:
        return "is gated; accept its licence on its page on the hub and log in with `hf auth login`"
    if "RepositoryNotFoundError" in names:
        return "is neither a folder nor a model of the hub that you may read (name it OWNER/NAME, or log in)"
    if "trust_remote_code" in str(error):
        return "brings its own code, which is never run; only architectures that transformers has can be used"
    return first

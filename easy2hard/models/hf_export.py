"""Members as checkpoints of transformers, with a tokenizer, that its auto classes load without any code of ours.

Our decoder is a SmolLM3 whose layers all leave the rotary embedding out, or all have it. Its tokenizer reads the task's
symbols, one token each, and puts BOS first. A pretrained member goes out as it came, with the adapters merged into its
weights or beside them, and with its own tokenizer, made to read the task's symbols one by one. Either generates the
tokens that it generates here: ``generation_config.json`` suppresses every token that is no answer of the task.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from easy2hard.errors import UserError
from easy2hard.models.positions import BASE, Rope
from easy2hard.models.pretrained import Pretrained, load_library, load_tokenizer
from easy2hard.models.transformer import NORM_EPS, Transformer
from easy2hard.vocabulary import BOS, EOS, PAD, Vocabulary

POSITIONS = 1 << 15
"""Written as the greatest length; without positions there is none."""
SPECIAL_TOKENS = ("<pad>", "<bos>", "<eos>")


def export_transformer(member: Transformer, vocabulary: Vocabulary, folder: Path) -> None:
    """Write a member of our own making as a SmolLM3, without rotary embedding or with it, and its tokenizer.

    Other position schemes, and loops, are beyond it; runs/export.py refuses them.

    Args:
        member: the model.
        vocabulary: what its tokens stand for.
        folder: where to write.
    """
    transformers = load_library("transformers")
    size = member.size
    config = transformers.SmolLM3Config(
        vocab_size=len(vocabulary),
        hidden_size=size.width,
        intermediate_size=size.feed_forward,
        num_hidden_layers=size.layers,
        num_attention_heads=size.heads,
        num_key_value_heads=size.heads,
        no_rope_layers=[int(isinstance(member.positions, Rope))] * size.layers,  # 1 where there is one
        rope_parameters={"rope_type": "default", "rope_theta": BASE},
        rms_norm_eps=NORM_EPS,
        max_position_embeddings=POSITIONS,
        tie_word_embeddings=False,
        pad_token_id=PAD,
        bos_token_id=BOS,
        eos_token_id=EOS,
    )
    with torch.device("meta"):
        model = transformers.SmolLM3ForCausalLM(config)
    # A second target is for training alone.
    state = {name: weight for name, weight in member.state_dict().items() if not name.startswith("second.")}
    weights = {name: weight.detach().cpu() for name, weight in state.items()}
    named = {name if name.startswith("lm_head.") else f"model.{name}": weight for name, weight in weights.items()}
    model.load_state_dict(named, assign=True)
    _write(model, task_tokenizer(vocabulary), range(EOS, len(vocabulary)), folder)


def export_pretrained(member: Pretrained, vocabulary: Vocabulary, folder: Path, adapter: bool = False) -> bool:
    """Write a pretrained member and its tokenizer.

    Args:
        member: the model.
        vocabulary: the task's symbols.
        folder: where to write.
        adapter: write the adapters alone, for use with the model that they were trained beside.

    Returns:
        Whether the tokenizer is the model's own; where that one cannot be made to read the symbols one by one, it is
        one of the task's symbols alone, with the same ids.

    Raises:
        UserError: adapters are asked for and there are none.
    """
    model = member.model
    if adapter:
        if not hasattr(model, "peft_config"):
            raise UserError("--adapter: the run trained all weights; leave it out to export them")
        model.save_pretrained(folder)
    else:
        model = member.whole()
    own = _reading_symbols(load_tokenizer(member.base.name), member.base.ids, vocabulary)
    tokenizer = own or task_tokenizer(vocabulary, member.base.ids)
    if adapter:
        tokenizer.save_pretrained(folder)
    else:
        _write(model, tokenizer, member.base.ids[EOS:], folder)
    return own is not None


def task_tokenizer(vocabulary: Vocabulary, ids: Sequence[int] | None = None) -> Any:
    """Return a tokenizer that reads a task's texts: BOS, then one token for each symbol.

    Args:
        vocabulary: the symbols.
        ids: id of each token; default: those of the vocabulary.
    """
    transformers = load_library("transformers")
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    ids = range(len(vocabulary)) if ids is None else ids
    named: dict[int, str] = {}
    for id_, name in zip(ids, (*SPECIAL_TOKENS, *vocabulary.symbols), strict=True):
        named.setdefault(id_, name)  # one token may begin, end and pad
    tokenizer = Tokenizer(models.WordLevel({name: id_ for id_, name in named.items()}))
    one_by_one = pre_tokenizers.Split(_symbol(vocabulary), "isolated")
    # Spaces keep neighbouring numbers apart and are no symbols.
    spaces = [pre_tokenizers.Split(" ", "removed")] if vocabulary.has_numbers else []
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([*spaces, one_by_one])
    tokenizer.decoder = decoders.Fuse()
    _begin_with(tokenizer, named[ids[BOS]], ids[BOS])
    pad, bos, eos = (named[ids[special]] for special in (PAD, BOS, EOS))
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token=pad, bos_token=bos, eos_token=eos, clean_up_tokenization_spaces=False
    )


def _symbol(vocabulary: Vocabulary) -> Any:
    """Return what one symbol looks like."""
    from tokenizers import Regex

    return Regex("[0-9]+|[^0-9]" if vocabulary.has_numbers else "[0-9]|[^0-9]")


def _begin_with(tokenizer: Any, token: str, id_: int) -> None:
    from tokenizers import processors

    tokenizer.post_processor = processors.TemplateProcessing(f"{token} $A", special_tokens=[(token, id_)])


def _reading_symbols(tokenizer: Any, ids: Sequence[int], vocabulary: Vocabulary) -> Any | None:
    """Return a model's own tokenizer, made to read a task's symbols one by one after BOS; None where it cannot be."""
    from tokenizers import pre_tokenizers

    inner = getattr(tokenizer, "backend_tokenizer", None)
    if inner is None:
        return None
    parts = [
        pre_tokenizers.Split(_symbol(vocabulary), "isolated"),
        *([inner.pre_tokenizer] if inner.pre_tokenizer else []),
    ]
    inner.pre_tokenizer = pre_tokenizers.Sequence(parts)
    _begin_with(inner, tokenizer.convert_ids_to_tokens(ids[BOS]), ids[BOS])
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.convert_ids_to_tokens(ids[PAD])
    # Every symbol, neighbouring numbers kept apart as in the task's own texts.
    apart = next((symbol for symbol in vocabulary.symbols if not symbol.isdecimal()), "")
    text = (apart if vocabulary.has_numbers else "").join(vocabulary.symbols)
    return tokenizer if tokenizer(text)["input_ids"] == [ids[BOS], *(ids[i] for i in vocabulary.encode(text))] else None


def _write(model: Any, tokenizer: Any, answers: Sequence[int], folder: Path) -> None:
    """Write model and tokenizer; ``answers`` are the tokens that are ever said."""
    said = set(answers)
    model.generation_config.update(
        do_sample=False,
        temperature=None,
        top_p=None,
        top_k=None,
        suppress_tokens=[token for token in range(model.config.vocab_size) if token not in said],
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)

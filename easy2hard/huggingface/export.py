"""Members as checkpoints of transformers, with a tokenizer, that its auto classes load without any code of ours.

Our decoder is a SmolLM3 whose layers all leave the rotary embedding out, or all have it. Its tokenizer reads the task's
symbols, one token each, and puts BOS first. A pretrained member goes out as it came, with the adapters merged into its
weights or beside them, and with its own tokenizer, made to read the task's symbols one by one. Either generates the
tokens that it generates here: ``generation_config.json`` suppresses every token that is no answer of the task, and has
room for the longest answer. What was written is loaded again and compared with the member before it counts.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from easy2hard.errors import UserError
from easy2hard.huggingface.library import load_library
from easy2hard.huggingface.loading import load_tokenizer
from easy2hard.huggingface.member import Pretrained
from easy2hard.models.transformer import NORM_EPS, Transformer
from easy2hard.positions.rotary import Rope
from easy2hard.positions.scheme import BASE
from easy2hard.vocabulary import BOS, EOS, PAD, Tokens, Vocabulary

POSITIONS = 1 << 15
"""Written as the greatest length; without positions there is none."""
SPECIAL_TOKENS = ("<pad>", "<bos>", "<eos>")
TOLERANCE = 1e-4
"""How far an exported model's logits may be from the member's, as a share of the greatest of them. Both are computed in
float32 and differ by rounding: by about 1e-6 in tests, by more in many layers."""


HEAD_WIDTH = 64
"""From which on attention heads are of a size that is usual."""


@dataclass(frozen=True)
class Expected:
    """What a member computes, to be found again in its export."""

    prompts: Sequence[Tokens]
    """Each (count, length)."""
    logits: Sequence[torch.Tensor]
    """For each (count, length, vocabulary - EOS), float32, on the CPU: those of EOS and of the symbols."""
    ids: Sequence[int]
    """The exported tokenizer's id of each token of the vocabulary."""
    frozen: torch.dtype
    """What the weights that adapters stand beside were kept in; float32 where whole models are exported."""


@torch.inference_mode()
def expect(
    member: Transformer | Pretrained, vocabulary: Vocabulary, prompts: Sequence[Tokens], adapter: bool
) -> Expected:
    """Compute a member's logits in float32, before the export uses it up; ``adapter``: it will be adapters alone."""
    ids: Sequence[int] = range(len(vocabulary))
    frozen = torch.float32
    if isinstance(member, Pretrained):
        ids = member.base.ids
        frozen = member.base.model.dtype if adapter else frozen
    member.float()
    logits = [member(torch.from_numpy(each).long())[..., EOS:] for each in prompts]
    return Expected(prompts, logits, ids, frozen)


@torch.inference_mode()
def check_export(folder: Path, vocabulary: Vocabulary, expected: Expected) -> None:
    """Load an export as a stranger would, and refuse it where it does not read and compute what the member does.

    Nothing is fetched for it, no code that is in the folder is run, and no pickle is opened.

    Raises:
        UserError: a prompt is read as other tokens, or a logit differs by more than :data:`TOLERANCE`.
    """
    transformers = load_library("transformers")
    safe = {"local_files_only": True, "trust_remote_code": False}
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, **safe)
    load = transformers.AutoModelForCausalLM.from_pretrained
    model = load(folder, dtype=torch.float32, use_safetensors=True, **safe)
    for name, weight in model.named_parameters():
        if "lora_" not in name:
            weight.copy_(weight.to(expected.frozen))
    ids = torch.tensor(expected.ids)
    for prompts, logits in zip(expected.prompts, expected.logits, strict=True):
        texts = vocabulary.decode_prompts(prompts)
        tokens = ids[torch.from_numpy(prompts).long()]
        for text, row in zip(texts, tokens.tolist(), strict=True):
            if (read := tokenizer(text)["input_ids"]) != row:
                raise UserError(f"the exported tokenizer reads {text!r} as tokens {read}, and the member as {row}")
        found = model(input_ids=tokens).logits[..., ids[EOS:]]
        difference, most = float((found - logits).abs().max()), TOLERANCE * float(logits.abs().max())
        if not difference <= most:  # also where it is no number
            raise UserError(
                f"the exported model does not compute what the member does: after {texts[0]!r} and others like it a "
                f"logit differs by {difference:.2g}, and rounding makes at most {most:.2g}"
            )


def engine_limits(folder: Path) -> list[str]:
    """Return what engines other than transformers may not honour of an export, in sentences of Markdown."""
    transformers = load_library("transformers")
    said = transformers.GenerationConfig.from_pretrained(folder)
    found = []
    if (folder / "config.json").exists():  # adapters have none
        config = transformers.AutoConfig.from_pretrained(folder, trust_remote_code=False).get_text_config()
        if config.model_type == "smollm3":
            order = "on in every layer" if all(config.no_rope_layers) else "off in every layer: there are no positions"
            found.append(
                f"**Rotary embedding** is {order} (`no_rope_layers`). An engine that turns it off in every fourth "
                "layer of a SmolLM3, whatever the file says, as llama.cpp does, computes another model."
            )
        width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        if width < HEAD_WIDTH:
            found.append(
                f"**Small heads**: they are {width} wide. Attention kernels for GPUs often begin at {HEAD_WIDTH}; an "
                "engine that has no other refuses the model."
            )
    found.append(
        f"**Suppressed tokens**: `generation_config.json` names {len(said.suppress_tokens):,} that are no part of an "
        "answer (`suppress_tokens`). Engines that take only sampling settings from this file, as vLLM does, may say "
        "them: tell them which tokens are allowed."
    )
    found.append(
        "**The tokenizer** reads the task's symbols one by one and puts BOS first. All of it is in `tokenizer.json`; "
        "formats with tokenizers of their own, such as GGUF, read prompts otherwise."
    )
    return found


def export_transformer(member: Transformer, vocabulary: Vocabulary, folder: Path, longest: int) -> None:
    """Write a member of our own making as a SmolLM3, without rotary embedding or with it, and its tokenizer.

    Other position schemes, and loops, are beyond it; runs/export.py refuses them.

    Args:
        member: the model.
        vocabulary: what its tokens stand for.
        folder: where to write.
        longest: tokens of the longest answer that ``generate`` has room for unless it is told otherwise.
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
    _write(model, task_tokenizer(vocabulary), range(EOS, len(vocabulary)), folder, longest)


def export_pretrained(
    member: Pretrained, vocabulary: Vocabulary, folder: Path, longest: int, adapter: bool = False
) -> bool:
    """Write a pretrained member and its tokenizer.

    Args:
        member: the model.
        vocabulary: the task's symbols.
        folder: where to write.
        longest: as for :func:`export_transformer`.
        adapter: write the adapters alone, which there must be, for use with the model that they were trained beside.

    Returns:
        Whether the tokenizer is the model's own; where that one cannot be made to read the symbols one by one, it is
        one of the task's symbols alone, with the same ids.
    """
    model = member.model if adapter else member.whole()
    own = _reading_symbols(load_tokenizer(member.base.name), member.base.ids, vocabulary)
    tokenizer = own or task_tokenizer(vocabulary, member.base.ids)
    _write(model, tokenizer, member.base.ids[EOS:], folder, longest)
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


def _write(model: Any, tokenizer: Any, answers: Sequence[int], folder: Path, longest: int) -> None:
    """Write model and tokenizer; ``answers`` are the tokens that are ever said."""
    said = set(answers)
    # What a pretrained model says by default, such as penalties, is not how the member answers: nothing of it is kept.
    generation = load_library("transformers").GenerationConfig(
        do_sample=False,
        max_new_tokens=longest,
        suppress_tokens=[token for token in range(model.config.vocab_size) if token not in said],
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    model.generation_config = generation
    tokenizer.padding_side = tokenizer.init_kwargs["padding_side"] = "left"  # so that a batch can be gone on with
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    generation.save_pretrained(folder)  # adapters come without it

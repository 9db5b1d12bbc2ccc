"""Pretrained models that tests build for themselves: small, saved as transformers saves them, with their tokenizers."""

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from easy2hard.huggingface.export import task_tokenizer
from easy2hard.huggingface.loading import load_base
from easy2hard.huggingface.member import Base, Pretrained
from easy2hard.seeding import torch_generator
from easy2hard.settings.model import LoraSettings, ModelSettings
from easy2hard.tasks.base import Task
from easy2hard.tasks.registry import load_task

CPU = torch.device("cpu")
LORA = LoraSettings(rank=4, alpha=8)
LORA_OVERRIDES = ["model.lora.rank=4", "model.lora.alpha=8", "optimiser.learning_rate=0.01"]
QUICK = """
description = "One round of a pretrained model, for tests."

[task]
name = "copy"

[model]
members = 2

[optimiser]
name = "adamw"
learning_rate = 0.001

[training]
batch = 32
groups = 2

[supervised]
difficulty = 3
steps = 8

[rounds]
count = 1
steps = 6

[labels]
count = 40
filters = [{ name = "confidence", keep = 0.8 }]

[watch]
enabled = false

[storage]
checkpoint_minutes = 0.0

[evaluation]
examples = 10
beyond = 1
"""


def subword_tokenizer() -> PreTrainedTokenizerFast:
    """Return a byte-level BPE that was trained on sums, and so has tokens of several digits."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    sums = [f"{a} + {a + 7} = {2 * a + 7}; the sum {a * 31}={a}" for a in range(0, 2000, 7)]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    special = ["<|begin|>", "<|end|>"]
    tokenizer.train_from_iterator(
        sums,
        trainers.BpeTrainer(vocab_size=400, special_tokens=special, initial_alphabet=alphabet, show_progress=False),
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token=special[0], eos_token=special[1])


def save_llama(folder: Path, tokenizer: Any, seed: int = 0) -> Path:
    """Save a random Llama with grouped queries and tied embeddings, as the small ones of Llama 3.2 are."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        tie_word_embeddings=True,
        initializer_range=0.2,  # so large that answers differ before any training
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def save_gpt2(folder: Path) -> Path:
    """Save a random GPT-2: learned positions, dropout, and one token for begin and end."""
    tokenizer = subword_tokenizer()
    tokenizer.bos_token = tokenizer.eos_token
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=len(tokenizer), n_embd=32, n_layer=2, n_head=4, n_positions=64)
    GPT2LMHeadModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def save_base(kind: str, folder: Path) -> Path:
    """Save the model of a kind: its tokenizer has a token for each character of copy, or many, or one that ends all."""
    if kind == "gpt2":
        return save_gpt2(folder)
    return save_llama(
        folder, task_tokenizer(load_task("copy").vocabulary) if kind == "symbols" else subword_tokenizer()
    )


def base_of(folder: Path, task: Task, lora: LoraSettings | None = None, precision: str = "float32") -> Base:
    """Load a model for a task."""
    settings = ModelSettings(pretrained=str(folder), lora=lora)
    return load_base(settings, precision, task.name, task.vocabulary, CPU)


def member_of(base: Base, lora: LoraSettings | None = None, seed: int = 0) -> Pretrained:
    """Return a member that starts from a model."""
    return Pretrained(base, lora, torch_generator(seed, "weights"))


def quick_recipe(folder: Path) -> str:
    """Write a recipe for a pretrained model; it lacks ``model.pretrained``."""
    (folder / "quick.toml").write_text(QUICK)
    return str(folder / "quick.toml")

"""What people use today: a Llama of transformers, its Trainer with padded batches, and ``generate``.

The peer is given the same sizes, optimiser (fused AdamW, the Trainer's default), examples a step, precision and cores
as ours. It is written the way the libraries' own documentation does it, with the batch sizes that were fastest for it.
"""

import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import networkx as nx
import numpy as np
import torch
from tokenizers import Regex, Tokenizer, models, pre_tokenizers
from torch import Tensor
from transformers import (
    DataCollatorForSeq2Seq,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    set_seed,
)
from transformers.utils import logging

from easy2hard.settings.model import ModelSize
from easy2hard.vocabulary import BOS, EOS, PAD, Vocabulary

logging.set_verbosity_error()

GENERATE_ROWS = 1024
"""Prompts in a call of ``generate``: the fastest of 256, 512, 1024 and 2048 on two cores."""


class NoRotary(torch.nn.Module):
    """Takes the place of the rotary embedding and turns nothing: cosine one, sine zero."""

    def __init__(self, head_width: int) -> None:
        super().__init__()
        self.head_width = head_width

    def forward(self, x: Tensor, position_ids: Tensor) -> tuple[Tensor, Tensor]:
        """Return (batch, time, head width) cosines and sines."""
        shape = (*position_ids.shape, self.head_width)
        return x.new_ones(shape), x.new_zeros(shape)


def build_model(size: ModelSize, vocabulary: int) -> LlamaForCausalLM:
    """Return an untrained Llama without positions."""
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=size.width,
        intermediate_size=size.feed_forward,
        num_hidden_layers=size.layers,
        num_attention_heads=size.heads,
        num_key_value_heads=size.heads,
        max_position_embeddings=2048,
        pad_token_id=PAD,
        bos_token_id=BOS,
        eos_token_id=EOS,
        tie_word_embeddings=False,
        attention_dropout=0.0,
    )
    set_seed(0)
    model = LlamaForCausalLM(config)
    model.model.rotary_emb = NoRotary(size.width // size.heads)
    model.generation_config.eos_token_id = EOS
    model.generation_config.pad_token_id = PAD
    return model


def build_tokenizer(vocabulary: Vocabulary) -> PreTrainedTokenizerFast:
    """Return a tokenizer with the token ids of ``vocabulary``: characters, and numbers where it has some."""
    symbols = ["<pad>", "<bos>", "<eos>", *vocabulary.symbols]
    tokenizer = Tokenizer(models.WordLevel({symbol: i for i, symbol in enumerate(symbols)}, unk_token="<pad>"))
    pattern = Regex("[0-9]+|[^0-9]") if vocabulary.has_numbers else ""
    tokenizer.pre_tokenizer = pre_tokenizers.Split(pattern, "isolated")
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<bos>", eos_token="<eos>", padding_side="right"
    )


Example = dict[str, list[int]]


def copy_examples(
    seed: int, tokenizer: PreTrainedTokenizerFast, difficulties: Sequence[int], count: int
) -> list[Example]:
    """Return tokenised copy examples, made one after another as tutorials do; the loss sees answer and EOS only."""
    generator = np.random.default_rng(seed)
    examples = []
    for _ in range(count):
        number = _number(generator, int(generator.choice(difficulties)))
        examples.append(tokenise(tokenizer, f"{number}=", number))
    return examples


def copies(
    generator: np.random.Generator, tokenizer: PreTrainedTokenizerFast, difficulty: int, count: int
) -> list[Example]:
    """Return copy examples of one difficulty."""
    return copy_examples(int(generator.integers(1 << 30)), tokenizer, [difficulty], count)


def _sums(
    backwards: bool, generator: np.random.Generator, tokenizer: PreTrainedTokenizerFast, difficulty: int, count: int
) -> list[Example]:
    """Return forward addition examples, or reverse addition ones with the sum padded."""
    examples = []
    for _ in range(count):
        a, b = _number(generator, difficulty), _number(generator, difficulty)
        total = str(int(a) + int(b))
        if backwards:
            a, b, total = a[::-1], b[::-1], total.zfill(difficulty + 1)[::-1]
        examples.append(tokenise(tokenizer, f"{a}+{b}=", total))
    return examples


def products(
    generator: np.random.Generator, tokenizer: PreTrainedTokenizerFast, difficulty: int, count: int
) -> list[Example]:
    """Return worked multiplication examples."""
    examples = []
    for _ in range(count):
        a, b = _number(generator, difficulty), _number(generator, difficulty)
        work, total = "", 0
        for i, digit in enumerate(reversed(b)):
            partial = int(a) * int(digit) * 10**i
            total += partial
            work += ("+" if i else "") + str(partial).zfill(i + len(a) + 1)[::-1]
            if 0 < i < len(b) - 1:
                work += "(" + str(total).zfill(i + len(a) + 1)[::-1] + ")"
        work += "=" + str(total).zfill(len(a) + len(b))[::-1]
        examples.append(tokenise(tokenizer, f"{a[::-1]}*{b[::-1]}=", work))
    return examples


def mazes(
    generator: np.random.Generator, tokenizer: PreTrainedTokenizerFast, difficulty: int, count: int
) -> list[Example]:
    """Return mazes of 30 nodes: random trees of networkx, drawn again until two nodes are far enough apart."""
    examples: list[Example] = []
    while len(examples) < count:
        tree = nx.random_labeled_tree(30, seed=int(generator.integers(1 << 30)))
        start = int(generator.integers(30))
        ends = [node for node, d in nx.single_source_shortest_path_length(tree, start).items() if d == difficulty]
        if not ends:
            continue
        end = int(generator.choice(ends))
        names = generator.permutation(99)[:30] + 1
        nodes = []
        for node in generator.permutation(30):
            neighbours = generator.permutation(list(tree.neighbors(int(node))))
            nodes.append(f"{names[node]}:" + ",".join(str(names[n]) for n in neighbours))
        way = ">".join(str(names[node]) for node in nx.shortest_path(tree, start, end))
        examples.append(tokenise(tokenizer, f"{names[start]}>{names[end]}#{'-'.join(nodes)}=", way))
    return examples


EXAMPLES = {
    "copy": copies,
    "reverse-addition": partial(_sums, True),
    "forward-addition": partial(_sums, False),
    "multiplication": products,
    "maze-hops": mazes,
}


def copy_prompts(seed: int, difficulty: int, count: int) -> list[str]:
    """Return copy prompts."""
    generator = np.random.default_rng(seed)
    return [f"{_number(generator, difficulty)}=" for _ in range(count)]


def _number(generator: np.random.Generator, digits: int) -> str:
    first = str(generator.integers(1, 10))
    return first + "".join(str(digit) for digit in generator.integers(0, 10, digits - 1))


def tokenise(tokenizer: PreTrainedTokenizerFast, prompt: str, answer: str) -> Example:
    """Return one training example."""
    prompt_ids = [BOS, *tokenizer.encode(prompt, add_special_tokens=False)]
    answer_ids = [*tokenizer.encode(answer, add_special_tokens=False), EOS]
    return {
        "input_ids": prompt_ids + answer_ids,
        "attention_mask": [1] * (len(prompt_ids) + len(answer_ids)),
        "labels": [-100] * len(prompt_ids) + answer_ids,
    }


class _Stopwatch(TrainerCallback):  # type: ignore[misc]  # untyped where transformers is not followed
    """Times the steps after the first few, so that what the Trainer sets up is not counted."""

    def __init__(self, skip: int) -> None:
        self.skip = skip
        self.begin = 0.0
        self.seconds = 0.0

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        now = time.perf_counter()
        if state.global_step == self.skip:
            self.begin = now
        self.seconds = now - self.begin


def train(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    examples: list[Example],
    batch: int,
    steps: int,
    learning_rate: float = 2e-3,
    warmup: int = 0,
    decay: int = 0,
    bf16: bool = False,
    skip: int = 0,
) -> float:
    """Train for ``steps`` steps after ``skip`` untimed ones; return the seconds of the timed ones."""
    stopwatch = _Stopwatch(skip)
    schedule: dict[str, Any] = {"lr_scheduler_type": "constant"}
    if decay:
        schedule = {
            "lr_scheduler_type": "warmup_stable_decay",
            "warmup_steps": warmup,
            "lr_scheduler_kwargs": {"num_decay_steps": decay, "min_lr_ratio": 0.01, "decay_type": "linear"},
        }
    with TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=str(Path(folder)),
            per_device_train_batch_size=batch,
            max_steps=steps + skip,
            learning_rate=learning_rate,
            weight_decay=0.01,
            adam_beta2=0.98,
            adam_epsilon=1e-12,
            max_grad_norm=1.0,
            logging_strategy="no",
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
            use_cpu=not torch.cuda.is_available(),
            bf16=bf16,
            seed=0,
            **schedule,
        )
        trainer = Trainer(
            model=model,
            args=arguments,
            train_dataset=examples,
            data_collator=DataCollatorForSeq2Seq(tokenizer, padding="longest"),
            callbacks=[stopwatch],
        )
        trainer.remove_callback(PrinterCallback)
        begin = time.perf_counter()
        trainer.train()
        return stopwatch.seconds if skip else time.perf_counter() - begin


@torch.inference_mode()
def generate(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, prompts: Sequence[str], bound: int
) -> list[str]:
    """Return greedy answers by ``generate`` with its key/value cache; ``bound`` is the greatest number of tokens."""
    model.eval()
    answers: list[str] = []
    for start in range(0, len(prompts), GENERATE_ROWS):
        rows = [[BOS, *tokenizer.encode(p, add_special_tokens=False)] for p in prompts[start : start + GENERATE_ROWS]]
        batch = tokenizer.pad({"input_ids": rows}, padding_side="left", return_tensors="pt").to(model.device)
        output = model.generate(**batch, max_new_tokens=bound, do_sample=False, use_cache=True)
        texts = tokenizer.batch_decode(output[:, batch["input_ids"].shape[1] :], skip_special_tokens=True)
        answers += [text.replace(" ", "") for text in texts]
    model.train()
    return answers


def evaluate(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, prompts: Sequence[str], bound: int) -> float:
    """Return the exact match on copy prompts by decoding and comparing texts."""
    answers = generate(model, tokenizer, prompts, bound)
    return sum(answer == prompt[:-1] for prompt, answer in zip(prompts, answers, strict=True)) / len(prompts)


def one_round(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    d0: int,
    older: list[list[Example]],
    difficulty: int,
    labels: int,
    steps: int,
    examples: int,
    beyond: int,
    batch: int = 256,
    decay: int = 0,
    step: int = 1,
) -> list[float]:
    """Label copy prompts of ``step`` difficulties up to ``difficulty``, train on them and on D0, evaluate.

    Half of the examples are of this round, the rest of D0 (weight ``d0``) and of the ``older`` rounds (weight
    ``step``). No filter. The labelled examples are appended to ``older``.

    Returns:
        Exact match of the difficulties 1 to ``difficulty + beyond``.
    """
    generator = np.random.default_rng(difficulty)
    newest: list[Example] = []
    for d in range(difficulty - step + 1, difficulty + 1):
        prompts = copy_prompts(1000 + d, d, labels)
        answers = generate(model, tokenizer, prompts, d + 1)
        newest += [tokenise(tokenizer, prompt, answer) for prompt, answer in zip(prompts, answers, strict=True)]
    count = batch * steps
    owners = generator.choice(len(older) + 1, count - count // 2, p=_shares([d0, *[step] * len(older)]))
    mixed = [newest[i] for i in generator.integers(0, len(newest), count // 2)]
    mixed += copy_examples(difficulty, tokenizer, range(1, d0 + 1), int((owners == 0).sum()))
    for owner, pool in enumerate(older, start=1):
        mixed += [pool[i] for i in generator.integers(0, len(pool), int((owners == owner).sum()))]
    train(model, tokenizer, mixed, batch, steps, decay=decay)
    older.append(newest)
    return [
        evaluate(model, tokenizer, copy_prompts(2000 + d, d, examples), d + 1)
        for d in range(1, difficulty + beyond + 1)
    ]


def _shares(weights: Sequence[float]) -> np.ndarray:
    return np.array(weights) / sum(weights)

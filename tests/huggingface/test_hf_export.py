"""Our decoder as a SmolLM3 without rotary embedding, and its tokenizer, as transformers loads them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from bases import LORA, base_of, member_of, save_base
from helpers import decode
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from easy2hard.errors import UserError
from easy2hard.huggingface.export import check_export, expect, export_pretrained, export_transformer, task_tokenizer
from easy2hard.models.transformer import SecondTarget, Transformer
from easy2hard.seeding import numpy_generator, torch_generator
from easy2hard.settings.model import PRESETS
from easy2hard.tasks.registry import load_task, task_names
from easy2hard.vocabulary import EOS, PAD, Vocabulary

TASK = load_task("reverse-addition")
BOUND = 12
"""Tokens of an answer."""


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Transformer, Any, Any]:
    """A member with weights drawn by chance, norms included, and what transformers makes of its export."""
    generator = torch_generator(0, "weights")
    member = Transformer(PRESETS["tiny"], len(TASK.vocabulary), generator)
    with torch.no_grad():
        for weight in member.parameters():
            if weight.dim() == 1:
                weight.normal_(1.0, 0.3, generator=generator)
        member.lm_head.weight.mul_(0.3)
    folder = tmp_path_factory.mktemp("exported")
    export_transformer(member, TASK.vocabulary, folder, BOUND)
    assert not list(folder.glob("*.py"))
    return member, AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)


def texts_of(count: int) -> list[str]:
    """Return prompts of several lengths."""
    tokens = [TASK.sample(numpy_generator(0, "test", d), d, count // 10) for d in range(1, 11)]
    return [text for each in tokens for text in TASK.vocabulary.decode_prompts(each)]


@pytest.mark.parametrize("side", ["left", "right"])
def test_the_logits_are_the_same_on_either_side_of_the_padding(
    side: str, exported: tuple[Transformer, Any, Any]
) -> None:
    member, model, tokenizer = exported
    texts = texts_of(60)
    given = tokenizer(texts, return_tensors="pt", padding=True, padding_side=side)
    assert (given["attention_mask"] == 0).any()
    assert given["input_ids"][:, 0 if side == "left" else -1].tolist().count(PAD) > 10
    with torch.inference_mode():
        logits = model(input_ids=given["input_ids"], attention_mask=given["attention_mask"]).logits
        for row, text in enumerate(texts):
            expected = member(torch.from_numpy(TASK.vocabulary.encode_prompts([text])).long())[0]
            torch.testing.assert_close(logits[row, given["attention_mask"][row] == 1], expected, rtol=0, atol=1e-5)


def test_500_greedy_answers_are_the_same(exported: tuple[Transformer, Any, Any]) -> None:
    member, model, tokenizer = exported
    texts = texts_of(500)
    said = [""] * len(texts)
    for rows, prompts in TASK.encode(texts):
        tokens = decode(member, prompts, np.full(len(prompts), BOUND)).tokens
        for row, answer in zip(rows, TASK.vocabulary.decode_answers(tokens), strict=True):
            said[row] = answer
    given = tokenizer(texts, return_tensors="pt", padding=True)  # on the left, and as far as there is room
    with torch.inference_mode():
        tokens = model.generate(given["input_ids"], attention_mask=given["attention_mask"])
    assert tokenizer.batch_decode(tokens[:, given["input_ids"].shape[1] :], skip_special_tokens=True) == said
    assert len(set(said)) > 150
    lengths = set(map(len, said))
    assert min(lengths) < BOUND == max(lengths)  # some end, some do not


def test_a_second_target_stays_at_home(exported: tuple[Transformer, Any, Any], tmp_path: Path) -> None:
    member, model, _ = exported
    with_second = Transformer(
        member.size,
        len(TASK.vocabulary),
        torch_generator(1, "weights"),
        second=SecondTarget(member.size.width, 3, 1, 2),
    )
    with_second.load_state_dict(member.state_dict(), strict=False)
    export_transformer(with_second, TASK.vocabulary, tmp_path / "exported", BOUND)
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "exported").state_dict()
    assert {name: weight.tolist() for name, weight in again.items()} == {
        name: weight.tolist() for name, weight in model.state_dict().items()
    }


@pytest.mark.parametrize("name", task_names())
def test_the_tokenizer_reads_every_task_as_we_do(name: str, tmp_path: Path) -> None:
    task = load_task(name)
    task_tokenizer(task.vocabulary).save_pretrained(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    prompts = task.sample(numpy_generator(0, "test"), task.supervised_difficulties(task.capped(12))[-1], 20)
    texts = task.vocabulary.decode_prompts(prompts)
    assert tokenizer(texts)["input_ids"] == prompts.tolist()
    assert tokenizer.batch_decode(prompts, skip_special_tokens=True) == texts
    assert (tokenizer.pad_token_id, tokenizer.eos_token_id, len(tokenizer)) == (PAD, EOS, len(task.vocabulary))


@pytest.mark.parametrize("kind", ["subwords", "gpt2"])
def test_a_tokenizer_of_subwords_is_made_to_read_symbols(kind: str, tmp_path: Path) -> None:
    base = base_of(save_base(kind, tmp_path / "base"), TASK)
    assert export_pretrained(member_of(base), TASK.vocabulary, tmp_path / "exported", BOUND)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "exported")
    prompts = TASK.sample(numpy_generator(0, "test"), 6, 20)
    texts = TASK.vocabulary.decode_prompts(prompts)
    assert tokenizer(texts)["input_ids"] == np.array(base.ids)[prompts].tolist()
    assert tokenizer.decode(tokenizer("the sum")["input_ids"], skip_special_tokens=True) == "the sum"


def test_numbers_that_are_one_token_stay_so_in_the_exported_tokenizer(tmp_path: Path) -> None:
    """The subwords have many numbers of two digits, and mazes need all of them: a vocabulary of those there are."""
    folder = save_base("subwords", tmp_path / "base")
    known = AutoTokenizer.from_pretrained(folder).get_vocab()
    numbers = [str(number) for number in range(1, 100) if str(number) in known]
    assert len(numbers) > 20
    task = load_task("maze-hops")
    task.vocabulary = Vocabulary([*numbers, *">#:,-="])
    base = base_of(folder, task)
    assert export_pretrained(member_of(base), task.vocabulary, tmp_path / "exported", BOUND)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "exported")
    text = f"{numbers[-1]}>{numbers[-2]}#{numbers[-3]}:5="
    assert tokenizer(text)["input_ids"][1:] == [base.ids[id_] for id_ in task.vocabulary.encode(text)]


def test_what_a_pretrained_model_says_by_default_changes_no_answer(tmp_path: Path) -> None:
    """Penalties, sampling and lengths of its own generation config are how others use it, not how the run does."""
    folder = save_base("subwords", tmp_path / "base")
    own = {"do_sample": True, "temperature": 5.0, "repetition_penalty": 9.0, "max_length": 3, "no_repeat_ngram_size": 1}
    GenerationConfig(**own).save_pretrained(folder)
    base = base_of(folder, TASK)
    assert base.model.generation_config.repetition_penalty == 9.0
    prompts = TASK.sample(numpy_generator(0, "test"), 4, 50)
    expected = TASK.vocabulary.decode_answers(decode(member_of(base), prompts, np.full(50, BOUND)).tokens)
    assert len(set(expected)) > 10
    export_pretrained(member_of(base), TASK.vocabulary, tmp_path / "exported", BOUND)
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "exported")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "exported")
    given = tokenizer(TASK.vocabulary.decode_prompts(prompts), return_tensors="pt", padding=True)
    tokens = model.generate(given["input_ids"], attention_mask=given["attention_mask"])
    assert tokenizer.batch_decode(tokens[:, given["input_ids"].shape[1] :], skip_special_tokens=True) == expected


@pytest.mark.parametrize(
    ("kind", "adapter", "precision"),
    [
        ("symbols", False, "float32"),
        ("subwords", True, "bfloat16"),
        ("gpt2", False, "bfloat16"),
        ("gpt2", True, "float32"),
    ],
)
def test_an_export_is_found_to_be_the_member_and_a_changed_one_is_not(
    kind: str, adapter: bool, precision: str, tmp_path: Path
) -> None:
    task = load_task("copy")
    base = base_of(save_base(kind, tmp_path / "base"), task, LORA, precision)
    member = member_of(base, LORA)
    with torch.no_grad():
        for name, weight in member.state_dict().items():
            if "lora_B" in name:  # zero before any training
                weight.normal_(0.0, 0.05, generator=torch_generator(0, "weights"))
    prompts = [task.sample(numpy_generator(0, "test", d), d, 3) for d in (1, 4)]
    expected = expect(member, task.vocabulary, prompts, adapter)
    export_pretrained(member, task.vocabulary, tmp_path / "exported", BOUND, adapter)
    check_export(tmp_path / "exported", task.vocabulary, expected)
    (file,) = (tmp_path / "exported").glob("*.safetensors")
    tensors = {name: 1.02 * weight for name, weight in load_file(file).items()}
    save_file(tensors, file, {"format": "pt"})
    with pytest.raises(UserError, match="does not compute what the member does"):
        check_export(tmp_path / "exported", task.vocabulary, expected)
    torch.save(tensors, file.with_name("pytorch_model.bin"))
    file.unlink()
    with pytest.raises(OSError, match=r"safetensors|adapter"):
        check_export(tmp_path / "exported", task.vocabulary, expected)


def test_a_tokenizer_that_reads_otherwise_is_found(exported: tuple[Transformer, Any, Any], tmp_path: Path) -> None:
    member = exported[0]
    expected = expect(member, TASK.vocabulary, [TASK.sample(numpy_generator(0, "test"), 3, 2)], adapter=False)
    export_transformer(member, TASK.vocabulary, tmp_path, BOUND)
    check_export(tmp_path, TASK.vocabulary, expected)
    task_tokenizer(Vocabulary(TASK.vocabulary.symbols[::-1])).save_pretrained(tmp_path)
    with pytest.raises(UserError, match=r"tokenizer reads '.*' as tokens"):
        check_export(tmp_path, TASK.vocabulary, expected)

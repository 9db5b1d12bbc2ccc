"""Our decoder as a SmolLM3 without rotary embedding, and its tokenizer, as transformers loads them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from bases import base_of, member_of, save_base
from helpers import decode
from transformers import AutoModelForCausalLM, AutoTokenizer

from easy2hard.models.hf_export import export_pretrained, export_transformer, task_tokenizer
from easy2hard.models.transformer import SecondTarget, Transformer
from easy2hard.seeding import numpy_generator, torch_generator
from easy2hard.settings.model import PRESETS
from easy2hard.tasks.registry import load_task, task_names
from easy2hard.vocabulary import EOS, PAD

TASK = load_task("reverse-addition")


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
    export_transformer(member, TASK.vocabulary, folder)
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
    bound = 12
    for rows, prompts in TASK.encode(texts):
        tokens = decode(member, prompts, np.full(len(prompts), bound)).tokens
        for row, answer in zip(rows, TASK.vocabulary.decode_answers(tokens), strict=True):
            said[row] = answer
    given = tokenizer(texts, return_tensors="pt", padding=True, padding_side="left")
    with torch.inference_mode():
        tokens = model.generate(given["input_ids"], attention_mask=given["attention_mask"], max_new_tokens=bound)
    assert tokenizer.batch_decode(tokens[:, given["input_ids"].shape[1] :], skip_special_tokens=True) == said
    assert len(set(said)) > 150
    lengths = set(map(len, said))
    assert min(lengths) < bound == max(lengths)  # some end, some do not


def test_a_second_target_stays_at_home(exported: tuple[Transformer, Any, Any], tmp_path: Path) -> None:
    member, model, _ = exported
    with_second = Transformer(
        member.size,
        len(TASK.vocabulary),
        torch_generator(1, "weights"),
        second=SecondTarget(member.size.width, 3, 1, 2),
    )
    with_second.load_state_dict(member.state_dict(), strict=False)
    export_transformer(with_second, TASK.vocabulary, tmp_path / "exported")
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "exported").state_dict()
    assert {name: weight.tolist() for name, weight in again.items()} == {
        name: weight.tolist() for name, weight in model.state_dict().items()
    }


@pytest.mark.parametrize("name", task_names())
def test_the_tokenizer_reads_every_task_as_we_do(name: str, tmp_path: Path) -> None:
    task = load_task(name)
    task_tokenizer(task.vocabulary).save_pretrained(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    prompts = task.sample(numpy_generator(0, "test"), task.supervised_difficulties(12)[-1], 20)
    texts = task.vocabulary.decode_prompts(prompts)
    assert tokenizer(texts)["input_ids"] == prompts.tolist()
    assert tokenizer.batch_decode(prompts, skip_special_tokens=True) == texts
    assert (tokenizer.pad_token_id, tokenizer.eos_token_id, len(tokenizer)) == (PAD, EOS, len(task.vocabulary))


@pytest.mark.parametrize("kind", ["subwords", "gpt2"])
def test_a_tokenizer_of_subwords_is_made_to_read_symbols(kind: str, tmp_path: Path) -> None:
    base = base_of(save_base(kind, tmp_path / "base"), TASK)
    assert export_pretrained(member_of(base), TASK.vocabulary, tmp_path / "exported")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "exported")
    prompts = TASK.sample(numpy_generator(0, "test"), 6, 20)
    texts = TASK.vocabulary.decode_prompts(prompts)
    assert tokenizer(texts)["input_ids"] == np.array(base.ids)[prompts].tolist()
    assert tokenizer.decode(tokenizer("the sum")["input_ids"], skip_special_tokens=True) == "the sum"


def test_numbers_that_are_one_token_stay_so_in_the_exported_tokenizer(tmp_path: Path) -> None:
    """The subwords have many numbers of two digits, and mazes need all of them: a vocabulary of those there are."""
    from easy2hard.vocabulary import Vocabulary

    folder = save_base("subwords", tmp_path / "base")
    known = AutoTokenizer.from_pretrained(folder).get_vocab()
    numbers = [str(number) for number in range(1, 100) if str(number) in known]
    assert len(numbers) > 20
    task = load_task("maze-hops")
    task.vocabulary = Vocabulary([*numbers, *">#:,-="])
    base = base_of(folder, task)
    assert export_pretrained(member_of(base), task.vocabulary, tmp_path / "exported")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "exported")
    text = f"{numbers[-1]}>{numbers[-2]}#{numbers[-3]}:5="
    assert tokenizer(text)["input_ids"][1:] == [base.ids[id_] for id_ in task.vocabulary.encode(text)]

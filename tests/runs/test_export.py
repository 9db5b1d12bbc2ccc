"""Runs of pretrained models and of our own, exported and loaded by transformers; labels loaded by datasets."""

import re
import shutil
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import deadly
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from bases import LORA_OVERRIDES as LORA
from bases import quick_recipe, save_base, save_llama, subword_tokenizer
from forks import exit_code
from helpers import Silent, decode
from huggingface_hub import DatasetCard, ModelCard
from transformers import AutoModelForCausalLM, AutoTokenizer, pipeline

import easy2hard
from easy2hard.huggingface import export as hf_export
from easy2hard.huggingface.export import export_transformer
from easy2hard.models.transformer import Transformer
from easy2hard.runs import rounds
from easy2hard.runs.evaluations import measured
from easy2hard.runs.experiment import Experiment
from easy2hard.runs.export import export_labels
from easy2hard.runs.manifest import RunDirectory
from easy2hard.runs.store import Store
from easy2hard.seeding import numpy_generator
from easy2hard.settings.recipes import load_recipe
from easy2hard.tasks.registry import load_task

Cli = Callable[..., CompletedProcess[str]]


def blocks(card: str) -> list[str]:
    """Return the code that a card tells its readers to run."""
    return re.findall(r"^```python\n(.*?)^```$", card, flags=re.DOTALL | re.MULTILINE)


def generated(folder: Path, prompts: Sequence[str], new: int) -> list[str]:
    """Return what transformers generates after prompts of any lengths, without any code of ours."""
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    given = tokenizer(list(prompts), return_tensors="pt", padding=True, padding_side="left")
    given.pop("token_type_ids", None)
    with torch.inference_mode():
        tokens = model.generate(**given, max_new_tokens=new)
    return tokenizer.batch_decode(tokens[:, given["input_ids"].shape[1] :], skip_special_tokens=True)


@pytest.mark.parametrize("overrides", [[], LORA], ids=["full", "lora"])
@pytest.mark.parametrize("kind", ["symbols", "subwords"])
def test_killed_resumed_exported_and_reloaded_it_says_the_same(
    kind: str, overrides: list[str], tmp_path: Path, cli: Cli
) -> None:
    base = save_base(kind, tmp_path / "base")
    settings = load_recipe(quick_recipe(tmp_path), [f"model.pretrained={base}", *overrides])
    expected = rounds.start(settings, tmp_path / "whole", Silent())
    assert exit_code(deadly.start, settings, tmp_path / "run", 8 + 3) == -signal.SIGKILL  # within the round's training
    store = Store(tmp_path / "run")
    assert len(store.manifest.rounds) == 1
    assert list(store.checkpoint_folder.glob("*-member-0.safetensors"))
    rounds.resume(store, Silent())
    for number in range(2):
        assert store.weights_path(number).read_bytes() == expected.weights_path(number).read_bytes()
    assert store.manifest.base_sha256 == expected.manifest.base_sha256 != ""

    task = load_task("copy")
    prompts = task.sample(numpy_generator(0, "test"), 4, 50)
    member = Experiment(store.settings).load(store).members[1]
    answers = task.vocabulary.decode_answers(decode(member, prompts, task.answer_bounds(prompts)).tokens)
    assert len(set(answers)) > 5
    texts = task.vocabulary.decode_prompts(prompts)
    done = cli("export", str(store.path), str(tmp_path / "exported"), "--member", "1")
    assert done.returncode == 0, done.stderr
    shutil.rmtree(base)  # the exported model needs nothing but its own folder
    assert generated(tmp_path / "exported", texts, int(task.answer_bounds(prompts)[0])) == answers
    # And it can be started from again: it is what it was.
    again = load_recipe(
        quick_recipe(tmp_path), [f"model.pretrained={tmp_path / 'exported'}", "supervised.steps=1", "rounds.count=0"]
    )
    (fresh, _) = Experiment(again, "cpu").members
    reloaded = decode(fresh, prompts, task.answer_bounds(prompts))
    assert task.vocabulary.decode_answers(reloaded.tokens) == answers


def test_a_pipeline_answers_as_solve_does_and_the_card_says_how(
    smoke: easy2hard.Run, tmp_path: Path, cli: Cli, capsys: pytest.CaptureFixture[str]
) -> None:
    """All of 1,000 prompts and more whose answers end; after the others `generate` goes on, as far as it may."""
    task, out = smoke.task, tmp_path / "exported"
    done = cli("export", str(smoke.path), "exported", "--member", "1")
    assert (done.returncode, done.stdout) == (0, "exported\n"), done.stderr
    drawn = [task.sample(numpy_generator(0, "test", d), d, 400) for d in (1, 2, 3, 4)]
    prompts = [text for each in drawn for text in task.vocabulary.decode_prompts(each)]
    answers = smoke.solve(prompts, member=1)
    ended = [answer.votes == 1 for answer in answers]
    assert sum(ended) >= 1000
    assert len({answer.answer for answer in answers}) > 400
    answer = pipeline("text-generation", model=str(out), return_full_text=False)
    said = [each[0]["generated_text"] for each in answer(prompts, batch_size=400)]
    for each, text, whole in zip(answers, said, ended, strict=True):
        assert text == each.answer if whole else text.startswith(each.answer)

    card = ModelCard((out / "README.md").read_text())
    assert (card.data.library_name, card.data.pipeline_tag) == ("transformers", "text-generation")
    newest = measured(RunDirectory(smoke.path), smoke.manifest).rounds[-1]
    for difficulty, score in newest.accuracy.items():
        assert f"| {difficulty} | {score:.3f} | " in card.text
    for words in (newest.reach_text, "seed 0", newest.weights_sha256, "off in every layer", "16 wide"):
        assert words in card.text
    assert smoke.settings.to_toml() in card.text
    easiest, hardest = re.findall(r"\[\"(\d+=)\", \"(\d+=)\"\]", card.text)[0]
    assert (len(easiest), len(hardest)) == (2, 4)
    assert len(blocks(card.text)) == 2
    for block in blocks(card.text):
        exec(block, {})
        assert capsys.readouterr().out == f"{[each.answer for each in smoke.solve([easiest, hardest], member=1)]}\n"

    # Every file may be read by whoever may read the folder, and no answer of what was evaluated is cut short.
    assert {path.stat().st_mode & 0o777 for path in out.iterdir()} == {0o666 & (out.stat().st_mode & 0o777)}
    assert answer.model.generation_config.max_new_tokens == max(map(int, newest.accuracy)) + 1


def test_what_transformers_computes_otherwise_is_not_exported(
    smoke: easy2hard.Run, tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    def changed(member: Transformer, *arguments: Any) -> None:
        member.state_dict()["lm_head.weight"].mul_(1.02)
        export_transformer(member, *arguments)

    monkeypatch.setattr(hf_export, "export_transformer", changed)
    done = cli("export", str(smoke.path), "exported")
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert "does not compute what the member does" in done.stderr
    assert not list(tmp_path.iterdir())


def test_adapters_alone_are_loaded_beside_their_model(
    tmp_path: Path, cli: Cli, capsys: pytest.CaptureFixture[str]
) -> None:
    base = save_base("subwords", tmp_path / "base")
    out = str(tmp_path / "run")
    settings = load_recipe(quick_recipe(tmp_path), [f"model.pretrained={base}", *LORA, "rounds.count=0"])
    store = rounds.start(settings, Path(out), Silent())
    assert store.weights_path(0).stat().st_size < (base / "model.safetensors").stat().st_size
    done = cli("export", out, str(tmp_path / "adapter"), "--adapter")
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "adapter" / "model.safetensors").exists()
    card = (tmp_path / "adapter" / "README.md").read_text()
    (block,) = blocks(card)
    asked = re.findall(r'"(\d+=)"', block)
    exec(block, {})
    said = capsys.readouterr().out
    assert said == f"{[each.answer for each in easy2hard.Run(out).solve(asked, member=0)]}\n"
    assert ModelCard(card).data.library_name == "peft"
    member = Experiment(store.settings).load(store).members[0]
    tokens = torch.from_numpy(load_task("copy").sample(numpy_generator(0, "test"), 4, 5)).long()
    with torch.inference_mode():
        expected = member(tokens)[..., 2:]
        ids = torch.tensor(member.base.ids)  # type: ignore[attr-defined]
        logits = AutoModelForCausalLM.from_pretrained(tmp_path / "adapter")(ids[tokens]).logits[..., ids[2:]]
    torch.testing.assert_close(logits, expected)


def test_another_model_under_the_same_name_is_refused(tmp_path: Path, cli: Cli) -> None:
    base = save_base("subwords", tmp_path / "base")
    out = str(tmp_path / "run")
    settings = load_recipe(quick_recipe(tmp_path), [f"model.pretrained={base}", *LORA, "rounds.count=0"])
    rounds.start(settings, Path(out), Silent())
    assert cli("solve", out, "12=").returncode == 0
    save_llama(base, subword_tokenizer(), seed=1)
    for command in (["resume", out], ["solve", out, "12="], ["export", out, str(tmp_path / "exported")]):
        done = cli(*command)
        assert (done.returncode, "no longer the model" in done.stderr) == (2, True), command
        assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "exported").exists()


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["model.pretrained={base}/nowhere"], "there is no such folder"),
        (["model.pretrained={base}", "task.name=maze-hops"], "symbols of task maze-hops"),
        (["model.pretrained={base}", "optimiser.name=muon"], "pretrained models train with adamw"),
        (["model.pretrained={base}", "model.width=64"], "has its own size"),
        (["model.lora.rank=4"], "lora needs model.pretrained"),
        (["model.pretrained={base}", "model.lora.ranks=4"], "allowed: alpha, rank, targets"),
        (["model.pretrained={base}", "model.lora.targets=['x']"], "model.lora.targets = ['x']"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_written(
    overrides: list[str], said: str, tmp_path: Path, cli: Cli
) -> None:
    base = save_base("subwords", tmp_path / "base")
    named = [each.format(base=base) for each in overrides]
    out = tmp_path / "run"
    done = cli("run", quick_recipe(tmp_path), "--out", str(out), *[part for each in named for part in ("--set", each)])
    assert done.returncode == 2
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not out.exists()


def test_the_labels_are_a_dataset_with_a_card(tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
    import datasets

    settings = load_recipe(quick_recipe(tmp_path), ["model.width=32", "model.layers=2", "rounds.count=2"])
    store = rounds.start(settings, tmp_path / "run", Silent())
    done = cli("export", str(store.path), str(tmp_path / "labels"), "--labels")
    assert (done.returncode, done.stdout) == (0, f"{tmp_path / 'labels'}: 80 labels\n")
    loaded = datasets.load_dataset(str(tmp_path / "labels"), split="train", cache_dir=str(tmp_path / "cache"))
    ledgers = [pq.read_table(store.ledger_path(number)) for number in (1, 2)]
    assert loaded.to_dict() == pa.concat_tables(ledgers).to_pydict()
    card = (tmp_path / "labels" / "README.md").read_text()
    assert DatasetCard(card).data.size_categories == ["n<1K"]
    for column in loaded.column_names:
        assert f"`{column}`" in card
    again = cli("export", str(store.path), str(tmp_path / "labels"), "--labels")
    assert (again.returncode, "not an empty directory" in again.stderr) == (2, True)


def test_labels_given_afresh_are_a_configuration_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
    import datasets

    changes = ["model.width=32", "model.layers=2", "rounds.count=3", "labels.relabel=true"]
    store = rounds.start(load_recipe(quick_recipe(tmp_path), changes), tmp_path / "run", Silent())
    assert export_labels(store, tmp_path / "labels") == 120
    for name, paths in {
        "default": [store.ledger_path(number) for number in (1, 2, 3)],
        "relabelled": [store.relabelled_path(number) for number in (2, 3)],
    }.items():
        loaded = datasets.load_dataset(str(tmp_path / "labels"), name, split="train", cache_dir=str(tmp_path / "cache"))
        assert loaded.to_dict() == pa.concat_tables([pq.read_table(path) for path in paths]).to_pydict()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--member", "2"], "--member 2: the run has members 0 to 1"),
        (["--adapter"], "--adapter: the run trained all weights"),
        (["--labels", "--member", "1"], "--labels: takes neither"),
        (["--labels"], "no round with labels"),
    ],
)
def test_what_cannot_be_exported_is_a_line(options: list[str], said: str, tmp_path: Path, cli: Cli) -> None:
    settings = load_recipe(quick_recipe(tmp_path), ["model.width=32", "model.layers=2", "rounds.count=0"])
    store = rounds.start(settings, tmp_path / "run", Silent())
    done = cli("export", str(store.path), str(tmp_path / "exported"), *options)
    assert (done.returncode, said in done.stderr, len(done.stderr.splitlines())) == (2, True, 1)
    assert not list(tmp_path.glob("*exported*"))

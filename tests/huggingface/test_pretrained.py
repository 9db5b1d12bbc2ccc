import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from bases import LORA, base_of, member_of, save_base, save_llama, subword_tokenizer
from helpers import answer_plainly, decode
from transformers import AutoModelForCausalLM, AutoTokenizer

from easy2hard.engines import decoding
from easy2hard.errors import UserError
from easy2hard.huggingface.loading import trained_weights
from easy2hard.huggingface.member import Pretrained
from easy2hard.runs.store import Store, load_weights
from easy2hard.seeding import numpy_generator
from easy2hard.settings.model import LoraSettings, ModelSettings
from easy2hard.tasks.registry import load_task
from easy2hard.vocabulary import BOS, EOS, Tokens

KINDS = ["symbols", "subwords", "gpt2"]
COPY = load_task("copy")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {kind: save_base(kind, tmp_path_factory.mktemp(kind)) for kind in KINDS}


def prompts_of(difficulty: int, count: int) -> Tokens:
    return COPY.sample(numpy_generator(0, "test"), difficulty, count)


def perturbed(member: Pretrained, seed: int = 0) -> Pretrained:
    """Return the member with other weights, adapters included: fresh ones do nothing."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in member.parameters():
            if weight.requires_grad:
                weight.add_(torch.randn(weight.shape, generator=generator), alpha=0.1)
    return member


@pytest.mark.parametrize("kind", KINDS)
def test_the_logits_are_those_of_the_symbols_in_the_whole_model(kind: str, folders: dict[str, Path]) -> None:
    member = member_of(base_of(folders[kind], COPY))
    tokenizer = AutoTokenizer.from_pretrained(folders[kind])
    whole = AutoModelForCausalLM.from_pretrained(folders[kind], dtype=torch.float32).eval()
    prompts = prompts_of(5, 4)
    for row in COPY.vocabulary.decode_prompts(prompts):
        assert "".join(tokenizer.decode([member.base.ids[COPY.vocabulary.id(c)]]) for c in row) == row
    tokens = torch.tensor(member.base.ids)[torch.from_numpy(prompts).long()]
    assert (tokens[:, 0] == tokenizer.bos_token_id).all()
    with torch.inference_mode():
        logits, expected = member(torch.from_numpy(prompts).long(), first=2), whole(tokens).logits[:, 2:]
    torch.testing.assert_close(logits[..., EOS:], expected[..., list(member.base.ids[EOS:])])
    assert (logits[..., :EOS] == -torch.inf).all()
    assert member.base.ids[EOS] == tokenizer.eos_token_id


def test_symbols_are_one_token_each_though_the_tokenizer_joins_them(folders: dict[str, Path]) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folders["subwords"])
    assert len(tokenizer.tokenize("1434=")) < 5
    ids = base_of(folders["subwords"], COPY).ids
    assert [tokenizer.convert_ids_to_tokens(id_) for id_ in ids[3:]] == list("0123456789=")
    assert len(set(ids[BOS:])) == len(ids) - 1


@pytest.mark.parametrize("lora", [None, LORA], ids=["full", "lora"])
@pytest.mark.parametrize("kind", KINDS)
def test_cached_answers_are_those_of_plain_greedy_decoding(
    kind: str, lora: LoraSettings | None, folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    member = perturbed(member_of(base_of(folders[kind], COPY, lora), lora))
    prompts = prompts_of(4, 24)
    bounds = COPY.answer_bounds(prompts)
    answers = decode(member, prompts, bounds)
    for row, prompt in enumerate(prompts):
        tokens, log_probabilities = answer_plainly(member, prompt.tolist(), int(bounds[row]))
        assert answers.tokens[row, : len(tokens)].tolist() == tokens
        assert answers.confidence[row] == pytest.approx(np.exp(min(log_probabilities)), rel=1e-4)
    assert len(set(map(tuple, answers.tokens.tolist()))) > 1
    monkeypatch.setattr(decoding, "decoded_tokens", lambda model: 30)  # a few rows at a time, or from a draft
    for other in (decode(member, prompts, bounds), decode(member, prompts, bounds, answers.tokens)):
        np.testing.assert_array_equal(other.tokens, answers.tokens)
        np.testing.assert_allclose(other.confidence, answers.confidence, rtol=1e-4)


def test_the_cache_is_as_large_as_it_says(folders: dict[str, Path]) -> None:
    for kind in KINDS:
        member = member_of(base_of(folders[kind], COPY))
        cache = member.make_cache(10)
        with torch.inference_mode():
            member(torch.from_numpy(prompts_of(4, 3)).long(), cache=cache)
        held = sum(layer.keys.nbytes + layer.values.nbytes for layer in cache.states.layers)
        assert held == member.cached_bytes * 3 * 6


def test_members_with_adapters_share_the_rest_and_begin_as_the_model(folders: dict[str, Path]) -> None:
    base = base_of(folders["subwords"], COPY, LORA)
    members = [member_of(base, LORA, seed) for seed in range(2)]
    tokens = torch.from_numpy(prompts_of(5, 4)).long()
    with torch.inference_mode():
        expected = member_of(base)(tokens)
        for member in members:
            torch.testing.assert_close(member(tokens), expected)
    first, second = (member.state_dict() for member in members)
    assert all(".lora_" in name for name in first)
    assert all(torch.equal(first[name], second[name]) == ("lora_B" in name) for name in first)
    again = member_of(base, LORA, 1).state_dict()
    assert all(torch.equal(second[name], again[name]) for name in second)
    pairs = zip(members[0].parameters(), members[1].parameters(), strict=True)
    assert all(one.requires_grad != (one.data_ptr() == other.data_ptr()) for one, other in pairs)


@pytest.mark.parametrize(("given", "strength"), [({"rank": 4}, 2.0), ({"rank": 4, "alpha": 4.0}, 1.0)])
def test_adapters_count_twice_where_nothing_else_is_said(
    given: dict[str, float], strength: float, folders: dict[str, Path]
) -> None:
    lora = LoraSettings.model_validate(given)
    member = member_of(base_of(folders["subwords"], COPY, lora), lora)
    scalings = {
        each
        for module in member.modules()
        if isinstance(own := getattr(module, "scaling", None), dict)
        for each in own.values()
    }
    assert scalings == {strength}


def test_members_that_train_all_weights_share_none_and_hold_each_once(folders: dict[str, Path]) -> None:
    base = base_of(folders["subwords"], COPY)
    one, other = member_of(base), member_of(base)
    pointers = [{weight.data_ptr() for weight in member.state_dict().values()} for member in (one, other)]
    assert not pointers[0] & pointers[1]
    assert len(pointers[0]) == len(one.state_dict())  # tied weights are not there twice
    before = base.digest()
    perturbed(one)
    assert base.digest() == before == base_of(folders["subwords"], COPY).digest()


@pytest.mark.parametrize("lora", [None, LORA], ids=["full", "lora"])
def test_what_training_changes_is_stored_and_nothing_else(
    lora: LoraSettings | None, folders: dict[str, Path], tmp_path: Path
) -> None:
    base = base_of(folders["subwords"], COPY, lora)
    settings = ModelSettings(pretrained=str(folders["subwords"]), lora=lora)
    member = perturbed(member_of(base, lora))
    (tmp_path / "manifest.json").touch()
    (tmp_path / "settings.toml").touch()
    (tmp_path / "weights").mkdir()
    store = Store(tmp_path)
    store.save_weights(0, [member])
    stored = store.weights_path(0).stat().st_size
    numbers = trained_weights(settings, COPY.name, COPY.vocabulary)
    assert 0 < stored - 4 * numbers < 10_000
    fresh = member_of(base, lora, seed=1)
    load_weights(store.weights_path(0), [fresh])
    tokens = torch.from_numpy(prompts_of(5, 4)).long()
    with torch.inference_mode():
        assert torch.equal(fresh(tokens), member(tokens))
    other = member_of(base, LoraSettings(rank=3, alpha=8))
    with pytest.raises(UserError, match="of other settings"):
        load_weights(store.weights_path(0), [other])


def test_frozen_weights_are_kept_in_bfloat16_where_training_is(folders: dict[str, Path]) -> None:
    base = base_of(folders["subwords"], COPY, LORA, "bfloat16")
    member = member_of(base, LORA)
    kinds = {weight.requires_grad: weight.dtype for weight in member.parameters()}
    assert kinds == {True: torch.float32, False: torch.bfloat16}
    assert member.cached_bytes * 2 == member_of(base_of(folders["subwords"], COPY)).cached_bytes
    assert base_of(folders["subwords"], COPY, None, "bfloat16").model.dtype == torch.float32
    prompts = prompts_of(4, 10)
    assert len(decode(member, prompts, COPY.answer_bounds(prompts)).tokens) == 10


def test_a_symbol_without_a_token_of_its_own_is_named(folders: dict[str, Path]) -> None:
    with pytest.raises(UserError, match=r"symbols of task maze-hops .* reads '\d\d' as \d \d;.*more") as caught:
        base_of(folders["subwords"], load_task("maze-hops"))
    assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match=r"1 of the 12 symbols of task reverse-addition .*'\+'"):
        base_of(folders["symbols"], load_task("reverse-addition"))


def pickled(folder: Path) -> None:
    weights = AutoModelForCausalLM.from_pretrained(folder).state_dict()
    (folder / "model.safetensors").unlink()
    torch.save(weights, folder / "pytorch_model.bin")


def with_code(folder: Path) -> None:
    config = (folder / "config.json").read_text()
    auto = '"auto_map": {"AutoConfig": "own.OwnConfig", "AutoModelForCausalLM": "own.OwnModel"},'
    (folder / "config.json").write_text(config.replace('"llama"', '"own"').replace("{", "{" + auto, 1))
    (folder / "own.py").write_text("raise SystemExit('was run')")


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (pickled, "safetensors"),
        (with_code, "brings its own code"),
        (lambda folder: (folder / "config.json").unlink(), "config.json"),
        (lambda folder: [each.unlink() for each in folder.glob("tokenizer*")], "tokenizer"),
    ],
)
def test_a_model_that_cannot_be_had_is_a_line(spoil: Any, said: str, tmp_path: Path) -> None:
    spoil(save_llama(tmp_path, subword_tokenizer()))
    with pytest.raises(UserError, match=said) as caught:
        base_of(tmp_path, COPY)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("model.pretrained = ")


def test_a_gated_or_unknown_model_is_told_apart(monkeypatch: pytest.MonkeyPatch, folders: dict[str, Path]) -> None:
    class GatedRepoError(OSError):
        pass

    class RepositoryNotFoundError(OSError):
        pass

    for kind, said in ((GatedRepoError, "is gated"), (RepositoryNotFoundError, "neither a folder nor a model")):

        def fail(*given: Any, kind: type[OSError] = kind, **named: Any) -> None:
            raise OSError("You are trying something.\nIt is long.") from kind("403")

        monkeypatch.setattr(AutoTokenizer, "from_pretrained", fail)
        with pytest.raises(UserError, match=said):
            base_of(Path("some/model"), COPY)
    with pytest.raises(UserError, match="there is no such folder"):
        base_of(folders["symbols"] / "nowhere", COPY)


def test_a_missing_library_names_the_extra(monkeypatch: pytest.MonkeyPatch, folders: dict[str, Path]) -> None:
    base = base_of(folders["symbols"], COPY)
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(UserError, match=r"pip install '\.\[pretrained\]'"):
        member_of(base, LORA)


def test_places_for_adapters_that_are_not_there_are_a_line(folders: dict[str, Path]) -> None:
    base = base_of(folders["symbols"], COPY)
    with pytest.raises(UserError, match=r"model\.lora\.targets = \['nowhere'\]"):
        member_of(base, LoraSettings(rank=2, alpha=2, targets=["nowhere"]))
    some = member_of(base, LoraSettings(rank=2, alpha=2, targets=["q_proj"]))
    assert {name.split(".")[-4] for name in some.state_dict()} == {"q_proj"}

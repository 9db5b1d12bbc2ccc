"""The decoder against transformers' Llama, and its shortcuts against the plain computation."""

from itertools import pairwise
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from helpers import SIZE, copy_task, half_trained, new_member, properties
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from easy2hard.engines.engine import Group
from easy2hard.engines.reference import Gradients
from easy2hard.models.transformer import Transformer
from easy2hard.seeding import torch_generator
from easy2hard.settings.model import PRESETS
from easy2hard.vocabulary import EOS, PAD

VOCABULARY = 14


def random_tokens(rows: int, time: int, seed: int = 0) -> Tensor:
    return torch.randint(0, VOCABULARY, (rows, time), generator=torch_generator(seed, "tokens"))


@pytest.fixture
def llama(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A Llama of transformers whose rotary embedding rotates by nothing."""
    from transformers import LlamaConfig, LlamaForCausalLM
    from transformers.models.llama import modeling_llama

    def no_rotation(self: Any, x: Tensor, position_ids: Tensor) -> tuple[Tensor, Tensor]:
        shape = (*position_ids.shape, SIZE.width // SIZE.heads)
        return x.new_ones(shape), x.new_zeros(shape)

    monkeypatch.setattr(modeling_llama.LlamaRotaryEmbedding, "forward", no_rotation)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=SIZE.width,
        num_hidden_layers=SIZE.layers,
        num_attention_heads=SIZE.heads,
        num_key_value_heads=SIZE.heads,
        intermediate_size=SIZE.feed_forward,
        rms_norm_eps=1e-6,
        tie_word_embeddings=False,
    )
    return LlamaForCausalLM(config).eval()


def with_random_norms(model: Transformer) -> Transformer:
    generator = torch_generator(1, "norms")
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() == 1:
                weight.normal_(1.0, 0.3, generator=generator)
    return model


def test_weights_have_the_names_of_llama(llama: Any) -> None:
    ours = {name: weight.shape for name, weight in new_member(0).state_dict().items()}
    assert ours == {name.removeprefix("model."): w.shape for name, w in llama.state_dict().items()}


def test_logits_are_those_of_llama_without_rotation(llama: Any) -> None:
    ours = with_random_norms(new_member(0))
    weights = ours.state_dict()
    llama.load_state_dict({name: weights[name.removeprefix("model.")] for name in llama.state_dict()})
    tokens = random_tokens(5, 23)
    with torch.no_grad():
        # float32, and the two add up in different orders
        torch.testing.assert_close(ours(tokens), llama(input_ids=tokens).logits, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("preset", "millions"), [("tiny", 0.2), ("small", 0.8), ("paper", 14.2)])
def test_presets_have_their_number_of_parameters(preset: str, millions: float) -> None:
    model = Transformer(PRESETS[preset], VOCABULARY, torch_generator(0, "weights"))
    count = sum(weight.numel() for weight in model.parameters())
    assert round(count / 1e6, 1) == millions


def test_equal_generators_give_equal_weights() -> None:
    first, same, other = (new_member(seed).state_dict() for seed in (3, 3, 4))
    assert all(torch.equal(first[name], same[name]) for name in first)
    assert not torch.equal(first["lm_head.weight"], other["lm_head.weight"])


@properties
@given(time=st.integers(1, 12), data=st.data())
def test_first_gives_the_last_logits_only(time: int, data: st.DataObject) -> None:
    first = data.draw(st.integers(0, time - 1))
    model, tokens = new_member(0), random_tokens(3, time)
    with torch.no_grad():
        torch.testing.assert_close(model(tokens, first=first), model(tokens)[:, first:], rtol=1e-5, atol=1e-6)


@properties
@given(cuts=st.sets(st.integers(1, 11)), last_only=st.booleans())
def test_a_cache_fed_piece_by_piece_gives_the_same_logits(cuts: set[int], last_only: bool) -> None:
    model, tokens = new_member(0), random_tokens(3, 12)
    cache = model.make_cache(12)
    with torch.no_grad():
        logits = model(tokens)
        for begin, end in pairwise([0, *sorted(cuts), 12]):
            first = end - 1 if last_only else begin
            piece = model(tokens[:, begin:end], first=first - begin, cache=cache)
            torch.testing.assert_close(piece, logits[:, first:end], rtol=1e-5, atol=1e-6)
    assert cache.length == 12


@properties
@given(changed=st.integers(1, 11))
def test_logits_do_not_depend_on_later_tokens(changed: int) -> None:
    model, tokens = new_member(0), random_tokens(2, 12)
    other = tokens.clone()
    other[:, changed:] = (other[:, changed:] + 1) % VOCABULARY
    with torch.no_grad():
        torch.testing.assert_close(model(other)[:, :changed], model(tokens)[:, :changed], rtol=0, atol=1e-6)
        assert not torch.allclose(model(other)[:, changed], model(tokens)[:, changed])


def examples_of_many_lengths() -> tuple[Tensor, int]:
    """Prompts of one length; answers of 0 to 4 digits, EOS, padding."""
    tokens = random_tokens(5, 12).clamp(min=EOS + 1)
    prompt_length = 6
    for row, digits in enumerate(range(5)):
        tokens[row, prompt_length + digits] = EOS
        tokens[row, prompt_length + digits + 1 :] = PAD
    return tokens, prompt_length


def answer_loss(model: Transformer, tokens: Tensor, prompt_length: int) -> Tensor:
    return Gradients(model, "float32").losses(Group(tokens.numpy(), prompt_length), 1.0)[0]


def test_answer_loss_is_the_cross_entropy_of_answer_and_eos() -> None:
    model = half_trained()[0]
    assert len(copy_task()[0].vocabulary) == VOCABULARY
    tokens, prompt_length = examples_of_many_lengths()
    with torch.no_grad():
        expected = 0.0
        for row in tokens.tolist():
            text = row[: row.index(EOS) + 1]
            log_probabilities = model(torch.tensor([text]))[0].log_softmax(dim=-1)
            expected -= sum(float(log_probabilities[at - 1, text[at]]) for at in range(prompt_length, len(text)))
        assert float(answer_loss(model, tokens, prompt_length)) == pytest.approx(expected, rel=1e-5)


@properties
@given(columns=st.integers(1, 5))
def test_padding_does_not_count(columns: int) -> None:
    model = half_trained()[0]
    tokens, prompt_length = examples_of_many_lengths()
    with torch.no_grad():
        loss = float(answer_loss(model, tokens, prompt_length))
        longer = float(answer_loss(model, F.pad(tokens, (0, columns), value=PAD), prompt_length))
    assert longer == pytest.approx(loss, rel=1e-5)

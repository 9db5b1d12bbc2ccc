"""Compiled training passes against torch's derivatives in double precision."""

import copy

import numpy as np
import pytest
import torch
from helpers import build_runner, properties
from hypothesis import given
from hypothesis import strategies as st

from easy2hard.engines.cpu.runner import CpuRunner, why_not
from easy2hard.engines.engine import Group
from easy2hard.engines.reference import Gradients, Runner
from easy2hard.models.transformer import Transformer
from easy2hard.seeding import torch_generator
from easy2hard.settings.model import ModelSize
from easy2hard.vocabulary import EOS, PAD

SYMBOLS = 13


def member(width: int = 32, layers: int = 2, heads: int = 2, hidden: int = 48) -> Transformer:
    size = ModelSize(width=width, layers=layers, heads=heads, feed_forward=hidden)
    model = Transformer(size, SYMBOLS, torch_generator(0, "weights"))
    generator = torch_generator(1, "gains")
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() == 1:
                weight.add_(torch.randn(weight.shape, generator=generator) / 5)
    return model


@properties
@given(
    batch=st.integers(1, 20),
    prompt=st.integers(1, 6),
    answer=st.integers(1, 4),
    layers=st.integers(1, 3),
    symbols=st.sampled_from([EOS + 2, SYMBOLS]),
)
def test_loss_and_gradients_are_those_of_torch(batch: int, prompt: int, answer: int, layers: int, symbols: int) -> None:
    model = member(layers=layers)
    generator = torch_generator(batch, "tokens")
    tokens = torch.randint(EOS, symbols, (batch, prompt + answer), generator=generator)
    for row in range(batch // 2):
        tokens[row, prompt + 1 + row % answer :] = PAD
    ours = CpuRunner(model).gradients("float32")
    loss, gradients = ours.of(Group(tokens.numpy(), prompt), 0.1)
    plain, expected = Gradients(copy.deepcopy(model).double(), "float32").of(Group(tokens.numpy(), prompt), 0.1)
    assert loss == pytest.approx(plain, rel=1e-5)
    named = zip(dict(model.named_parameters()), ours.of_parameters(gradients), expected, strict=True)
    for name, mine, right in named:
        assert (mine - right).norm() <= 1e-5 * right.norm() + 1e-6, name


def test_gradients_lie_in_memory_as_their_parameters() -> None:
    """Fused AdamW would otherwise add them to other weights."""
    model = member()
    ours = CpuRunner(model).gradients("float32")
    _, gradients = ours.of(Group(np.full((3, 6), EOS), 3), 1.0)
    for weight, gradient in zip(model.parameters(), ours.summed([gradients]), strict=True):
        assert gradient.stride() == weight.stride()


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (member(24, 1, 2, 32), "heads 12 wide"),
        (member(32, 1, 2, 24), "feed-forward layers 24 wide"),
        (member().double(), "float64"),
    ],
    ids=["odd heads", "odd feed-forward", "double"],
)
def test_other_sizes_are_left_to_the_reference(model: Transformer, reason: str) -> None:
    assert reason in str(why_not(model))
    assert type(build_runner(model)) is Runner
    assert why_not(member()) is None


def test_wide_members_have_the_same_gradients() -> None:
    model = member(512, 2, 2, 64)
    tokens = torch.randint(EOS, SYMBOLS, (40, 9), generator=torch_generator(0, "tokens"))
    ours = CpuRunner(model).gradients("float32")
    loss, gradients = ours.of(Group(tokens.numpy(), 5), 0.1)
    plain, expected = Gradients(copy.deepcopy(model).double(), "float32").of(Group(tokens.numpy(), 5), 0.1)
    assert loss == pytest.approx(plain, rel=1e-5)
    for name, mine, right in zip(dict(model.named_parameters()), ours.of_parameters(gradients), expected, strict=True):
        assert (mine - right).norm() <= 2e-5 * right.norm() + 1e-6, name

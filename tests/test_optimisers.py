"""The learning rate's shape, Muon against torch's own, and who trains which weight."""

import pytest
import torch
from helpers import new_member, properties
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import Tensor

from easy2hard.learning.learning_rate import learning_rate
from easy2hard.optimisers import Muon, build_optimisers, orthogonalise
from easy2hard.seeding import torch_generator
from easy2hard.settings.training import OptimiserSettings


@properties
@given(
    steps=st.integers(1, 200),
    warmup=st.integers(0, 200),
    decay=st.integers(0, 200),
    floor=st.floats(0, 1),
    rest=st.integers(0, 20),
)
def test_the_learning_rate_warms_up_stays_decays_and_rests(
    steps: int, warmup: int, decay: int, floor: float, rest: int
) -> None:
    assume(warmup + decay <= steps)
    total = steps + rest
    rates = [learning_rate(step, total, warmup, decay, floor, rest) for step in range(total)]
    assert rates[steps:] == [floor] * rest
    rates = rates[:steps]
    rising, constant, falling = (
        rates[:warmup],
        rates[warmup : steps - decay],
        rates[steps - decay :],
    )
    assert rising == pytest.approx([(step + 1) / warmup for step in range(warmup)])
    assert constant == [1.0] * len(constant)
    drops = [(1 - floor) * (step + 1) / decay for step in range(decay)]
    assert falling == pytest.approx([1 - drop for drop in drops])
    assert all(0 < rate <= 1 for rate in rates[: steps - decay])
    if decay:
        assert rates[-1] == pytest.approx(floor)


SHAPES = [(8, 24), (24, 8), (8, 8), (24, 8), (5, 1), (1, 5)]


def matrices(purpose: str) -> list[Tensor]:
    generator = torch_generator(0, purpose)
    return [torch.randn(shape, dtype=torch.float64, generator=generator) for shape in SHAPES]


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_muon_does_what_torch_does(weight_decay: float, monkeypatch: pytest.MonkeyPatch) -> None:
    # torch orthogonalises in bfloat16; here it keeps float64, so that only the formula is compared.
    monkeypatch.setattr(Tensor, "bfloat16", Tensor.clone)
    ours, theirs = ([torch.nn.Parameter(matrix) for matrix in matrices("weights")] for _ in range(2))
    one = Muon(ours, lr=0.02, weight_decay=weight_decay)
    other = torch.optim.Muon(theirs, lr=0.02, weight_decay=weight_decay, momentum=0.95)
    for step in range(6):
        for mine, its, gradient in zip(ours, theirs, matrices(f"gradients {step}"), strict=True):
            mine.grad, its.grad = gradient.clone(), gradient.clone()
        one.step()
        other.step()
        for mine, its in zip(ours, theirs, strict=True):
            torch.testing.assert_close(mine, its, rtol=1e-9, atol=1e-9)


@properties
@given(rows=st.integers(1, 8), more=st.integers(0, 8), scale=st.floats(1e-3, 1e3), seed=st.integers(0, 99))
def test_orthogonalising_brings_singular_values_near_one(rows: int, more: int, scale: float, seed: int) -> None:
    generator = torch_generator(seed, "matrices")
    matrix = scale * torch.randn(3, rows, 2 * rows + more, generator=generator)
    values = torch.linalg.svdvals(orthogonalise(matrix))
    # The quintic iteration overshoots on purpose: it ends between 0.5 and 1.5, not at one.
    assert values.min() > 0.5
    assert values.max() < 1.5


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_every_weight_is_trained_by_exactly_one_optimiser(name: str) -> None:
    model = new_member(0)
    optimisers = build_optimisers(model, OptimiserSettings(name=name))
    trained = [id(weight) for optimiser in optimisers for group in optimiser.param_groups for weight in group["params"]]
    assert len(trained) == len(set(trained))
    assert set(trained) == {id(weight) for weight in model.parameters()}


def test_muon_trains_the_matrices_of_the_blocks_only() -> None:
    model = new_member(0)
    muon, adamw = build_optimisers(model, OptimiserSettings(name="muon"))
    names = {id(weight): name for name, weight in model.named_parameters()}
    of_muon = {names[id(weight)] for weight in muon.param_groups[0]["params"]}
    assert of_muon == {name for name in names.values() if name.endswith("_proj.weight")}
    assert isinstance(muon, Muon)
    assert isinstance(adamw, torch.optim.AdamW)


def test_the_settings_reach_the_optimisers() -> None:
    settings = OptimiserSettings(
        learning_rate=0.5, muon_learning_rate=0.25, betas=[0.8, 0.9], eps=1e-5, weight_decay=0.125
    )
    muon, adamw = (each.param_groups[0] for each in build_optimisers(new_member(0), settings))
    assert (muon["lr"], muon["weight_decay"]) == (0.25, 0.125)
    assert (adamw["lr"], adamw["weight_decay"], adamw["betas"], adamw["eps"]) == (0.5, 0.125, (0.8, 0.9), 1e-5)
    muon, adamw = (
        optimiser.param_groups[0]
        for optimiser in build_optimisers(new_member(0), settings.model_copy(update={"muon_weight_decay": 0.5}))
    )
    assert (muon["weight_decay"], adamw["weight_decay"]) == (0.5, 0.125)

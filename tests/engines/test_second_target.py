"""A second target of training against two models that have one target each."""

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers import build_runner
from torch import Tensor

from easy2hard.engines.engine import Group
from easy2hard.engines.reference import Runner
from easy2hard.models.transformer import SecondTarget, Transformer, build_transformer
from easy2hard.seeding import torch_generator
from easy2hard.settings.model import ModelSettings, ModelSize
from easy2hard.settings.training import TrainingSettings
from easy2hard.tasks.registry import load_task
from easy2hard.vocabulary import PAD

SIZE = ModelSize(width=32, layers=2, heads=2, feed_forward=64)
VOCABULARY, PROMPT = 14, 6
SCALE = 0.01


def member_of(weight: float, offset: int) -> Transformer:
    second = SecondTarget(SIZE.width, VOCABULARY, weight, offset)
    return Transformer(SIZE, VOCABULARY, torch_generator(0, "weights"), second=second)


def group_of(answer: int) -> Group:
    """Return examples whose answers have 1 to ``answer`` tokens."""
    generator = np.random.default_rng(0)
    tokens = generator.integers(3, VOCABULARY, (20, PROMPT + answer), dtype=np.int32)
    tokens[:, PROMPT:][np.arange(answer) > generator.integers(0, answer, (20, 1))] = PAD
    return Group(tokens, PROMPT)


def of_one_target(member: Transformer, head: Tensor, group: Group, offset: int) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the loss of a model with this head alone on the tokens ``offset`` after the next, and its gradients."""
    model = Transformer(SIZE, VOCABULARY, torch_generator(0, "weights"))
    state = {name: weight for name, weight in member.state_dict().items() if not name.startswith("second.")}
    model.load_state_dict({**copy.deepcopy(state), "lm_head.weight": head.detach().clone()})
    tokens = torch.from_numpy(group.tokens).long()
    logits = model(tokens[:, :-1])[:, PROMPT - 1 :]
    # Behind the answer there is nothing but padding.
    targets = torch.full(logits.shape[:2], PAD)
    targets[:, : targets.shape[1] - offset] = tokens[:, PROMPT + offset :]
    loss = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=PAD, reduction="sum")
    loss.backward()
    return loss.detach(), {name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None}


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("offset", [1, 2, 4])
def test_gradients_are_those_of_both_targets_together(offset: int, compiled: bool) -> None:
    member, group, weight = member_of(0.3, offset), group_of(7), 0.3
    runner = build_runner(member) if compiled else Runner(member)
    loss, gradients = runner.gradients("float32").of(group, SCALE)
    next_loss, of_next = of_one_target(member, member.lm_head.weight, group, 0)
    assert member.second is not None
    later_loss, of_later = of_one_target(member, member.second.head.weight, group, offset)
    assert loss == pytest.approx(float(next_loss) * SCALE, rel=1e-5)
    assert later_loss > 0
    shared = {name: of_next[name] + weight * of_later[name] for name in of_next}
    expected = {**shared, "lm_head.weight": of_next["lm_head.weight"]}
    expected["second.head.weight"] = weight * of_later["lm_head.weight"]
    names = [name for name, _ in member.named_parameters()]
    assert set(names) == set(expected)
    for name, gradient in zip(names, gradients, strict=True):
        torch.testing.assert_close(gradient, expected[name] * SCALE, rtol=1e-4, atol=1e-6)


def test_answers_too_short_for_a_second_target_have_one() -> None:
    member, group = member_of(0.3, 3), group_of(3)
    _, gradients = Runner(member).gradients("float32").of(group, SCALE)
    _, of_next = of_one_target(member, member.lm_head.weight, group, 0)
    for (name, _), gradient in zip(member.named_parameters(), gradients, strict=True):
        expected = of_next.get(name, torch.zeros_like(gradient))
        torch.testing.assert_close(gradient, expected * SCALE, rtol=1e-4, atol=1e-6)


def test_the_other_weights_and_all_answers_are_those_of_a_member_without_it() -> None:
    task, model = load_task("maze-hops"), ModelSettings(width=32, layers=2, heads=2)
    one, two = (
        build_transformer(model, task, torch_generator(0, "weights"), TrainingSettings(second_target=weight))
        for weight in (0.0, 0.5)
    )
    assert one.second is None
    assert set(two.state_dict()) - set(one.state_dict()) == {"second.head.weight"}
    for name, weight in one.state_dict().items():
        assert torch.equal(weight, two.state_dict()[name])
    tokens = torch.from_numpy(task.sample(np.random.default_rng(0), 3, 4)).long()
    torch.testing.assert_close(two(tokens), one(tokens), rtol=0, atol=0)
    torch.testing.assert_close(two.both_targets(tokens, 0)[0], one(tokens), rtol=0, atol=0)

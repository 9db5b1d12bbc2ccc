"""What every position scheme promises (docs/extending.md)."""

from typing import Any

import numpy as np
import torch

from easy2hard.engines.choice import build_engine
from easy2hard.errors import UserError
from easy2hard.models.transformer import Transformer
from easy2hard.plugins import in_a_line, made
from easy2hard.positions import Positions, Tabled
from easy2hard.rules import BrokenError, check_array, global_state, require
from easy2hard.seeding import numpy_generator, torch_generator
from easy2hard.settings.model import ModelSettings
from easy2hard.tasks.base import Task
from easy2hard.tasks.registry import load_task
from easy2hard.vocabulary import EOS, PAD

TASKS = ("copy", "reverse-addition", "maze-hops")
MODEL = ModelSettings(width=32, layers=2, heads=2, feed_forward=64)
COUNT = 6


def check_positions(scheme: type[Positions]) -> None:
    """Refuse a position scheme that does not keep the contract.

    Raises:
        BrokenError: with the first rule that is broken.
    """
    require((scheme.__dict__.get("__doc__") or "").strip(), "its docstring must say how tokens know their places")
    before, refused = global_state(), []
    for name in TASKS:
        task = load_task(name)
        try:
            _check_ids(_made(scheme, task), task)
            _check_in_a_member(scheme, task)
        except UserError as error:
            refused.append(f"{name}: {error}")
        except BrokenError as error:
            raise BrokenError(f"on task {name}: {error}") from error
    require(len(refused) < len(TASKS), f"it must fit some task, and refuses all: {'; '.join(refused)}")
    require(before == global_state(), "it must leave NumPy's global generator alone")


def _made(scheme: type[Positions], task: Task) -> Positions:
    who = f"position scheme {scheme.name}"
    return made(scheme.build, who, "model.position_options", {}, MODEL, task, thing=scheme)


def _whole(task: Task) -> tuple[Any, int]:
    """Return prompts with some tokens behind them, and how long the prompts are."""
    prompts = task.sample(numpy_generator(0, "contract"), task.evaluated_difficulties(3)[-1], COUNT)
    bound = int(task.answer_bounds(prompts).max())
    behind = numpy_generator(0, "contract", "answers").choice(prompts[:, 1:].ravel(), (COUNT, bound - 1))
    tokens = np.concatenate([prompts, behind], axis=1)
    tokens.setflags(write=False)
    return tokens, prompts.shape[1]


def _ids(scheme: Positions, tokens: Any, length: int, generator: np.random.Generator | None = None) -> Any:
    found = _call("ids must not raise", scheme.ids, tokens, length, generator)
    check_array(found, (None, tokens.shape[1]), np.integer, "ids must return (batch or 1, time) integers")
    require(len(found) in (1, len(tokens)), "ids must return a row for each row of tokens, or one for all")
    return np.broadcast_to(found, tokens.shape)


def _check_ids(scheme: Positions, task: Task) -> None:
    tokens, length = _whole(task)
    found = _ids(scheme, tokens, length)
    require((_ids(scheme, tokens, length) == found).all(), "ids must be the same for the same tokens")
    for time in range(length, tokens.shape[1]):
        begun = _ids(scheme, tokens[:, :time], length)
        require((begun == found[:, :time]).all(), "ids must not depend on tokens that come later")
    alone = np.concatenate([_ids(scheme, row, length) for row in tokens[:, None]])
    require((alone == found).all(), "ids must not depend on the rest of the batch")
    drawn, again = (_ids(scheme, tokens, length, numpy_generator(1, "contract")) for _ in range(2))
    require((drawn == again).all(), "ids must be the same for the same generator")
    require(scheme.drawn or (drawn == found).all(), "a scheme whose training draws ids must say so: drawn = True")
    if isinstance(scheme, Tabled):
        bound = tokens.shape[1] - length + 1
        places = _call("places must not raise", scheme.places, tokens[:, :length], bound)
        require(isinstance(places, int) and places >= 0, f"places must return an integer, got {places!r}")


def _check_in_a_member(scheme: type[Positions], task: Task) -> None:
    """A member with the scheme must learn, and decode what one pass over the whole answer says."""
    generator = torch_generator(0, "contract")
    member = Transformer(MODEL.size, len(task.vocabulary), generator, _made(scheme, task))
    tokens, length = _whole(task)
    ids = torch.from_numpy(tokens.astype(np.int64))
    logits = _call("a pass through a member must not raise", member, ids, length - 1)
    require(bool(torch.isfinite(logits).all()), "embed, turn and bias must return finite numbers")
    _call("its gradient must not raise", logits.logsumexp(dim=-1).sum().backward)
    for name, weight in member.positions.named_parameters() if member.positions else []:
        require(weight.grad is not None and torch.isfinite(weight.grad).all(), f"the gradient of {name} must be finite")
    prompts = np.ascontiguousarray(tokens[:, :length])
    bounds = task.answer_bounds(prompts)
    (answers,) = _call("decoding must not raise", build_engine([member]).answer, prompts, bounds)
    said = np.concatenate([prompts, answers.tokens], axis=1)
    with torch.no_grad():
        logits = member(torch.from_numpy(said[:, :-1].astype(np.int64)), length - 1)
    again = logits[..., EOS:].argmax(dim=-1).numpy() + EOS  # padding and BOS are never answers
    ends = np.where(answers.finished, (answers.tokens != PAD).sum(axis=1), bounds)
    asked = np.arange(answers.tokens.shape[1]) < ends[:, None]
    require((again == answers.tokens)[asked].all(), "a member must decode what one pass over the whole answer says")
    _check_causal(member, tokens, length)


def _check_causal(member: Transformer, tokens: Any, length: int) -> None:
    """What comes later must not change what was said before."""
    other = tokens.copy()
    other[:, -1] = tokens[:, 1]
    with torch.no_grad():
        one, two = (member(torch.from_numpy(each.astype(np.int64)), length - 1)[:, :-1] for each in (tokens, other))
    require(torch.allclose(one, two, atol=1e-5), "logits must not depend on tokens that come later")


def _call(rule: str, function: Any, *arguments: Any) -> Any:
    """Return what was asked for; that a scheme does not fit a task is no breach."""
    try:
        return function(*arguments)
    except UserError:
        raise
    except Exception as error:
        raise BrokenError(f"{rule}: {in_a_line(error)}") from error

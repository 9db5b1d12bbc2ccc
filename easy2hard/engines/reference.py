"""Members one by one, by their own forward pass and torch's derivatives: any member, on any device.

What a member is computed by is a :class:`Runner`; the engine for processors has another one (cpu/runner.py) and is the
same otherwise. On a processor, pieces of work go side by side, each on one core.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn
from typing_extensions import override

from easy2hard import processes
from easy2hard.engines.decoding import (
    PASSED_TOKENS,
    Answers,
    Bounds,
    Sampling,
    Whole,
    chunks,
    decode,
    decoded_tokens,
    is_match,
)
from easy2hard.engines.engine import (
    ANSWERING,
    TRAINING,
    Batches,
    Crew,
    Engine,
    Examples,
    Group,
    Taken,
    Told,
    lowered_by,
    nobody,
)
from easy2hard.engines.threads import Workers, map_chunks
from easy2hard.huggingface.sharding import Sharded, in_parts, placed, whole
from easy2hard.models.member import Member
from easy2hard.models.transformer import Transformer
from easy2hard.optimisers import build_optimisers
from easy2hard.settings.training import OptimiserSettings
from easy2hard.vocabulary import PAD, Tokens

BLOCK = 32
"""Chunks answered in one go: under a minute of work at the sizes of a laptop. At the end of each a core may have to
wait for another one, for half a chunk on average."""
DRAFTS_PAY = 0.8
"""Share of equal answers from which one member's answers are worth checking as drafts for the others."""
PIECE_TOKENS = 1024
"""Tokens of one piece on a CPU, about: their activations stay in the processor's cache (LOG.md)."""


class Gradients:
    """Loss and gradients of a member on examples, by torch's derivatives, with its weights as they are now.

    Its matrix products are in ``float32`` or ``bfloat16``, as ``precision`` says.
    """

    def __init__(self, model: Member, precision: str) -> None:
        self.model = model
        self.precision = precision
        self.parameters = [weight for weight in model.parameters() if weight.requires_grad]

    def losses(self, group: Group, scale: float) -> tuple[Tensor, Tensor]:
        """Return ``scale`` times the summed cross-entropy of the answers of some examples, and what is trained by.

        They differ where there is a second target: it is trained by, and the loss that is told is the next token's.
        """
        tokens, positions = self.placed(group)
        first, targets = group.prompt_length - 1, tokens[:, group.prompt_length :]
        second = self.model.second if isinstance(self.model, Transformer) else None
        with self.products():
            if second is None:
                loss = answer_loss(self.model(tokens[:, :-1], first=first, positions=positions), targets) * scale
                return loss, loss
            logits, later = cast(Transformer, self.model).both_targets(tokens[:, :-1], first, positions)
            loss = answer_loss(logits, targets) * scale
            # The last tokens of an answer have no token so far on.
            more = answer_loss(later[:, : -second.offset], targets[:, second.offset :]) * (scale * second.weight)
            return loss, loss + more

    def placed(self, group: Group) -> tuple[Tensor, Tensor | None]:
        """Return the tokens and positions of some examples where the member is."""
        device = self.parameters[0].device
        positions = None if group.positions is None else torch.from_numpy(group.positions).to(device)
        return torch.from_numpy(group.tokens).to(device, torch.int64), positions

    def products(self) -> AbstractContextManager[None]:
        """Make the matrix products have their precision."""
        kind = self.parameters[0].device.type
        return torch.autocast(kind, dtype=torch.bfloat16, enabled=self.precision == "bfloat16")

    def of(self, group: Group, scale: float) -> tuple[float, Sequence[Tensor]]:
        """Return the loss of some examples and its gradients; callable from any thread."""
        told, trained_by = self.losses(group, scale)
        return float(told.detach()), torch.autograd.grad(trained_by, self.parameters)

    def of_parameters(self, sums: Sequence[Tensor]) -> Sequence[Tensor]:
        """Return the gradients of the parameters that train, from sums of what :meth:`of` returned."""
        return sums

    def summed(self, pieces: Sequence[Sequence[Tensor]]) -> list[Tensor]:
        """Return the gradients of the parameters that train, over all pieces of all processes."""
        totals = [torch.zeros_like(parameter) for parameter in self.parameters]
        if pieces:
            sums = list(pieces[0])
            for gradient in pieces[1:]:
                torch._foreach_add_(sums, list(gradient))
            # Fused AdamW reads a gradient as if it lay in memory as its parameter does.
            totals = [each.contiguous() for each in self.of_parameters(sums)]
        processes.current().add_up(totals)
        return totals


class ShardedGradients(Gradients):
    """Gradients of this process's part of each weight, summed over the processes by the backward pass itself."""

    def __init__(self, model: Member, precision: str) -> None:
        super().__init__(model, precision)
        for weight in self.parameters:
            weight.grad = None

    @override
    def of(self, group: Group, scale: float) -> tuple[float, Sequence[Tensor]]:
        loss, _ = self.losses(group, scale)
        loss.backward()
        return float(loss.detach()), []

    @override
    def summed(self, pieces: Sequence[Sequence[Tensor]]) -> list[Tensor]:
        return [weight.grad for weight in self.parameters if weight.grad is not None]


def answer_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the summed cross-entropy of (batch, time) answers, EOS included; padding does not count."""
    return F.cross_entropy(logits.float().flatten(0, 1), targets.flatten(), ignore_index=PAD, reduction="sum")


class Runner:
    """One member, computed by its own forward pass and torch's derivatives."""

    def __init__(self, member: Member) -> None:
        self.member = member

    def logits(self, tokens: Tensor, first: int = 0, cache: Any | None = None) -> Tensor:
        """Return the logits of tokens, as the member's ``forward``."""
        logits: Tensor = self.member(tokens, first, cache)
        return logits

    def fixed(self) -> "Runner":
        """Return this for many calls, between which no weight changes."""
        return self

    def whole(self) -> Whole | None:
        """Return what answers as one, faster than token by token, if there is something."""
        return None

    def gradients(self, precision: str) -> Gradients:
        """Return what computes gradients for one step."""
        return (ShardedGradients if isinstance(self.member, Sharded) else Gradients)(self.member, precision)


class MemberCrew(Crew):
    """One member, which takes its steps alone."""

    def __init__(
        self, number: int, runner: Runner, batches: Batches, optimiser: OptimiserSettings, precision: str
    ) -> None:
        self.members = [number]
        self.runner = runner
        self.batches = batches
        self.clip = optimiser.clip
        self.precision = precision
        self.in_parts = isinstance(runner.member, Sharded)
        self.optimisers = build_optimisers(runner.member, optimiser)
        self._peaks = [group["lr"] for group in self._param_groups]
        self._taken: list[list[Taken]] = []
        self._workers = Workers(1)

    @override
    def __enter__(self) -> "MemberCrew":
        threads = self.runner.member.device.type == "cpu" and not self.in_parts
        self._workers = Workers(torch.get_num_threads() if threads else 1)  # as many as this crew's thread may use
        return self

    @override
    def __exit__(self, *error: object) -> None:
        self._workers.__exit__(*error)

    @property
    def _param_groups(self) -> list[dict[str, Any]]:
        return [group for each in self.optimisers for group in each.param_groups]  # loading a state makes them anew

    @override
    @lowered_by(TRAINING)
    def step(self, step: int, progress: float, rate: float) -> None:
        """Take a step; where loss or norm is no number, leave the weights alone.

        Every process computes its rows of the batch; the sums over all of them are the same in each.
        """
        for group, peak in zip(self._param_groups, self._peaks, strict=True):
            group["lr"] = rate * peak
        batch = self.batches.batch(step, progress)
        loss, norm = self._take(batch)
        groups = ", ".join(f"{len(group.tokens)} prompts of {group.prompt_length} tokens" for group in batch)
        self._taken.append([Taken(loss, norm, sum(group.tokens.size for group in batch), groups)])

    def _take(self, batch: Sequence[Group]) -> tuple[float, float]:
        """Take the step; return the loss and the gradient's norm."""
        world = processes.current()
        tokens = sum(int((group.tokens[:, group.prompt_length :] != PAD).sum()) for group in batch)
        gradients = self.runner.gradients(self.precision)
        # Pieces are computed side by side but added up in their own order: the sum does not depend on the cores.
        if self.in_parts:
            own = rows_of(batch, world.rank, world.count, blank=True)
        else:
            own = split(rows_of(batch, world.rank, world.count), self.runner.member.device, PIECE_TOKENS)
        pieces = self._workers.map(
            lambda group: gradients.of(group, 1 / tokens), own, size=lambda group: group.tokens.size
        )
        losses = torch.tensor([math.fsum(loss for loss, _ in pieces)], dtype=torch.float64)
        totals = gradients.summed([gradient for _, gradient in pieces])
        world.add_up([losses])
        for parameter, total in zip(gradients.parameters, totals, strict=True):
            parameter.grad = total
        norm = float(whole(nn.utils.clip_grad_norm_(gradients.parameters, self.clip)))
        loss = float(losses)
        if math.isfinite(norm) and math.isfinite(loss):
            for optimiser in self.optimisers:
                optimiser.step()
        return loss, norm

    @override
    def taken(self, all_of_them: bool) -> list[list[Taken]]:
        taken, self._taken = self._taken, []
        return taken

    @override
    def state(self, member: int) -> Iterator[tuple[str, Tensor]]:
        parts = {f"model.{name}": tensor for name, tensor in self.runner.member.state_dict().items()}
        for index, optimiser in enumerate(self.optimisers):
            for parameter, state in optimiser.state_dict()["state"].items():
                parts |= {f"optimiser.{index}.{parameter}.{key}": tensor for key, tensor in state.items()}
        # Of all processes together, in one order (a loaded state has none), one at a time: they need not fit at once.
        for name in sorted(parts):
            yield name, whole(parts[name].detach()).cpu().contiguous()

    @override
    def load(self, member: int, state: Mapping[str, Tensor]) -> None:
        self.runner.member.load_state_dict(part(state, "model."))
        for index, optimiser in enumerate(self.optimisers):
            states: dict[int, dict[str, Tensor]] = {}
            weights = [weight for group in optimiser.param_groups for weight in group["params"]]
            for name, tensor in part(state, f"optimiser.{index}.").items():
                parameter, _, key = name.partition(".")
                states.setdefault(int(parameter), {})[key] = placed(tensor, weights[int(parameter)])
            optimiser.load_state_dict({**optimiser.state_dict(), "state": states})


def part(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Return the tensors whose names begin with a prefix, by the rest of their names."""
    return {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}


def rows_of(batch: Sequence[Group], rank: int, count: int, blank: bool = False) -> list[Group]:
    """Return the rows of a batch that are process ``rank``'s: one in ``count`` of each group.

    A group that has none for it is left out, or has one without an answer, where ``blank`` asks for it: so all
    processes have as many groups.
    """
    if count == 1:
        return list(batch)
    own = [group.rows(slice(rank, None, count)) for group in batch]
    if not blank:
        return [group for group in own if len(group.tokens)]
    return [mine if len(mine.tokens) else _blank(group) for mine, group in zip(own, batch, strict=True)]


def _blank(group: Group) -> Group:
    tokens = group.tokens[:1].copy()
    tokens[:, group.prompt_length :] = PAD
    return Group(tokens, group.prompt_length)


def split(batch: Sequence[Group], device: torch.device, limit: int) -> list[Group]:
    """Return a batch in pieces of at most ``limit`` tokens, or one row; whole on a GPU."""
    if device.type != "cpu":
        return list(batch)
    pieces = []
    for group in batch:
        rows, time_ = group.tokens.shape
        parts = np.array_split(np.arange(rows), -(-rows // max(1, limit // time_)))
        pieces += [group.rows(slice(part[0], part[-1] + 1)) for part in parts]
    return pieces


class ReferenceEngine(Engine):
    """Members one by one.

    Args:
        members: all alike and on one device.
        precision: of the matrix products in training; answers are float32.
        runner: computes one of them.
        note: see :class:`Engine`.
    """

    block = BLOCK

    def __init__(
        self,
        members: Sequence[Member],
        precision: str = "float32",
        runner: Callable[[Member], Runner] = Runner,
        note: str | None = None,
    ) -> None:
        self.members = members
        self.note = note
        self.precision = precision
        self._runners = [runner(member) for member in members]
        self._beside = members[0].device.type == "cpu"

    @override
    @contextmanager
    def training(self) -> Iterator[Engine]:
        with in_parts(self.members) as members:
            yield self if members is self.members else ReferenceEngine(members, self.precision)

    @override
    def crews(self, batches: Sequence[Batches], optimiser: OptimiserSettings) -> Sequence[Crew]:
        return [
            MemberCrew(number, runner, own, optimiser, self.precision)
            for number, (runner, own) in enumerate(zip(self._runners, batches, strict=True))
        ]

    @override
    def portions(self, prompts: Tokens, bounds: Bounds) -> list[slice]:
        if not len(prompts):
            return [slice(0, 0)]
        runner = self._runners[0]
        return chunks(len(prompts), prompts.shape[1] + int(bounds.max()), runner, decoded_tokens(runner))

    @override
    @lowered_by(ANSWERING)
    def answer(self, prompts: Tokens, bounds: Bounds, on_done: Told = nobody) -> list[Answers]:
        """Return each member's greedy answers.

        The first prompts are answered by every member for itself. Where the members agree often enough, one member's
        answers to the others are drafts for the rest, members taking turns; no answer depends on it.
        """
        rest, parts, drafts = self.portions(prompts, bounds), [], False
        runners, numbers, count = self._runners, range(len(self.members)), len(self.members)
        if count > 1 and len(prompts):
            first = rest.pop(0)
            parts = [
                map_chunks(lambda i: decode(runners[i], prompts[first], bounds[first]), range(count), self._beside)
            ]
            drafts = self._drafts_pay(parts[0])
            on_done(rows_in(first))

        def work(number: int) -> list[Answers]:
            own, limits, turn = prompts[rest[number]], bounds[rest[number]], number % count
            found = [decode(runners[turn], own, limits)]
            draft = found[0].tokens if drafts else None
            found += [decode(runners[(turn + more) % count], own, limits, draft) for more in range(1, count)]
            return found[count - turn :] + found[: count - turn]

        parts += map_chunks(work, range(len(rest)), self._beside, lambda number: on_done(rows_in(rest[number])))
        return [joined([part[index] for part in parts], int(bounds.max(initial=0))) for index in numbers]

    @override
    @lowered_by(ANSWERING)
    def sample(
        self, prompts: Tokens, bounds: Bounds, samplings: Sequence[Sequence[Sampling]], on_done: Told = nobody
    ) -> list[list[Answers]]:
        each = [(index, sampling) for index, own in enumerate(samplings) for sampling in own]
        works = [(rows, number) for rows in self.portions(prompts, bounds) for number in range(len(each))]

        def work(of: tuple[slice, int]) -> Answers:
            rows, (index, sampling) = of[0], each[of[1]]
            return decode(self._runners[index], prompts[rows], bounds[rows], sampling=sampling)

        def done(of: tuple[slice, int]) -> None:
            if of[1] == len(each) - 1:
                on_done(rows_in(of[0]))

        answers, length = map_chunks(work, works, self._beside, done), int(bounds.max(initial=0))
        whole_ones = iter([joined(answers[at :: len(each)], length) for at in range(len(each))])
        return [[next(whole_ones) for _ in own] for own in samplings]

    @override
    @lowered_by(ANSWERING)
    def matches(self, examples: Sequence[Examples], on_done: Told = nobody) -> list[NDArray[np.bool_]]:
        runners = [runner.fixed() for runner in self._runners]

        @torch.inference_mode()
        def matches_of(work: tuple[int, int, slice]) -> NDArray[np.bool_]:
            index, member, rows = work
            prompts, answers = (each[rows] for each in examples[index])
            return is_match(runners[member], prompts, answers)

        parts = [
            (index, member, rows)
            for index, (prompts, answers) in enumerate(examples)
            for member in range(len(self.members))
            for rows in chunks(len(prompts), prompts.shape[1] + answers.shape[1], self._runners[0], PASSED_TOKENS)
        ]
        done = map_chunks(matches_of, parts, self._beside, lambda part: on_done(rows_in(part[2])))
        result = [np.zeros((len(self.members), len(prompts)), dtype=np.bool_) for prompts, _ in examples]
        for (index, member, rows), matches in zip(parts, done, strict=True):
            result[index][member, rows] = matches
        return result

    def _drafts_pay(self, answers: Sequence[Answers]) -> bool:
        """Return whether drafts save time: with a compiled loop decoding is faster than checking (LOG.md)."""
        same = np.all([(each.tokens == answers[0].tokens).all(axis=1) & each.finished for each in answers], axis=0)
        return bool(same.mean() >= DRAFTS_PAY) and self._runners[0].whole() is None


def rows_in(rows: slice) -> int:
    """Return how many rows a slice from one to another has."""
    return int(rows.stop - rows.start)


def joined(parts: Sequence[Answers], length: int) -> Answers:
    """Return the answers to prompts that were answered in parts, padded to ``length`` tokens."""
    if len(parts) == 1:
        return parts[0]
    return Answers(
        np.concatenate([np.pad(each.tokens, ((0, 0), (0, length - each.tokens.shape[1]))) for each in parts]),
        np.concatenate([each.finished for each in parts]),
        np.concatenate([each.confidence for each in parts]),
        np.concatenate([each.mean_log_probability for each in parts]),
        math.fsum(each.seconds for each in parts),
    )

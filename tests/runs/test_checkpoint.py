"""What is kept within a round: answers of a label phase, and files that know when they are damaged."""

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import Silent, copy_task, half_trained_engine, prompts_of

from easy2hard.engines.reference import ReferenceEngine
from easy2hard.errors import UserError
from easy2hard.improvement import labeller
from easy2hard.improvement.proposals import Draws, Proposals, Relations, propose
from easy2hard.runs import rounds
from easy2hard.runs.checkpoint import LabelCheckpoints
from easy2hard.runs.integrity import problems
from easy2hard.runs.manifest import read_sealed
from easy2hard.runs.store import Store, write_sealed
from easy2hard.settings.recipes import load_recipe
from easy2hard.vocabulary import Tokens

NOTHING: Relations = frozenset()
QUICK = ["supervised.steps=6", "supervised.decay=0", "rounds.steps=3", "rounds.decay=0", "labels.count=40"]


def kept_in(folder: Path, weights: str = "digest", seconds: float = 0.0, clock: Any = lambda: 0.0) -> LabelCheckpoints:
    return LabelCheckpoints(lambda key: folder / key, weights, 2, seconds, clock)


def assert_equal(one: Proposals, two: Proposals) -> None:
    for each in fields(Proposals):
        np.testing.assert_array_equal(getattr(one, each.name), getattr(two, each.name))


def test_answers_come_back_for_the_same_members_and_prompts_alone(tmp_path: Path) -> None:
    prompts = prompts_of(4, 50)
    proposals = propose(half_trained_engine(), copy_task()[0], 4, prompts)
    kept_in(tmp_path).save(proposals, NOTHING, None)
    again = kept_in(tmp_path).load(4, prompts, NOTHING, None)
    assert again is not None
    assert_equal(again, proposals)
    assert kept_in(tmp_path, "other weights").load(4, prompts, NOTHING, None) is None
    assert kept_in(tmp_path).load(5, prompts, NOTHING, None) is None
    assert kept_in(tmp_path).load(4, prompts, frozenset({"parts"}), None) is None
    assert kept_in(tmp_path).load(4, prompts[:-1], NOTHING, None) is None
    assert kept_in(tmp_path).load(4, prompts[::-1], NOTHING, None) is None


def test_sampled_answers_are_not_taken_for_greedy_ones(tmp_path: Path) -> None:
    prompts, draws = prompts_of(4, 50), Draws(1.0, 3, 0, (1, "4"))
    proposals = propose(half_trained_engine(), copy_task()[0], 4, prompts, draws=draws)
    kept_in(tmp_path).save(proposals, NOTHING, draws)
    again = kept_in(tmp_path).load(4, prompts, NOTHING, draws)
    assert again is not None
    assert (again.members, again.samples) == (6, 3)
    assert_equal(again, proposals)
    for other in (None, *(replace(draws, **change) for change in ({"temperature": 0.5}, {"samples": 2}, {"seed": 1}))):
        assert kept_in(tmp_path).load(4, prompts, NOTHING, other) is None
    assert kept_in(tmp_path).load(4, prompts, NOTHING, replace(draws, stream=(2, "4"))) is None


def test_answers_wait_until_it_is_time_or_the_run_is_interrupted(tmp_path: Path) -> None:
    now = [0.0]
    kept = kept_in(tmp_path, seconds=300, clock=lambda: now[0])
    written = []
    for count, now[0] in ((10, 100.0), (11, 299.0), (12, 301.0), (13, 400.0), (14, 601.0), (15, 700.0)):
        kept.save(propose(half_trained_engine(), copy_task()[0], 4, prompts_of(4, count)), NOTHING, None)
        written.append(len(list(tmp_path.iterdir())))
    assert written == [0, 0, 3, 3, 5, 5]
    kept.flush()
    assert len(list(tmp_path.iterdir())) == 6


@pytest.mark.parametrize("count", [0, 1, 41, 40000])
def test_blocks_cover_every_prompt_once_and_in_order(count: int) -> None:
    prompts = np.zeros((count, 31), dtype=np.int32)
    found = half_trained_engine().blocks(prompts, copy_task()[0].answer_bounds(prompts))
    assert [at for block in found for at in range(block.start, block.stop)] == list(range(count))
    assert len(found) == 1 if count < 100 else len(found) > 1


def few(engine: ReferenceEngine, prompts: Tokens, bounds: Any) -> list[slice]:
    return [slice(at, at + 7) for at in range(0, len(prompts), 7)]


class Interrupted:
    """Answers so often, then is interrupted."""

    def __init__(self, times: int) -> None:
        self.left, self.count = times, 0

    def __call__(self, *arguments: Any) -> Proposals:
        if not self.left:
            raise KeyboardInterrupt
        self.left -= 1
        self.count += 1
        return propose(*arguments)


@pytest.mark.parametrize("minutes", [0, 5])
@pytest.mark.parametrize("more", [[], ["labels.top_up=30", "watch.enabled=true"]])
def test_a_label_phase_goes_on_where_it_was_interrupted(
    minutes: int, more: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ReferenceEngine, "blocks", few)
    settings = load_recipe("smoke", [*QUICK, *more, f"storage.checkpoint_minutes={minutes}"])
    monkeypatch.setattr(labeller, "propose", whole := Interrupted(-1))
    whole_run = rounds.start(settings, tmp_path / "whole", Silent())

    monkeypatch.setattr(labeller, "propose", first := Interrupted(8))
    with pytest.raises(KeyboardInterrupt):
        rounds.start(settings, tmp_path / "run", Silent())
    store = Store(tmp_path / "run")
    number = len(store.manifest.rounds)
    assert 0 < number < 3
    assert list(store.checkpoint_folder.glob(f"round-{number:03d}-answers-*"))
    monkeypatch.setattr(labeller, "propose", second := Interrupted(-1))
    rounds.resume(store, Silent())
    assert first.count + second.count == whole.count  # nothing was asked twice
    times = {"seconds", "phase_seconds", "member_seconds"}
    assert [record.model_dump(exclude=times) for record in store.manifest.rounds] == [
        record.model_dump(exclude=times) for record in whole_run.manifest.rounds
    ]
    assert not list(store.checkpoint_folder.iterdir())


def test_a_sealed_file_knows_when_it_was_changed(tmp_path: Path) -> None:
    path = tmp_path / "file"
    for content in (b"", b"content"):
        write_sealed(path, content)
        assert read_sealed(path) == content
    whole = path.read_bytes()
    for damaged in (b"", whole[:-1], whole[1:], whole + b"x", b"K" + whole[1:], whole[:-1] + b"K"):
        path.write_bytes(damaged)
        with pytest.raises(UserError, match="changed or cut off"):
            read_sealed(path)


def test_a_damaged_checkpoint_is_found_refused_and_may_be_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ReferenceEngine, "blocks", few)
    monkeypatch.setattr(labeller, "propose", Interrupted(8))
    settings = load_recipe("smoke", [*QUICK, "storage.checkpoint_minutes=0"])
    with pytest.raises(KeyboardInterrupt):
        rounds.start(settings, tmp_path / "run", Silent())
    monkeypatch.undo()
    store = Store(tmp_path / "run")
    path = next(store.checkpoint_folder.glob("round-002-answers-*"))
    path.write_bytes(path.read_bytes()[:100])
    (found,) = problems(store, store.manifest)[2]
    assert found == (
        f"checkpoint/{path.name}: changed or cut off since it was written; without it, its part of the round is redone"
    )
    with pytest.raises(UserError, match=r"damaged: checkpoint/.* --from-round 1 --out DIR"):
        rounds.resume(store, Silent())
    path.unlink()
    rounds.resume(store, Silent())
    assert store.manifest.status == "finished"

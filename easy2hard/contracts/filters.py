"""What every filter promises (docs/extending.md)."""

import json
from dataclasses import fields, replace
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from easy2hard.improvement.ledger import COLUMNS
from easy2hard.improvement.proposals import Proposals, pad_answers
from easy2hard.rules import call, check_array, global_state, require
from easy2hard.settings.filters import Filter, LearnedFilter, Mask, Need
from easy2hard.tasks.registry import load_task
from easy2hard.vocabulary import EOS, PAD

COUNT, DIGITS = 40, 5
SUPERVISED = "verifier"


def check_filter(filter_class: type[Filter]) -> None:
    """Refuse a filter that does not keep the contract.

    Raises:
        BrokenError: with the first rule that is broken.
    """
    name = filter_class.extension_name()
    doc = filter_class.__dict__.get("__doc__")
    require(doc and doc.strip(), "its docstring must say what it keeps, for the settings and the report")
    unknown = filter_class.needs - set(get_args(Need))
    require(not unknown, f"needs must be among {', '.join(get_args(Need))}, got {', '.join(map(str, unknown))}")
    require("truth" not in filter_class.needs or name == SUPERVISED, f"truth is for the filter {SUPERVISED} alone")
    learns = issubclass(filter_class, LearnedFilter)
    require(learns == ("score" in filter_class.needs), "whoever needs a score must be a LearnedFilter, which has one")
    for key, field in filter_class.model_fields.items():
        require(key == "name" or field.description, f"the setting {key} must have a description (Field(description=…))")
    rule = "it must be made by its default settings, or those of `example`"
    made: Filter = call(rule, filter_class.model_validate, {"name": name, **filter_class.example})
    require(filter_class.model_validate(made.model_dump(exclude_none=True)) == made, "settings must survive a recipe")
    words = call("words must not raise", made.words)
    require(isinstance(words, str) and words and len(words.splitlines()) == 1, "words must be one line")
    if "truth" in made.needs:
        return  # it never judges by itself
    for members in (5,) if "votes" in made.needs else (1, 5):
        _check_judging(made, _proposals(made, members))


def _check_judging(made: Filter, proposals: Proposals) -> None:
    before = global_state()
    if isinstance(made, LearnedFilter):
        right = np.random.default_rng(1).random(COUNT) < 0.5
        scorer = call("fit must not raise", made.fit, [_frozen(proposals)], [right])
        scores = call("score must not raise", scorer.score, _frozen(proposals))
        check_array(scores, (COUNT,), np.floating, "score must return (count,) numbers")
        learned = call("record must not raise", scorer.record)
        rule = "record must return a dictionary with the text truth, the numbers seen and right, and weights by name"
        require(isinstance(learned, dict) and set(learned) == {"truth", "seen", "right", "weights"}, rule)
        call(rule, json.dumps, learned)
        proposals = replace(proposals, score=scores)
    kept = proposals.finished.copy()
    passed = _judged(made, proposals, kept)
    require((_judged(made, proposals, kept) == passed).all(), "judge must say the same of the same labels")
    if "votes" not in made.needs:
        others = _voted(proposals, proposals.votes % proposals.members + 1)
        require((_judged(made, others, kept) == passed).all(), "judge depends on votes, so needs must hold 'votes'")
    order = np.random.default_rng(2).permutation(COUNT)
    shuffled = _judged(made, proposals.rows(order), kept[order])
    require(
        (shuffled & kept[order] == (passed & kept)[order]).all(), "judge must not depend on the order of the labels"
    )
    wide = replace(proposals, answers=pad_answers(proposals.answers, proposals.answers.shape[1] + 3))
    require((_judged(made, wide, kept) == passed).all(), "judge must not depend on how far answers are padded")
    nothing = np.arange(0)
    _judged(made, proposals.rows(nothing), kept[nothing])
    columns = _columns(made, proposals)
    empty = _columns(made, proposals.rows(nothing))
    require(
        {key: value.dtype for key, value in columns.items()} == {key: value.dtype for key, value in empty.items()},
        "columns must be of the same types whatever the labels are",
    )
    require(before == global_state(), "it must leave NumPy's global generator alone")


def _judged(made: Filter, proposals: Proposals, kept: Mask) -> Mask:
    count = len(kept)
    passed: Mask = call("judge must not raise", made.judge, _frozen(proposals), _read_only(kept))
    check_array(passed, (count,), np.bool_, "judge must return (count,) truth values")
    return passed


def _columns(made: Filter, proposals: Proposals) -> dict[str, Any]:
    columns: dict[str, Any] = call("columns must not raise", made.columns, _frozen(proposals))
    require(isinstance(columns, dict), "columns must return a dictionary")
    taken = {name for name, _ in COLUMNS} | {"difficulty"}
    for name, values in columns.items():
        require(isinstance(name, str) and name.isidentifier(), f"a column's name must be a word, got {name!r}")
        require(name not in taken, f"the ledger has a column {name!r} already")
        check_array(values, (len(proposals.prompts),), np.generic, f"column {name!r} must be a (count,) array")
        require(values.dtype.kind in "biuf", f"column {name!r} must be numbers or truth values, got {values.dtype}")
    return columns


def _proposals(made: Filter, members: int) -> Proposals:
    """Return made-up answers to prompts of copy: right, wrong, short and without an end, of any confidence."""
    generator, task = np.random.default_rng(0), load_task("copy")
    prompts = task.sample(generator, DIGITS, COUNT)
    answers = np.concatenate([prompts[:, 1:-1], np.full((COUNT, 1), EOS, dtype=np.int32)], axis=1)
    wrong = generator.random(answers.shape) < 0.1
    answers = np.where(wrong, task.vocabulary.id("0"), answers).astype(np.int32)
    end = generator.integers(2, DIGITS + 1, COUNT)
    place = np.arange(DIGITS + 1)
    answers = np.where(place < end[:, None], answers, np.where(place == end[:, None], EOS, PAD)).astype(np.int32)
    finished = generator.random(COUNT) < 0.9
    answers[~finished] = prompts[~finished, 1:2]
    votes = generator.integers(1, members + 1, COUNT)
    confidence = generator.random(COUNT).astype(np.float32)
    twin, parts = (generator.random(COUNT) < 0.7 if each in made.needs else None for each in ("twin", "parts"))
    made_up = Proposals(
        difficulty=DIGITS,
        prompts=prompts,
        answers=answers,
        finished=finished,
        votes=votes,
        runner_up=votes,
        members=members,
        confidence=confidence,
        mean_log_probability=np.log(confidence + 1e-6) / 2,
        twin=twin,
        parts=parts,
        questions=np.full(COUNT, 2) if "parts" in made.needs else None,
        seconds=np.zeros(members),
    )
    return _voted(made_up, votes)


def _voted(proposals: Proposals, votes: NDArray[np.int64]) -> Proposals:
    """Return proposals with so many votes for each answer; the other members gave one other answer, or no end."""
    members = proposals.members
    votes = np.where(proposals.finished, votes, 0)
    others = np.minimum(votes, members - votes)
    place = np.arange(members)
    ballots = np.where(place < votes[:, None], 0, np.where(place < (votes + others)[:, None], 1, -1)).astype(np.int32)
    return replace(proposals, votes=votes, runner_up=others, ballots=ballots)


def _frozen(proposals: Proposals) -> Proposals:
    """Return a copy whose arrays cannot be written."""
    arrays = {each.name: getattr(proposals, each.name) for each in fields(proposals)}
    return replace(proposals, **{k: _read_only(v) for k, v in arrays.items() if isinstance(v, np.ndarray)})


def _read_only(array: Any) -> Any:
    copy = array.copy()
    copy.setflags(write=False)
    return copy

"""What every task promises, checked: built-in tasks by the tests, a third party's before any training starts."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from easy2hard.errors import UserError
from easy2hard.rules import BrokenError, call, check_array, global_state, require
from easy2hard.seeding import numpy_generator
from easy2hard.tasks.base import Difficulty, Part, Task, difficulty_text
from easy2hard.tasks.oracle import Checker, Oracle
from easy2hard.tasks.relations import same
from easy2hard.vocabulary import BOS, EOS, PAD, SPECIAL, Tokens

COUNT = 24
"""Prompts of each difficulty that are looked at."""
PLACES = 40
"""Places of an answer, evenly spaced, at which it is made wrong."""


def check_contract(task: Task, oracle: Oracle, difficulties: Sequence[Difficulty] | None = None) -> None:
    """Refuse a task that does not keep the contract.

    Args:
        task: the task.
        oracle: its oracle.
        difficulties: those to try; the easiest few by default, and a harder one.

    Raises:
        UserError: naming the first rule that is broken, where, and by what.
    """
    try:
        Task.check_attributes(task)
        different = False
        for difficulty in difficulties or _some_difficulties(task):
            try:
                _check_difficulty(task, oracle, difficulty)
                prompts = _sample(task, difficulty, COUNT)
                different |= bool((prompts != prompts[0]).any())
            except BrokenError as error:
                raise BrokenError(f"at difficulty {difficulty_text(difficulty)}: {error}") from error
        require(different, "(sample): it must give different prompts; at every difficulty tried they are all equal")
    except BrokenError as error:
        raise UserError(f"task {getattr(task, 'name', '?')} breaks the contract {error}") from error


def _some_difficulties(task: Task) -> list[Difficulty]:
    easy = call("supervised_difficulties(hardest) must return difficulties", _easiest, task)
    hard = task.capped(easy + 6)
    tried = [*task.supervised_difficulties(min(easy + 2, hard)), *task.evaluated_difficulties(hard)[-2:]]
    tried += [d for step in task.labelled_difficulties(hard) for d in step][:2]
    return list(dict.fromkeys(tried))


def _easiest(task: Task) -> int:
    for hardest in range(1, (task.greatest or 1000) + 1):
        if task.supervised_difficulties(hardest):
            return hardest
    raise ValueError("there are none up to 1000")


def _check_difficulty(task: Task, oracle: Oracle, difficulty: Difficulty) -> None:
    prompts = _sample(task, difficulty, COUNT)
    task.check_prompts(prompts, COUNT)
    require(
        (_sample(task, difficulty, COUNT) == prompts).all(), "sample must give the same prompts for the same stream"
    )
    if len(np.unique(prompts, axis=0)) > COUNT // 2:  # a large space: two streams can hardly meet in every row
        other = _sample(task, difficulty, COUNT, stream="another")
        require((other != prompts).any(), "sample must take its randomness from the generator it is given")
    task.check_prompts(_sample(task, difficulty, 0), 0)
    weight = call("supervised_weight must not raise", task.supervised_weight, difficulty)
    require(isinstance(weight, int | float) and 0 < weight < np.inf, "supervised_weight must be a number above 0")
    for method in ["sample_practice", "sample_supervised", *(["sample_hard"] if task.hard_split else [])]:
        _check_like_sample(task, difficulty, method, prompts.shape[1])
    texts = task.vocabulary.decode_prompts(prompts)
    for text in texts:
        call("sampled prompts must match the grammar", task.check_prompt, text)
    ((_, encoded),) = task.encode(texts[:1])
    require((encoded == prompts[:1]).all(), "a prompt's text must give its tokens again")

    if task.baseline:
        _check_baseline(task, prompts)

    bounds = call("answer_bounds must not raise", task.answer_bounds, prompts)
    check_array(bounds, (COUNT,), np.integer, "answer_bounds must return (count,) integers")
    require((bounds >= 1).all(), "answer_bounds must be at least 1: EOS counts")
    _check_coupled(task, prompts, prompts.shape[1] + int(bounds.max()))
    answers = call("solve must not raise", oracle.solve, prompts)
    check_array(answers, (COUNT, None), np.integer, "solve must return (count, length) token ids")
    require(
        ((answers >= 0) & (answers < len(task.vocabulary))).all(), "answers must be made of the vocabulary's tokens"
    )
    require((oracle.solve(prompts) == answers).all(), "solve must give the same answer to the same prompt")
    ends = (answers == EOS).sum(axis=1)
    lengths = (answers != PAD).sum(axis=1)
    last = answers[np.arange(COUNT), np.maximum(lengths - 1, 0)]
    require(
        ((ends == 1) & (last == EOS)).all(),
        "an answer must end with exactly one EOS, with nothing but padding after it",
    )
    require(
        (answers[:, :1] >= EOS).all() and (answers != BOS).all(), "an answer must hold no BOS and no padding before EOS"
    )
    over = lengths > bounds
    if over.any():
        row = int(over.argmax())
        raise BrokenError(
            f"answer_bounds must not be less than the true answer needs: {texts[row]!r} needs {lengths[row]} tokens "
            f"with EOS, its bound is {bounds[row]}"
        )
    alone = oracle.solve(prompts[:1]), task.answer_bounds(prompts[:1])
    one = task.vocabulary.decode_answers
    require(
        one(alone[0]) == one(answers[:1]) and alone[1].tolist() == bounds[:1].tolist(),
        "answers and bounds must not depend on the rest of the batch",
    )
    written = one(answers)
    encoded_answers = task.vocabulary.encode_answers(written)
    require(
        encoded_answers.shape[1] <= answers.shape[1]
        and (encoded_answers == answers[:, : encoded_answers.shape[1]]).all(),
        "an answer's text must give its tokens again",
    )
    checker = Checker(oracle)
    require(checker.check(texts, written) == [None] * COUNT, "the checker must find the true answer right")
    _check_corruptions(task, checker, texts[:4], answers[:4])
    _check_parts(task, oracle, difficulty, prompts, answers)


def _check_coupled(task: Task, prompts: Any, length: int) -> None:
    def ids_of(some: Any, length: int) -> Any:
        try:
            return task.coupled_ids(some, length)
        except UserError:
            return None

    ids = call("coupled_ids must not raise", ids_of, prompts, length)
    if ids is None:  # the task says that nothing is coupled
        return
    check_array(ids, (COUNT, length), np.integer, "coupled_ids must return (count, length) integers")
    require((ids >= 0).all(), "coupled_ids must be 0 or more")
    require((ids_of(prompts[:1], length) == ids[:1]).all(), "coupled_ids must not depend on the rest of the batch")
    require((ids_of(prompts, length - 1) == ids[:, :-1]).all(), "coupled_ids must not depend on the length asked for")


def _check_corruptions(task: Task, checker: Checker, texts: Sequence[str], answers: Tokens) -> None:
    """An answer that differs from the true one by one token must be wrong, for a reason of one line.

    Where several answers are right, some of them must be.
    """
    for text, row in zip(texts, answers.tolist(), strict=True):
        true = row[: row.index(EOS)]
        places = sorted({round(place) for place in np.linspace(0, len(true) - 1, PLACES)} if true else [])
        wrong = [[*true[:i], other, *true[i + 1 :]] for i in places for other in _others(task, true[i])]
        wrong += [[*true[:i], *true[i + 1 :]] for i in places] + [[*true, SPECIAL]]
        longest = max(map(len, wrong))
        tokens = np.array([[*w, EOS, *[PAD] * (longest - len(w))] for w in wrong], dtype=np.int32)
        given = task.vocabulary.decode_answers(tokens)
        reasons = checker.check([text] * len(given), given)
        several = checker.oracle.several and any(reasons)
        for answer, reason in zip(given, reasons, strict=True):
            if reason is None and several:
                continue
            require(
                reason is not None and len(reason.splitlines()) == 1,
                f"the checker must give a reason of one line for {answer!r}, a wrong answer to {text!r}",
            )


def _check_parts(task: Task, oracle: Oracle, difficulty: Difficulty, prompts: Tokens, answers: Tokens) -> None:
    """A true answer must contain the true answers to its parts, and must not contain just anything."""
    parts = _parts(task, prompts, answers)
    again = {part.name: part.prompts.tolist() for part in _parts(task, prompts, answers)}
    require(
        again == {part.name: part.prompts.tolist() for part in parts},
        "parts must be the same for the same prompts and answers",
    )
    for row in range(4):
        alone = {part.name: part.prompts.tolist() for part in _parts(task, prompts[row, None], answers[row, None])}
        among = {part.name: part.prompts[part.rows == row].tolist() for part in parts if row in part.rows}
        require(alone == among, "parts must not depend on the rest of the batch")
    require(task.composes or not any(part.compose for part in parts), "composes must be true: there are such parts")
    for part in parts:
        if not _is_easier(part.difficulty, difficulty):
            raise BrokenError(f"parts must be easier, got difficulty {part.difficulty} {part.name}")
        _check_relation(task, part, prompts[part.rows], answers[part.rows], oracle.solve(part.prompts))
    for malformed in _malformed(task, answers.shape[1] + 2):
        _parts(task, prompts, malformed)
        for part in parts:
            _agree(part, malformed[part.rows], oracle.solve(part.prompts))
            _agree(part, answers[part.rows], malformed[part.rows])
            _compose(part, malformed[part.rows])


def _check_relation(task: Task, part: Part, prompts: Tokens, answers: Tokens, true: Tokens) -> None:
    agreed = _agree(part, answers, true)
    if not agreed.all():
        row = int(agreed.argmin())
        asked, inside = (task.vocabulary.decode_prompts(each[row, None])[0] for each in (prompts, part.prompts))
        raise BrokenError(
            f"the true answer to {asked!r} must agree with that to its part {inside!r}: {part.name}",
        )
    if (made := _compose(part, true)) is not None:
        require(same(made, answers).all(), f"compose must make the true answer of the part's true answer: {part.name}")
    wide = [np.pad(each, ((0, 0), (0, more)), constant_values=PAD) for each, more in ((answers, 3), (true, 5))]
    require(_agree(part, *wide).all(), f"agree must not depend on how far answers are padded: {part.name}")
    for whose, pairs in (
        ("the part's answer", ((answers, wrong) for wrong in _wrong(task, true))),
        ("the whole answer", ((wrong, true) for wrong in _wrong(task, answers))),
    ):
        require(
            any(not _agree(part, *pair).all() for pair in pairs),
            f"agree must say no where {whose} is wrong, it never does: {part.name}",
        )


def _parts(task: Task, prompts: Tokens, answers: Tokens) -> list[Part]:
    """Return the task's parts, each looked at for its form."""
    parts: list[Part] = call("parts must not raise", task.parts, prompts, answers)
    if not isinstance(parts, list) or not all(isinstance(part, Part) for part in parts):
        raise BrokenError(f"parts must return a list of Part, got {parts!r:.60}")
    require(len({part.name for part in parts}) == len(parts), "parts must have names of their own")
    for part in parts:
        check_array(part.rows, (None,), np.integer, f"rows must be (asked,) integers: {part.name}")
        require(len(part.rows), f"a part that no prompt has must be left out: {part.name}")
        require(
            (np.diff(part.rows) > 0).all() and part.rows[0] >= 0 and part.rows[-1] < len(prompts),
            f"rows must be different prompts, in order: {part.name}",
        )
        task.check_prompts(part.prompts, len(part.rows), "parts")
        for text in task.vocabulary.decode_prompts(part.prompts):
            call("prompts of parts must match the grammar", task.check_prompt, text)
    return parts


def _agree(part: Part, answers: Tokens, parts: Tokens) -> Any:
    given = [each.copy() for each in (answers, parts)]
    for each in given:
        each.setflags(write=False)
    agreed = call(f"agree must not raise: {part.name}", part.agree, *given)
    check_array(agreed, (len(part.rows),), np.bool_, f"agree must return (asked,) whether they agree: {part.name}")
    return agreed


def _compose(part: Part, parts: Tokens) -> Any:
    """Return the whole answers that answers to a part make; None where it makes none."""
    if part.compose is None:
        return None
    made = call(f"compose must not raise: {part.name}", part.compose, parts.copy())
    require(
        isinstance(made, np.ndarray) and made.ndim == 2 and len(made) == len(parts) and made.dtype.kind == "i",
        f"compose must return (asked, any) integers: {part.name}",
    )
    return made


def _is_easier(part: Difficulty, whole: Difficulty) -> bool:
    if isinstance(part, int) and isinstance(whole, int):
        return 1 <= part < whole
    pairs = [each if isinstance(each, tuple) else (each, each) for each in (part, whole)]
    return min(pairs[0]) >= 1 and pairs[0] != pairs[1] and all(a <= b for a, b in zip(*pairs, strict=True))


def _wrong(task: Task, answers: Tokens) -> Iterator[Tokens]:
    """Yield answers with one token wrong, another one each time."""
    for place in range(answers.shape[1]):
        wrong = answers.copy()
        symbols = wrong[:, place] >= SPECIAL
        wrong[symbols, place] = SPECIAL + (wrong[symbols, place] - SPECIAL + 1) % len(task.vocabulary.symbols)
        yield wrong


def _malformed(task: Task, length: int) -> list[Tokens]:
    """Return (COUNT, any) answers of random tokens, with an end after each number of them and without; empty ones."""
    rubbish = np.random.default_rng(0).integers(0, len(task.vocabulary), (COUNT, length), dtype=np.int32)
    ended = np.where(rubbish < SPECIAL, SPECIAL, rubbish)
    place, end = np.arange(length), (np.arange(COUNT) % length)[:, None]
    ended = np.where(place < end, ended, np.where(place == end, EOS, PAD)).astype(np.int32)
    nothing = np.full((COUNT, length), PAD, dtype=np.int32)
    return [rubbish, ended, nothing, ended[:1].repeat(COUNT, axis=0)]


def _others(task: Task, token: int) -> list[int]:
    """Return a few tokens other than ``token``: its neighbours and both ends of the vocabulary."""
    wanted = {SPECIAL, token - 1, token + 1, len(task.vocabulary) - 1} - {token}
    return sorted(other for other in wanted if SPECIAL <= other < len(task.vocabulary))


def _check_like_sample(task: Task, difficulty: Difficulty, method: str, length: int) -> None:
    """Prompts of another distribution must be prompts of the same difficulty."""
    prompts = _sample(task, difficulty, COUNT, method=method)
    task.check_prompts(prompts, COUNT, method)
    require(prompts.shape[1] == length, f"{method} must give prompts as long as those of sample")
    again = _sample(task, difficulty, COUNT, method=method)
    require((again == prompts).all(), f"{method} must give the same prompts for the same stream")
    for text in task.vocabulary.decode_prompts(prompts):
        call(f"prompts of {method} must match the grammar", task.check_prompt, text)


def _check_baseline(task: Task, prompts: Any) -> None:
    given, again = (
        call("baseline_answers must not raise", task.baseline_answers, numpy_generator(0, "contract"), prompts)
        for _ in range(2)
    )
    check_array(given, (COUNT, None), np.integer, "baseline_answers must return (count, any) token ids")
    require((given == again).all(), "baseline_answers must be the same for the same stream")
    require((given < len(task.vocabulary)).all(), "baseline_answers must be made of the vocabulary's tokens")
    require((given == EOS).any(axis=1).all(), "baseline_answers must each end with EOS")


def _sample(task: Task, difficulty: Difficulty, count: int, stream: str = "contract", method: str = "sample") -> Any:
    before = global_state()
    generator = numpy_generator(0, stream, difficulty_text(difficulty))
    prompts = call(f"{method} must not raise", getattr(task, method), generator, difficulty, count)
    require(before == global_state(), f"{method} must leave NumPy's global generator alone")
    return prompts

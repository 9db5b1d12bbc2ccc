"""Data sets of reasoning-gym: questions by the levels of a curriculum; its verifier is the oracle.

A data set draws a question together with its answer, from a seed and a number. So each level has a pool: the entries of
one seed, the same in every run. The task draws the pool and keeps its questions alone; the oracle draws it again for
their answers. Nothing that a task keeps or returns can tell an answer (docs/reasoning-gym.md).
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from functools import cache
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from easy2hard.errors import UserError
from easy2hard.plugins import in_a_line
from easy2hard.seeding import derive
from easy2hard.tasks.base import Difficulty, Task
from easy2hard.tasks.oracle import Oracle
from easy2hard.vocabulary import PAD, Tokens, Vocabulary

LOOKED_AT = 64
"""Entries of each level that show which characters there are and how long questions get."""
BREAK = "↵"
"""Stands for the end of a line: a prompt has one line."""


def _library() -> Any:
    """Return reasoning-gym's factory of data sets and curricula.

    Raises:
        UserError: it is not installed.
    """
    try:
        from reasoning_gym import factory
    except ImportError as error:
        raise UserError(
            f"task reasoning-gym needs the package reasoning-gym: pip install '.[reasoning-gym]' ({error})"
        ) from error
    return factory


@dataclass(frozen=True)
class _Survey:
    """What the first entries of each level of a data set show."""

    configs: list[Any]
    """The configuration of each level, the lowest first; no two neighbours are the same."""
    end: str
    """Why there are no more levels."""
    characters: str
    """Those of questions and answers, in order."""
    preamble: str
    """The words that all questions begin with."""
    lengths: list[int]
    """Characters of a level's longest question."""


@cache
def _survey(dataset: str, attribute: str) -> _Survey:
    """Look at a data set, which grows in one attribute of its curriculum, or in all of them where none is named."""
    from reasoning_gym.coaching.base_curriculum import DefaultCurriculumContext, RangeAttributeMode

    factory = _library()
    if dataset not in factory.CURRICULA:
        names = get_close_matches(dataset, factory.CURRICULA, 5, 0.4) or sorted(factory.CURRICULA)
        raise UserError(
            f"task.options.dataset = {dataset!r}: no data set of reasoning-gym with a curriculum "
            f"(closest: {', '.join(names)})"
        )
    curriculum = factory.create_curriculum(dataset)
    attributes = curriculum.attributes
    if attribute and attribute not in attributes:
        raise UserError(f"task.options.attribute = {attribute!r}: {dataset} has {', '.join(attributes)}")
    # Of a range of values, a level has those alone that are new: else most of its prompts would be easier ones.
    context = DefaultCurriculumContext(mode=RangeAttributeMode.UPPER_BOUND)
    configs: list[Any] = []
    questions: list[list[str]] = []
    characters: set[str] = set()
    end = "the curriculum has no more"
    for level in range(max(len(each.levels) for name, each in attributes.items() if attribute in ("", name))):
        for name, each in attributes.items():
            curriculum.set_attr_level(name, min(level, len(each.levels) - 1) if attribute in ("", name) else 0)
        # A data set adds the number of an entry to its seed: with one seed, levels would share their first terms.
        seed = derive(0, "reasoning-gym", dataset, attribute, level + 1) % (1 << 31)
        try:
            config = curriculum.generate_configuration({"seed": seed, "size": LOOKED_AT}, context)
            if configs and replace(config, seed=configs[-1].seed) == configs[-1]:
                break
            data = factory.DATASETS[dataset][0](config=config)
            entries = [data[index] for index in range(LOOKED_AT)]
        except Exception as error:  # it may be anything: some curricula end in levels that cannot be drawn
            end = f"level {level + 1} cannot be drawn: {in_a_line(error)}"
            break
        configs.append(config)
        questions.append([_line(entry["question"]) for entry in entries])
        characters.update(*questions[-1], *(_line(entry["answer"]) for entry in entries))
    if not configs:
        raise UserError(f"task.options.dataset = {dataset!r}: {end}")
    start = _beginning([each for level in questions for each in level])
    return _Survey(
        configs,
        end,
        "".join(sorted(each for each in characters if each.isprintable())),
        start,
        [max(map(len, level)) for level in questions],
    )


def _beginning(texts: list[str]) -> str:
    """Return the whole words that all texts begin with."""
    first, last = min(texts), max(texts)
    same = next((place for place in range(len(first)) if first[place] != last[place]), len(first))
    return first[: max(first.rfind(each, 0, same) for each in (" ", BREAK)) + 1]


def _line(text: object) -> str:
    """Return a text of a data set in a line; empty where it is none."""
    return text.replace("\n", BREAK) if isinstance(text, str) else ""


class ReasoningGym(Task):
    """Questions of one data set; a difficulty is a level of its curriculum.

    Args:
        dataset: its name.
        attribute: the one that grows, the others stay at their lowest level; all of them grow by default.
        preamble: 0 leaves out the words that all questions of the data set begin with.
        size: entries of each level.
    """

    name, summary = "reasoning-gym", "questions of a reasoning-gym data set, by the levels of its curriculum"
    unit = "levels"

    def __init__(self, dataset: str = "chain_sum", attribute: str = "", preamble: int = 1, size: int = 20_000) -> None:
        if preamble not in (0, 1):
            raise UserError(f"task.options.preamble = {preamble}: must be 0 (without) or 1 (with)")
        if not 100 <= size <= 10_000_000:
            raise UserError(f"task.options.size = {size}: must be 100 to 10,000,000")
        self.dataset, self.attribute, self.size = dataset, attribute, size
        survey = _survey(dataset, attribute)
        self.greatest = len(survey.configs)
        self.preamble = "" if preamble else survey.preamble
        # Prompts of a level have one length, which is the level's alone: a filler comes before shorter questions.
        self.lengths: list[int] = []
        for length in survey.lengths:
            self.lengths.append(max(length - len(self.preamble), *(each + 1 for each in self.lengths[-1:]), 1))
        others = chain("_~^", map(chr, range(0xC0, 0x250)))
        self.filler = next(each for each in others if each not in survey.characters)
        self.vocabulary = Vocabulary(self.filler + survey.characters)
        self.grammar = re.compile(f"{self.filler}*[^{self.filler}]+")
        self._pools: dict[int, Tokens] = {}
        self.example = next(_entries(self, 1))[0]

    @override
    def sample(self, generator: np.random.Generator, difficulty: Difficulty, count: int) -> Tokens:
        if not isinstance(difficulty, int):
            raise TypeError(f"task {self.name}: difficulty {difficulty} is not one number")
        if difficulty not in self._pools:
            self._pools[difficulty] = self.vocabulary.encode_prompts([text for text, *_ in _entries(self, difficulty)])
        pool = self._pools[difficulty]
        return pool[generator.integers(0, len(pool), count)]

    @override
    def answer_bounds(self, prompts: Tokens) -> NDArray[np.int64]:
        """No answer is longer than its prompt: an entry whose answer is, is left out."""
        return np.full(len(prompts), prompts.shape[1])

    @override
    def encode(self, texts: Sequence[str]) -> list[tuple[NDArray[np.int64], Tokens]]:
        """Return what :meth:`Task.encode` does; a question without its filler is of the lowest level it fits into."""
        return super().encode([self.filled(text) for text in texts])

    def filled(self, text: str) -> str:
        """Return a question with the filler before it, if it lacks that."""
        return text.rjust(next((length for length in self.lengths if length >= len(text)), 0), self.filler)


def _data(task: ReasoningGym, difficulty: int) -> Any:
    """Return the data set of a level.

    Raises:
        UserError: there is no such level.
    """
    survey = _survey(task.dataset, task.attribute)
    if difficulty > len(survey.configs):
        raise UserError(
            f"difficulty {difficulty}: the greatest of data set {task.dataset} is {len(survey.configs)} ({survey.end})"
        )
    return _library().DATASETS[task.dataset][0](config=survey.configs[difficulty - 1])


def _entries(task: ReasoningGym, difficulty: int) -> Iterator[tuple[str, str, int]]:
    """Yield the prompt, the true answer and the number of each entry of a level that can be written.

    Left out is an entry with a character that the vocabulary lacks, with a question longer than the level's length,
    without an answer, or with an answer longer than the prompt.

    Raises:
        UserError: there is no such level, or none of its entries can be written.
    """
    data, length = _data(task, difficulty), task.lengths[difficulty - 1]
    alphabet = set(task.vocabulary.symbols) - {task.filler}
    found = False
    for index in range(task.size):
        entry = data[index]
        question, answer = _line(entry["question"]), _line(entry["answer"])
        prompt = question.removeprefix(task.preamble)
        if (
            question.startswith(task.preamble)
            and 0 < len(prompt) <= length
            and 0 < len(answer) <= length
            and alphabet.issuperset(prompt)
            and alphabet.issuperset(answer)
        ):
            found = True
            yield prompt.rjust(length, task.filler), answer, index
    if not found:
        raise UserError(
            f"task.options.dataset = {task.dataset!r}: of {task.size:,} entries of level {difficulty} none has a "
            "question and an answer, not longer than it, in characters that can be printed"
        )


@dataclass(frozen=True)
class _Pool:
    """What the oracle knows of a level."""

    rows: dict[str, int]
    """The row of each prompt in what follows."""
    answers: Tokens
    indices: NDArray[np.int64]
    """The number of each entry in the data set."""
    data: Any

    def row(self, prompt: str) -> int:
        """Return the row of a prompt.

        Raises:
            UserError: it is in no entry.
        """
        if prompt not in self.rows:
            raise UserError(
                f"prompt {prompt!r}: none of the {len(self.rows):,} prompts of this level; "
                "the answers to others are not known"
            )
        return self.rows[prompt]


class ReasoningGymOracle(Oracle):
    """Knows the answers of the pools, and asks the data set's verifier about others (``score_answer`` gives 1)."""

    task_class = ReasoningGym
    task: ReasoningGym
    several = True

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        self._pools: dict[int, _Pool] = {}

    @override
    def solve(self, prompts: Tokens) -> Tokens:
        pool = self._pool(prompts.shape[1] - 1)
        texts = self.task.vocabulary.decode_prompts(prompts)
        chosen = pool.answers[np.array([pool.row(text) for text in texts], dtype=np.int64)]
        return chosen[:, : int((chosen != PAD).sum(axis=1).max(initial=1))]

    @override
    def accepts(self, prompt: str, answer: str) -> bool:
        prompt = self.task.filled(prompt)
        pool = self._pool(len(prompt))
        entry = pool.data[int(pool.indices[pool.row(prompt)])]
        try:
            return bool(pool.data.score_answer(answer.replace(BREAK, "\n"), entry) == 1)
        except Exception:  # what a verifier cannot even read is not right
            return False

    @override
    def reason(self, prompt: str, truth: str, answer: str) -> str:
        return f"not accepted by the verifier: right is {truth!r}"

    def _pool(self, length: int) -> _Pool:
        """Return the pool of the level whose prompts have a length."""
        if length not in self.task.lengths:
            raise UserError(
                f"a prompt of {length} characters: data set {self.task.dataset} has no level with such prompts"
            )
        difficulty = self.task.lengths.index(length) + 1
        if difficulty not in self._pools:
            rows: dict[str, int] = {}
            answers: list[str] = []
            indices: list[int] = []
            for prompt, answer, index in _entries(self.task, difficulty):
                if prompt not in rows:
                    rows[prompt] = len(answers)
                    answers.append(answer)
                    indices.append(index)
            tokens = self.task.vocabulary.encode_answers(answers)
            self._pools[difficulty] = _Pool(rows, tokens, np.array(indices), _data(self.task, difficulty))
        return self._pools[difficulty]

"""Data sets of reasoning-gym: questions by the levels of a curriculum; its verifier is the oracle.

A data set draws a question together with its answer, from a seed and a number. So each level has a pool: the entries of
one seed, the same in every run. Entries are drawn when they are asked for: some data sets take long over one. The task
keeps their questions and numbers alone; the oracle draws them again for their answers. Nothing that a task keeps or
returns can tell an answer (docs/reasoning-gym.md).
"""

import re
from collections.abc import Sequence
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
from easy2hard.vocabulary import Tokens, Vocabulary

LOOKED_AT = 64
"""Entries of each level that show which characters there are and how long questions get."""
MOST_LEVELS = 100
"""From the first number of an attribute to its last, where every number between becomes a level."""
MALFORMED = (
    ArithmeticError,
    AttributeError,
    LookupError,
    RecursionError,
    SyntaxError,
    TypeError,
    ValueError,
)
"""What reading an answer raises that is none: of all data sets ``coin_flip``, ``game_of_life`` and
``prime_factorization`` let OverflowError, KeyError and ValueError out, the others say 0 themselves."""
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

    data: list[Any]
    """The data set of each level, the lowest first; no two neighbours have the same configuration."""
    end: str
    """Why there are no more levels."""
    characters: str
    """Those of questions and answers, in order."""
    preamble: str
    """The words that all questions begin with."""
    ending: str
    """The words that all questions end with."""
    lengths: list[int]
    """Characters of a level's longest question."""


@cache
def _survey(dataset: str, attribute: str, fine: int) -> _Survey:
    """Look at a data set, which grows in one attribute of its curriculum, or in all of them where none is named.

    With ``fine``, every whole number between two levels of such an attribute is a level too.
    """
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
    for each in attributes.values():
        numbers = all(type(level) is int for level in each.levels) and each.levels == sorted(each.levels)
        if fine and attribute in ("", each.name) and numbers and each.levels[-1] - each.levels[0] <= MOST_LEVELS:
            each.levels = list(range(each.levels[0], each.levels[-1] + 1))
    # Of a range of values, a level has those alone that are new: else most of its prompts would be easier ones.
    context = DefaultCurriculumContext(mode=RangeAttributeMode.UPPER_BOUND)
    levels: list[Any] = []
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
            if levels and replace(config, seed=levels[-1].config.seed) == levels[-1].config:
                break
            data = factory.DATASETS[dataset][0](config=config)
            entries = [data[index] for index in range(LOOKED_AT)]
        except Exception as error:  # it may be anything: some curricula end in levels that cannot be drawn
            end = f"level {level + 1} cannot be drawn: {in_a_line(error)}"
            break
        levels.append(data)
        questions.append([_line(entry["question"]) for entry in entries])
        characters.update(*questions[-1], *(_line(entry["answer"]) for entry in entries))
    if not levels:
        raise UserError(f"task.options.dataset = {dataset!r}: {end}")
    together = [each for level in questions for each in level]
    start = _beginning(together)
    return _Survey(
        levels,
        end,
        "".join(sorted(each for each in characters if each.isprintable())),
        start,
        _beginning([each.removeprefix(start)[::-1] for each in together])[::-1],
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
        preamble: 0 leaves out the words that all questions of the data set begin or end with.
        size: entries of each level.
        fine: 1 makes a level of every whole number between two levels of an attribute that grows.
    """

    name, summary = "reasoning-gym", "questions of a reasoning-gym data set, by the levels of its curriculum"
    unit = "levels"

    def __init__(
        self, dataset: str = "chain_sum", attribute: str = "", preamble: int = 1, size: int = 20_000, fine: int = 0
    ) -> None:
        if preamble not in (0, 1):
            raise UserError(f"task.options.preamble = {preamble}: must be 0 (without) or 1 (with)")
        if fine not in (0, 1):
            raise UserError(f"task.options.fine = {fine}: must be 0 (the curriculum's levels) or 1 (more)")
        if not 100 <= size <= 10_000_000:
            raise UserError(f"task.options.size = {size}: must be 100 to 10,000,000")
        self.dataset, self.attribute, self.size, self.fine = dataset, attribute, size, fine
        survey = _survey(dataset, attribute, fine)
        self.greatest = len(survey.data)
        self.preamble, self.ending = ("", "") if preamble else (survey.preamble, survey.ending)
        # Prompts of a level have one length, which is the level's alone: a filler comes before shorter questions.
        self.lengths: list[int] = []
        for length in survey.lengths:
            own = length - len(self.preamble + self.ending)
            self.lengths.append(max(own, *(each + 1 for each in self.lengths[-1:]), 1))
        others = chain("_~^", map(chr, range(0xC0, 0x250)))
        self.filler = next(each for each in others if each not in survey.characters)
        self.vocabulary = Vocabulary(self.filler + survey.characters)
        self.grammar = re.compile(f"{self.filler}*[^{self.filler}]+")
        self._rows: dict[tuple[int, int], Tokens] = {}
        self.numbers: dict[str, int] = {}
        """The number of the entry of each prompt that was drawn."""
        self.example = self.vocabulary.decode_prompts(self._row(1, 0)[None])[0]

    @override
    def sample(self, generator: np.random.Generator, difficulty: Difficulty, count: int) -> Tokens:
        if not isinstance(difficulty, int):
            raise TypeError(f"task {self.name}: difficulty {difficulty} is not one number")
        _data(self, difficulty)  # raises where there is no such level
        chosen = generator.integers(0, self.size, count)
        rows = [self._row(difficulty, int(number)) for number in chosen]
        return np.array(rows, dtype=np.int32).reshape(count, self.lengths[difficulty - 1] + 1)

    def _row(self, difficulty: int, number: int) -> Tokens:
        """Return the prompt of an entry of a level, or of the next one that can be written."""
        if (difficulty, number) not in self._rows:
            for other in chain(range(number, self.size), range(number)):
                if (difficulty, other) in self._rows:
                    break
                written = _entry(self, difficulty, other)
                if written is not None:
                    self._rows[difficulty, other] = self.vocabulary.encode_prompts([written[0]])[0]
                    self.numbers.setdefault(written[0], other)
                    break
            else:
                raise UserError(
                    f"task.options.dataset = {self.dataset!r}: of {self.size:,} entries of level {difficulty} none has "
                    "a question and an answer, not longer than it, in characters that can be printed"
                )
            self._rows[difficulty, number] = self._rows[difficulty, other]
        return self._rows[difficulty, number]

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
    survey = _survey(task.dataset, task.attribute, task.fine)
    if difficulty > len(survey.data):
        raise UserError(
            f"difficulty {difficulty}: the greatest of data set {task.dataset} is {len(survey.data)} ({survey.end})"
        )
    return survey.data[difficulty - 1]


def _entry(task: ReasoningGym, difficulty: int, number: int) -> tuple[str, str] | None:
    """Return the prompt and the true answer of an entry of a level, or None where it cannot be written.

    So it is with a character that the vocabulary lacks, a question longer than the level's length, no answer, or an
    answer longer than the prompt.

    Raises:
        UserError: there is no such level.
    """
    entry, length = _data(task, difficulty)[number], task.lengths[difficulty - 1]
    question, answer = _line(entry["question"]), _line(entry["answer"])
    rest = question.removeprefix(task.preamble)
    prompt = rest.removesuffix(task.ending)
    written = (
        question.startswith(task.preamble)
        and rest.endswith(task.ending)
        and 0 < len(prompt) <= length
        and 0 < len(answer) <= length
        and (set(task.vocabulary.symbols) - {task.filler}).issuperset(prompt + answer)
    )
    return (prompt.rjust(length, task.filler), answer) if written else None


def _reads(data: Any, entry: dict[str, Any]) -> bool:
    """Return whether a verifier can read an entry's own answer; if not, no answer is to blame for what it raises."""
    try:
        data.score_answer(entry["answer"], entry)
    except Exception:  # the caller tells what the verifier raised
        return False
    return True


class ReasoningGymOracle(Oracle):
    """Knows the answers of the pools, and asks the data set's verifier about others (``score_answer`` gives 1)."""

    task_class = ReasoningGym
    task: ReasoningGym
    several = True

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        self._known: dict[str, tuple[str, int]] = {}
        self._read: dict[int, int] = {}
        self._judged: tuple[str, Any] = "", None

    @override
    def solve(self, prompts: Tokens) -> Tokens:
        texts = self.task.vocabulary.decode_prompts(prompts)
        return self.task.vocabulary.encode_answers([self._found(text) for text in texts])

    @override
    def accepts(self, prompt: str, answer: str) -> bool:
        prompt = self.task.filled(prompt)
        self._found(prompt)
        data = _data(self.task, self._level(prompt))
        if self._judged[0] != prompt:  # an entry may take long to draw, and many answers to one prompt come in turn
            self._judged = prompt, data[self._known[prompt][1]]
        entry = self._judged[1]
        try:
            return bool(data.score_answer(answer.replace(BREAK, "\n"), entry) == 1)
        except Exception as error:  # of a stranger's code: it is about the answer, or it is told
            if isinstance(error, MALFORMED) and _reads(data, entry):
                return False
            raise UserError(
                f"data set {self.task.dataset}: its verifier fails at answer {answer!r}: {in_a_line(error)}"
            ) from error

    @override
    def reason(self, prompt: str, truth: str, answer: str) -> str:
        return f"not accepted by the verifier: right is {truth!r}"

    def _found(self, prompt: str) -> str:
        """Return the true answer to a prompt.

        Raises:
            UserError: it is in no entry.
        """
        difficulty = self._level(prompt)
        if prompt not in self._known and prompt in self.task.numbers:
            self._draw(difficulty, self.task.numbers[prompt])
        while prompt not in self._known:  # another process drew it, or nobody did
            number = self._read.get(difficulty, 0)
            if number == self.task.size:
                raise UserError(
                    f"prompt {prompt!r}: in none of the {number:,} entries of this level; the answers to others are "
                    "not known"
                )
            self._draw(difficulty, number)
            self._read[difficulty] = number + 1
        return self._known[prompt][0]

    def _draw(self, difficulty: int, number: int) -> None:
        """Learn the answer of an entry."""
        written = _entry(self.task, difficulty, number)
        if written is not None:
            self._known.setdefault(written[0], (written[1], number))

    def _level(self, prompt: str) -> int:
        """Return the level whose prompts have the length of this one."""
        if len(prompt) not in self.task.lengths:
            raise UserError(
                f"a prompt of {len(prompt)} characters: data set {self.task.dataset} has no level with such prompts"
            )
        return self.task.lengths.index(len(prompt)) + 1

"""The contract of a task: what self-labelling may know. Nothing here can compute a true answer."""

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from easy2hard.errors import UserError
from easy2hard.rules import BrokenError, call, check_array, require
from easy2hard.vocabulary import BOS, SPECIAL, Tokens, Vocabulary

Difficulty = int | tuple[int, int]
"""One number, or a pair for tasks with two (the digits of each operand). ``d`` stands for ``(d, d)`` there."""


GREATEST_DIFFICULTY = 1_000_000
"""No number of a difficulty is greater: prompts of so many tokens are more than any machine answers."""


def hardest(difficulty: Difficulty) -> int:
    """Return the greater number of a difficulty."""
    return difficulty if isinstance(difficulty, int) else max(difficulty)


def difficulty_text(difficulty: Difficulty) -> str:
    """Return a difficulty as it is written in files, streams and on the command line: ``20`` or ``6x5``."""
    return str(difficulty) if isinstance(difficulty, int) else f"{difficulty[0]}x{difficulty[1]}"


def span(difficulties: Sequence[Difficulty]) -> str:
    """Return difficulties in a few characters: the first and the last; ``-`` where there are none."""
    if not difficulties:
        return "-"
    first, last = difficulty_text(difficulties[0]), difficulty_text(difficulties[-1])
    return first if first == last else f"{first}-{last}"


def parse_difficulty(text: str) -> Difficulty:
    """Return the difficulty written as ``text``.

    Raises:
        ValueError: it is neither a number nor a pair of numbers, or one of them is below 1 or too great.
    """
    match = re.fullmatch(r"([1-9][0-9]*)(?:x([1-9][0-9]*))?", text.strip())
    if not match:
        raise ValueError(f"{text!r} is no difficulty: expected a number from 1 up, or a pair such as 6x5")
    first, second = match.groups()
    # Python reads no number of more than 4,300 digits.
    if any(len(each) > 7 or int(each) > GREATEST_DIFFICULTY for each in (first, second) if each):
        raise ValueError(f"{text!r}: no difficulty is above {GREATEST_DIFFICULTY:,}")
    return int(first) if second is None else (int(first), int(second))


@dataclass(frozen=True)
class Part:
    """A question inside some prompts that is one small step easier. The whole answer must contain its answer."""

    name: str
    """What it leaves out, in a few words."""
    difficulty: Difficulty
    rows: NDArray[np.int64]
    """(asked,) the prompts that have this part, as indices."""
    prompts: Tokens
    """(asked, length) the easier prompts, in the order of ``rows``."""
    agree: Callable[[Tokens, Tokens], NDArray[np.bool_]]
    """Takes the (asked, any) whole answers and the (asked, any) answers to the parts, each ended by EOS and padded on
    the right. Returns (asked,) whether the first contain the second."""
    compose: Callable[[Tokens], Tokens] | None = None
    """Takes the (asked, any) answers to the parts, and returns the (asked, any) whole answers that they make, together
    with what the prompts and the answers given so far show; None where a part does not make a whole answer."""


class Task(ABC):
    """Samples prompts of a requested difficulty and bounds the length of their answers.

    Prompts of one difficulty all have the same length, so that batches need neither padding nor masks.
    """

    name: str
    summary: str
    vocabulary: Vocabulary
    grammar: re.Pattern[str]
    """What a whole prompt looks like, without BOS."""
    example: str
    """A prompt of the task, shown in help texts and error messages."""
    unit: str = "digits"
    """What the difficulty counts."""
    greatest: int | None = None
    """The greatest difficulty there is; None where there is no end."""
    hard_split: str | None = None
    """What makes the prompts of :meth:`sample_hard` hard, in a few words; None where the task has no hard split."""
    baseline: str | None = None
    """How :meth:`baseline_answers` come about, in a few words; None where the task names no baseline."""
    composes: bool = False
    """Whether :meth:`parts` has parts that make whole answers (:attr:`Part.compose`)."""
    coupled_by_name: bool = False
    """Whether the numbers of :meth:`coupled_ids` are names, of nodes for example, instead of places that are counted.

    Names are not moved on in training, and have no distance."""

    def supervised_difficulties(self, hardest: int) -> list[Difficulty]:
        """Return the difficulties that make up D0 when ``hardest`` is the greatest."""
        return list(range(1, hardest + 1))

    def supervised_weight(self, difficulty: Difficulty) -> float:
        """Return how often a supervised difficulty is drawn, relative to the others; all are equally likely here."""
        return 1.0

    def labelled_difficulties(self, hardest: int) -> list[list[Difficulty]]:
        """Return what is labelled to come from ``hardest - 1`` to ``hardest``: the difficulties of each small step."""
        return [[hardest]]

    def evaluated_difficulties(self, hardest: int) -> list[Difficulty]:
        """Return the difficulties that show how well a model does up to ``hardest``."""
        return list(range(1, hardest + 1))

    def parse_difficulty(self, text: str) -> Difficulty:
        """Return the difficulty of this task that is written as ``text``.

        Raises:
            ValueError: it is none, or a pair where the task's difficulty is one number.
        """
        difficulty = parse_difficulty(text)
        if isinstance(difficulty, tuple) and not any(isinstance(d, tuple) for d in self.supervised_difficulties(9)):
            raise ValueError(f"{text.strip()} is a pair; the difficulty of task {self.name} is one number")
        return difficulty

    def parse_difficulties(self, text: str) -> list[Difficulty]:
        """Return the difficulties of a list such as ``1-5,10`` or ``6x5,5x6``, each once, in order.

        Raises:
            ValueError: the text is no such list of this task's difficulties.
        """
        wanted: list[Difficulty] = []
        for part in text.split(","):
            first, dash, last = part.strip().partition("-")
            low, high = self.parse_difficulty(first), self.parse_difficulty(last if dash else first)
            if not dash:
                wanted.append(low)
            elif isinstance(low, tuple) or isinstance(high, tuple):
                raise ValueError(f"{part.strip()}: a range has no pairs")
            elif high < low:
                raise ValueError(f"{part.strip()} must be a range of numbers from 1 up")
            else:
                wanted += range(low, high + 1)
        return sorted(set(wanted), key=lambda d: (d, d) if isinstance(d, int) else d)

    def capped(self, hardest: int) -> int:
        """Return ``hardest``, or the greatest difficulty there is where that is less."""
        return hardest if self.greatest is None else min(hardest, self.greatest)

    @abstractmethod
    def sample(self, generator: np.random.Generator, difficulty: Difficulty, count: int) -> Tokens:
        """Return (count, length) prompts of exactly ``difficulty``, each beginning with BOS. Evaluation uses these."""

    def sample_practice(self, generator: np.random.Generator, difficulty: Difficulty, count: int) -> Tokens:
        """Return what :meth:`sample` does, from the distribution to learn from: for labels and for D0.

        A task may draw more of what is rare and hard. It knows no true answers, so it may do so for labels too.
        """
        return self.sample(generator, difficulty, count)

    def sample_supervised(self, generator: np.random.Generator, difficulty: Difficulty, count: int) -> Tokens:
        """Return what :meth:`sample_practice` does, for D0 alone: prompts that are in one batch may belong together."""
        return self.sample_practice(generator, difficulty, count)

    def sample_hard(self, generator: np.random.Generator, difficulty: Difficulty, count: int) -> Tokens:
        """Return what :meth:`sample` does, from the hard split: evaluated beside the uniform prompts.

        Raises:
            UserError: the task has no hard split.
        """
        raise UserError(f"task {self.name}: has no hard split")

    def baseline_answers(self, generator: np.random.Generator, prompts: Tokens) -> Tokens:
        """Return (count, any) answers that cost no understanding, ended by EOS and padded on the right.

        Members that are no better have not learned the task. ``generator`` chooses where there is a choice.

        Raises:
            UserError: the task names no baseline.
        """
        raise UserError(f"task {self.name}: names no baseline")

    @abstractmethod
    def answer_bounds(self, prompts: Tokens) -> NDArray[np.int64]:
        """Return (count,) greatest numbers of answer tokens, EOS included, computed from the prompts alone."""

    def twin(self, prompts: Tokens) -> Tokens | None:
        """Return (count, length) prompts with the same question asked in another way, such as b+a for a+b.

        None where the task has no such twins. The twin filter keeps answers that agree with their twin's.
        """
        return None

    def agree(self, answers: Tokens, twins: Tokens) -> NDArray[np.bool_]:
        """Return (count,) whether (count, length) answers say the same as those to the twin prompts."""
        same: NDArray[np.bool_] = (answers == twins).all(axis=1)
        return same

    def parts(self, prompts: Tokens, answers: Tokens) -> list[Part]:
        """Return easier questions whose answers the answers to ``prompts`` must contain; none where the task has none.

        They are a relation that the task declares, as twins are. The relation may use what a prompt shows, such as the
        carry of the two lowest digits, and answers that were given. It never uses a true answer.

        Args:
            prompts: (count, length) prompts of one difficulty.
            answers: (count, any) answers to them, ended by EOS and padded on the right. Some may be wrong or malformed.
                A part may depend on them: the rest of a way begins at its second node.
        """
        return []

    def coupled_ids(self, prompts: Tokens, length: int) -> NDArray[np.int64]:
        """Return (count, length) numbers of the places of prompt and answer, known from the prompts alone.

        Tokens that belong together, such as the digits of one power of ten, have one number, from 1 on; 0 is for those
        that belong to none, BOS and what comes after a whole answer (Cho et al. 2024, "Position Coupling", section 3).
        The number is a count, or a name where :attr:`coupled_by_name` says so.

        Raises:
            UserError: the task does not say what belongs together.
        """
        raise UserError(
            f"model.positions = 'coupled' or 'coupled-bias': task {self.name} does not say which of its tokens are "
            "coupled"
        )

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Name the task whose code breaks a rule in the block.

        Raises:
            UserError: with the rule.
        """
        try:
            yield
        except BrokenError as error:
            raise UserError(f"task {self.name} breaks the contract: {error}") from error

    def check_attributes(self) -> None:
        """Refuse a task without what every command reads of it.

        Raises:
            BrokenError: with the attribute.
        """
        kinds = {"name": str, "summary": str, "example": str, "vocabulary": Vocabulary, "grammar": re.Pattern}
        for name, kind in kinds.items():
            if not isinstance(getattr(self, name, None), kind):
                raise BrokenError(f"(attributes): {name} must be a {kind.__name__}")
        call("example must be a prompt", self.check_prompt, self.example)

    def check_prompts(self, prompts: Tokens, count: int, made_by: str = "sample") -> None:
        """Refuse what is not (count, length) prompts.

        Raises:
            BrokenError: with what is wrong.
        """
        check_array(prompts, (count, None), np.integer, f"{made_by} must return (count, length) token ids")
        require((prompts[:, :1] == BOS).all(), "a prompt must begin with BOS")
        inside = (prompts[:, 1:] >= SPECIAL) & (prompts[:, 1:] < len(self.vocabulary))
        require(inside.all(), "a prompt must be made of the vocabulary's symbols after BOS, without padding")

    def check_prompt(self, text: str) -> None:
        """Refuse a text that is no prompt of this task.

        Raises:
            UserError: naming the text and what a prompt looks like.
        """
        self.vocabulary.encode(text)
        if not self.grammar.fullmatch(text):
            raise UserError(f"prompt {text!r}: not a prompt of task {self.name} (expected the form {self.example!r})")

    def encode(self, texts: Sequence[str]) -> list[tuple[NDArray[np.int64], Tokens]]:
        """Return prompts as token arrays grouped by length: pairs of (indices into ``texts``, prompts).

        Raises:
            UserError: a text is not a prompt of this task.
        """
        for text in texts:
            self.check_prompt(text)
        lengths = self.vocabulary.lengths(texts)
        groups = []
        for length in np.unique(lengths):
            rows = np.flatnonzero(lengths == length)
            groups.append((rows, self.vocabulary.encode_prompts([texts[int(i)] for i in rows])))
        return groups

    def frame(self, *parts: Tokens | str) -> Tokens:
        """Return prompts put together from BOS and ``parts``: (count, any) token arrays, or symbols for all rows."""
        count = next(len(part) for part in parts if not isinstance(part, str))
        columns: list[Tokens] = [np.full((count, 1), BOS, dtype=np.int32)]
        for part in parts:
            if isinstance(part, str):
                columns.append(np.tile(np.array(self.vocabulary.encode(part), dtype=np.int32), (count, 1)))
            else:
                columns.append(part.astype(np.int32, copy=False))
        return np.concatenate(columns, axis=1)


def placed(prompt: NDArray[np.int64], answer: NDArray[np.int64], length: int) -> NDArray[np.int64]:
    """Return (count, length) numbers of places from those of the prompts and of the answers; 0 after their end."""
    both = np.concatenate([prompt, answer], axis=1)
    return np.pad(both, ((0, 0), (0, max(0, length - both.shape[1]))))[:, :length]


def length_of(task: Task, difficulty: Difficulty) -> tuple[int, int]:
    """Return how many tokens a prompt of a difficulty has, BOS included, and its answer at most."""
    prompt = task.sample(np.random.default_rng(0), difficulty, 1)
    return prompt.shape[1], int(task.answer_bounds(prompt).max())


def digits(generator: np.random.Generator, count: int, length: int) -> NDArray[np.int32]:
    """Return (count, length) decimal digits, most significant first and never 0 (method.md, "Tasks")."""
    numbers = generator.integers(0, 10, (count, length), dtype=np.int32)
    numbers[:, 0] = generator.integers(1, 10, count, dtype=np.int32)
    return numbers

"""What is asked of a run's weights: answers to prompts, and exact match by difficulty."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from easy2hard.errors import UserError
from easy2hard.runs.experiment import Experiment
from easy2hard.tasks.base import Difficulty, difficulty_text, hardest, length_of, span

if TYPE_CHECKING:
    from easy2hard.engines.engine import Engine


@dataclass(frozen=True)
class Answer:
    """What the members answer to a prompt."""

    prompt: str
    answer: str
    """The answer that most members gave, without its end; whatever was written where it has none."""
    confidence: float
    """Smallest probability of a token of the answer, the least of the members that gave it."""
    votes: int
    """Members that gave exactly this answer; 0 where it did not end within its bound."""


def answers(
    experiment: Experiment,
    load: "Callable[[], Engine]",
    prompts: Sequence[str],
    member: int | None,
    on_long: Callable[[str], None],
) -> list[Answer]:
    """Return what the members answer, by their vote.

    Args:
        experiment: what the run is made of.
        load: returns the engine with the weights to ask, once the prompts are known to be the task's.
        prompts: in the task's form.
        member: ask one member instead of the vote.
        on_long: told in a line what it takes, where that is over a minute.

    Raises:
        UserError: a prompt is not one of the task's or too long for this machine, or there is no such member.
    """
    if isinstance(prompts, str):
        raise UserError(f"prompts = {prompts!r}: a list of prompts, not one text")
    task, members = experiment.task, experiment.settings.model.members
    groups = sorted(task.encode(list(prompts)), key=lambda group: group[1].shape[1], reverse=True)
    if member is not None and not 0 <= member < members:
        raise UserError(f"member = {member}: the run has members 0 to {members - 1}")

    from easy2hard.engines.choice import build_engine
    from easy2hard.improvement.proposals import propose
    from easy2hard.runs.cost import Asked, check_cost, say_cost

    lengths = (Asked(len(each), each.shape[1], int(task.answer_bounds(each).max())) for _, each in groups)
    asked = check_cost("prompts", experiment, lengths)
    engine = load()
    if member is not None:
        engine = build_engine([engine.members[member]])
    say_cost("prompts", experiment, asked, lambda few: propose(engine, task, 0, groups[0][1][:few]), on_long)
    found: dict[int, Answer] = {}
    for rows, tokens in groups:
        proposals = propose(engine, task, 0, tokens)
        texts = task.vocabulary.decode_answers(proposals.answers)
        for row, text, confidence, votes in zip(rows, texts, proposals.confidence, proposals.votes, strict=True):
            found[row] = Answer(prompts[row], text, round(float(confidence), 6), int(votes))
    return [found[row] for row in range(len(prompts))]


def exact_match(
    experiment: Experiment,
    load: "Callable[[], Engine]",
    difficulties: str | Iterable[Difficulty | str] | None,
    examples: int,
    frontier: int,
    on_long: Callable[[str], None],
) -> dict[str, dict[str, float]]:
    """Return exact match by column of :meth:`easy2hard.Run.evaluate` and difficulty.

    Args:
        experiment: what the run is made of.
        load: returns the engine with the weights to measure, once the rest is known to be right.
        difficulties: a list as the command line has it, difficulties or their texts; default: all to the
            frontier + 5, or as far as the rounds were evaluated.
        examples: prompts for each difficulty.
        frontier: the hardest difficulty trained on.
        on_long: told in a line what it takes, where that is over a minute.

    Raises:
        UserError: a difficulty is not one of the task's or too long for this machine, or there are not so many prompts.
    """
    from easy2hard.evaluation.exact_match import accuracy, baseline_accuracy, evaluate_run
    from easy2hard.runs.cost import Asked, check_cost, say_cost

    task, oracle, settings = experiment.task, experiment.oracle, experiment.settings
    if difficulties is not None and not isinstance(difficulties, str):
        difficulties = ",".join("x".join(map(str, d)) if isinstance(d, tuple) else str(d) for d in difficulties)
    try:
        asked = None if difficulties is None else task.parse_difficulties(difficulties)
    except ValueError as error:
        expected = "a list is such as 1-30, 5,10,20 or 6x5,5x6"
        raise UserError(f"--difficulties {difficulties!r}: {error}; {expected}") from error
    reserved = settings.evaluation.reserved
    if not 1 <= examples <= reserved:
        only = "only so many of a difficulty are never labelled"
        raise UserError(f"--examples {examples}: at least 1 and at most {reserved}; {only}")

    wanted = asked or task.evaluated_difficulties(task.capped(frontier + max(5, settings.evaluation.beyond)))
    by_length = sorted(wanted, key=hardest, reverse=True)
    what = f"--difficulties {span(wanted)} --examples {examples}"
    lengths = check_cost(what, experiment, (Asked(examples, *length_of(task, each)) for each in by_length))
    engine = load()

    def measured(some: Sequence[Difficulty], count: int) -> dict[str, dict[Difficulty, float]]:
        mean, voted = evaluate_run(engine, task, oracle, settings.seed, some, count)
        columns = {"exact_match": mean, "voted": voted}
        if task.hard_split:
            columns["hard_split"] = accuracy(engine, task, oracle, settings.seed, some, count, hard=True)
        if task.baseline:
            columns["baseline"] = baseline_accuracy(task, oracle, settings.seed, some, count)
        return columns

    say_cost(what, experiment, lengths, lambda few: measured(by_length[:1], few), on_long)
    return {
        name: {difficulty_text(each): scores[each] for each in wanted}
        for name, scores in measured(wanted, examples).items()
    }

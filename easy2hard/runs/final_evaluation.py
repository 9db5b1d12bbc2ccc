"""What a run that has ended came to, measured afterwards by the oracle; kept in the run's folder."""

from pydantic import ValidationError

from easy2hard.engines.engine import Engine
from easy2hard.evaluation.audit import audit_ledger
from easy2hard.evaluation.exact_match import evaluate_run
from easy2hard.evaluation.reach import REACHED, reach_of
from easy2hard.files import read_inside, write_file
from easy2hard.runs.evaluations import Evaluation, chosen, keep, kept
from easy2hard.runs.experiment import Experiment
from easy2hard.runs.manifest import RunDirectory
from easy2hard.runs.origins import restore
from easy2hard.runs.records import Record
from easy2hard.tasks.base import difficulty_text, hardest, span

OUTCOME_BYTES = 1 << 22
"""No ``outcome.json`` has more."""
FURTHEST = 3
"""Nothing is evaluated beyond so many times the hardest difficulty trained on."""


class Outcome(Record):
    """What ``outcome.json`` holds."""

    weights_sha256: str
    """Of the weights that were evaluated."""
    examples: int
    """Evaluation prompts of each difficulty."""
    least: int
    """Difficulty up to which it was evaluated whatever came out."""
    bar: float
    """Exact match from which a difficulty counts as reached."""
    reach: int
    """The last difficulty before the first that is missed (``evaluation.reach``); 0 where the first is."""
    exact_match: dict[str, float]
    """The members' mean, by difficulty, as the run keeps it (``runs.evaluations``): to the hardest trained on and
    ``evaluation.beyond`` more, and further for as long as none is missed."""
    difficulties: list[str]
    """What each round labelled."""
    precision: list[float | None]
    """Share of each round's kept labels that are right; None where none were kept."""
    kept: list[int]
    """Labels that each round trained on."""

    @property
    def lowest_precision(self) -> float | None:
        """The least of the rounds'; None without labels."""
        return min((each for each in self.precision if each is not None), default=None)


def outcome(run: RunDirectory, examples: int = 1000, bar: float = REACHED, least: int = 0) -> Outcome:
    """Return what a run came to; what is known already is read from ``outcome.json`` and the evaluation it keeps.

    Args:
        run: one that has ended.
        examples: evaluation prompts of each difficulty.
        bar: exact match from which a difficulty counts as reached.
        least: evaluate up to this difficulty whatever comes out, so that runs can be compared there.

    Raises:
        UserError: a file of the run is missing or damaged, or no round is committed.
    """
    path = run.path / "outcome.json"
    manifest = run.manifest
    records, before = manifest.rounds, chosen(manifest, kept(run), examples)
    try:
        known = Outcome.model_validate_json(read_inside(path, run.path, OUTCOME_BYTES))
        if before and known == known.model_copy(
            update={
                "weights_sha256": before.weights_sha256,
                "examples": examples,
                "least": least,
                "bar": bar,
                "reach": reach_of(before.accuracy, examples, bar),
                "exact_match": before.accuracy,
            }
        ):
            return known
    except (OSError, ValidationError):
        pass  # it is found anew
    restore(run)
    experiment = Experiment(run.settings)
    scores = _scores(run, experiment, before, examples, bar, least)
    audits = [audit_ledger(run.intact(run.ledger_path(record.round)), experiment.oracle) for record in records[1:]]
    found = Outcome(
        weights_sha256=records[-1].weights_sha256,
        examples=examples,
        least=least,
        bar=bar,
        reach=reach_of(scores, examples, bar),
        exact_match=scores,
        difficulties=[span(record.difficulties) for record in records[1:]],
        precision=[audit["precision"] for audit in audits],
        kept=[audit["kept"] for audit in audits],
    )
    write_file(path, found.model_dump_json(indent=1).encode(), run.path)
    return found


def _scores(
    run: RunDirectory, experiment: Experiment, before: Evaluation | None, examples: int, bar: float, least: int
) -> dict[str, float]:
    """Return exact match by difficulty; what is not known ``before`` is measured, and kept in the run."""
    settings, task, manifest = experiment.settings, experiment.task, run.manifest
    frontier = manifest.frontier
    scores = dict(before.accuracy) if before else {}
    voted: dict[str, float] = {}
    engine: Engine | None = None
    last = max(frontier + settings.evaluation.beyond, least)
    while True:
        wanted = task.evaluated_difficulties(task.capped(last))
        new = [difficulty for difficulty in wanted if difficulty_text(difficulty) not in scores]
        if new:
            engine = engine or experiment.load(run)
            found = evaluate_run(engine, task, experiment.oracle, settings.seed, new, examples)
            for known, each in zip((scores, voted), found, strict=True):
                known |= {difficulty_text(difficulty): score for difficulty, score in each.items()}
        further = min(last + max(1, settings.evaluation.beyond), FURTHEST * frontier)
        if further <= last or reach_of(scores, examples, bar) < max(map(hardest, wanted)):
            break
        last = further
    if not voted:
        return scores
    newest = manifest.rounds[-1]
    measured = Evaluation(
        round=newest.round,
        weights_sha256=newest.weights_sha256,
        seed=settings.seed,
        examples=examples,
        accuracy={text: scores[text] for text in voted},
        voted=voted,
    )
    return keep(run, measured).accuracy

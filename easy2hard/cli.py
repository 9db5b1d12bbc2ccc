"""The command line. Heavy imports wait until a command needs them, so that help is quick."""

import json
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from easy2hard.errors import UserError

app = typer.Typer(
    help="Transformers that teach themselves harder instances of a task than they were taught.",
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

RunArgument = Annotated[Path, typer.Argument(metavar="RUN", help="a run directory")]
TaskArgument = Annotated[str, typer.Argument(metavar="TASK", help="a task, one of `easy2hard tasks`")]
JsonOption = Annotated[bool, typer.Option("--json", help="print JSON")]


@app.command()
def run(
    recipe: Annotated[str, typer.Argument(metavar="RECIPE", help="a shipped recipe or a TOML file")],
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="run directory; default: runs/RECIPE-seedN")] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="SECTION.KEY=VALUE", help="replace a setting; repeatable"),
    ] = None,
    seed: Annotated[int | None, typer.Option(metavar="N", help="the run's seed; default: the recipe's")] = None,
) -> None:
    """Train on the easy range, then climb: label, filter, train, evaluate, round after round.

    Example: easy2hard run copy-cpu --seed 1 --set rounds.count=5
    """
    from easy2hard.config import load_recipe

    settings = load_recipe(recipe, [*(overrides or []), *([f"seed={seed}"] if seed is not None else [])])
    out = out or Path("runs") / f"{Path(recipe).stem}-seed{settings.seed}"

    from easy2hard.runs import rounds

    rounds.check(settings)
    _train(lambda listener: rounds.start(settings, out, listener), out)


@app.command()
def resume(run: RunArgument) -> None:
    """Continue a run from its last committed round.

    Example: easy2hard resume runs/copy-cpu-seed0
    """
    from easy2hard.runs import rounds, store

    opened = store.Store(run)
    _train(lambda listener: rounds.resume(opened, listener), run)


def _train(work: Any, out: Path) -> None:
    import signal

    from rich.console import Console

    from easy2hard.progress import ProgressListener

    def interrupt(signum: int, frame: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)
    console = Console()
    try:
        with ProgressListener(console) as listener:
            work(listener)
    except KeyboardInterrupt:
        message = f"stopped; every committed round is kept: `easy2hard resume {out}` goes on from the last one"
        print(message, file=sys.stderr)
        raise typer.Exit(130) from None
    console.print(f"finished: {out}", highlight=False, markup=False, soft_wrap=True)


@app.command("eval")
def evaluate(
    run: RunArgument,
    difficulties: Annotated[
        str | None,
        typer.Option(metavar="LIST", help="such as 1-30 or 5,10,20; default: 1 to the frontier + 5"),
    ] = None,
    examples: Annotated[int, typer.Option(min=1, help="prompts for each difficulty")] = 1000,
    as_json: JsonOption = False,
) -> None:
    """Measure exact match by difficulty: the members' mean, and their vote.

    Example: easy2hard eval runs/copy-cpu-seed0 --difficulties 1-30 --examples 1000
    """
    from easy2hard.runs.manifest import RunDirectory

    opened = RunDirectory(run)
    wanted = list(range(1, opened.manifest.frontier + 6))
    if difficulties is not None:
        wanted = parse_difficulties(difficulties)

    from easy2hard.evaluation.exact_match import evaluate_run
    from easy2hard.runs.rounds import load_members
    from easy2hard.tasks.registry import load_oracle, load_task

    settings = opened.settings
    task = load_task(settings.task.name)
    members = load_members(opened)
    mean, voted = evaluate_run(members, task, load_oracle(task), settings.seed, wanted, examples)
    if as_json:
        print(json.dumps({"exact_match": _by_text(mean), "voted": _by_text(voted)}))
        return
    print(f"{'difficulty':>10}  {'exact match':>11}  {'voted':>6}")
    for difficulty in mean:
        print(f"{difficulty!s:>10}  {mean[difficulty]:>11.4f}  {voted[difficulty]:>6.4f}")


@app.command()
def solve(
    run: RunArgument,
    prompts: Annotated[list[str], typer.Argument(metavar="PROMPT...", help="prompts in the task's form")],
    member: Annotated[int | None, typer.Option(metavar="I", min=0, help="ask one member instead of the vote")] = None,
    as_json: JsonOption = False,
) -> None:
    """Answer prompts with a trained run, by the members' vote.

    Example: easy2hard solve runs/copy-cpu-seed0 86311669=
    """
    from easy2hard.runs.manifest import RunDirectory

    opened = RunDirectory(run)

    from easy2hard.tasks.registry import load_task

    settings = opened.settings
    task = load_task(settings.task.name)
    groups = task.encode(prompts)
    if member is not None and member >= settings.model.members:
        raise UserError(f"--member {member}: the run has members 0 to {settings.model.members - 1}")

    from easy2hard.improvement.labels import propose
    from easy2hard.runs.rounds import load_members

    members = load_members(opened)
    if member is not None:
        members = [members[member]]
    answers: list[dict[str, Any]] = [{}] * len(prompts)
    for rows, tokens in groups:
        proposals = propose(members, task, 0, tokens)
        texts = task.vocabulary.decode_answers(proposals.answers)
        for row, text, confidence in zip(rows, texts, proposals.confidence, strict=True):
            answers[row] = {"prompt": prompts[row], "answer": text, "confidence": round(float(confidence), 6)}
    if as_json:
        print(json.dumps(answers))
        return
    for answer in answers:
        print(f"{answer['prompt']}\t{answer['answer']}\t{answer['confidence']:.4f}")


@app.command()
def plot(
    run: RunArgument,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help=".png, .svg or .pdf; default: RUN/accuracy.png")
    ] = None,
) -> None:
    """Draw accuracy by difficulty, a line per round, and a round x difficulty heat map.

    Example: easy2hard plot runs/copy-cpu-seed0 --out copy.pdf
    """
    from easy2hard.runs.manifest import RunDirectory

    opened = RunDirectory(run)

    from easy2hard.report.figures import plot_run

    out = out or run / "accuracy.png"
    plot_run(opened, out)
    print(out)


@app.command()
def audit(run: RunArgument, as_json: JsonOption = False) -> None:
    """Join the oracle to a run's labels, after the fact: precision and recall per round.

    Example: easy2hard audit runs/copy-cpu-seed0
    """
    from easy2hard.evaluation.audit import audit_ledger
    from easy2hard.runs.manifest import RunDirectory
    from easy2hard.tasks.registry import load_oracle, load_task

    opened = RunDirectory(run)
    oracle = load_oracle(load_task(opened.settings.task.name))
    rows = [
        {
            "round": record.round,
            "difficulties": record.difficulties,
            **audit_ledger(opened.ledger_path(record.round), oracle),
        }
        for record in opened.manifest.rounds[1:]
    ]
    if as_json:
        print(json.dumps(rows))
        return
    print(
        f"{'round':>5}  {'difficulty':>10}  {'proposed':>8}  {'right':>7}  {'kept':>7}  {'precision':>9}  {'recall':>7}"
    )
    for row in rows:
        names = f"{row['difficulties'][0]}-{row['difficulties'][-1]}"
        shares = [f"{row[key]:.4f}" if row[key] is not None else "-" for key in _SHARES]
        print(
            f"{row['round']:>5}  {names:>10}  {row['proposed']:>8}  {shares[0]:>7}"
            f"  {row['kept']:>7}  {shares[1]:>9}  {shares[2]:>7}"
        )


_SHARES = ("proposed_precision", "precision", "recall")


@app.command()
def sample(
    task: TaskArgument,
    difficulty: Annotated[int, typer.Option(metavar="D", min=1, help="difficulty of the prompts")],
    count: Annotated[int, typer.Option(metavar="N", min=1, help="number of prompts")] = 10,
    seed: Annotated[int, typer.Option(metavar="S", min=0, help="the same seed gives the same prompts")] = 0,
) -> None:
    """Print prompts of a task, one a line.

    Example: easy2hard sample reverse-addition --difficulty 5 --count 3 --seed 1
    """
    from easy2hard.seeding import numpy_generator
    from easy2hard.tasks.registry import load_task

    loaded = load_task(task)
    prompts = loaded.sample(numpy_generator(seed, "sample", str(difficulty)), difficulty, count)
    print("\n".join(loaded.vocabulary.decode_prompts(prompts)))


@app.command()
def oracle(task: TaskArgument) -> None:
    """Read prompts on standard input, print their true answers, one a line.

    Example: echo '1368+9661=' | easy2hard oracle reverse-addition
    """
    from easy2hard.tasks.registry import load_oracle, load_task

    answers = load_oracle(load_task(task)).solve_texts(sys.stdin.read().splitlines())
    if answers:
        print("\n".join(answers))


@app.command()
def check(task: TaskArgument) -> None:
    """Read lines `prompt<TAB>answer`, print `right` or `wrong: reason` for each.

    Example: printf '24=\\t42\\n' | easy2hard check reverse
    """
    from easy2hard.tasks.oracle import Checker
    from easy2hard.tasks.registry import load_oracle, load_task

    checker = Checker(load_oracle(load_task(task)))
    prompts, answers = [], []
    for number, line in enumerate(sys.stdin.read().splitlines(), start=1):
        prompt, tab, answer = line.partition("\t")
        if not tab:
            raise UserError(f"line {number} {line!r}: expected prompt<TAB>answer")
        prompts.append(prompt)
        answers.append(answer)
    for reason in checker.check(prompts, answers):
        print("right" if reason is None else f"wrong: {reason}")


@app.command()
def tasks() -> None:
    """List the tasks.

    Example: easy2hard tasks
    """
    from easy2hard.tasks.registry import load_task, task_names

    for name in task_names():
        task = load_task(name)
        print(f"{name:<20}  {task.example:<14}  {task.summary}")


@app.command()
def recipes() -> None:
    """List the shipped recipes.

    Example: easy2hard recipes
    """
    from easy2hard.config import load_recipe, recipe_names

    for name in recipe_names():
        print(f"{name:<22}  {load_recipe(name).description}")


def parse_difficulties(text: str) -> list[int]:
    """Return the difficulties of a list such as ``1-5,10``.

    Raises:
        UserError: the text is no such list, or a difficulty is below 1.
    """
    wanted: list[int] = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()):
            raise UserError(f"--difficulties {text!r}: expected numbers and ranges such as 1-30 or 5,10,20")
        low, high = int(first), int(last or first)
        if low < 1 or high < low:
            raise UserError(f"--difficulties {text!r}: {part.strip()} must be a range of numbers from 1 up")
        wanted += range(low, high + 1)
    return sorted(set(wanted))


def _by_text(scores: dict[Any, float]) -> dict[str, float]:
    return {str(difficulty): round(value, 6) for difficulty, value in scores.items()}


# Typer carries its own copy of click in newer versions; this is the base of its usage errors in all of them.
_UsageError: Any = typer.BadParameter.__mro__[1]


def main() -> None:
    """Run the command line; a user's mistake is one line and exit code 2, never a traceback."""
    try:
        code = app(args=sys.argv[1:] or ["--help"], standalone_mode=False)
    except UserError as error:
        _fail(str(error))
    except _UsageError as error:
        _fail(error.format_message())
    except typer.Abort:
        sys.exit(130)
    except UnicodeDecodeError as error:
        _fail(f"standard input: not valid UTF-8: {error}")
    except BrokenPipeError:
        # Whoever read our output has had enough, as in `easy2hard sample … | head`; not worth a word.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        _fail(f"{error.filename or 'file'}: {error.strerror or error}")
    sys.exit(code or 0)


def _fail(message: str) -> None:
    print(f"error: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(2)

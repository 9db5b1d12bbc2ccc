"""The command line. Heavy imports wait until a command needs them, so that help is quick."""

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from easy2hard import processes
from easy2hard.errors import UserError
from easy2hard.plugins import fenced
from easy2hard.tasks.base import Difficulty, difficulty_text, parse_difficulty, span

app = typer.Typer(
    help="Transformers that teach themselves harder instances of a task than they were taught.",
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _recipes(incomplete: str) -> list[str]:
    """Return what a shell may complete a recipe to."""
    from easy2hard.settings.recipes import recipe_names

    return [name for name in [*recipe_names(), *map(str, Path().glob("*.toml"))] if name.startswith(incomplete)]


def _sweeps(incomplete: str) -> list[str]:
    """Return what a shell may complete a sweep to."""
    from easy2hard.settings.recipes import shipped

    return [name for name in [*shipped("sweeps"), *map(str, Path().glob("*.toml"))] if name.startswith(incomplete)]


def _tasks(incomplete: str) -> list[str]:
    """Return what a shell may complete a task to."""
    from easy2hard.tasks.registry import task_names

    return [name for name in task_names() if name.startswith(incomplete)]


def _runs(incomplete: str) -> list[str]:
    """Return what a shell may complete a run to: directories that are one, and those that may hold one."""
    folder = Path(incomplete) if incomplete.endswith(os.sep) else Path(incomplete).parent
    return [
        str(path) if (path / "manifest.json").is_file() else f"{path}{os.sep}"
        for path in (sorted(folder.iterdir()) if folder.is_dir() else [])
        if path.is_dir() and str(path).startswith(incomplete) and not path.name.startswith(".")
    ]


RunArgument = Annotated[Path, typer.Argument(metavar="RUN", help="a run directory", autocompletion=_runs)]
RecipeArgument = Annotated[
    str, typer.Argument(metavar="RECIPE", help="a shipped recipe or a TOML file", autocompletion=_recipes)
]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", metavar="SECTION.KEY=VALUE", help="replace a setting; repeatable")
]
TaskArgument = Annotated[
    str, typer.Argument(metavar="TASK", help="a task, one of `easy2hard tasks`", autocompletion=_tasks)
]
PluginOption = Annotated[
    list[Path] | None,
    typer.Option(
        "--plugin",
        metavar="FILE.py",
        help="a Python file that adds a task, filter …; it is run as code; repeatable",
    ),
]
ScaleOption = Annotated[
    str | None,
    typer.Option(metavar="SIZE", help="shrink the recipe first; laptop: a tiny model, fewer steps and labels"),
]
DeviceOption = Annotated[
    str, typer.Option(metavar="DEVICE", help="auto, cpu, cuda, cuda:N or mps; auto takes a GPU where there is one")
]
JsonOption = Annotated[bool, typer.Option("--json", help="print JSON")]


@app.command()
def run(
    recipe: RecipeArgument,
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="run directory; default: runs/RECIPE-seedN")] = None,
    overrides: SetOption = None,
    seed: Annotated[int | None, typer.Option(metavar="N", help="the run's seed; default: the recipe's")] = None,
    scale: ScaleOption = None,
    blindfold: Annotated[
        bool,
        typer.Option("--blindfold", help="let nothing see a true answer beyond the supervised range; same weights"),
    ] = False,
    device: DeviceOption = "auto",
    plugins: PluginOption = None,
) -> None:
    """Train on the easy range, then climb: label, filter, train, evaluate, round after round.

    Example: easy2hard run copy-cpu --seed 1 --set rounds.count=5
    """
    from easy2hard.api import default_out, settings_of

    seeds = [f"seed={seed}"] if seed is not None else []
    settings = settings_of(recipe, [*(overrides or []), *seeds], plugins or [], scale=scale)
    out = out or default_out(recipe, settings, scale)

    from easy2hard.runs import rounds

    _train(lambda listener: rounds.start(settings, out, listener, blindfold, device), out)


def _load_plugins(paths: list[Path] | None) -> None:
    if paths:
        from easy2hard.api import load_plugins

        load_plugins(paths)


@app.command()
def resume(
    run: RunArgument,
    from_round: Annotated[
        int | None, typer.Option(metavar="R", min=0, help="go on from this round instead of the last, in a copy")
    ] = None,
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="the copy, with --from-round")] = None,
    device: DeviceOption = "auto",
    plugins: PluginOption = None,
) -> None:
    """Continue a run from where it was stopped, or from an earlier round in a copy.

    Example: easy2hard resume runs/copy-cpu-seed0 --from-round 3 --out runs/again
    """
    _load_plugins(plugins)
    if (from_round is None) != (out is None):
        raise UserError("--from-round and --out: one is given without the other; the copy needs both")

    from easy2hard.runs import rounds, store

    opened = store.Store(run)
    if from_round is not None and out is not None:
        opened = opened.branch(out, from_round, opened.settings)
    _train(lambda listener: rounds.resume(opened, listener, device), opened.path)


@app.command()
def verify(run: RunArgument) -> None:
    """Compare every file of a run with its digest in the manifest; exit code 1 when one is missing or changed.

    Example: easy2hard verify runs/copy-cpu-seed0
    """
    from easy2hard.runs.integrity import problems
    from easy2hard.runs.manifest import RunDirectory

    opened = RunDirectory(run)
    found = problems(opened, opened.manifest)
    for line in [line for lines in found.values() for line in lines]:
        print(line)
    if found:
        raise typer.Exit(1)
    print(f"{run}: intact, {len(opened.manifest.rounds)} rounds")


@app.command()
def sweep(
    file: Annotated[
        str, typer.Argument(metavar="FILE.toml", help="a sweep file, or a shipped sweep", autocompletion=_sweeps)
    ],
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="where its runs go; default: runs/NAME")] = None,
    overrides: SetOption = None,
    at_once: Annotated[
        int, typer.Option("--processes", metavar="N", min=1, help="runs at a time, each with its share of the cores")
    ] = 1,
    jobs: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="run nothing: write a command line for each run that is left, for a cluster"),
    ] = None,
    device: DeviceOption = "auto",
    plugins: PluginOption = None,
) -> None:
    """Run an experiment's variants over several seeds, and compare them; the same command goes on where it stopped.

    Example: easy2hard sweep filters-copy --processes 2
    """
    from easy2hard.sweep.plan import load_sweep, planned

    asked = load_sweep(file)
    out = out or Path("runs") / Path(file).stem
    runs = planned(asked, overrides or [], plugins or [])

    from rich.console import Console
    from rich.table import Table

    from easy2hard.sweep.execute import Laboratory
    from easy2hard.sweep.results import collect

    laboratory = Laboratory(asked, runs, out, plugins or [], device)
    laboratory.check()
    _on_interrupt()
    try:
        if jobs is None:
            laboratory.bring_to_end(at_once, lambda line: print(line, flush=True))
        else:
            print(f"{jobs}: {laboratory.write_jobs(jobs)} command lines")
        found, written, failed = collect(laboratory)
    except KeyboardInterrupt:
        print("stopped and kept: the same command goes on from here", file=sys.stderr)
        raise typer.Exit(130) from None
    table = Table(*found.head)
    for line in found.rows:
        table.add_row(*line)
    # In a pipe every column has the width it needs.
    Console(highlight=False, width=None if sys.stdout.isatty() else 1000).print(table)
    print("\n".join([*found.notes, *map(str, written)]))
    if jobs is None and failed:
        raise typer.Exit(1)


def _on_interrupt() -> None:
    """Have SIGINT and SIGTERM raise KeyboardInterrupt once; a second one ends this process at once."""
    import signal

    interrupts = 0

    def interrupt(signum: int, frame: object) -> None:
        nonlocal interrupts
        interrupts += 1
        if interrupts > 1:  # what was kept is on the disk already; the rest is lost, as asked for
            os._exit(130)
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)
    signal.signal(signal.SIGINT, interrupt)


def _train(work: Any, out: Path) -> None:
    from rich.console import Console

    from easy2hard.engines.engine import DeviceFullError
    from easy2hard.learning.trainer import NonFiniteLossError
    from easy2hard.progress import ProgressListener
    from easy2hard.runs.attempts import CollapseError
    from easy2hard.runs.disk_space import DiskFullError

    _on_interrupt()
    console = Console()
    try:
        with ProgressListener(console) as listener:
            work(listener)
    except processes.ElsewhereError as error:
        if processes.is_main():
            print(f"stopped: {error}; `easy2hard resume {out}` goes on from the last checkpoint", file=sys.stderr)
        raise typer.Exit(1 if processes.is_main() else 0) from None  # the launcher reports the first that fails
    except KeyboardInterrupt:
        _only_main()
        print(f"stopped and kept: `easy2hard resume {out}` goes on from here", file=sys.stderr)
        raise typer.Exit(130) from None
    except DiskFullError as error:
        print(f"paused: {error}; `easy2hard resume {out}` goes on from there once space is free", file=sys.stderr)
        raise typer.Exit(4) from None
    except CollapseError as error:
        _only_main()
        print(f"stopped by the collapse watch: {error}; every committed round is kept in {out}", file=sys.stderr)
        raise typer.Exit(3) from None
    except NonFiniteLossError as error:
        _only_main()
        print(f"diverged: {error}; every committed round is kept in {out}", file=sys.stderr)
        raise typer.Exit(5) from None
    except DeviceFullError as error:
        print(f"out of memory: {error}; `easy2hard resume {out}` goes on from what is kept", file=sys.stderr)
        raise typer.Exit(6) from None
    console.print(f"finished: {out}", highlight=False, markup=False, soft_wrap=True)


def _only_main() -> None:
    """End quietly where it is not this process that reports what all of them know."""
    if not processes.is_main():
        raise typer.Exit(0)


@app.command()
def estimate(
    recipe: RecipeArgument,
    overrides: SetOption = None,
    scale: ScaleOption = None,
    device: DeviceOption = "auto",
    plugins: PluginOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say how long a recipe will take on this machine, by phase, from a measurement of some seconds.

    Example: easy2hard estimate copy-cpu --set rounds.count=12
    """
    from easy2hard.api import settings_of

    settings = settings_of(recipe, overrides or [], plugins or [], scale=scale)

    from easy2hard.runs import estimate

    with _measuring() as on_phase:
        estimated = estimate.estimate(settings, on_phase, device)
    print(json.dumps({"recipe": recipe, **estimated.as_json()}) if as_json else "\n".join(estimated.lines()))


@app.command()
def init(
    out: Annotated[Path, typer.Argument(metavar="FILE.toml", help="the recipe to write")] = Path("recipe.toml"),
    task: Annotated[
        str | None, typer.Option(metavar="TASK", help="a task, one of `easy2hard tasks`; asked for if not given")
    ] = None,
    minutes: Annotated[
        float | None, typer.Option(metavar="N", help="how long the run may take; asked for if not given")
    ] = None,
    hardware: Annotated[
        str | None, typer.Option(metavar="cpu|gpu", help="what it runs on; asked for if not given")
    ] = None,
    seed: Annotated[int, typer.Option(metavar="N", min=0, help="the run's seed")] = 0,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="ask nothing: take defaults, replace FILE.toml")] = False,
    plugins: PluginOption = None,
) -> None:
    """Write a recipe for a task that fits your time on this machine, every setting explained.

    Example: easy2hard init mine.toml --task reverse --minutes 5 --yes
    """
    from easy2hard.api import load_plugins
    from easy2hard.tasks.registry import task_names

    own = load_plugins(plugins or [])
    task = _asked("task", task, (own or ["copy"])[0], yes, task_names())
    given = _asked("minutes", None if minutes is None else f"{minutes:g}", "10", yes)
    try:
        budget = float(given)
    except ValueError:
        budget = 0.0
    if not 0 < budget < float("inf"):
        raise UserError(f"--minutes {given}: expected a number above 0")
    if out.suffix != ".toml":
        raise UserError(f"{out}: a recipe's name ends in .toml")
    if out.exists() and not yes and not typer.confirm(f"{out} is there already; replace it?"):
        raise typer.Abort

    from easy2hard.engines.choice import has_gpu

    hardware = _asked("hardware", hardware, "gpu" if has_gpu() else "cpu", yes, ["cpu", "gpu"])

    from easy2hard.init import compose

    with _measuring() as on_phase:
        on_phase("this machine")
        written = compose(task, budget, hardware == "gpu", seed)
    out.write_text(written.text(budget))
    print("\n".join(written.estimate.lines()))
    print(f"written: {out}, {written.settings.rounds.count} rounds; `easy2hard run {out}` starts it")


def _asked(name: str, given: str | None, default: str, yes: bool, allowed: list[str] | None = None) -> str:
    """Return what an option says, or else what the user answers."""
    if given is None:
        given = default if yes else typer.prompt(name, default=default)
    if allowed is not None and given not in allowed:
        raise UserError(f"--{name} {given}: expected one of {', '.join(allowed)}")
    return given


@contextmanager
def _measuring() -> Iterator[Callable[[str], None]]:
    """Say on a terminal what is being measured."""
    from rich.console import Console

    with Console(stderr=True).status("measuring …") as status:
        yield lambda name: status.update(f"measuring {name} …")


@app.command()
def du(run: RunArgument, as_json: JsonOption = False) -> None:
    """Show what a run takes on disk: weights, ledgers, training logs, checkpoints.

    Example: easy2hard du runs/copy-cpu-seed0
    """
    from easy2hard.runs.disk_space import usage
    from easy2hard.runs.manifest import RunDirectory

    sizes = usage(RunDirectory(run).path)
    if as_json:
        print(json.dumps(sizes))
        return
    for name, size in sizes.items():
        print(f"{name:>12}  {size / 1e6:>10.2f} MB")


@app.command("eval")
def evaluate(
    run: RunArgument,
    difficulties: Annotated[
        str | None,
        typer.Option(metavar="LIST", help="such as 1-30, 5,10,20 or 6x5,5x6; default: all to the frontier + 5"),
    ] = None,
    examples: Annotated[int, typer.Option(min=1, help="prompts for each difficulty")] = 1000,
    device: DeviceOption = "auto",
    plugins: PluginOption = None,
    as_json: JsonOption = False,
) -> None:
    """Measure exact match by difficulty: the members' mean and their vote.

    Beside them the mean on the task's hard split and the baseline that the task names, where it has them.

    Example: easy2hard eval runs/copy-cpu-seed0 --difficulties 1-30 --examples 1000
    """
    from easy2hard.runs.manifest import RunDirectory

    opened = RunDirectory(run)
    asked = None if difficulties is None else parse_difficulties(difficulties)
    _load_plugins(plugins)

    from easy2hard.evaluation.exact_match import accuracy, baseline_accuracy, evaluate_run
    from easy2hard.runs.experiment import Experiment
    from easy2hard.runs.origins import restore

    restore(opened)
    settings = opened.settings
    reserved = settings.evaluation.reserved
    if examples > reserved:
        raise UserError(f"--examples {examples}: at most {reserved}; only so many of a difficulty are never labelled")
    experiment = Experiment(settings, device)
    task, oracle = experiment.task, experiment.oracle
    wanted = asked or task.evaluated_difficulties(task.capped(opened.manifest.frontier + 5))
    engine = experiment.load(opened)
    mean, voted = evaluate_run(engine, task, oracle, settings.seed, wanted, examples)
    columns = {"exact match": mean, "voted": voted}
    if task.hard_split:
        columns["hard split"] = accuracy(engine, task, oracle, settings.seed, wanted, examples, hard=True)
    if task.baseline:
        columns["baseline"] = baseline_accuracy(task, oracle, settings.seed, wanted, examples)
    if as_json:
        print(json.dumps({name.replace(" ", "_"): _by_text(scores) for name, scores in columns.items()}))
        return
    print("  ".join(f"{name:>{max(6, len(name))}}" for name in ["difficulty", *columns]))
    for difficulty in mean:
        values = (f"{scores[difficulty]:>{max(6, len(name))}.4f}" for name, scores in columns.items())
        print(f"{difficulty_text(difficulty):>10}  {'  '.join(values)}")
    if task.hard_split:
        print(f"hard split: {task.hard_split}")
    if task.baseline:
        print(f"baseline: {task.baseline}")
    shared = [text for text in opened.manifest.rounds[0].overlap if parse_difficulty(text) in mean]
    if shared:
        print(f"supervised on the same prompts, for want of others: difficulty {', '.join(shared)}")
    for mark in (*opened.manifest.marks, *opened.manifest.remarks):
        print(mark)


@app.command()
def solve(
    run: RunArgument,
    prompts: Annotated[list[str], typer.Argument(metavar="PROMPT...", help="prompts in the task's form")],
    member: Annotated[int | None, typer.Option(metavar="I", min=0, help="ask one member instead of the vote")] = None,
    device: DeviceOption = "auto",
    plugins: PluginOption = None,
    as_json: JsonOption = False,
) -> None:
    """Answer prompts with a trained run, by the members' vote.

    Example: easy2hard solve runs/copy-cpu-seed0 86311669=
    """
    from easy2hard.api import Run

    answers = Run(run, plugins or []).solve(prompts, member, device)
    if as_json:
        print(json.dumps([{key: getattr(each, key) for key in ("prompt", "answer", "confidence")} for each in answers]))
        return
    for each in answers:
        print(f"{each.prompt}\t{each.answer}\t{each.confidence:.4f}")


@app.command()
def plot(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="run directories; several are compared")],
    figure: Annotated[
        str,
        typer.Option(metavar="NAME", help="overview, accuracy, map, reach, labels, calibration or loss"),
    ] = "overview",
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help=".pdf, .svg or .png; default: RUN/NAME.pdf, of several NAME.pdf")
    ] = None,
    plugins: PluginOption = None,
) -> None:
    """Draw a figure for a paper; runs that differ in their seed alone become a mean with its range.

    Example: easy2hard plot runs/copy-cpu-seed0 --figure labels --out labels.pdf
    """
    _load_plugins(plugins)

    from easy2hard.report.figures import plot_runs

    out = out or (runs[0] if len(runs) == 1 else Path()) / f"{figure}.pdf"
    for problem in plot_runs(runs, figure, out):
        print(f"warning: {problem}", file=sys.stderr)
    print(out)


@app.command()
def report(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="run directories; several are compared")],
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE.html", help="the page; default: RUN/report.html, of several runs report.html"),
    ] = None,
    plugins: PluginOption = None,
) -> None:
    """Write one page that opens offline: how far, can the labels be trusted, what went wrong, what it cost.

    Example: easy2hard report runs/copy-cpu-seed0 runs/copy-cpu-seed1 --out copy.html
    """
    _load_plugins(plugins)

    from easy2hard.report.page import write_report

    print(write_report(runs, out))


@app.command()
def watch(
    run: RunArgument,
    every: Annotated[float, typer.Option(metavar="SECONDS", min=0.1, help="time between two looks")] = 1.0,
    once: Annotated[bool, typer.Option("--once", help="show the run as it is now, and return")] = False,
) -> None:
    """Watch a run live in the terminal; Ctrl-C ends the view, not the run.

    Example: easy2hard watch runs/copy-cpu-seed0
    """
    from rich.console import Console

    from easy2hard.report import terminal

    try:
        terminal.watch(run, Console(highlight=False), every, once)
    except KeyboardInterrupt:
        print()


@app.command("list")
def list_runs(
    folder: Annotated[Path, typer.Argument(metavar="[DIR]", help="where to look, in all folders below")] = Path("runs"),
    as_json: JsonOption = False,
) -> None:
    """List runs: task, state, rounds done, how far they answer at least 99 %, age since the last change.

    Example: easy2hard list runs --json
    """
    from dataclasses import asdict

    from easy2hard.report.terminal import list_table, listed, runs_in

    runs = [listed(path) for path in runs_in(folder)]
    if as_json:
        print(json.dumps([asdict(run) for run in runs]))
    elif not runs:
        print(f"{folder}: no runs")
    else:
        from rich.console import Console

        # In a pipe every column has the width it needs.
        Console(highlight=False, width=None if sys.stdout.isatty() else 1000).print(list_table(runs))


@app.command()
def audit(run: RunArgument, plugins: PluginOption = None, as_json: JsonOption = False) -> None:
    """Join the oracle to a run's labels, after the fact: precision and recall per round, difficulty and filter.

    Example: easy2hard audit runs/copy-cpu-seed0
    """
    from easy2hard.evaluation.audit import FALLEN, audit_ledger, first_fall, readiness_compared
    from easy2hard.runs.experiment import Experiment
    from easy2hard.runs.manifest import RunDirectory

    opened = RunDirectory(run)
    _load_plugins(plugins)
    oracle = Experiment(opened.settings, reading=True).oracle
    rows = [
        {
            "round": record.round,
            "difficulties": record.difficulties,
            **audit_ledger(
                opened.intact(opened.ledger_path(record.round)),
                oracle,
                [each.name for each in record.filters],
            ),
            **(
                {"relabelled": audit_ledger(opened.intact(opened.relabelled_path(record.round)), oracle)}
                if record.relabelled
                else {}
            ),
            **({"readiness": record.readiness} if record.readiness else {}),
        }
        for record in opened.manifest.rounds[1:]
    ]
    if as_json:
        print(json.dumps(rows))
        return
    baseline = oracle.task.baseline
    print(
        f"{'round':>5}  {'difficulty':>10}  {'proposed':>8}  {'right':>7}  {'kept':>7}  {'precision':>9}  {'recall':>7}"
        + (f"  {'baseline':>8}" if baseline else "")
    )
    for row in rows:
        names = span(row["difficulties"])
        shares = [_fraction(row[key]) for key in _SHARES]
        print(
            f"{row['round']:>5}  {names:>10}  {row['proposed']:>8}  {shares[0]:>7}"
            f"  {row['kept']:>7}  {shares[1]:>9}  {shares[2]:>7}"
            + (f"  {_fraction(row['baseline']):>8}" if baseline else "")
        )
    if rows and baseline:
        print(f"baseline, the share of the same prompts that it answers rightly: {baseline}")
    for row in rows:
        for difficulty, stages in row["by_difficulty"].items():
            steps = (
                f"{each['filter']} {each['kept']} ({_fraction(each['precision'])}, {_fraction(each['recall'])})"
                for each in stages
            )
            print(f"round {row['round']}, {difficulty}: kept (precision, recall) after {', '.join(steps)}")
        if "relabelled" in row:
            again = row["relabelled"]
            precision, recall = (_fraction(again[key]) for key in ("precision", "recall"))
            print(
                f"round {row['round']}, older rounds afresh: kept {again['kept']} of {again['proposed']}"
                f" ({precision}, {recall})"
            )
        for kind, count in row["errors"].items():
            print(f"round {row['round']}: {count} kept labels are wrong: {kind}")
    fallen = first_fall(rows)
    if rows:
        print(
            f"label precision never fell below {FALLEN}"
            if fallen is None
            else f"label precision first fell below {FALLEN} in round {rows[fallen]['round']}"
        )
    ready = opened.settings.schedule.ready
    asked = [record.readiness for record in opened.manifest.rounds]
    for way, counts in readiness_compared(asked, ready).items():
        print(
            f"ready from {ready}, by {way}: {counts['asked']} times asked, {counts['daring']} times yes where the"
            f" oracle says no, {counts['careful']} times no where it says yes"
        )


def _fraction(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


_SHARES = ("proposed_precision", "precision", "recall")


@app.command()
def export(
    run: RunArgument,
    out: Annotated[Path, typer.Argument(metavar="DIR", help="a new folder")],
    member: Annotated[int, typer.Option(metavar="I", min=0, help="which member")] = 0,
    adapter: Annotated[
        bool, typer.Option("--adapter", help="write the LoRA adapters alone instead of merging them")
    ] = False,
    labels: Annotated[bool, typer.Option("--labels", help="write the labels as a dataset instead of a model")] = False,
    plugins: PluginOption = None,
) -> None:
    """Write a member as a checkpoint that transformers loads, or all labels as a dataset that datasets loads.

    Example: easy2hard export runs/copy-cpu-seed0 exported --member 1
    """
    from easy2hard.runs.manifest import RunDirectory

    opened = RunDirectory(run)
    _load_plugins(plugins)

    from easy2hard.runs.export import export_labels, export_model

    if labels:
        if adapter or member:
            raise UserError("--labels: takes neither --member nor --adapter; labels are the members' joint answers")
        print(f"{out}: {export_labels(opened, out):,} labels")
        return
    note = export_model(opened, out, member, adapter)
    print(out if note is None else f"{out} ({note})")


@app.command()
def sample(
    task: TaskArgument,
    difficulty: Annotated[str, typer.Option(metavar="D", help="difficulty of the prompts: a number, or 6x5")],
    count: Annotated[int, typer.Option(metavar="N", min=1, help="number of prompts")] = 10,
    seed: Annotated[int, typer.Option(metavar="S", min=0, help="the same seed gives the same prompts")] = 0,
    options: Annotated[
        list[str] | None, typer.Option("--option", metavar="NAME=N", help="an option of the task; repeatable")
    ] = None,
    kind: Annotated[
        str, typer.Option(metavar="KIND", help="evaluation, or as drawn for labels, supervised or the hard split: hard")
    ] = "evaluation",
    plugins: PluginOption = None,
) -> None:
    """Print prompts of a task, one a line.

    Example: easy2hard sample reverse-addition --difficulty 5 --count 3 --seed 1
    """
    from easy2hard.seeding import numpy_generator
    from easy2hard.tasks.registry import load_task

    try:
        wanted = parse_difficulty(difficulty)
    except ValueError as error:
        raise UserError(f"--difficulty: {error}") from error
    _load_plugins(plugins)
    loaded = load_task(task, _parse_options(options or []))
    if isinstance(wanted, tuple) and not isinstance(loaded.supervised_difficulties(2)[0], tuple):
        raise UserError(f"--difficulty {difficulty}: the difficulty of task {task} is one number")
    kinds = {
        "evaluation": loaded.sample,
        "labels": loaded.sample_practice,
        "supervised": loaded.sample_supervised,
        "hard": loaded.sample_hard,
    }
    if kind not in kinds:
        raise UserError(f"--kind {kind}: unknown (allowed: {', '.join(kinds)})")
    prompts = kinds[kind](numpy_generator(seed, "sample", difficulty_text(wanted)), wanted, count)
    print("\n".join(loaded.vocabulary.decode_prompts(prompts)))


def _parse_options(options: list[str]) -> dict[str, int]:
    parsed = {}
    for option in options:
        name, equals, value = option.partition("=")
        if not equals or not value.strip().isdecimal():
            raise UserError(f"--option {option!r}: expected NAME=NUMBER")
        parsed[name.strip()] = int(value)
    return parsed


@app.command()
def oracle(task: TaskArgument, plugins: PluginOption = None) -> None:
    """Read prompts on standard input, print their true answers, one a line.

    Example: echo '1368+9661=' | easy2hard oracle reverse-addition
    """
    from easy2hard.tasks.registry import load_oracle, load_task

    _load_plugins(plugins)
    answers = load_oracle(load_task(task)).solve_texts(sys.stdin.read().splitlines())
    if answers:
        print("\n".join(answers))


@app.command()
def check(task: TaskArgument, plugins: PluginOption = None) -> None:
    """Read lines `prompt<TAB>answer`, print `right` or `wrong: reason` for each.

    Example: printf '24=\\t42\\n' | easy2hard check reverse
    """
    from easy2hard.tasks.oracle import Checker
    from easy2hard.tasks.registry import load_oracle, load_task

    _load_plugins(plugins)
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
def tasks(
    check: Annotated[
        str | None, typer.Option(metavar="NAME", help="check that a task keeps the contract of docs/tasks.md")
    ] = None,
    plugins: PluginOption = None,
) -> None:
    """List the tasks, those of installed packages included, or check one of them.

    Example: easy2hard tasks --check sort-digits --plugin examples/sort_digits.py
    """
    from easy2hard.tasks.contract import check_contract
    from easy2hard.tasks.registry import load_oracle, load_task, task_names

    _load_plugins(plugins)
    if check is not None:
        task = load_task(check)
        check_contract(task, load_oracle(task))
        print(f"{check}: keeps the contract")
        return
    for name in task_names():
        try:
            task = load_task(name)
        except UserError as error:  # a broken package must not hide the other tasks
            print(f"{name:<24}  cannot be loaded: {error}")
            continue
        print(f"{name:<24}  {task.example:<18}  {task.summary}")


@app.command("plugins")
def list_plugins(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="what is called so; default: all")] = None,
    check: Annotated[
        bool, typer.Option("--check", help="check that they keep the contracts of docs/extending.md")
    ] = False,
    plugins: PluginOption = None,
) -> None:
    """List tasks, filters, schedules and position schemes, those of installed packages included, or check them.

    Example: easy2hard plugins --check repeats --plugin examples/repeats.py
    """
    from easy2hard.contracts import check_thing
    from easy2hard.runs.origins import KINDS

    _load_plugins(plugins)
    found = [(kind, each) for kind in KINDS for each in kind.names() if name in (None, each)]
    if not found:
        raise UserError(f"plugins {name}: nothing is called so (`easy2hard plugins` lists all)")
    broken = False
    for kind, each in found:
        try:
            thing = kind.find(each)
            if check:
                check_thing(thing)
        except UserError as error:
            if name is not None:
                raise
            print(f"{kind.base.kind:<16} {each:<24} {error}")  # a broken package must not hide the other things
            broken = True
            continue
        origin = kind.origin(each)
        where = origin.source if origin else "built in"
        print(f"{kind.base.kind:<16} {each:<24} {'keeps the contract' if check else where}")
    if check and broken:
        raise typer.Exit(1)


@app.command()
def recipes() -> None:
    """List the shipped recipes.

    Example: easy2hard recipes
    """
    from easy2hard.settings.recipes import load_recipe, recipe_names

    for name in recipe_names():
        print(f"{name:<22}  {load_recipe(name).description}")


def parse_difficulties(text: str) -> list[Difficulty]:
    """Return the difficulties of a list such as ``1-5,10`` or ``6x5,5x6``, each once, in order.

    Raises:
        UserError: the text is no such list, or a difficulty is below 1.
    """
    wanted: list[Difficulty] = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        try:
            low, high = parse_difficulty(first), parse_difficulty(last if dash else first)
        except ValueError as error:
            raise UserError(
                f"--difficulties {text!r}: expected numbers from 1 up, ranges or pairs such as 1-30, 5,10,20 or 6x5"
            ) from error
        if isinstance(low, tuple) or isinstance(high, tuple):
            if dash:
                raise UserError(f"--difficulties {text!r}: {part.strip()}: a range has no pairs")
            wanted.append(low)
        elif high < low:
            raise UserError(f"--difficulties {text!r}: {part.strip()} must be a range of numbers from 1 up")
        else:
            wanted += range(low, high + 1)
    return sorted(set(wanted), key=lambda d: (d, d) if isinstance(d, int) else d)


def _by_text(scores: dict[Difficulty, float]) -> dict[str, float]:
    return {difficulty_text(difficulty): round(value, 6) for difficulty, value in scores.items()}


# Typer carries its own copy of click in newer versions; this is the base of its usage errors in all of them.
_UsageError: Any = typer.BadParameter.__mro__[1]


def main() -> None:
    """Run the command line; a user's mistake is one line and exit code 2, never a traceback."""
    try:
        _main()
    except SystemExit as end:
        processes.leave(end.code if isinstance(end.code, int) else 0)
        raise


def _main() -> None:
    if not processes.is_main():
        sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115 - for as long as the process lives
    try:
        with fenced():
            code = app(args=sys.argv[1:] or ["--help"], standalone_mode=False)
    except UserError as error:
        _fail(str(error))
    except _UsageError as error:
        new = "; it is --plugin now" if "--task-file" in error.format_message() else ""
        _fail(f"{error.format_message()}{new}")
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
    if os.environ.get("LOCAL_RANK", "0") == "0":  # once on each machine, where several processes were launched
        print(f"error: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(2)

"""Commands that judge or use what a run learned: eval, solve, audit, verify, export."""

from pathlib import Path
from typing import Annotated

import typer

from easy2hard.cli.app import JUDGE, app
from easy2hard.cli.arguments import DeviceOption, JsonOption, PluginOption, RunArgument, load_plugins
from easy2hard.cli.input import read_lines
from easy2hard.cli.output import say, say_json, warn
from easy2hard.errors import UserError


@app.command("eval", rich_help_panel=JUDGE)
def evaluate(
    run: RunArgument,
    difficulties: Annotated[
        str | None,
        typer.Option(metavar="LIST", help="such as 1-30, 5,10,20 or 6x5,5x6; default: all to the frontier + 5"),
    ] = None,
    examples: Annotated[int, typer.Option(min=1, max=1_000_000, help="prompts for each difficulty")] = 1000,
    device: DeviceOption = "auto",
    plugins: PluginOption = None,
    as_json: JsonOption = False,
) -> None:
    """Measure exact match by difficulty.

    The members' mean and their vote. Beside them the mean on the task's hard split and the baseline that the task
    names, where it has them.

    Example: easy2hard eval runs/copy-cpu-seed0 --difficulties 1-30 --examples 1000
    """
    from easy2hard.runs.experiment import Experiment
    from easy2hard.runs.manifest import RunDirectory
    from easy2hard.runs.origins import restore

    opened = RunDirectory(run)
    load_plugins(plugins)
    restore(opened)
    settings = opened.settings
    experiment = Experiment(settings, device)
    task, oracle = experiment.task, experiment.oracle
    try:
        asked = None if difficulties is None else task.parse_difficulties(difficulties)
    except ValueError as error:
        expected = "expected numbers from 1 up, ranges or pairs such as 1-30, 5,10,20 or 6x5"
        raise UserError(f"--difficulties {difficulties!r}: {error} ({expected})") from error
    reserved = settings.evaluation.reserved
    if examples > reserved:
        raise UserError(f"--examples {examples}: at most {reserved}; only so many of a difficulty are never labelled")

    from easy2hard.evaluation.exact_match import accuracy, baseline_accuracy, evaluate_run
    from easy2hard.report.tables import exact_match_json, exact_match_lines
    from easy2hard.runs.cost import Asked, check_cost
    from easy2hard.tasks.base import hardest, length_of, span

    wanted = asked or task.evaluated_difficulties(task.capped(opened.manifest.frontier + 5))
    lengths = (Asked(examples, *length_of(task, each)) for each in sorted(wanted, key=hardest, reverse=True))
    check_cost(f"--difficulties {span(wanted)} --examples {examples}", experiment, lengths, warn)
    engine = experiment.load(opened)
    mean, voted = evaluate_run(engine, task, oracle, settings.seed, wanted, examples)
    columns = {"exact match": mean, "voted": voted}
    if task.hard_split:
        columns["hard split"] = accuracy(engine, task, oracle, settings.seed, wanted, examples, hard=True)
    if task.baseline:
        columns["baseline"] = baseline_accuracy(task, oracle, settings.seed, wanted, examples)
    if as_json:
        say_json(exact_match_json(columns))
    else:
        say(*exact_match_lines(columns, task, opened.manifest))


@app.command(rich_help_panel=JUDGE)
def solve(
    run: RunArgument,
    prompts: Annotated[
        list[str] | None,
        typer.Argument(metavar="PROMPT...", help="prompts in the task's form; default: lines of standard input"),
    ] = None,
    file: Annotated[Path | None, typer.Option(metavar="FILE", help="ask the lines of a file instead")] = None,
    member: Annotated[
        int | None, typer.Option(metavar="I", min=0, max=999, help="ask one member instead of the vote")
    ] = None,
    device: DeviceOption = "auto",
    plugins: PluginOption = None,
    as_json: JsonOption = False,
) -> None:
    """Answer prompts with a trained run, by the members' vote.

    Example: easy2hard solve runs/copy-cpu-seed0 86311669=
    """
    from easy2hard.api import Run

    opened = Run(run, plugins or [])
    if prompts and file:
        raise UserError(f"--file {file}: takes no PROMPT beside it")
    asked = prompts or read_lines(file)
    if not asked:
        raise UserError("PROMPT: none is given, as an argument, in --file or on standard input")
    answers = opened.solve(asked, member, device, warn)
    if as_json:
        say_json([{key: getattr(each, key) for key in ("prompt", "answer", "confidence")} for each in answers])
    else:
        say(*(f"{each.prompt}\t{each.answer}\t{each.confidence:.4f}" for each in answers))


@app.command(rich_help_panel=JUDGE)
def audit(run: RunArgument, plugins: PluginOption = None, as_json: JsonOption = False) -> None:
    """Compare a run's labels with the true answers, after the fact.

    Precision and recall for each round, difficulty and filter.

    Example: easy2hard audit runs/copy-cpu-seed0
    """
    from easy2hard.report.tables import audit_lines, audit_rows
    from easy2hard.runs.experiment import Experiment
    from easy2hard.runs.manifest import RunDirectory

    opened = RunDirectory(run)
    load_plugins(plugins)
    oracle = Experiment(opened.settings, reading=True).oracle
    rows = audit_rows(opened, oracle)
    if as_json:
        say_json(rows)
    else:
        say(*audit_lines(rows, opened, oracle.task.baseline))


@app.command(rich_help_panel=JUDGE)
def verify(run: RunArgument) -> None:
    """Compare every file of a run with its digest.

    The digests are in the manifest; the exit code is 1 where a file is missing or changed.

    Example: easy2hard verify runs/copy-cpu-seed0
    """
    from easy2hard.runs.integrity import problems
    from easy2hard.runs.manifest import RunDirectory

    opened = RunDirectory(run)
    found = problems(opened, opened.manifest)
    if found:
        say(*(line for lines in found.values() for line in lines))
        raise typer.Exit(1)
    say(f"{run}: intact, {len(opened.manifest.rounds)} rounds")


@app.command(rich_help_panel=JUDGE)
def export(
    run: RunArgument,
    out: Annotated[Path, typer.Argument(metavar="DIR", help="a new folder")],
    member: Annotated[int, typer.Option(metavar="I", min=0, max=999, help="which member")] = 0,
    adapter: Annotated[
        bool, typer.Option("--adapter", help="write the LoRA adapters alone instead of merging them")
    ] = False,
    labels: Annotated[bool, typer.Option("--labels", help="write the labels as a dataset instead of a model")] = False,
    plugins: PluginOption = None,
) -> None:
    """Write a member for transformers, or the labels as a dataset.

    The library transformers loads the one, datasets the other.

    Example: easy2hard export runs/copy-cpu-seed0 exported --member 1
    """
    from easy2hard.runs.manifest import RunDirectory

    opened = RunDirectory(run)
    load_plugins(plugins)

    from easy2hard.runs.export import export_labels, export_model

    if labels:
        if adapter or member:
            raise UserError("--labels: takes neither --member nor --adapter; labels are the members' joint answers")
        say(f"{out}: {export_labels(opened, out):,} labels")
        return
    note = export_model(opened, out, member, adapter)
    say(str(out) if note is None else f"{out} ({note})")

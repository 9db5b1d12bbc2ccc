"""Commands that judge or use what a run learned: eval, solve, audit, verify, export."""

from pathlib import Path
from typing import Annotated

import typer

from easy2hard.cli.app import JUDGE, app
from easy2hard.cli.arguments import DeviceOption, JsonOption, PluginOption, RunArgument
from easy2hard.cli.input import read_lines
from easy2hard.cli.output import say, say_json, say_table, tell, warn
from easy2hard.errors import UserError
from easy2hard.text import counted


@app.command("eval", rich_help_panel=JUDGE)
def evaluate(
    run: RunArgument,
    difficulties: Annotated[
        str | None,
        typer.Option(
            metavar="LIST",
            help="such as 1-30, 5,10,20 or 6x5,5x6; default: as far as the rounds, at least to the frontier + 5",
        ),
    ] = None,
    examples: Annotated[
        int, typer.Option(metavar="N", min=1, max=1_000_000, help="prompts for each difficulty")
    ] = 1000,
    device: DeviceOption = "auto",
    plugins: PluginOption = None,
    as_json: JsonOption = False,
) -> None:
    """Measure exact match by difficulty, and keep it in the run.

    The members' mean and their vote. Beside them the mean on the task's hard split and the baseline that the task
    names, where it has them. The report, list and watch take the reach from what is kept.

    Example: easy2hard eval runs/copy-cpu-seed0 --difficulties 1-30 --examples 1000
    """
    from easy2hard.api.opened import Run
    from easy2hard.report.tables import exact_match_json, exact_match_notes, exact_match_table
    from easy2hard.runs.evaluations import measured as figures_of
    from easy2hard.runs.manifest import RunDirectory

    opened = Run(run, plugins or ())
    measured = opened.evaluate(difficulties, examples, device, warn)
    if as_json:
        say_json(exact_match_json(measured))
        return
    say_table(exact_match_table(measured))  # first: it is not lost where another one that is kept is damaged
    tell(*exact_match_notes(measured, opened.task, figures_of(RunDirectory(run), opened.manifest)))


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
    from easy2hard.api.opened import Run

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
    from easy2hard.api.opened import Run
    from easy2hard.report.tables import audit_notes, audit_table

    opened = Run(run, plugins or ())
    rows = opened.audit()
    if as_json:
        say_json(rows)
    else:
        say_table(audit_table(rows, opened.task.baseline))
        tell(*audit_notes(rows, opened.settings, opened.manifest, opened.task.baseline))


@app.command(rich_help_panel=JUDGE)
def verify(run: RunArgument) -> None:
    """Compare every file of a run with its digest.

    The digests are in the manifest; the exit code is 1 where a file is missing or changed.

    Example: easy2hard verify runs/copy-cpu-seed0
    """
    from easy2hard.api.opened import Run

    opened = Run(run)
    if found := opened.verify():
        tell(*found)
        raise typer.Exit(1)
    tell(f"{run}: intact, {counted(len(opened.manifest.rounds), 'round')}")


@app.command(rich_help_panel=JUDGE)
def export(
    run: RunArgument,
    out: Annotated[Path, typer.Argument(metavar="DIR", help="a new folder")],
    member: Annotated[int, typer.Option(metavar="I", min=0, max=999, help="which member")] = 0,
    adapter: Annotated[
        bool, typer.Option("--adapter", help="write the LoRA adapters alone instead of merging them")
    ] = False,
    labels: Annotated[bool, typer.Option("--labels", help="write the labels as a dataset instead of a model")] = False,
    push: Annotated[
        str | None, typer.Option(metavar="REPO", help="upload the folder to the hub afterwards, as OWNER/NAME")
    ] = None,
    plugins: PluginOption = None,
) -> None:
    """Write a member for transformers, or the labels as a dataset.

    The library transformers loads the one, datasets the other. A member is loaded again and compared before the folder
    gets its name.

    Example: easy2hard export runs/copy-cpu-seed0 exported --member 1
    """
    from easy2hard.api.opened import Run

    written = Run(run, plugins or ()).export(out, member, adapter, labels, push)
    count = "" if written.labels is None else f": {counted(written.labels, 'label')}"
    tell(" ".join([f"{out}{count}", *(f"({note})" for note in written.notes)]))

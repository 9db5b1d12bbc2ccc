"""Commands that train: init, estimate, run, resume, branch."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from easy2hard import processes
from easy2hard.cli.app import TRAIN, app
from easy2hard.cli.arguments import (
    DeviceOption,
    JsonOption,
    PluginOption,
    RecipeArgument,
    RunArgument,
    ScaleOption,
    SetOption,
    load_plugins,
)
from easy2hard.cli.input import ask
from easy2hard.cli.output import say_json, tell, warn
from easy2hard.errors import UserError
from easy2hard.files import write_file
from easy2hard.settings.base import GREATEST_SEED
from easy2hard.text import counted, printable


@app.command(rich_help_panel=TRAIN)
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
    seed: Annotated[int, typer.Option(metavar="N", min=0, max=GREATEST_SEED, help="the run's seed")] = 0,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="ask nothing: take defaults, replace FILE.toml")] = False,
    plugins: PluginOption = None,
) -> None:
    """Write a recipe for a task that fits your time on this machine.

    Every setting in it is explained; what is not given is asked for.

    Example: easy2hard init mine.toml --task reverse --minutes 5 --yes
    """
    from easy2hard.runs import request
    from easy2hard.tasks.registry import task_names

    own = request.load_plugins(plugins or [])
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
    if out.exists() and not yes and ask(f"{out} is there already; replace it?", "no") not in ("y", "yes"):
        raise typer.Abort

    from easy2hard.engines.choice import has_gpu

    hardware = _asked("hardware", hardware, "gpu" if has_gpu() else "cpu", yes, ["cpu", "gpu"])

    from easy2hard.init import compose

    with measuring() as on_phase:
        on_phase("this machine")
        written = compose(task, budget, hardware == "gpu", seed, on_phase)
    out.parent.mkdir(parents=True, exist_ok=True)
    write_file(out, written.text(budget).encode())
    tell(*written.estimate.lines(), *written.notes)
    tell(f"written: {out}, {counted(written.settings.rounds.count, 'round')}; `easy2hard run {out}` starts it")


def _asked(name: str, given: str | None, default: str, yes: bool, allowed: list[str] | None = None) -> str:
    """Return what an option says, or else what the user answers."""
    if given is None:
        given = default if yes else ask(name, default)
    if allowed is not None and given not in allowed:
        raise UserError(f"--{name} {given}: expected one of {', '.join(allowed)}")
    return given


@app.command(rich_help_panel=TRAIN)
def estimate(
    recipe: RecipeArgument,
    overrides: SetOption = None,
    scale: ScaleOption = None,
    device: DeviceOption = "auto",
    plugins: PluginOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say how long a recipe will take on this machine.

    By phase, from a measurement of less than a minute.

    Example: easy2hard estimate copy-cpu --set rounds.count=12
    """
    from easy2hard.runs.request import settings_of, unused_plugins

    settings = settings_of(recipe, overrides or [], plugins or [], scale=scale)
    for line in unused_plugins(settings, plugins or []):
        warn(line)

    from easy2hard.runs import estimate

    with measuring() as on_phase:
        estimated = estimate.estimate(settings, on_phase, device)
    if as_json:
        say_json({"recipe": recipe, **estimated.as_json()})
    else:
        tell(*estimated.lines())


@contextmanager
def measuring() -> Iterator[Callable[[str], None]]:
    """Say on standard error what is being measured, and for how long already."""
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda name: warn(f"measuring {name}")
        return
    columns = SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn()
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("measuring", total=None)
        yield lambda name: progress.update(task, description=f"measuring {name}")


@app.command(rich_help_panel=TRAIN)
def run(
    recipe: RecipeArgument,
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="run directory; default: runs/RECIPE-seedN, or runs/RECIPE-SCALE-seedN"),
    ] = None,
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
    """Train on the easy range, then climb round after round.

    A round labels harder prompts, filters the labels, trains on what is left, and evaluates.

    Example: easy2hard run copy-cpu --seed 1 --set rounds.count=5
    """
    from easy2hard.runs.request import default_out, settings_of, unused_plugins

    seeds = [f"seed={seed}"] if seed is not None else []
    settings = settings_of(recipe, [*(overrides or []), *seeds], plugins or [], scale=scale)
    out = out or default_out(recipe, settings, scale)
    for line in unused_plugins(settings, plugins or []):
        warn(line)

    from easy2hard.runs import rounds

    _train(lambda listener: rounds.start(settings, out, listener, blindfold, device), out)


@app.command(rich_help_panel=TRAIN)
def resume(
    run: RunArgument, overrides: SetOption = None, device: DeviceOption = "auto", plugins: PluginOption = None
) -> None:
    """Continue a run from where it was stopped, or with more rounds.

    With --set, go on with other values of rounds.count, budget, storage, tracking or description. Everything else stays
    as it was, since rounds are there that were made with it; `branch` changes more.

    Example: easy2hard resume runs/copy-cpu-seed0 --set rounds.count=40
    """
    load_plugins(plugins)

    from easy2hard.runs import going_on, rounds, store

    opened = store.Store(run)
    before = opened.manifest
    if overrides:
        going_on.go_on(opened, overrides)
    _train(lambda listener: rounds.resume(opened, listener, device), run)
    if before.status == "finished" and len(opened.manifest.rounds) == len(before.rounds) and processes.is_main():
        tell(going_on.ended(opened))


@app.command(rich_help_panel=TRAIN)
def branch(
    run: RunArgument,
    from_round: Annotated[int, typer.Option(metavar="R", min=0, max=1000, help="the last round that both runs have")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="the new run directory")],
    overrides: SetOption = None,
    device: DeviceOption = "auto",
    plugins: PluginOption = None,
) -> None:
    """Continue from a round of a run, in a copy, with other settings.

    So variants that differ after the supervised phase pay for it once. Task, model, seed and supervised phase stay.

    Example: easy2hard branch runs/copy-cpu-seed0 --from-round 0 --out runs/none --set labels.filters='[{name="none"}]'
    """
    load_plugins(plugins)

    from easy2hard.runs import going_on, rounds, store

    opened = going_on.branch(store.Store(run), out, from_round, overrides or [])
    _train(lambda listener: rounds.resume(opened, listener, device), out)


def _train(work: Any, out: Path) -> None:
    from rich.console import Console

    from easy2hard.engines.engine import DeviceFullError
    from easy2hard.learning.trainer import NonFiniteLossError
    from easy2hard.progress import ProgressListener
    from easy2hard.runs.attempts import CollapseError
    from easy2hard.runs.disk_space import DiskFullError
    from easy2hard.runs.manifest import RunDirectory

    on_interrupt()
    console = Console()
    try:
        with ProgressListener(console) as listener:
            work(listener)
    except processes.ElsewhereError as error:
        if processes.is_main():
            warn(f"stopped: {error}; `easy2hard resume {out}` goes on from the last checkpoint")
        raise typer.Exit(1 if processes.is_main() else 0) from None  # the launcher reports the first that fails
    except KeyboardInterrupt:
        _only_main()
        begun = (out / "manifest.json").exists()
        warn(f"stopped and kept: `easy2hard resume {out}` goes on from here" if begun else "stopped: nothing was begun")
        raise typer.Exit(130) from None
    except DiskFullError as error:
        warn(f"paused: {error}; `easy2hard resume {out}` goes on from there once space is free")
        raise typer.Exit(4) from None
    except CollapseError as error:
        _only_main()
        warn(f"stopped by the collapse watch: {error}; every committed round is kept in {out}")
        raise typer.Exit(3) from None
    except NonFiniteLossError as error:
        _only_main()
        warn(f"diverged: {error}; every committed round is kept in {out}")
        raise typer.Exit(5) from None
    except DeviceFullError as error:
        warn(f"out of memory: {error}; `easy2hard resume {out}` goes on from what is kept")
        raise typer.Exit(6) from None
    nothing = RunDirectory(out).manifest.learned_nothing
    words = f"finished: {out}; {nothing}" if nothing else f"finished: {out}"
    console.print(printable(words), highlight=False, markup=False, soft_wrap=True)


def _only_main() -> None:
    """End without a message in every process but the main one, which reports for all of them."""
    if not processes.is_main():
        raise typer.Exit(0)


def on_interrupt() -> None:
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

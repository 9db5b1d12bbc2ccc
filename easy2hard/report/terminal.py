"""Runs on a terminal: a live view of one, and a list of all."""

import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from easy2hard.errors import UserError
from easy2hard.report.fitting import fitted
from easy2hard.report.words import duration
from easy2hard.runs.evaluations import measured
from easy2hard.runs.manifest import Manifest, RoundRecord, RunDirectory, state_of
from easy2hard.runs.progress_file import RunProgress, read_progress
from easy2hard.settings.schema import Settings
from easy2hard.tasks.base import hardest, parse_difficulty, span
from easy2hard.text import in_lines, printable

ROUNDS_SHOWN = 12
_BLOCKS = " ▁▂▃▄▅▆▇█"


@dataclass(frozen=True)
class Listed:
    """A run in one row of the list."""

    run: str
    """Its directory."""
    task: str
    seed: int | None
    state: str
    """The manifest's status; ``killed`` where it says ``running`` and no process is; ``damaged: why``."""
    round: int | None
    """The last committed round."""
    rounds: int | None
    """Rounds the settings ask for."""
    reach: int | None
    prompts: int | None
    """Of each difficulty, in the evaluation that the reach is of."""
    frontier: int | None
    age_seconds: float
    """Since the manifest was last written."""


def listed(path: Path) -> Listed:
    """Return the row of a run, also of a damaged one."""
    age = 0.0
    try:
        age = time.time() - (path / "manifest.json").lstat().st_mtime
        run = RunDirectory(path)
        manifest, settings = measured(run, run.manifest), run.settings
        state = state_of(run, manifest)
    except (UserError, OSError) as error:
        reason = str(error).removeprefix(f"{path}/").removeprefix(f"{path}: ").removeprefix("manifest.json: ")
        reason = reason if reason.startswith("damaged") else f"damaged: {reason}"
        return Listed(str(path), "-", None, reason, None, None, None, None, None, age)
    newest = manifest.rounds[-1] if manifest.rounds else None
    return Listed(
        run=str(path),
        task=manifest.task,
        seed=manifest.seed,
        state=state,
        round=newest.round if newest else None,
        rounds=settings.rounds.count,
        reach=newest.reach if newest and newest.accuracy else None,
        prompts=newest.examples or None if newest and newest.accuracy else None,
        frontier=manifest.frontier if newest else None,
        age_seconds=round(age, 1),
    )


def runs_in(folder: Path) -> Iterator[Path]:
    """Yield the run directories in a folder and below, sorted by path; none within a run, none that is hidden.

    Raises:
        UserError: there is no such folder.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such directory")
    for here, below, files in os.walk(folder):
        below.sort()
        below[:] = [name for name in below if not name.startswith(".")]
        if {"manifest.json", "settings.toml"} <= set(files):
            below.clear()
            yield Path(here)


def list_table(runs: Sequence[Listed]) -> Table:
    """Return the runs as a table."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("run", overflow="fold")
    table.add_column("task", overflow="fold")
    table.add_column("state")
    for name in ("round", "reach", "prompts", "trained to", "age"):
        table.add_column(name, justify="right")
    for run in runs:
        state = run.state.split(":")[0] if run.state.startswith("stopped") else run.state
        rounds = "-" if run.round is None else f"{run.round}/{run.rounds}"
        cells = [*map(_count, (run.reach, run.prompts, run.frontier)), duration(run.age_seconds)]
        table.add_row(
            Text(printable(run.run)),
            Text(printable(run.task)),
            Text(printable(state), _colour(run.state)),
            rounds,
            *cells,
        )
    return table


def watch(path: Path, console: Console, every: float, once: bool) -> None:
    """Show a run until it ends or Ctrl-C is pressed; only once where the run has ended or there is no terminal.

    Args:
        path: the run directory.
        console: where to.
        every: seconds between two looks.
        once: show it as it is and return.

    Raises:
        UserError: ``path`` is no run directory, or damaged.
    """
    run = RunDirectory(path)
    settings = run.settings
    if once or not console.is_terminal or not run.held:
        console.print(view(run, settings, console.width))
        return
    with Live(console=console, auto_refresh=False, vertical_overflow="crop") as live:
        while True:
            going_on = run.held
            live.update(view(run, settings, console.width), refresh=True)
            if not going_on:
                return
            time.sleep(every)


def view(run: RunDirectory, settings: Settings, width: int) -> RenderableType:
    """Return what is known of a run, as it is now."""
    manifest = measured(run, run.manifest)
    progress = read_progress(run.path) if run.held else None
    state = state_of(run, manifest)
    title = Text.assemble(
        (printable(run.path.name), "bold"),
        f"  {printable(manifest.task)}, seed {manifest.seed}  ",
        (state, _colour(state)),
    )
    parts: list[RenderableType] = [title, *(Text(printable(mark), "bold red") for mark in manifest.marks)]
    parts += [Text(printable(remark), "dim") for remark in manifest.remarks]
    if manifest.learned_nothing:
        parts.append(Text(manifest.learned_nothing, "bold red"))
    if manifest.rounds:
        newest = manifest.rounds[-1]
        reach = newest.reach_text if newest.accuracy else "nothing is measured"
        parts.append(Text(f"supervised to {settings.supervised.difficulty}, trained to {manifest.frontier}, {reach}"))
        parts += [Text(), *fitted(_rounds(manifest), width), *_profile(newest, width)]
    else:
        parts.append(Text("no round is committed yet"))
    if progress:
        parts += [Text(), *_phase(progress, width)]
    elif state not in ("finished", "running"):
        parts += [Text(), Text(f"easy2hard resume {printable(str(run.path))}  goes on from here", "dim")]
    return Group(*parts)


def _rounds(manifest: Manifest) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("round", "difficulty", "kept", "agreement", "confidence", "loss", "reach", "time"):
        table.add_column(name, justify="right")
    for record in manifest.rounds[-ROUNDS_SHOWN:]:
        happened = f" {record.watch.action}" if record.watch else ""
        table.add_row(
            str(record.round),
            span(record.difficulties) if record.difficulties else "-",
            f"{record.kept:,}/{record.proposed:,}" if record.round else "supervised",
            _share(record.signals.agreement if record.signals else None),
            _share(record.signals.confidence if record.signals else None),
            f"{record.loss:.4f}",
            _count(record.reach if record.accuracy else None),
            duration(record.seconds) + happened,
        )
    return table


def _profile(record: RoundRecord, width: int) -> list[Text]:
    """Return accuracy by difficulty as a line of bars; of pairs, the worst of each greater number."""
    worst: dict[int, float] = {}
    for text, value in record.accuracy.items():
        difficulty = hardest(parse_difficulty(text))
        worst[difficulty] = min(value, worst.get(difficulty, 1.0))
    if not worst:
        return []
    places = sorted(worst)
    every = -(-len(places) // max(1, width - 30))
    shown = places[::every]
    bars = "".join(_BLOCKS[round(worst[place] * (len(_BLOCKS) - 1))] for place in shown)
    return [Text(), Text.assemble("exact match  ", str(shown[0]), " ", (bars, "green"), " ", str(shown[-1]))]


def _phase(progress: RunProgress, width: int) -> list[RenderableType]:
    bar = ProgressBar(total=max(progress.total, 1), completed=progress.done, width=min(width, 60))
    return [
        *map(Text, in_lines(progress.words, width)),
        bar,
        *([Text(printable(progress.note), "yellow")] if progress.note else []),
    ]


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _count(value: int | None) -> str:
    return "-" if value is None else f"{value:,}"


def _colour(state: str) -> str:
    return {"finished": "green", "running": "cyan"}.get(state, "yellow" if not state.startswith("damaged") else "red")

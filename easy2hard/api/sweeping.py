"""A sweep from Python: the command of this name."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from easy2hard.errors import UserError
from easy2hard.runs.request import Plugins, as_paths

if TYPE_CHECKING:
    from easy2hard.sweep.execute import Laboratory
    from easy2hard.sweep.results import SweepResults


def sweep(
    file: str | Path,
    out: str | Path | None = None,
    *,
    against: str | None = None,
    overrides: Sequence[str] = (),
    processes: int = 1,
    jobs: str | Path | None = None,
    ray: bool | str = False,
    device: str = "auto",
    plugins: Plugins = (),
    progress: bool = True,
) -> "SweepResults":
    """Run an experiment's variants over several seeds, and compare them; called again, go on where it was stopped.

    Args:
        file: a sweep file, or a shipped sweep (docs/sweeps.md); or a recipe: one variant, three seeds.
        out: where its runs go; default ``runs/NAME``.
        against: ``oracle`` adds to each variant the same run with labels that the oracle judges, and says how far the
            two are apart.
        overrides: ``section.key=value`` texts for every run.
        processes: runs at a time, each a process of its own with its share of the cores.
        jobs: run nothing: write a command line for each run that is left into this file, for a cluster.
        ray: run them on a Ray cluster: its address, or True for the one that ``ray.init()`` finds or else starts here;
            then ``processes`` are runs at a time on each machine.
        device: where the runs compute; as in :func:`easy2hard.run`.
        plugins: Python files that add what the runs use; they are run as code.
        progress: print a line when a run begins or ends.

    Raises:
        UserError: the sweep or a setting of it is not allowed, runs that are there were begun with others,
            another process is at this sweep, or the cluster cannot be used.
    """
    if ray and jobs is not None:
        raise UserError("--jobs, --ray: choose one; --jobs runs nothing, for a cluster of another kind")

    from rich.console import Console

    from easy2hard.sweep.results import bring_to_end

    asked = laboratory(file, out, against=against, overrides=overrides, device=device, plugins=plugins)
    console = Console(quiet=not progress, highlight=False, markup=False, emoji=False, soft_wrap=True)
    return bring_to_end(
        asked,
        processes,
        None if jobs is None else Path(jobs),
        console.print,
        ("" if ray is True else ray) if ray else None,
    )


def laboratory(
    file: str | Path,
    out: str | Path | None = None,
    *,
    against: str | None = None,
    overrides: Sequence[str] = (),
    device: str = "auto",
    plugins: Plugins = (),
) -> "Laboratory":
    """Return what a sweep is made of; nothing is run. Arguments as in :func:`sweep`.

    Raises:
        UserError: the sweep or a setting of it is not allowed.
    """
    from easy2hard.sweep.execute import Laboratory
    from easy2hard.sweep.plan import load_sweep, planned

    asked, files = load_sweep(str(file), against), as_paths(plugins)
    folder = Path("runs") / Path(file).stem if out is None else Path(out)
    return Laboratory(asked, planned(asked, overrides, files), folder, files, device)

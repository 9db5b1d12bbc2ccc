"""How long a sweep takes: measured before it begins, and while it is under way by what has ended."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from easy2hard.errors import UserError
from easy2hard.report.words import duration
from easy2hard.runs.manifest import RunDirectory
from easy2hard.settings.schema import Settings
from easy2hard.sweep.trial import Base, Trial, Work

if TYPE_CHECKING:
    from easy2hard.sweep.execute import Laboratory


class Pace:
    """How long what is left of a sweep will take: each run as those of its variant took, or else by its size.

    Args:
        laboratory: the sweep.
        processes: runs at a time, at least; a cluster may show that there are more.
    """

    def __init__(self, laboratory: "Laboratory", processes: int) -> None:
        self._laboratory = laboratory
        self._at_once = processes
        self._took: dict[str, list[float]] = {}
        self._measured: dict[str, float] = {}
        self._sizes: dict[str, float] = {}
        self._begun: dict[str, tuple[Work, float]] = {}
        for work in laboratory.works:
            if laboratory.state(work).ended:
                self._learn(work)

    def measure(self, waiting: Sequence[Work], environment: Mapping[str, str], say: Callable[[str], None]) -> None:
        """Measure the first run that waits, where nothing has ended yet.

        Args:
            waiting: what waits.
            environment: of a run's process.
            say: is told a line.
        """
        run = next((each for each in waiting if isinstance(each, Trial)), None)
        if run is None or self._took:
            return
        say(f"{run.name}: measured for some seconds, to say how long all take")
        try:
            supervised, rounds = measured(self._laboratory, run, environment)
        except UserError:  # the run itself will say it
            return
        parts: list[tuple[Work, float]] = [(run, rounds)] if run.base else [(run, supervised + rounds)]
        for work, seconds in [*parts, *([(run.base, supervised)] if run.base else [])]:
            self._measured[_kind(work)] = seconds
            self._sizes[_kind(work)] = _size(work)

    def begins(self, work: Work) -> None:
        """Remember that a process begins."""
        self._begun[work.name] = work, time.monotonic()
        self._at_once = max(self._at_once, len(self._begun))

    def ends(self, work: Work) -> None:
        """Remember that a process has ended, and how long it took."""
        del self._begun[work.name]
        if self._laboratory.state(work).ended:
            self._learn(work)

    def left(self, waiting: Sequence[Work]) -> str:
        """Return in words how long those that wait and those that run will take; nothing where that is not known."""
        now = time.monotonic()
        going = [(self._seconds(work), now - begun) for work, begun in self._begun.values()]
        coming = [self._seconds(work) for work in waiting]
        known = [each for each in coming if each is not None]
        known += [max(0.0, each - spent) for each, spent in going if each is not None]
        if len(known) < len(coming) + len(going):
            return ""
        return f", about {duration(sum(known) / min(self._at_once, max(1, len(known))))} left"

    def _learn(self, work: Work) -> None:
        rounds = RunDirectory(self._laboratory.path(work)).manifest.rounds
        own = rounds[1:] if isinstance(work, Trial) and work.base else rounds
        self._took.setdefault(_kind(work), []).append(sum(record.seconds for record in own))
        self._sizes[_kind(work)] = _size(work)

    def _seconds(self, work: Work) -> float | None:
        took = {kind: sum(each) / len(each) for kind, each in self._took.items()} or self._measured
        if (kind := _kind(work)) in took:
            return took[kind]
        size = sum(self._sizes[each] for each in took)
        return _size(work) * sum(took.values()) / size if size else None


@dataclass(frozen=True)
class SweepEstimate:
    """How long the runs of a sweep will take on this machine, one after another, as busy as it is now."""

    variants: dict[str, tuple[int, float, float]]
    """Runs of each variant, seconds of the supervised phase of one of them, and of its rounds."""
    seconds: float
    """Of all runs that are left; a supervised phase that runs share counts once."""
    unshared: float
    """If they shared none."""

    def lines(self) -> list[str]:
        """Return it for people."""
        width = max(map(len, self.variants), default=0)
        shared = f" ({duration(self.unshared)} if they shared no supervised phase)"
        return [
            f"about {duration(self.seconds)} for what is left, one run after another"
            + (shared if self.unshared > self.seconds else ""),
            *(
                f"  {name:<{width}}  {runs} x {duration(supervised + rounds)}, {duration(supervised)} of it supervised"
                for name, (runs, supervised, rounds) in self.variants.items()
            ),
        ]


def estimated(laboratory: "Laboratory", on_variant: Callable[[str], None] = lambda name: None) -> SweepEstimate:
    """Measure a run of each variant that takes as long as no other, and add them up.

    Args:
        laboratory: the sweep; nothing of it is run.
        on_variant: is told the variant that is measured now.

    Raises:
        UserError: one cannot be measured.
    """
    known: dict[str, tuple[float, float]] = {}
    variants: dict[str, tuple[int, float, float]] = {}
    seconds, unshared, counted = 0.0, 0.0, set[str]()
    left = laboratory.left()
    bases = {work.name for work in left if isinstance(work, Base)}
    for run in (work for work in left if isinstance(work, Trial)):
        shape = _shape(run.settings)
        if shape not in known:
            on_variant(run.variant)
            known[shape] = measured(laboratory, run)
        supervised, rounds = known[shape]
        variants[run.variant] = variants.get(run.variant, (0, 0.0, 0.0))[0] + 1, supervised, rounds
        unshared += supervised + rounds
        seconds += rounds
        needs = run.base.name if run.base else run.name
        if needs not in counted and (run.base is None or needs in bases):
            seconds += supervised
        counted.add(needs)
    return SweepEstimate(variants, seconds, unshared)


def measured(laboratory: "Laboratory", run: Trial, environment: Mapping[str, str] | None = None) -> tuple[float, float]:
    """Return the seconds of a run's supervised phase and of its rounds, as ``easy2hard estimate`` finds them.

    A process of its own measures it, as one will run it: this one holds no memory of a GPU, and no thread.

    Raises:
        UserError: it cannot be measured.
    """
    words = ["estimate", run.recipe, "--json", "--device", laboratory.device, *run.options(laboratory.plugins)]
    done = subprocess.run(
        [sys.executable, "-m", "easy2hard", *words],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    if done.returncode:
        said = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise UserError(f"variant {run.variant}: {said[-1].removeprefix('error: ')}")
    first, *rest = [
        sum(each[phase] for phase in ("label", "train", "evaluate")) for each in json.loads(done.stdout)["rounds"]
    ]
    return first, sum(rest)


def _kind(work: Work) -> str:
    """Return what is the same for runs that differ in their seed alone."""
    return work.settings.model_copy(update={"seed": 0}).to_toml()


def _size(work: Work) -> float:
    """Return the examples that all members train on: about so many seconds, times one number for a whole sweep."""
    settings = work.settings
    supervised = settings.supervised.steps * settings.training.batch
    rounds = settings.rounds.count * settings.rounds.steps * (settings.rounds.batch or settings.training.batch)
    return float(settings.model.members * (rounds + (0 if isinstance(work, Trial) and work.base else supervised)))


def _shape(settings: Settings) -> str:
    """Return what runs that take equally long have in common: all but what chooses among their labels."""
    values = settings.model_dump(mode="json", exclude={"seed", "description", "watch", "noise", "storage", "tracking"})
    values["labels"]["filters"] = settings.relations
    return json.dumps(values, sort_keys=True)

"""The report: one page that opens offline. The template escapes every text; the page may load nothing at all."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from easy2hard.evaluation.reach import REACHED
from easy2hard.report.chart import number
from easy2hard.report.charts import accuracy_charts, cost_charts, label_charts, training_charts
from easy2hard.report.command import command_of
from easy2hard.report.compare import RunGroup, differing_settings, flattened, groups_of
from easy2hard.report.examples import Example, newest
from easy2hard.report.html import Section, filled
from easy2hard.report.mazes import draw_maze
from easy2hard.report.place import put
from easy2hard.report.rundata import LABELS, RunData, read_run
from easy2hard.report.verdict import lowest, precision, verdict
from easy2hard.report.words import duration
from easy2hard.runs.manifest import refuse_twice
from easy2hard.tasks.base import span
from easy2hard.tasks.maze import Maze


@dataclass(frozen=True)
class Shown:
    """Examples of one kind."""

    title: str
    note: str
    rows: Sequence[tuple[Example, Markup | None]]
    """An example, and a picture where there is one."""


def write_report(paths: Sequence[Path], out: Path | None) -> Path:
    """Write the page of one run, or of several side by side, and return where it is.

    Args:
        paths: run directories.
        out: the page; ``report.html`` in the run's directory, or here for several runs, where it is not given.

    Raises:
        UserError: a path is no run directory, or one is given twice; or the page cannot be written into the run.
    """
    refuse_twice(paths)
    text = render([read_run(path) for path in paths])
    return put(text.encode(errors="replace"), out, paths, "report.html")


def render(runs: Sequence[RunData]) -> str:
    """Return the page."""
    groups = groups_of(runs)
    one = runs[0] if len(runs) == 1 else None
    notes = _all_notes(runs)
    return filled(
        "page.html",
        title=f"{one.manifest.task}: {one.name}" if one else f"{len(runs)} runs side by side",
        verdicts=[verdict(group) for group in groups],
        tiles=_tiles(one) if one else [],
        run_table=None if one else [_run_row(group, run) for group in groups for run in group.runs],
        first_notes=[text for grade, text in notes if grade],
        notes=[text for grade, text in notes if not grade],
        sections=[section for section in _sections(groups, runs) if section.charts],
        mistakes=_mistakes(runs),
        examples=_examples(one) if one else [],
        stem=f"{one.name}-" if one else "runs-",
        made_of=_made_of(one) if one else [],
        commands=[(run.name, command_of(run)) for run in runs],
        settings=flattened(one) if one else {},
        settings_text=one.settings_text if one and not one.settings else "",
        differing=differing_settings(groups) if len(groups) > 1 else [],
        common=_common(groups),
        group_names=[group.name for group in groups],
        one=one,
    )


def _sections(groups: Sequence[RunGroup], runs: Sequence[RunData]) -> list[Section]:
    reasons = dict.fromkeys(f"{run.name}: {run.judged}" if len(runs) > 1 else run.judged for run in runs if run.judged)
    missing = "".join(f"Label precision is left out ({reason}). " for reason in reasons)
    sampled = (
        f"Of more than {LABELS:,} labels, about so many are judged, evenly spread over the rounds. "
        if any(run.sampled for run in runs)
        else ""
    )
    return [
        Section("accuracy", "How far did it get?", "", accuracy_charts(groups)),
        Section("labels", "Can the labels be trusted?", missing + sampled, label_charts(groups)),
        Section("training", "Training", "", training_charts(groups)),
        Section("cost", "What did it cost?", "", cost_charts(groups)),
    ]


@dataclass(frozen=True)
class Tile:
    """A figure at the top of a page; the one or two that matter most are large."""

    name: str
    value: str
    note: str = ""
    large: bool = False


def _tiles(run: RunData) -> list[Tile]:
    records = [each.record for each in run.rounds]
    planned = f" of {run.settings.rounds.count}" if run.settings else ""
    proposed, kept = sum(r.proposed for r in records), sum(r.kept for r in records)
    of_all, worst = precision(run), lowest(run)
    return [
        Tile(
            f"reach at {REACHED:g}",
            run.extent(run.reach) if run.reach else "none",
            f"taught to {run.extent(run.supervised)}" if run.supervised else "",
            large=True,
        ),
        Tile(
            "label precision",
            f"{of_all:.4f}" if of_all is not None else "not known",
            f"{worst:.4f} in the worst round" if worst is not None else "",
            large=True,
        ),
        Tile("status", run.state),
        Tile("rounds", f"{max(len(records) - 1, 0)}{planned}"),
        Tile("trained to", run.extent(run.manifest.frontier)),
        Tile("labels kept", f"{kept:,} of {proposed:,}"),
        Tile("time", duration(run.seconds)),
        Tile("tokens trained on", number(sum(r.tokens for r in records))),
    ]


def _made_of(run: RunData) -> list[tuple[str, str]]:
    """Return what a run was made with, besides its settings."""
    manifest = run.manifest
    threads = "1 thread" if manifest.threads == 1 else f"{manifest.threads} threads"
    return [
        ("members", str(run.settings.model.members) if run.settings else "-"),
        ("seed", str(manifest.seed)),
        ("device", f"{manifest.device}, {threads}"),
        ("versions", f"easy2hard {manifest.easy2hard}, torch {manifest.torch}"),
        *manifest.environment.items(),
        *(("filter", words) for words in manifest.filters),
    ]


def _run_row(group: RunGroup, run: RunData) -> list[str]:
    records = [each.record for each in run.rounds]
    proposed = sum(r.proposed for r in records)
    return [
        run.name,
        group.name,
        str(run.manifest.seed),
        run.state,
        str(max(len(records) - 1, 0)),
        str(run.reach),
        str(run.manifest.frontier),
        number(precision(run)),
        number(lowest(run)),
        f"{sum(r.kept for r in records) / proposed:.0%}" if proposed else "-",
        duration(run.seconds),
    ]


def _all_notes(runs: Sequence[RunData]) -> list[tuple[str, str]]:
    """Return the notes of all runs; a note that several runs share appears once."""
    of: dict[tuple[str, str], list[str]] = {}
    for run in runs:
        for note in _notes(run):
            of.setdefault(note, []).append(run.name)
    if len(runs) == 1:
        return list(of)
    return [
        (grade, f"{'all runs' if len(names) == len(runs) else ', '.join(names)}: {text}")
        for (grade, text), names in of.items()
    ]


def _notes(run: RunData) -> list[tuple[str, str]]:
    """Return what one should know before trusting a run: (``first`` if it belongs to the verdict, text)."""
    notes = [("first", mark) for mark in run.manifest.marks]
    notes += [("first", f"Damaged: {line}") for line in run.problems]
    notes += [("", f"{remark[:1].upper()}{remark[1:]}.") for remark in run.manifest.remarks]
    if nothing := run.manifest.learned_nothing:
        notes.append(("first", f"{nothing[:1].upper()}{nothing[1:]}."))
    if run.state == "killed":
        goes_on = f"`easy2hard resume {run.path}` goes on from the last committed round"
        notes.append(("first", f"The run was killed: {goes_on}."))
    elif run.state == "running":
        so_far = "this page ends with the last committed round"
        notes.append(("first", f"The run was under way when this page was made: {so_far}."))
    elif run.state != "finished":
        notes.append(("first", f"The run is not finished: {run.manifest.status}."))
    if run.manifest.blindfold:
        notes.append(("", "Blindfolded: the run evaluated nothing beyond the supervised range."))
    notes += [("", f"{each.kind.capitalize()} {each.name} is of {each.source}.") for each in run.manifest.plugins]
    for record in (each.record for each in run.rounds):
        where = f"Round {record.round}"
        if record.round == 0 and record.no_better:
            notes.append(("first", f"{record.no_better[0].upper()}{record.no_better[1:]}."))
        if record.watch:
            notes.append(("", f"{where}: {record.watch.action}, since {record.watch.reason}."))
        if record.from_round is not None:
            notes.append(("", f"{where} went back to the weights of round {record.from_round}."))
        if record.restarts:
            notes.append(("", f"{where}: {len(record.restarts)} restarts after a loss that was no number."))
        if record.spoilt:
            notes.append(("first", f"{where}: {record.spoilt} labels were spoilt on purpose (settings noise)."))
        notes += [("", f"{where}, difficulty {d}: {reason}.") for d, reason in record.top_up.items()]
        notes += [("", f"{where}: difficulty {d} was put off, since {reason}.") for d, reason in record.put_off.items()]
        if record.overlap:
            few = f"Difficulty {', '.join(record.overlap)}: there are so few prompts that evaluation asks some"
            notes.append(("", f"{few} that training may have seen."))
    return notes


def _mistakes(runs: Sequence[RunData]) -> list[tuple[str, int, str]]:
    """Return the kinds of mistakes among the kept labels that were judged: kind, how many, in which rounds."""
    counts: Counter[str] = Counter()
    rounds: dict[str, set[int]] = {}
    for each in (each for run in runs for each in run.rounds if each.audit):
        for kind, count in (each.audit or {})["errors"].items():
            counts[kind] += count
            rounds.setdefault(kind, set()).add(each.record.round)
    return [(kind, count, span(sorted(rounds[kind]))) for kind, count in counts.most_common()]


def _examples(run: RunData) -> list[Shown]:
    picked = [example for each in run.rounds for example in each.picked]
    is_maze = isinstance(run.task, Maze)

    def drawn(example: Example) -> Markup | None:
        # Only an oracle has made sure that the prompt is a maze.
        return (
            draw_maze(example.prompt, "".join(example.answer), example.truth) if is_maze and example.verdict else None
        )

    kinds = [
        ("wrong", "Kept, and wrong", "These were trained on. The first wrong token is marked."),
        ("right", "Kept, and right", ""),
        ("kept", "Kept", "Whether they are right is not known here."),
        ("dropped", "Dropped, and why", "What the filters turned down, right or wrong."),
    ]
    return [
        Shown(title, note, [(example, drawn(example)) for example in examples])
        for kind, title, note in kinds
        if (examples := newest(picked, kind))  # type: ignore[arg-type]
    ]


def _common(groups: Sequence[RunGroup]) -> dict[str, str]:
    """Return the settings that all runs of a comparison share."""
    first, *others = [flattened(group.runs[0]) for group in groups]
    return {k: v for k, v in first.items() if k not in ("seed", "description") and all(o.get(k) == v for o in others)}

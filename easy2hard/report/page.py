"""The report: one page that opens offline. The template escapes every text; the page may load nothing at all."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from easy2hard.evaluation.audit import FALLEN, first_fall
from easy2hard.evaluation.reach import REACHED, is_missed
from easy2hard.report.chart import number
from easy2hard.report.charts import accuracy_charts, cost_charts, label_charts, training_charts
from easy2hard.report.compare import RunGroup, differing_settings, flattened, groups_of, range_text
from easy2hard.report.examples import Example, newest
from easy2hard.report.html import Section, filled
from easy2hard.report.mazes import draw_maze
from easy2hard.report.place import put
from easy2hard.report.rundata import LABELS, RunData, read_run
from easy2hard.report.series import measured_by
from easy2hard.report.words import duration
from easy2hard.runs.manifest import refuse_twice
from easy2hard.tasks.base import hardest, parse_difficulty, span
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
    return filled(
        "page.html",
        title=f"{one.manifest.task}: {one.name}" if one else f"{len(runs)} runs side by side",
        headlines=[(group.name, _headline(group), _trust(group)) for group in groups],
        cards=_cards(one) if one else [],
        run_table=None if one else [_run_row(group, run) for group in groups for run in group.runs],
        notes=_all_notes(runs),
        sections=[section for section in _sections(groups, runs) if section.charts],
        mistakes=_mistakes(runs),
        examples=_examples(one) if one else [],
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
        f"Of a run with more than {LABELS:,} labels about so many are judged, evenly spread over its rounds. "
        if any(run.sampled for run in runs)
        else ""
    )
    return [
        Section("accuracy", "How far did it get?", "", accuracy_charts(groups)),
        Section("labels", "Can the labels be trusted?", missing + sampled, label_charts(groups)),
        Section("training", "Training", "", training_charts(groups)),
        Section("cost", "What did it cost?", "", cost_charts(groups)),
    ]


def _headline(group: RunGroup) -> str:
    """Return the reach of a group's runs, in a sentence."""
    run = group.runs[0]
    taught = f"{run.manifest.task}: supervised to {run.extent(run.supervised)}" if run.supervised else run.manifest.task
    measured = [each for each in group.runs if each.newest and each.newest.accuracy]
    if not measured:
        return f"{taught}; nothing is measured yet"
    reaches, by = [each.reach for each in measured], measured_by([group])
    if len(reaches) > 1:
        unit = "" if run.pairs else f" {run.unit}"
        return f"{taught}, reach at {REACHED:g}: {range_text(reaches, digits=1)}{unit} ({by})"
    newest = run.rounds[-1].record
    there = [d for d, share in newest.accuracy.items() if not is_missed(share, newest.examples)]
    single = max((hardest(parse_difficulty(each)) for each in there), default=0)
    reach = run.extent(reaches[0]) if reaches[0] else "none"
    beyond = f" without a gap, and {run.extent(single)} after one" if single > reaches[0] and not run.pairs else ""
    return f"{taught}, reach at {REACHED:g}: {reach}{beyond} ({by})"


def _trust(group: RunGroup) -> str:
    """Return what is known of the labels, in a sentence or two."""
    audited = [run for run in group.runs if any(each.audit for each in run.rounds)]
    if not audited:
        reason = group.runs[0].judged
        return f"Whether the labels are right is not known here: {reason}" if reason else ""
    values = [value for value in map(_precision, audited) if value is not None]
    if not values:
        return "No label was kept."
    lowest = [value for run in audited if (value := _lowest(run)) is not None]
    falls = [
        f"in round {rounds[fallen].record.round}{f' of {run.name}' if len(audited) > 1 else ''}"
        for run in audited
        for rounds in [[each for each in run.rounds if each.audit]]
        if (fallen := first_fall([each.audit or {} for each in rounds])) is not None
    ]
    fell = f"first fell below {FALLEN} {', '.join(falls)}" if falls else f"never fell below {FALLEN}"
    worst = range_text([min(lowest)])
    return f"Label precision {range_text(values)} over all kept labels, {worst} in the worst round; it {fell}."


def _precision(run: RunData) -> float | None:
    """Return the precision of all kept labels of a run together."""
    audits = [each.audit for each in run.rounds if each.audit and each.audit["kept"]]
    kept = sum(audit["kept"] for audit in audits)
    return sum(audit["precision"] * audit["kept"] for audit in audits) / kept if kept else None


def _lowest(run: RunData) -> float | None:
    values = [each.audit["precision"] for each in run.rounds if each.audit and each.audit["precision"] is not None]
    return min(values, default=None)


def _cards(run: RunData) -> list[tuple[str, str]]:
    records = [each.record for each in run.rounds]
    planned = f" of {run.settings.rounds.count}" if run.settings else ""
    proposed, kept = sum(r.proposed for r in records), sum(r.kept for r in records)
    precision = _precision(run)
    return [
        ("status", run.state),
        ("rounds", f"{max(len(records) - 1, 0)}{planned}"),
        (f"reach at {REACHED:g}", run.extent(run.reach) if run.reach else "-"),
        ("trained to", run.extent(run.manifest.frontier)),
        ("labels kept", f"{kept:,} of {proposed:,}"),
        ("label precision", f"{precision:.4f}" if precision is not None else "not known"),
        ("time", duration(run.seconds)),
        ("tokens trained on", number(sum(r.tokens for r in records))),
        ("members", str(run.settings.model.members) if run.settings else "-"),
        ("seed", str(run.manifest.seed)),
        ("device", f"{run.manifest.device}, {run.manifest.threads} threads, torch {run.manifest.torch}"),
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
        number(_precision(run)),
        number(_lowest(run)),
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
    """Return what one should know before trusting a run: (class, text), the most serious first."""
    notes = [("bad", mark) for mark in run.manifest.marks]
    notes += [("bad", f"Damaged: {line}") for line in run.problems]
    notes += [("", f"{remark[:1].upper()}{remark[1:]}.") for remark in run.manifest.remarks]
    if nothing := run.manifest.learned_nothing:
        notes.append(("bad", f"{nothing[:1].upper()}{nothing[1:]}."))
    if run.state == "killed":
        notes.append(("", f"The run was killed: `easy2hard resume {run.path}` goes on from the last committed round."))
    elif run.state == "running":
        notes.append(
            ("", "The run was under way when this page was made: what is shown ends with the last committed round.")
        )
    elif run.state != "finished":
        notes.append(("", f"The run is not finished: {run.manifest.status}."))
    if run.manifest.blindfold:
        notes.append(("", "Blindfolded: the run evaluated nothing beyond the supervised range."))
    notes += [("", f"Filter {words}.") for words in run.manifest.filters]
    notes += [("", f"{each.kind.capitalize()} {each.name} is of {each.source}.") for each in run.manifest.plugins]
    for record in (each.record for each in run.rounds):
        where = f"Round {record.round}"
        if record.round == 0 and record.no_better:
            notes.append(("bad", f"{record.no_better[0].upper()}{record.no_better[1:]}."))
        if record.watch:
            notes.append(("", f"{where}: {record.watch.action}, since {record.watch.reason}."))
        if record.from_round is not None:
            notes.append(("", f"{where} went back to the weights of round {record.from_round}."))
        if record.restarts:
            notes.append(("", f"{where}: {len(record.restarts)} restarts after a loss that was no number."))
        if record.spoilt:
            notes.append(("bad", f"{where}: {record.spoilt} labels were spoilt on purpose (settings noise)."))
        notes += [("", f"{where}, difficulty {d}: {reason}.") for d, reason in record.top_up.items()]
        notes += [("", f"{where}: difficulty {d} was put off, since {reason}.") for d, reason in record.put_off.items()]
        if record.overlap:
            shared = ", ".join(record.overlap)
            notes.append(("", f"Difficulty {shared}: too few prompts to keep evaluation's apart from supervised ones."))
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

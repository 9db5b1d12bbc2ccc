"""Which charts there are, and what each shows: of one run, or of groups of runs side by side."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import accumulate

from easy2hard.evaluation.reach import REACHED
from easy2hard.report.chart import Axis, Bars, Chart, Line, Map, Mark
from easy2hard.report.compare import RunGroup, group_lines, spread_line
from easy2hard.report.rundata import RoundData
from easy2hard.report.series import (
    after_filter,
    baseline_by_difficulty,
    filter_names,
    frontiers,
    is_one_run,
    kept_shares,
    measured_by,
    reliability,
    scores_by_difficulty,
    scores_by_round,
    signal,
    stage_shares,
    step_means,
)
from easy2hard.tasks.base import parse_difficulty

STEP_POINTS = 300
"""Points of a curve over steps; more steps are averaged."""
PHASES = ("label", "train", "evaluate")
FLOORS = (0.999, 0.998, 0.995, 0.99, 0.98, 0.95, 0.9, 0.8, 0.5, 0.0)
"""Where an axis of shares may begin."""

Groups = Sequence[RunGroup]

ROUND = Axis("round", integers=True)


def _rounds(groups: Groups) -> list[RoundData]:
    return [each for group in groups for run in group.runs for each in run.rounds]


def _of_seeds(groups: Groups) -> str:
    return " Mean of the seeds, shaded from the least to the greatest." if any(len(g.runs) > 1 for g in groups) else ""


def accuracy_charts(groups: Groups) -> list[Chart]:
    """Return what was learned: accuracy by difficulty, as a map, and the reach of each round."""
    if not any(each.record.accuracy for each in _rounds(groups)):
        return []
    evaluated = [group for group in groups if any(each.record.accuracy for each in group.runs[0].rounds)]
    maps = [map_chart(group, "" if is_one_run(groups) else f": {group.name}") for group in evaluated]
    charts = [accuracy_chart(groups), *maps, reach_chart(groups)]
    return sorted(charts, key=lambda chart: bool(chart.map and chart.map.pairs))  # grids take a row of their own


def accuracy_chart(groups: Groups, last: bool = False) -> Chart:
    """Return accuracy by difficulty: of one run a line a round, of several a line a group in each round.

    Args:
        groups: the runs.
        last: of several, only the last round of each run.
    """
    run = groups[0].runs[0]
    note = " Pairs with one greater number are averaged; the map shows each pair." if run.pairs else ""
    marks = []
    if one := is_one_run(groups):
        final = max((each.record.round for each in run.rounds), default=0) or 1
        lines = [
            Line(f"round {r.round}", list(scores_by_difficulty(r).items()), shade=r.round / final, round=r.round)
            for r in (each.record for each in run.rounds)
        ]
        marks = [Mark(run.manifest.frontier, f"trained to {run.manifest.frontier}", frontier=True)]
        note = "Exact match on unseen prompts after each round." + note
        if baseline := list(baseline_by_difficulty(run).items()):
            lines.append(Line("the task's baseline", baseline, style=1))
            how = run.task.baseline if run.task else None
            note += f" The baseline answers without having learned the task{f': {how}' if how else ''}."
    elif last:
        newest = [[scores_by_difficulty(each.newest) for each in group.runs if each.newest] for group in groups]
        lines = [spread_line(group.name, style, newest[style]) for style, group in enumerate(groups)]
    else:
        lines = [
            spread_line(
                group.name,
                style,
                [scores_by_difficulty(each.record) for each in _rounds([group]) if each.record.round == chosen],
                round=chosen,
            )
            for chosen in sorted({each.record.round for each in _rounds(groups)})
            for style, group in enumerate(groups)
        ]
    if not one:
        note = f"Exact match on unseen prompts.{_of_seeds(groups)}{note}"
    note += f" Last round: {measured_by(groups)}."
    return Chart(
        "Accuracy by difficulty",
        note,
        Axis(f"{'greater number of the pair' if run.pairs else 'difficulty'} ({run.unit})", integers=True),
        Axis("exact match (share)", 0, 1),
        lines,
        supervised=run.supervised or None,
        level=REACHED,
        marks=marks,
        one_round=not (one or last),
    )


def map_chart(group: RunGroup, of: str = "") -> Chart:
    """Return accuracy by round and difficulty: the mean of a group's runs. ``of`` ends the title."""
    run = group.runs[0]
    rows = {
        round_: {parse_difficulty(d): sum(values) / len(values) for d, values in scores.items()}
        for round_, scores in scores_by_round(group.runs).items()
    }
    added = {each.record.round: each.record.difficulties for each in run.rounds}
    note = (
        "A grid for each round: the first number of a pair downwards, the second to the right. Solid outline: "
        "supervised; dashed: labelled by the members so far."
        if run.pairs
        else "Each row is a round, the last on top. The line is the hardest difficulty trained on by then."
    )
    return Chart(
        ("Every pair" if run.pairs else "Round and difficulty") + of,
        note + (" Mean of the seeds." if len(group.runs) > 1 else ""),
        Axis(f"difficulty ({run.unit})", integers=True),
        ROUND,
        map=Map(rows, frontiers(run), added),
        supervised=run.supervised or None,
    )


def reach_chart(groups: Groups) -> Chart:
    """Return the reach by round."""
    run = groups[0].runs[0]
    lines = group_lines(groups, lambda each: each.record.reach if each.record.accuracy else None)
    note = f"The last difficulty before the first whose exact match is significantly below {REACHED}"
    if is_one_run(groups):
        trained = [(float(r), float(d)) for r, d in frontiers(run).items()]
        lines = [Line(f"reach at {REACHED}", lines[0].points), Line("trained to", trained, 1)]
        note += ", and the hardest one trained on."
    else:
        note += f".{_of_seeds(groups)}"
    note += f" Last round: {measured_by(groups)}."
    return Chart("Reach", note, ROUND, Axis(f"difficulty ({run.unit})", 0), lines)


@dataclass(frozen=True)
class Share:
    """A share of the labels after each filter."""

    title: str
    note: str
    label: str
    stages: Callable[[RoundData], Mapping[str, float]]


PRECISION = Share(
    "Label precision",
    "Of the labels left after each filter, the share that is right. The oracle judged them afterwards.",
    "label precision (share)",
    partial(stage_shares, "precision"),
)
RECALL = Share(
    "Label recall",
    "Of the right labels that were proposed, the share left after each filter.",
    "label recall (share)",
    partial(stage_shares, "recall"),
)
KEPT = Share(
    "Labels kept",
    "Of the labels that were proposed, the share left after each filter.",
    "labels kept (share)",
    kept_shares,
)


def label_charts(groups: Groups) -> list[Chart]:
    """Return whether the labels can be trusted: precision and recall, kept shares, signals, calibration."""
    charts: list[Chart] = []
    rounds = _rounds(groups)
    for share in (PRECISION, RECALL, KEPT):
        if names := dict.fromkeys(name for each in rounds for name in share.stages(each)):
            last = {filters[-1] for each in rounds if (filters := filter_names(each))}
            apart = [] if is_one_run(groups) else [name for name in names if last != {name}]
            charts += [share_chart(groups, share), *(share_chart(groups, share, name) for name in apart)]
    charts += _signal_charts(groups)
    if any(each.audit and each.audit["calibration"] for each in rounds):
        charts.append(calibration_chart(groups))
    return charts


def share_chart(groups: Groups, share: Share, after: str | None = None) -> Chart:
    """Return a share of the labels: of one run a line a filter, of several a line a group.

    Args:
        groups: the runs.
        share: which.
        after: of several, the filter; after all of them where it is not given.
    """

    def lines_after(name: str | None) -> list[Line]:
        return group_lines(groups, lambda each: share.stages(each).get(name or (filter_names(each) or [""])[-1]))

    title, lines = share.title, lines_after(after)
    if is_one_run(groups):
        names = dict.fromkeys(name for each in _rounds(groups) for name in share.stages(each))
        lines = [Line(after_filter(name), lines_after(name)[0].points, style) for style, name in enumerate(names)]
    else:
        title += f" {after_filter(after)}" if after else " after all filters"
    floor = floor_of(lines)
    if all(len(line.points) == 1 for line in lines):
        floor = 0.0
    note = share.note + (f" The axis begins at {floor}, not at 0." if floor else "")
    return Chart(title, note, ROUND, Axis(share.label, floor, 1), lines)


def floor_of(lines: Sequence[Line]) -> float:
    """Return where an axis of shares begins: where the data do, since 0.99 and 1 are far apart here."""
    lowest = min((v for line in lines for _, y in line.points for v in (y, *(b for _, b, _ in line.band))), default=0)
    return next(floor for floor in FLOORS if lowest >= floor or not floor)


def _signal_charts(groups: Groups) -> list[Chart]:
    wanted = {
        "agreement": ("Agreement", "share of prompts that all members answer alike"),
        "confidence": ("Confidence", "mean probability of a whole answer"),
        "unfinished": ("No end", "share of answers without an end"),
    }
    if not any(each.record.signals for each in _rounds(groups)):
        return []
    lines = {key: group_lines(groups, partial(signal, key)) for key in wanted}
    y = Axis("share", 0, 1)
    if not is_one_run(groups):
        note = "Seen without a true answer: {}."
        return [Chart(title, note.format(what), ROUND, y, lines[key]) for key, (title, what) in wanted.items()]
    single = [Line(wanted[key][1], lines[key][0].points, style) for style, key in enumerate(wanted)]
    marks = [
        Mark(each.record.round, each.record.watch.action) for each in groups[0].runs[0].rounds if each.record.watch
    ]
    note = "What shows without true answers. The collapse watch judges by it."
    note += " A vertical line is where it acted." if marks else ""
    return [Chart("Agreement and confidence", note, ROUND, y, single, marks=marks)]


def calibration_chart(groups: Groups) -> Chart:
    """Return the share of answers that is right by their confidence."""
    lines = []
    for style, group in enumerate(groups):
        series = [reliability([each for each in run.rounds if each.audit]) for run in group.runs]
        if is_one_run(groups):
            lines.append(Line("all rounds", list(series[0].items()), 0))
            newest = reliability([each for each in group.runs[0].rounds if each.audit][-1:])
            lines.append(Line("newest round", list(newest.items()), 1))
        else:
            lines.append(spread_line(group.name, style, series))
    note = (
        "The share of right answers in ten bins of confidence, the probability of an answer's least certain token. "
        "Below the diagonal: overconfident. Above it: underconfident."
    )
    x = Axis("confidence (probability of the least certain token)", 0, 1)
    return Chart("Calibration", note, x, Axis("right answers (share)", 0, 1), lines, diagonal=True)


def training_charts(groups: Groups) -> list[Chart]:
    """Return loss and learning rate over the steps of all rounds."""
    if not any(len(each.training) for each in _rounds(groups)):
        return []
    note = "As a share of the peak rate in the settings."
    return [loss_chart(groups), _step_chart(groups, "Learning rate", note, Axis("share of the peak", 0), 2)]


def loss_chart(groups: Groups) -> Chart:
    """Return the loss over the steps of all rounds."""
    note = "Cross-entropy per answer token, mean of the members. Round 1 begins at r1, round 2 at r2."
    note += _of_seeds(groups)
    return _step_chart(groups, "Loss", note, Axis("loss (nats per token)", log=True), 1)


def _step_chart(groups: Groups, title: str, note: str, y: Axis, column: int) -> Chart:
    total = max(sum(len(each.training) for each in run.rounds) for group in groups for run in group.runs)
    size = -(-total // STEP_POINTS) or 1
    lines = [
        spread_line(group.name, style, [step_means(run, column, size) for run in group.runs], dots=False)
        for style, group in enumerate(groups)
    ]
    rounds = groups[0].runs[0].rounds
    begins = accumulate((len(each.training) for each in rounds), initial=0)
    marks = [Mark(at, f"r{each.record.round}") for at, each in zip(begins, rounds, strict=False) if each.record.round]
    note += f" Each point is the mean of {size} steps." if size > 1 else ""
    return Chart(title, note, Axis("optimiser step", 0), y, lines, marks=marks)


def cost_charts(groups: Groups) -> list[Chart]:
    """Return time and tokens of each phase: of one run in each round, of several of all rounds together."""
    seconds = _bars(groups, lambda each: each.record.phase_seconds)
    tokens = _bars(groups, lambda each: {"label": each.label_tokens or 0, "train": each.record.tokens})
    longest = max(map(sum, zip(*seconds.parts.values(), strict=True)), default=0.0)
    seconds_each, unit = (60, "minutes") if longest > 300 else (1, "seconds")
    x, more = (Axis("round"), "") if is_one_run(groups) else (Axis("runs"), " Means of the seeds, all rounds together.")
    note = "All members together. Training: tokens read. Labelling: prompts read and answers written."
    charts = [
        Chart("Time", f"Wall time of each phase.{more}", x, Axis(unit), bars=seconds.divided(seconds_each)),
        Chart("Tokens", note + more, x, Axis("million tokens"), bars=tokens.divided(1e6)),
    ]
    return [chart for chart in charts if not chart.empty]


def _bars(groups: Groups, cost: Callable[[RoundData], Mapping[str, float]]) -> Bars:
    """Return what phases cost, a bar a round or a bar a group: of each bar the runs, and of each run the rounds."""
    if is_one_run(groups):
        bars = {str(each.record.round): [[each]] for each in groups[0].runs[0].rounds}
    else:
        bars = {group.name: [run.rounds for run in group.runs] for group in groups}
    parts = {
        phase: [sum(cost(each).get(phase, 0.0) for run in runs for each in run) / len(runs) for runs in bars.values()]
        for phase in PHASES
    }
    return Bars(list(bars), {phase: values for phase, values in parts.items() if any(values)})

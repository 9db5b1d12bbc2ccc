"""Which charts a page has: of one run, or of groups of runs side by side."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import accumulate

from markupsafe import Markup

from easy2hard.report.compare import Group, group_lines, spread_line
from easy2hard.report.rundata import RoundData, RunData
from easy2hard.report.series import (
    after_filter,
    baseline_by_difficulty,
    frontiers,
    is_one_run,
    kept_shares,
    reliability,
    scores_by_difficulty,
    scores_by_round,
    signal,
    stage_shares,
    step_means,
)
from easy2hard.report.svg import (
    HEAT_LEGEND,
    Chart,
    Line,
    Point,
    Table,
    grid,
    heat_map,
    line_chart,
    number,
    stacked_bars,
)
from easy2hard.tasks.base import difficulty_text, hardest, parse_difficulty

LOSS_POINTS = 300
"""Points of a loss curve; more steps are averaged."""


def accuracy_charts(groups: Sequence[Group]) -> list[Chart]:
    """Return what was learned: accuracy by difficulty, as a map or grids, and how far each round came."""
    runs = [run for group in groups for run in group.runs]
    if not any(each.record.accuracy for run in runs for each in run.rounds):
        return []
    charts = [_accuracy(groups), *_maps(groups), _reach(groups)]
    return sorted(charts, key=lambda chart: chart.wide)  # those that take a row of their own at the end


def _accuracy(groups: Sequence[Group]) -> Chart:
    first = groups[0].runs[0]
    pairs = first.pairs
    x_label = f"{'greater number of the pair' if pairs else 'difficulty'} ({first.unit})"
    title = "Accuracy by difficulty"
    region = (float(first.supervised), "supervised") if first.supervised else None
    if is_one_run(groups):
        last = max(each.record.round for each in first.rounds) or 1
        lines = [
            Line(f"round {r.round}", list(scores_by_difficulty(r).items()), shade=r.round / last, round=r.round)
            for r in (each.record for each in first.rounds)
        ]
        note = "Exact match on unseen prompts after each round, the members' mean. The slider picks a round."
        if baseline := list(baseline_by_difficulty(first).items()):
            lines.append(Line("the task's baseline", baseline, style=1))
            how = first.task.baseline if first.task else None
            note += f" The baseline answers without having learned the task{f': {how}' if how else ''}."
        if pairs:
            note += " Pairs are averaged by their greater number; the grids below show each of them."
        return line_chart(title, note, x_label, "exact match", lines, y_range=(0, 1), region=region, slider=True)
    rounds = sorted({each.record.round for group in groups for run in group.runs for each in run.rounds})
    lines = [
        spread_line(
            group.name,
            style,
            [
                scores_by_difficulty(each.record)
                for run in group.runs
                for each in run.rounds
                if each.record.round == chosen
            ],
            round=chosen,
        )
        for chosen in rounds
        for style, group in enumerate(groups)
    ]
    note = (
        "Exact match on unseen prompts after the round the slider shows: mean of the seeds, shaded from worst to best."
    )
    return line_chart(
        title, note, x_label, "exact match", lines, y_range=(0, 1), region=region, slider=True, one_round=True
    )


def _maps(groups: Sequence[Group]) -> list[Chart]:
    charts = []
    for group in groups:
        run = group.runs[0]
        means = {
            round_: {d: sum(values) / len(values) for d, values in scores.items()}
            for round_, scores in scores_by_round(group.runs).items()
        }
        of = "" if is_one_run(groups) else f": {group.name}"
        mean = " Mean of the seeds." if len(group.runs) > 1 else ""
        if run.pairs:
            charts.append(_grids(f"Every pair{of}", mean, run, means))
        elif means:
            frontier = frontiers(run)
            rows = {r: {hardest(parse_difficulty(d)): v for d, v in scores.items()} for r, scores in means.items()}
            note = "Each row is a round, the last on top; the line is the hardest difficulty trained on by then." + mean
            charts.append(
                heat_map(f"Round and difficulty{of}", note, f"difficulty ({run.unit})", rows, frontier, run.supervised)
            )
    return charts


def _grids(title: str, more: str, run: RunData, means: Mapping[int, Mapping[str, float]]) -> Chart:
    labelled: set[Point] = set()
    taught: set[Point] = set()
    drawn, rows = [], []
    of = {each.record.round: each.record for each in run.rounds}
    for round_, scores in means.items():
        values = {_pair(text): value for text, value in scores.items()}
        record = of.get(round_)
        new = {_pair(difficulty_text(d)) for d in record.difficulties} if record else set()
        if round_ == 0:
            taught = new
        else:
            labelled |= new
        size = max(int(max(pair)) for pair in values)
        outlines = [(pair, "taught") for pair in taught if pair in values]
        outlines += [(pair, "labelled") for pair in labelled - taught if pair in values]
        label = f"round {round_}: exact match of every pair"
        drawn.append(
            Markup("<figure><figcaption>round {}</figcaption>{}</figure>").format(
                round_, grid(label, values, size, sorted(outlines))
            )
        )
        rows.append([str(round_), *(f"{text}: {number(value)}" for text, value in scores.items())])
    width = max(map(len, rows))
    table = Table(["round", *[""] * (width - 1)], [[*row, *[""] * (width - len(row))] for row in rows])
    note = (
        "A grid for each round: the first number of a pair downwards, the second to the right. Solid outline: "
        f"supervised; dashed: labelled by the members so far.{more}"
    )
    return Chart(
        title, note, Markup("<div class='grids'>{}</div>").format(Markup().join(drawn)), HEAT_LEGEND, table, wide=True
    )


def _pair(text: str) -> Point:
    difficulty = parse_difficulty(text)
    return (difficulty, difficulty) if isinstance(difficulty, int) else difficulty


def _reach(groups: Sequence[Group]) -> Chart:
    unit = groups[0].runs[0].unit
    lines = group_lines(groups, lambda each: each.record.reach if each.record.accuracy else None)
    if is_one_run(groups):
        run = groups[0].runs[0]
        lines[0] = Line("reached, at least 99 %", lines[0].points)
        lines.append(Line("trained to", [(float(r), float(d)) for r, d in frontiers(run).items()], 1))
    note = "The greatest difficulty up to which every one is answered with an exact match of at least 0.99" + (
        ", and the hardest one trained on." if is_one_run(groups) else ": mean of the seeds, shaded from worst to best."
    )
    return line_chart("Reach", note, "round", f"difficulty ({unit})", lines)


def label_charts(groups: Sequence[Group]) -> list[Chart]:
    """Return whether the labels can be trusted: precision and recall, kept shares, signals, calibration."""
    rounds = [each for group in groups for run in group.runs for each in run.rounds]
    charts = []
    if any(each.audit for each in rounds):
        for key, what in (
            ("precision", "Of the labels left after a filter, the share that is right, against the oracle afterwards."),
            ("recall", "Of the right proposals, the share that is left after a filter."),
        ):
            charts += _by_filter(groups, f"Label {key}", what, f"label {key}", partial(stage_shares, key))
    if any(each.record.filters for each in rounds):
        what = "The share of the proposals that is left after a filter."
        charts += _by_filter(groups, "Kept", what, "share of the labels", kept_shares)
    charts += _signals(groups)
    if any(each.audit and each.audit["calibration"] for each in rounds):
        charts.append(_calibration(groups))
    return charts


def _by_filter(
    groups: Sequence[Group], title: str, note: str, y_label: str, shares: Callable[[RoundData], dict[str, float]]
) -> list[Chart]:
    """Return one chart with a line a filter, or for several groups a chart a filter with a line a group."""
    rounds = [each for group in groups for run in group.runs for each in run.rounds]
    names = list(dict.fromkeys(name for each in rounds for name in shares(each)))

    def lines_of(name: str) -> list[Line]:
        return group_lines(groups, lambda each: shares(each).get(name))

    if is_one_run(groups):
        lines = [Line(after_filter(name), lines_of(name)[0].points, style) for style, name in enumerate(names)]
        return [_shares(title, note, y_label, lines)]
    return [_shares(f"{title} {after_filter(name)}", note, y_label, lines_of(name)) for name in names]


def _shares(title: str, note: str, y_label: str, lines: Sequence[Line]) -> Chart:
    """Return a chart of shares; its axis begins where the data do, since 0.99 and 1 are far apart here."""
    lowest = min((v for line in lines for _, y in line.points for v in (y, *(b for _, b, _ in line.band))), default=0)
    floor = next(start for start in (0.99, 0.98, 0.95, 0.9, 0.8, 0.5, 0.0) if lowest >= start or not start)
    if floor and all(len(line.points) == 1 for line in lines):
        floor = 0.0
    note += f" The axis begins at {floor}." if floor else ""
    return line_chart(title, note, "round", y_label, lines, y_range=(floor, 1.0))


def _signals(groups: Sequence[Group]) -> list[Chart]:
    wanted = {
        "agreement": ("Agreement", "share of prompts that all members answer alike"),
        "confidence": ("Confidence", "mean probability of a whole answer"),
        "unfinished": ("No end", "share of answers without an end"),
    }
    rounds = [each for group in groups for run in group.runs for each in run.rounds]
    if not any(each.record.signals for each in rounds):
        return []
    lines = {key: group_lines(groups, partial(signal, key)) for key in wanted}
    if not is_one_run(groups):
        note = "Seen without a true answer: {}."
        return [
            line_chart(title, note.format(what), "round", "share", lines[key], y_range=(0, 1))
            for key, (title, what) in wanted.items()
        ]
    single = [Line(wanted[key][1], lines[key][0].points, style) for style, key in enumerate(wanted)]
    marks = [
        (float(each.record.round), each.record.watch.action) for each in groups[0].runs[0].rounds if each.record.watch
    ]
    note = "What the labels show without a true answer. The collapse watch goes by these; what it did is marked."
    return [line_chart("Agreement and confidence", note, "round", "share", single, y_range=(0, 1), marks=marks)]


def _calibration(groups: Sequence[Group]) -> Chart:
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
        "Answers sorted by their least sure token's probability into ten bins: the share that is right. On the thin "
        "line a model would know exactly how sure it may be; above it, it is too modest."
    )
    return line_chart(
        "Calibration", note, "confidence (least sure token)", "share right", lines, y_range=(0, 1), diagonal=True
    )


def training_charts(groups: Sequence[Group]) -> list[Chart]:
    """Return loss and learning rate over the steps of all rounds."""
    first = groups[0].runs[0]
    if not any(len(each.training) for group in groups for run in group.runs for each in run.rounds):
        return []
    steps = [len(each.training) for each in first.rounds]
    begins = list(accumulate([0, *steps]))
    marks = [
        (float(begin), f"r{each.record.round}")
        for begin, each in zip(begins, first.rounds, strict=False)
        if each.record.round
    ]
    total = max(sum(len(each.training) for each in run.rounds) for group in groups for run in group.runs)
    size = -(-total // LOSS_POINTS)
    loss, rate = [], []
    for style, group in enumerate(groups):
        loss.append(spread_line(group.name, style, [step_means(run, 1, size) for run in group.runs], marked=False))
        rate.append(Line(group.name, list(step_means(group.runs[0], 2, size).items()), style, marked=False))
    averaged = f" Means of {size} steps." if size > 1 else ""
    several = "" if is_one_run(groups) else " Mean of the seeds, shaded from lowest to highest."
    note = (
        f"Cross-entropy of an answer token, mean of the members; r1, r2, … is where a round begins.{averaged}{several}"
    )
    return [
        line_chart("Loss", note, "step", "loss (nats)", loss, log=True, marks=marks, x_zero=True),
        line_chart(
            "Learning rate",
            "As a share of the peak rate of the settings.",
            "step",
            "share of the peak",
            rate,
            marks=marks,
            x_zero=True,
        ),
    ]


def cost_charts(groups: Sequence[Group]) -> list[Chart]:
    """Return time and tokens of each phase."""
    if is_one_run(groups):
        rounds = groups[0].runs[0].rounds
        names = [str(each.record.round) for each in rounds]
        seconds = [each.record.phase_seconds for each in rounds]
        tokens = [_tokens(each) for each in rounds]
        x_label, more = "round", ""
    else:
        names = [group.name for group in groups]
        seconds = [_mean_of([_summed([e.record.phase_seconds for e in r.rounds]) for r in g.runs]) for g in groups]
        tokens = [_mean_of([_summed([_tokens(e) for e in r.rounds]) for r in g.runs]) for g in groups]
        x_label, more = "runs", " Means of the seeds, all rounds together."
    if not any(sum(each.values()) for each in (*seconds, *tokens)):
        return []
    scale, unit = (60.0, "minutes") if max(sum(each.values()) for each in seconds) > 300 else (1.0, "seconds")
    return [
        stacked_bars("Time", f"Wall time of each phase.{more}", x_label, unit, names, _series(seconds, scale)),
        stacked_bars(
            "Tokens",
            "Read in training by all members; in labelling, prompts read and answers written, for each member." + more,
            x_label,
            "million tokens",
            names,
            _series(tokens, 1e6),
        ),
    ]


def _tokens(each: RoundData) -> dict[str, float]:
    return {"label": float(each.label_tokens or 0), "train": float(each.record.tokens)}


def _series(parts: Sequence[Mapping[str, float]], scale: float) -> dict[str, list[float]]:
    order = ["label", "train", "evaluate"]
    names = sorted({name for part in parts for name in part}, key=lambda n: (order.index(n) if n in order else 9, n))
    return {name: [part.get(name, 0.0) / scale for part in parts] for name in names}


def _summed(parts: Sequence[Mapping[str, float]]) -> dict[str, float]:
    names = dict.fromkeys(name for part in parts for name in part)
    return {name: sum(part.get(name, 0.0) for part in parts) for name in names}


def _mean_of(parts: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {name: value / len(parts) for name, value in _summed(parts).items()}

"""Charts as inline SVG: a few hundred bytes each, readable without JavaScript, in the page's own colours.

A plotting library in the page would be 1 to 4.5 MB, could not be reached by keyboard, and would not follow the reader's
dark mode. Every chart is 400 units wide, so that it can be read as it is on a telephone, and comes with a table of the
same figures. Colours and dashes are the style sheet's; a line differs from the others in both.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count

from markupsafe import Markup, escape

WIDTH, HEIGHT = 400, 275
LEFT, RIGHT, TOP, BOTTOM = 60, 12, 20, 44
STYLES = 8
"""Kinds of lines in the style sheet."""
TABLE_ROWS = 100
DOTS = 400
"""Points of a chart up to which each has a dot."""
_ids = count()

Point = tuple[float, float]


@dataclass(frozen=True)
class Line:
    """A line of a chart."""

    name: str
    points: Sequence[Point]
    style: int = 0
    """Which of the style sheet's colours and dashes."""
    shade: float | None = None
    """Place from 0 to 1 in the scale of rounds, instead of a style."""
    band: Sequence[tuple[float, float, float]] = ()
    """(x, lowest, highest): the range over seeds."""
    round: int | None = None
    """The round it belongs to, for the slider."""
    marked: bool = True
    """A dot on every point."""


@dataclass(frozen=True)
class Table:
    """Figures of a chart for those who cannot see it."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Chart:
    """A figure of the page; texts are escaped by the template."""

    title: str
    note: str
    svg: Markup
    legend: Sequence[tuple[str, Markup]] = ()
    table: Table | None = None
    rounds: Sequence[int] = ()
    """Rounds that a slider chooses from."""
    one_round: bool = False
    """The slider always shows exactly one round."""
    wide: bool = False
    id: str = field(default_factory=lambda: f"chart{next(_ids)}")


def number(value: float | None) -> str:
    """Return a figure in few characters; a dash for none."""
    if value is None:
        return "-"
    if value == int(value) and abs(value) < 1e15:
        return f"{int(value):,}"
    return f"{value:.4f}".rstrip("0").rstrip(".") if abs(value) >= 0.001 else f"{value:.2g}"


class _Scale:
    """Data to a place on an axis of so many units."""

    def __init__(self, low: float, high: float, begin: float, end: float, log: bool = False) -> None:
        self.log = log
        self.low, self.high = (math.log10(low), math.log10(high)) if log else (low, high)
        if self.high <= self.low:
            self.high = self.low + 1
        self.begin, self.end = begin, end

    def __call__(self, value: float) -> float:
        position = math.log10(max(value, 1e-300)) if self.log else value
        share = min(max((position - self.low) / (self.high - self.low), 0.0), 1.0)
        return round(self.begin + share * (self.end - self.begin), 1)

    def ticks(self, most: int, whole: bool = False) -> list[float]:
        """Return round values, at most about ``most``."""
        if self.log:
            powers = range(math.floor(self.low), math.ceil(self.high) + 1)
            factors = (1, 2, 5) if self.high - self.low < 2 else (1,)
            values = [factor * 10.0**power for power in powers for factor in factors]
            inside = [v for v in values if self.low - 1e-9 <= math.log10(v) <= self.high + 1e-9]
            return inside[:: -(-len(inside) // most) or 1]
        raw = (self.high - self.low) / most
        power = 10.0 ** math.floor(math.log10(raw))
        step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= raw * (1 - 1e-9))
        if whole:
            step = max(1.0, step)
        first = math.ceil(self.low / step - 1e-9)
        return [round(i * step, 10) for i in range(first, math.floor(self.high / step + 1e-9) + 1)]


def _text(x: float, y: float, text: str, anchor: str = "middle", extra: str = "") -> str:
    return f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}"{extra}>{escape(text)}</text>'


def _frame(xs: _Scale, ys: _Scale, x_label: str, y_label: str, x_ticks: Mapping[float, str], height: int) -> str:
    bottom = height - BOTTOM
    parts = [
        f'<path class="grid" d="M{LEFT} {ys(v):g}H{WIDTH - RIGHT}"/>{_text(LEFT - 6, ys(v) + 4, number(v), "end")}'
        for v in ys.ticks(5)
    ]
    parts += [
        f'<path class="tick" d="M{xs(v):g} {bottom}v4"/>{_text(xs(v), bottom + 17, label)}'
        for v, label in x_ticks.items()
    ]
    parts.append(f'<path class="axis" d="M{LEFT} {bottom}H{WIDTH - RIGHT}"/>')
    parts.append(_text((LEFT + WIDTH - RIGHT) / 2, height - 8, x_label))
    middle = (TOP + bottom) / 2
    parts.append(_text(12, middle, y_label, extra=f' transform="rotate(-90 12 {middle:g})"'))
    return "".join(parts)


def _svg(body: str, label: str, height: int = HEIGHT, width: int = WIDTH) -> Markup:
    """Return the picture; ``label`` is what a screen reader says, the table of figures follows it in the page."""
    return Markup(f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape(label)}">{body}</svg>')


def _ticks(scale: _Scale, names: Mapping[float, str] | None, most: int = 9) -> dict[float, str]:
    if names is None:
        return {value: number(value) for value in scale.ticks(most, whole=True)}
    every = -(-len(names) // most) or 1
    return dict(list(names.items())[::every])


def _shade(share: float) -> str:
    return f"color-mix(in oklab, var(--round-last) {100 * share:.0f}%, var(--round-first))"


def line_chart(
    title: str,
    note: str,
    x_label: str,
    y_label: str,
    lines: Sequence[Line],
    *,
    y_range: Point | None = None,
    log: bool = False,
    names: Mapping[float, str] | None = None,
    region: tuple[float, str] | None = None,
    marks: Sequence[tuple[float, str]] = (),
    diagonal: bool = False,
    slider: bool = False,
    one_round: bool = False,
    x_zero: bool = False,
) -> Chart:
    """Return a chart of lines.

    Args:
        title: of the figure.
        note: what it shows, a sentence or two.
        x_label: with its unit.
        y_label: with its unit.
        lines: the lines; none of them may be empty.
        y_range: lowest and highest; from the data where it is not given.
        log: the y axis is logarithmic.
        names: of x values, where they are no plain numbers.
        region: shade from the left end up to here, and call it so.
        marks: vertical lines with a word each.
        diagonal: draw y = x.
        slider: a slider chooses one of the lines' rounds.
        one_round: the slider always shows one round alone.
        x_zero: the x axis begins at 0 whatever the data.
    """
    lines = [line for line in lines if line.points]
    xs_all = [x for line in lines for x, _ in line.points] or [0.0, 1.0]
    ys_all = [y for line in lines for y in [*(y for _, y in line.points), *(v for _, *b in line.band for v in b)]]
    ys_all = [y for y in ys_all if not log or y > 0] or [0.1, 1.0]
    low, high = y_range or ((min(ys_all), max(ys_all)) if log else (0.0, max(ys_all) or 1.0))
    x_low = 0.0 if x_zero or diagonal else min(xs_all)
    xs = _Scale(x_low, 1.0 if diagonal else max(*xs_all, x_low), LEFT + 4, WIDTH - RIGHT - 4)
    ys = _Scale(low, high, HEIGHT - BOTTOM, TOP, log)
    body = []
    if region:
        width = xs(region[0]) - LEFT
        body.append(f'<rect class="region" x="{LEFT}" y="{TOP}" width="{width:g}" height="{HEIGHT - TOP - BOTTOM}"/>')
        body.append(_text(LEFT + 4, TOP - 6, region[1], "start", ' class="soft"'))
    x_ticks = _ticks(xs, names) if not diagonal else {v: number(v) for v in xs.ticks(5)}
    body.append(_frame(xs, ys, x_label, y_label, x_ticks, HEIGHT))
    shown_at = -math.inf
    for x, word in marks:
        body.append(f'<path class="mark" d="M{xs(x):g} {TOP}V{HEIGHT - BOTTOM}"><title>{escape(word)}</title></path>')
        if xs(x) - shown_at > 8 * len(word) + 6:
            body.append(_text(xs(x), TOP - 6, word, extra=' class="soft"'))
            shown_at = xs(x)
    if diagonal:
        body.append(f'<path class="soft-line" d="M{xs(0):g} {ys(0):g}L{xs(1):g} {ys(1):g}"/>')
    marked = all(line.marked for line in lines) and sum(len(line.points) for line in lines) <= DOTS
    body += [_drawn(line, xs, ys, names, marked or len(line.points) == 1) for line in lines]
    chosen = sorted({line.round for line in lines if line.round is not None}) if slider else []
    return Chart(
        title,
        note,
        _svg("".join(body), f"{title}: {y_label} by {x_label}"),
        _legend(lines),
        _table(x_label, lines, names),
        chosen,
        one_round,
    )


def _drawn(line: Line, xs: _Scale, ys: _Scale, names: Mapping[float, str] | None, marked: bool) -> str:
    path = "M" + "L".join(f"{xs(x):g} {ys(y):g}" for x, y in line.points)
    css = "shaded" if line.shade is not None else f"s{line.style % STYLES}"
    colour = f' style="--c:{_shade(line.shade)}"' if line.shade is not None else ""
    at_round = f' data-round="{line.round}"' if line.round is not None else ""
    band = ""
    if line.band:
        upper = [f"{xs(x):g} {ys(top):g}" for x, _, top in line.band]
        lower = [f"{xs(x):g} {ys(bottom):g}" for x, bottom, _ in reversed(line.band)]
        band = f'<path class="band" d="M{"L".join([*upper, *lower])}Z"/>'
    dots = ""
    if marked:
        dots = "".join(
            f'<circle cx="{xs(x):g}" cy="{ys(y):g}" r="2.6"><title>{escape(line.name)}, '
            f"{escape((names or {}).get(x, number(x)))}: {number(y)}</title></circle>"
            for x, y in line.points
        )
    title = f"<title>{escape(line.name)}</title>"
    return f'<g class="{css}"{colour}{at_round}>{band}<path class="line" d="{path}">{title}</path>{dots}</g>'


def _legend(lines: Sequence[Line]) -> list[tuple[str, Markup]]:
    shaded = [line for line in lines if line.shade is not None]
    if shaded:
        return (
            [] if len(shaded) == 1 else [(f"{shaded[0].name} to {shaded[-1].name}", Markup('<i class="rounds"></i>'))]
        )
    named = dict.fromkeys((line.name, line.style % STYLES) for line in lines)
    swatch = '<svg viewBox="0 0 28 8" aria-hidden="true"><g class="s{}"><path class="line" d="M0 4H28"/></g></svg>'
    return [(name, Markup(swatch).format(style)) for name, style in named]


def _table(x_label: str, lines: Sequence[Line], names: Mapping[float, str] | None) -> Table:
    """Return the figures, a column a line; of many rows only some."""
    columns = [dict(line.points) for line in lines]
    places = sorted({x for column in columns for x in column})
    places = places[:: -(-len(places) // TABLE_ROWS) or 1]
    rows = [[(names or {}).get(x, number(x)), *(number(column.get(x)) for column in columns)] for x in places]
    heads = [
        f"{line.name}, round {line.round}" if line.round is not None and line.shade is None else line.name
        for line in lines
    ]
    return Table([x_label, *heads], rows)


def stacked_bars(
    title: str, note: str, x_label: str, y_label: str, categories: Sequence[str], series: Mapping[str, Sequence[float]]
) -> Chart:
    """Return bars with parts on top of each other, one bar for each category."""
    totals = [sum(values) for values in zip(*series.values(), strict=True)]
    ys = _Scale(0.0, max(totals, default=1.0) or 1.0, HEIGHT - BOTTOM, TOP)
    xs = _Scale(0.0, float(len(categories)), LEFT, WIDTH - RIGHT)
    ticks = _ticks(
        xs, {i + 0.5: name for i, name in enumerate(categories)}, 12 if max(map(len, categories), default=0) < 4 else 4
    )
    body = [_frame(xs, ys, x_label, y_label, ticks, HEIGHT)]
    width = max(1.0, (WIDTH - LEFT - RIGHT) / max(1, len(categories)) * 0.8)
    width = min(width, 60.0)
    for index, category in enumerate(categories):
        base = 0.0
        for style, (name, values) in enumerate(series.items()):
            top = base + values[index]
            if values[index] > 0:
                body.append(
                    f'<rect class="bar s{style % STYLES}" x="{xs(index + 0.5) - width / 2:.1f}" y="{ys(top):g}" '
                    f'width="{width:.1f}" height="{ys(base) - ys(top):.1f}"><title>{escape(category)}, '
                    f"{escape(name)}: {number(values[index])}</title></rect>"
                )
            base = top
    legend = [(name, Markup(f'<i class="bar s{style % STYLES}"></i>')) for style, name in enumerate(series)]
    rows = [[c, *(number(round(values[i], 2)) for values in series.values())] for i, c in enumerate(categories)]
    return Chart(
        title, note, _svg("".join(body), f"{title}: {y_label} by {x_label}"), legend, Table([x_label, *series], rows)
    )


_STOPS = [
    "#440154",
    "#3b528b",
    "#21918c",
    "#5ec962",
    "#fde725",
]  # viridis: lightness grows evenly, so grey shows it too


def heat_colour(value: float) -> str:
    """Return the colour of a share from 0 to 1."""
    place = min(max(value, 0.0), 1.0) * (len(_STOPS) - 1)
    first = min(int(place), len(_STOPS) - 2)
    low, high = (bytes.fromhex(stop[1:]) for stop in _STOPS[first : first + 2])
    mixed = [round(a + (b - a) * (place - first)) for a, b in zip(low, high, strict=True)]
    return "#" + "".join(f"{part:02x}" for part in mixed)


HEAT_LEGEND = [("exact match 0 to 1", Markup('<i class="heat"></i>'))]


def heat_map(
    title: str,
    note: str,
    x_label: str,
    rows: Mapping[int, Mapping[int, float]],
    frontier: Mapping[int, int],
    supervised: int,
) -> Chart:
    """Return a map of values by round (upwards) and difficulty, with the hardest difficulty trained on so far."""
    first = min(d for values in rows.values() for d in values)
    last = max(d for values in rows.values() for d in values)
    lowest, highest = min(rows), max(rows)
    xs = _Scale(first - 0.5, last + 0.5, LEFT, WIDTH - RIGHT)
    ys = _Scale(lowest - 0.5, highest + 0.5, HEIGHT - BOTTOM, TOP)
    # A little larger than the step, so that no seams show.
    width, height = xs(first + 0.5) - xs(first - 0.5) + 0.3, ys(lowest - 0.5) - ys(lowest + 0.5) + 0.3
    body = []
    for number_, values in rows.items():
        body += [
            f'<rect x="{xs(d - 0.5):g}" y="{ys(number_ + 0.5):g}" width="{width:.1f}" height="{height:.1f}" '
            f'fill="{heat_colour(value)}"><title>round {number_}, {d}: {number(value)}</title></rect>'
            for d, value in values.items()
        ]
    body += [_text(xs(v), HEIGHT - BOTTOM + 17, number(v)) for v in xs.ticks(9, whole=True)]
    body += [_text(LEFT - 6, ys(v) + 4, number(v), "end") for v in ys.ticks(7, whole=True)]
    body.append(_text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 8, x_label))
    middle = (TOP + HEIGHT - BOTTOM) / 2
    body.append(_text(12, middle, "round", extra=f' transform="rotate(-90 12 {middle:g})"'))
    steps = "".join(
        f"{'L' if i else 'M'}{xs(f + 0.5):g} {ys(r - 0.5):g}V{ys(r + 0.5):g}"
        for i, (r, f) in enumerate(frontier.items())
    )
    body.append(f'<path class="frontier-back" d="{steps}"/><path class="frontier" d="{steps}"/>')
    body.append(_text(LEFT, TOP - 6, f"supervised to {supervised}; line: trained to", "start", ' class="soft"'))
    places = sorted({d for values in rows.values() for d in values})
    table = Table(
        ["round", *map(str, places)],
        [[str(r), *(number(values.get(d)) for d in places)] for r, values in rows.items()],
    )
    return Chart(title, note, _svg("".join(body), f"{title}: exact match by round and difficulty"), HEAT_LEGEND, table)


def grid(label: str, values: Mapping[Point, float], size: int, outlined: Sequence[tuple[Point, str]]) -> Markup:
    """Return a square of pairs: the first number downwards, the second to the right.

    Args:
        label: what it is.
        values: of pairs from 1 to ``size``.
        size: the greatest number.
        outlined: pairs with a class each: ``taught``, ``labelled``.
    """
    cell, edge = 26, 20
    body = []
    for (a, b), value in values.items():
        x, y = edge + (b - 1) * cell, edge + (a - 1) * cell
        ink = "on-dark" if value < 0.6 else "on-light"
        shown = "1" if value >= 0.995 else f"{value:.2f}".lstrip("0") if value >= 0.005 else "0"
        body.append(
            f'<rect x="{x:g}" y="{y:g}" width="{cell}" height="{cell}" fill="{heat_colour(value)}">'
            f"<title>{a:g}x{b:g}: {number(value)}</title></rect>"
            f'<text x="{x + cell / 2:g}" y="{y + 17:g}" text-anchor="middle" class="cell {ink}">{shown}</text>'
        )
    for (a, b), css in outlined:
        x, y = edge + (b - 1) * cell, edge + (a - 1) * cell
        body.append(f'<rect class="{css}" x="{x + 1.5:g}" y="{y + 1.5:g}" width="{cell - 3}" height="{cell - 3}"/>')
    for i in range(1, size + 1):
        body.append(_text(edge + (i - 0.5) * cell, edge - 6, str(i)))
        body.append(_text(edge - 5, edge + (i - 0.5) * cell + 4, str(i), "end"))
    side = edge + size * cell + 2
    return Markup(
        f'<svg viewBox="0 0 {side} {side}" style="max-width:{side * 1.15:.0f}px" role="img" '
        f'aria-label="{escape(label)}">{"".join(body)}</svg>'
    )

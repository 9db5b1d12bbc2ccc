"""Charts on the page, as inline SVG: a few hundred bytes each, readable without JavaScript, in the page's own colours.

A plotting library in the page would be 1 to 4.5 MB, could not be reached by keyboard, and would not follow the reader's
dark mode. Every chart is 400 units wide, so that a telephone shows it well. Colours and dashes are those of
the style sheet; a line differs from the others in both.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate

from markupsafe import Markup, escape

from easy2hard.report.chart import Bars, Chart, Line, Map, Point, number
from easy2hard.tasks.base import Difficulty, hardest

WIDTH, HEIGHT = 400, 275
LEFT, RIGHT, TOP, BOTTOM = 68, WIDTH - 12, 20, HEIGHT - 44
"""Edges of what is within the axes."""
STYLES = 8
"""Kinds of lines in the style sheet."""
DOTS = 400
"""Points of a chart up to which each has a dot."""
_STOPS = ["#440154", "#3b528b", "#21918c", "#5ec962", "#fde725"]
"""Viridis: lightness grows evenly, so grey shows it too."""

Legend = Sequence[tuple[str, Markup]]
SHADES = 24
"""Steps of a legend that shows a range of colours."""


def picture(chart: Chart) -> tuple[Markup, Legend]:
    """Return a chart's picture, and its legend: names with a sample each."""
    label = f"{chart.title}: {chart.y.label} by {chart.x.label}"
    if chart.bars:
        return _svg(_bars(chart, chart.bars), label), [
            (name, _swatch(14, f'<g class="s{style % STYLES}"><rect class="bar" width="14" height="14"/></g>'))
            for style, name in enumerate(chart.bars.parts)
        ]
    if chart.map and chart.map.pairs:
        return _grids(chart.map), _heat()
    if chart.map:
        return _svg(_map(chart, chart.map), f"{chart.title}: exact match by round and difficulty"), _heat()
    return _svg(_lines(chart), label), _legend(chart.lines)


class _Scale:
    """Maps data to positions on an axis of a given length."""

    def __init__(self, ends: Point, begin: float, end: float, log: bool = False) -> None:
        self.log = log
        self.low, self.high = (math.log10(ends[0]), math.log10(ends[1])) if log else ends
        if self.high <= self.low:
            self.high = self.low + 1
        self.begin, self.end = begin, end

    def __call__(self, value: float) -> float:
        position = math.log10(max(value, 1e-300)) if self.log else value
        share = min(max((position - self.low) / (self.high - self.low), 0.0), 1.0)
        return round(self.begin + share * (self.end - self.begin), 1)

    def ticks(self, most: int, integers: bool = False) -> list[float]:
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
        if integers:
            step = max(1.0, step)
        first = math.ceil(self.low / step - 1e-9)
        return [round(i * step, 10) for i in range(first, math.floor(self.high / step + 1e-9) + 1)]


def _text(x: float, y: float, text: str, anchor: str = "middle", extra: str = "") -> str:
    return f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}"{extra}>{escape(text)}</text>'


def _svg(body: str, label: str, width: float = WIDTH, height: float = HEIGHT, style: str = "") -> Markup:
    """Return the picture; ``label`` is for screen readers; the page has the table of its data below."""
    return Markup(
        f'<svg viewBox="0 0 {width:g} {height:g}"{style} role="img" aria-label="{escape(label)}">{body}</svg>'
    )


def _axes(chart: Chart, xs: _Scale, ys: _Scale, names: Mapping[float, str] | None = None) -> str:
    """Return axes with their ticks and labels; ``names`` label the x axis where it has no numbers."""
    lines = not chart.map
    body = [
        (f'<path class="grid" d="M{LEFT} {ys(v):g}H{RIGHT}"/>' if lines else "")
        + _text(LEFT - 6, ys(v) + 4, number(v), "end")
        for v in ys.ticks(7 if chart.y.integers else 5, chart.y.integers)
    ]
    ticks = xs.ticks(9 if chart.x.integers else 5, chart.x.integers)
    for v, name in (names or {v: number(v) for v in ticks}).items():
        body.append(f'<path class="tick" d="M{xs(v):g} {BOTTOM}v4"/>{_text(xs(v), BOTTOM + 17, name)}')
    middle = (TOP + BOTTOM) / 2
    body.append(
        f'<path class="axis" d="M{LEFT} {BOTTOM}H{RIGHT}"/>{_text((LEFT + RIGHT) / 2, HEIGHT - 8, chart.x.label)}'
    )
    body.append(_text(12, middle, chart.y.label, extra=f' transform="rotate(-90 12 {middle:g})"'))
    return "".join(body)


def _lines(chart: Chart) -> str:
    xs = _Scale(chart.x_ends, LEFT + 4, RIGHT - 4)
    ys = _Scale(chart.y_ends, BOTTOM, TOP, chart.y.log)
    body = []
    if chart.supervised is not None:
        width = xs(chart.supervised) - LEFT
        body.append(f'<rect class="region" x="{LEFT}" y="{TOP}" width="{width:g}" height="{BOTTOM - TOP}"/>')
        body.append(_text(LEFT + 4, BOTTOM - 6, "supervised", "start", ' class="soft"'))
    body.append(_axes(chart, xs, ys))
    if chart.level is not None:
        body.append(f'<path class="mark" d="M{LEFT} {ys(chart.level):g}H{RIGHT}"/>')
    if chart.diagonal:
        body.append(f'<path class="soft-line" d="M{xs(0):g} {ys(0):g}L{xs(1):g} {ys(1):g}"/>')
        body.append(_text(RIGHT - 4, BOTTOM - 8, "overconfident", "end", ' class="soft"'))
        body.append(_text(LEFT + 8, TOP + 14, "underconfident", "start", ' class="soft"'))
    free = -math.inf
    for mark in chart.marks:
        x, word = xs(mark.x), escape(mark.word)
        body.append(f'<path class="mark" d="M{x:g} {TOP}V{BOTTOM}"><title>{word}</title></path>')
        if x > free:
            left, right = x < LEFT + 4 * len(mark.word), x > RIGHT - 4 * len(mark.word)
            body.append(
                _text(x, TOP - 6, mark.word, "start" if left else "end" if right else "middle", ' class="soft"')
            )
            free = x + 8 * len(mark.word) + 6
    dots = all(line.dots for line in chart.lines) and sum(len(line.points) for line in chart.lines) <= DOTS
    return "".join([*body, *(_line(line, xs, ys, dots or len(line.points) == 1) for line in chart.lines)])


def _line(line: Line, xs: _Scale, ys: _Scale, dots: bool) -> str:
    look = (
        f'class="s{line.style % STYLES}"'
        if line.shade is None
        else f'class="shaded" style="--c:{_round_colour(line.shade)}"'
    )
    at_round = f' data-round="{line.round}"' if line.round is not None else ""
    name = escape(line.name)
    body = []
    if line.band:
        edge = [(x, top) for x, _, top in line.band] + [(x, low) for x, low, _ in reversed(line.band)]
        body.append(f'<path class="band" d="M{_way(edge, xs, ys)}Z"/>')
    body.append(f'<path class="line" d="M{_way(line.points, xs, ys)}"><title>{name}</title></path>')
    body += [
        f'<circle cx="{xs(x):g}" cy="{ys(y):g}" r="2.6"><title>{name}, {number(x)}: {number(y)}</title></circle>'
        for x, y in (line.points if dots else ())
    ]
    return f"<g {look}{at_round}>{''.join(body)}</g>"


def _way(points: Sequence[Point], xs: _Scale, ys: _Scale) -> str:
    return "L".join(f"{xs(x):g} {ys(y):g}" for x, y in points)


def _legend(lines: Sequence[Line]) -> Legend:
    shaded = [line.name for line in lines if line.shade is not None]
    rounds = [(f"{shaded[0]} to {shaded[-1]}", _range(_round_colour))] if len(shaded) > 1 else []
    named = dict.fromkeys((line.name, line.style % STYLES) for line in lines if line.shade is None)
    return [
        *rounds,
        *((name, _swatch(28, f'<g class="s{style}"><path class="line" d="M0 7H28"/></g>')) for name, style in named),
    ]


def _heat() -> Legend:
    return [("exact match 0 to 1", _range(heat_colour))]


def _range(colour: Callable[[float], str]) -> Markup:
    """Return a sample of all colours from 0 to 1."""
    steps = (
        f'<rect x="{3 * i}" width="3.3" height="14" style="fill:{colour(i / (SHADES - 1))}"/>' for i in range(SHADES)
    )
    return _swatch(3 * SHADES, "".join(steps))


def _swatch(width: int, body: str) -> Markup:
    return Markup(
        f'<svg width="{width}" height="14" viewBox="0 0 {width} 14" aria-hidden="true" focusable="false">{body}</svg>'
    )


def _round_colour(shade: float) -> str:
    return f"color-mix(in oklab, var(--round-last) {100 * shade:.0f}%, var(--round-first))"


def _bars(chart: Chart, bars: Bars) -> str:
    columns = list(zip(*bars.parts.values(), strict=True))
    ys = _Scale((0.0, max(map(sum, columns), default=1.0) or 1.0), BOTTOM, TOP)
    xs = _Scale((0.0, float(len(columns))), LEFT, RIGHT)
    every = -(-len(columns) // (12 if max(map(len, bars.categories)) < 4 else 4))
    names = {i + 0.5: name for i, name in enumerate(bars.categories) if i % every == 0}
    width = min(60.0, max(1.0, (RIGHT - LEFT) / len(columns) * 0.8))
    body = [_axes(chart, xs, ys, names)]
    for i, (category, values) in enumerate(zip(bars.categories, columns, strict=True)):
        left, tops = xs(i + 0.5) - width / 2, accumulate(values)
        body += [
            f'<rect class="bar s{style % STYLES}" x="{left:.1f}" y="{ys(top):g}" width="{width:.1f}" '
            f'height="{ys(top - value) - ys(top):.1f}">'
            f"<title>{escape(f'{category}, {name}: {number(value)}')}</title></rect>"
            for style, (name, value, top) in enumerate(zip(bars.parts, values, tops, strict=True))
            if value > 0
        ]
    return "".join(body)


def heat_colour(value: float) -> str:
    """Return the colour of a share from 0 to 1."""
    place = min(max(value, 0.0), 1.0) * (len(_STOPS) - 1)
    first = min(int(place), len(_STOPS) - 2)
    low, high = (bytes.fromhex(stop[1:]) for stop in _STOPS[first : first + 2])
    return "#" + "".join(f"{round(a + (b - a) * (place - first)):02x}" for a, b in zip(low, high, strict=True))


def _cell(x: float, y: float, width: float, height: float, value: float, title: str) -> str:
    return (
        f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" fill="{heat_colour(value)}">'
        f"<title>{title}: {number(value)}</title></rect>"
    )


def _map(chart: Chart, shown: Map) -> str:
    """Return values by round (upwards) and difficulty, with the hardest difficulty trained on so far."""
    numbers = [hardest(d) for d in shown.difficulties]
    xs = _Scale((numbers[0] - 0.5, numbers[-1] + 0.5), LEFT, RIGHT)
    ys = _Scale((min(shown.rows) - 0.5, max(shown.rows) + 0.5), BOTTOM, TOP)
    # A little larger than the step, so that no seams show.
    width, height = (RIGHT - LEFT) / (xs.high - xs.low) + 0.3, (BOTTOM - TOP) / (ys.high - ys.low) + 0.3
    body = [
        _cell(xs(hardest(d) - 0.5), ys(round_ + 0.5), round(width, 1), round(height, 1), value, f"round {round_}, {d}")
        for round_, row in shown.rows.items()
        for d, value in row.items()
    ]
    steps = "L".join(f"{xs(d + 0.5):g} {ys(r - 0.5):g}V{ys(r + 0.5):g}" for r, d in shown.frontier.items())
    body.append(f'<path class="frontier-back" d="M{steps}"/><path class="frontier" d="M{steps}"/>')
    supervised = f"supervised to {chart.supervised:g}; " if chart.supervised else ""
    body.append(_text(LEFT, TOP - 6, f"{supervised}line: trained to", "start", ' class="soft"'))
    return "".join([*body, _axes(chart, xs, ys)])


def _grids(shown: Map) -> Markup:
    """Return a square of pairs for each round: the first number downwards, the second to the right."""
    drawn = []
    taught = {_pair(d) for d in shown.trained.get(0, ())}
    labelled: set[tuple[int, int]] = set()
    for round_, row in shown.rows.items():
        labelled |= {_pair(d) for d in shown.trained.get(round_, ())} - taught
        frame = Markup("<figure><figcaption>round {}</figcaption>{}</figure>")
        drawn.append(
            frame.format(round_, _grid(round_, {_pair(d): value for d, value in row.items()}, taught, labelled))
        )
    return Markup("<div class='grids'>{}</div>").format(Markup().join(drawn))


def _grid(
    round_: int, values: Mapping[tuple[int, int], float], taught: set[tuple[int, int]], labelled: set[tuple[int, int]]
) -> Markup:
    cell, edge = 26, 20
    body = []
    size = max(max(pair) for pair in values)
    for i in range(1, size + 1):
        body.append(_text(edge + (i - 0.5) * cell, edge - 6, str(i)))
        body.append(_text(edge - 5, edge + (i - 0.5) * cell + 4, str(i), "end"))
    for (a, b), value in sorted(values.items()):
        x, y = edge + (b - 1) * cell, edge + (a - 1) * cell
        ink = "on-dark" if value < 0.6 else "on-light"
        text = "1" if value >= 0.995 else f"{value:.2f}".lstrip("0") if value >= 0.005 else "0"
        body.append(_cell(x, y, cell, cell, value, f"{a}x{b}"))
        body.append(_text(x + cell / 2, y + 17, text, extra=f' class="cell {ink}"'))
        if outline := "taught" if (a, b) in taught else "labelled" if (a, b) in labelled else "":
            body.append(f'<rect class="{outline}" x="{x + 1.5}" y="{y + 1.5}" width="{cell - 3}" height="{cell - 3}"/>')
    side = edge + size * cell + 2
    label = f"round {round_}: exact match of every pair"
    return _svg("".join(body), label, side, side, f' style="max-width:{side * 1.15:.0f}px"')


def _pair(difficulty: Difficulty) -> tuple[int, int]:
    return (difficulty, difficulty) if isinstance(difficulty, int) else difficulty

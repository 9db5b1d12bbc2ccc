"""What a chart shows, described once. ``svg.py`` draws it for the page, ``paper.py`` for print."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from easy2hard.tasks.base import Difficulty, difficulty_text, hardest

TABLE_ROWS = 100

Point = tuple[float, float]


@dataclass(frozen=True)
class Axis:
    """An axis: its label with the unit, and its ends where the data do not decide."""

    label: str
    low: float | None = None
    high: float | None = None
    log: bool = False
    integers: bool = False
    """Whether ticks are integers only."""

    def ends(self, values: Sequence[float]) -> Point:
        """Return the lowest and the highest value that an axis needs for these values."""
        shown = [value for value in values if not self.log or value > 0] or [0.1, 1.0]
        return (
            min(shown) if self.low is None else self.low,
            max(*shown, self.low or 0.0) if self.high is None else self.high,
        )


@dataclass(frozen=True)
class Line:
    """A line of a chart."""

    name: str
    points: Sequence[Point]
    style: int = 0
    """Which colour and dashes."""
    shade: float | None = None
    """Place from 0 to 1 in the colours of rounds, the first to the last, instead of a style."""
    band: Sequence[tuple[float, float, float]] = ()
    """(x, lowest, highest): the range over seeds."""
    round: int | None = None
    """The round it belongs to; a reader may choose one."""
    dots: bool = True
    """Whether every point has a dot."""


@dataclass(frozen=True)
class Mark:
    """A vertical line with a label."""

    x: float
    word: str
    frontier: bool = False
    """How far the run trained; drawn prominently."""


@dataclass(frozen=True)
class Bars:
    """Bars with parts on top of each other, one for each category."""

    categories: Sequence[str]
    parts: Mapping[str, Sequence[float]]

    def divided(self, by: float) -> "Bars":
        """Return these bars in another unit."""
        return Bars(self.categories, {name: [value / by for value in values] for name, values in self.parts.items()})


@dataclass(frozen=True)
class Map:
    """Exact match by round and difficulty."""

    rows: Mapping[int, Mapping[Difficulty, float]]
    frontier: Mapping[int, int]
    """The hardest difficulty that each round's weights were trained on."""
    trained: Mapping[int, Sequence[Difficulty]]
    """What each round added: round 0 what was supervised, others what was labelled."""

    @cached_property
    def difficulties(self) -> list[Difficulty]:
        """All difficulties in order; pairs by their greater number."""
        found = {difficulty for row in self.rows.values() for difficulty in row}
        return sorted(found, key=lambda d: (hardest(d), d if isinstance(d, tuple) else ()))

    @property
    def pairs(self) -> bool:
        """Whether difficulties are pairs."""
        return any(isinstance(difficulty, tuple) for difficulty in self.difficulties)


@dataclass(frozen=True)
class Chart:
    """A chart: lines, or else bars, or a map.

    Attributes:
        title: a few words.
        note: what it shows, a sentence or two.
        x: the axis to the right.
        y: the axis upwards.
        lines: its lines; those without a point are left out.
        bars: instead of lines.
        map: instead of lines.
        supervised: shade the supervised range, from the left end up to here.
        level: a thin line at this height.
        diagonal: a thin line where y = x, confidence upon what is right: below it is overconfident.
        marks: vertical lines.
        one_round: a reader sees the lines of exactly one round at a time, not of all of them.
    """

    title: str
    note: str
    x: Axis
    y: Axis
    lines: Sequence[Line] = ()
    bars: Bars | None = None
    map: Map | None = None
    supervised: float | None = None
    level: float | None = None
    diagonal: bool = False
    marks: Sequence[Mark] = ()
    one_round: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "lines", [line for line in self.lines if line.points])

    @property
    def empty(self) -> bool:
        """Whether the chart has no data."""
        return not (self.lines or (self.bars and self.bars.parts) or (self.map and self.map.rows))

    @cached_property
    def x_ends(self) -> Point:
        """The ends of the x axis of lines."""
        return self.x.ends([x for line in self.lines for x, _ in line.points])

    @cached_property
    def y_ends(self) -> Point:
        """The ends of the y axis of lines, their bands included."""
        return self.y.ends(
            [v for line in self.lines for v in (*(y for _, y in line.points), *(v for _, *b in line.band for v in b))]
        )

    @property
    def rounds(self) -> list[int]:
        """Rounds that a reader may choose."""
        return sorted({line.round for line in self.lines if line.round is not None})

    def table(self) -> tuple[list[str], list[list[str]]]:
        """Return the data as text: the head, and rows with as many cells; a sample where there are many rows."""
        if self.bars:
            parts = self.bars.parts
            rows = [
                [name, *(number(round(values[i], 2)) for values in parts.values())]
                for i, name in enumerate(self.bars.categories)
            ]
            return [self.x.label, *parts], rows
        if self.map:
            found = self.map.difficulties
            rows = [[str(round_), *(number(row.get(d)) for d in found)] for round_, row in self.map.rows.items()]
            return ["round", *map(difficulty_text, found)], rows
        columns = [dict(line.points) for line in self.lines]
        places = sorted({x for column in columns for x in column})
        head = [f"{line.name}, round {line.round}" if self.one_round else line.name for line in self.lines]
        shown = places[:: -(-len(places) // TABLE_ROWS) or 1]
        return [self.x.label, *head], [[number(x), *(number(column.get(x)) for column in columns)] for x in shown]

    def csv(self) -> str:
        """Return all data as CSV, exactly: a line's column is followed by those of its range, where it has one."""
        head, rows = [self.x.label], list[list[object]]()
        if self.map:
            head = ["round", "difficulty", "value"]
            rows = [[r, difficulty_text(d), value] for r, row in self.map.rows.items() for d, value in row.items()]
        elif self.bars:
            head += self.bars.parts
            rows = [
                [name, *values] for name, *values in zip(self.bars.categories, *self.bars.parts.values(), strict=True)
            ]
        else:
            columns: list[Mapping[float, float]] = []
            for line in self.lines:
                name = f"{line.name}, round {line.round}" if self.one_round else line.name
                columns.append(dict(line.points))
                head.append(name)
                if line.band:
                    columns += [{x: low for x, low, _ in line.band}, {x: high for x, _, high in line.band}]
                    head += [f"{name}: least", f"{name}: greatest"]
            rows = [[x, *(column.get(x) for column in columns)] for x in sorted({x for each in columns for x in each})]
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([head, *rows])
        return text.getvalue()


def number(value: float | None) -> str:
    """Return a number in few characters; a dash where there is none."""
    if value is None:
        return "-"
    if value == int(value) and abs(value) < 1e15:
        return f"{int(value):,}"
    return f"{value:.4f}".rstrip("0").rstrip(".") if abs(value) >= 0.001 else f"{value:.2g}"

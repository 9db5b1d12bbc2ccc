"""Tables that fit a terminal: no number is broken, and no cell is cut."""

from collections.abc import Sequence

from rich.console import Console, RenderableType
from rich.measure import Measurement
from rich.table import Column, Table

FOLDED = 16
"""Characters that a column of paths has at least; they may be broken anywhere."""


def fitted(table: Table, width: int) -> list[Table]:
    """Return a table as one or several that fit ``width`` characters, each with the first column.

    A cell is wrapped between words where it has to be, or anywhere in a column whose overflow is ``fold``. Where even
    that is too wide, the columns that find no room follow in a further table.
    """
    console = Console(width=1000)
    least, most = zip(*(_measured(console, column) for column in table.columns), strict=True)
    gap = 2 if table.box is None else 3
    room = width if table.box is None else width - 1
    groups: list[list[int]] = [[0]]
    for index in range(1, len(table.columns)):
        if sum(least[each] + gap for each in [*groups[-1], index]) > room + (gap if table.box is None else 0):
            groups.append([0])
        groups[-1].append(index)
    return [_part(table, group, _widths(table, group, least, most, room, gap)) for group in groups]


def _measured(console: Console, column: Column) -> tuple[int, int]:
    """Return how wide a column is at least and at most."""
    cells: list[RenderableType] = [column.header, *column.cells]
    found = [Measurement.get(console, console.options, cell) for cell in cells]
    most = max(each.maximum for each in found)
    least = min(most, FOLDED) if column.overflow == "fold" else max(each.minimum for each in found)
    return least, most


def _widths(
    table: Table, group: Sequence[int], least: Sequence[int], most: Sequence[int], room: int, gap: int
) -> dict[int, int]:
    """Return the widths of some columns: what they need, and what is left to those that want it, paths last."""
    widths = {each: least[each] for each in group}
    left = room + (gap if table.box is None else 0) - sum(gap + width for width in widths.values())
    for each in sorted(group, key=lambda each: table.columns[each].overflow == "fold"):
        more = max(0, min(left, most[each] - least[each]))
        widths[each] += more
        left -= more
    return widths


def _part(table: Table, group: Sequence[int], widths: dict[int, int]) -> Table:
    part = Table(box=table.box, pad_edge=table.pad_edge, header_style=table.header_style)
    for each in group:
        column = table.columns[each]
        part.add_column(column.header, justify=column.justify, overflow="fold", width=widths[each])
    for cells in zip(*(table.columns[each].cells for each in group), strict=True):
        part.add_row(*cells)
    return part

"""Tables that fit a terminal: no number is broken, and no cell is cut."""

from collections.abc import Sequence

from rich.console import RenderableType
from rich.table import Column, Table
from rich.text import Text

from easy2hard.text import broken, widest_piece

FOLDED = 12
"""Characters that a column of names has at least."""
LONGEST = 24
"""A longer piece of a name is broken anywhere."""


def fitted(table: Table, width: int) -> list[Table]:
    """Return a table as one or several that fit ``width`` characters, each with the first column.

    A cell is wrapped between words where it has to be (``text.broken``), in a column whose overflow is ``fold`` also
    between the pieces of a path or a name. Where even that is too wide, the columns that find no room follow in a
    further table.
    """
    least, most = zip(*map(_measured, table.columns), strict=True)
    gap = 2 if table.box is None else 3
    room = width if table.box is None else width - 1
    groups: list[list[int]] = [[0]]
    for index in range(1, len(table.columns)):
        if sum(least[each] + gap for each in [*groups[-1], index]) > room + (gap if table.box is None else 0):
            groups.append([0])
        groups[-1].append(index)
    return [_part(table, group, _widths(table, group, least, most, room, gap)) for group in groups]


def _text(cell: RenderableType) -> Text:
    """Return a cell as it is: what looks like markup in a name is none."""
    return cell if isinstance(cell, Text) else Text(str(cell))


def _measured(column: Column) -> tuple[int, int]:
    """Return how wide a column is at least and at most."""
    cells, folds = [_text(cell).plain for cell in [column.header, *column.cells]], column.overflow == "fold"
    least, most = max(widest_piece(cell, folds) for cell in cells), max(map(len, cells))
    return min(max(least, FOLDED), LONGEST, most) if folds else least, most


def _widths(
    table: Table, group: Sequence[int], least: Sequence[int], most: Sequence[int], room: int, gap: int
) -> dict[int, int]:
    """Return the widths of some columns: what they need, and what is left to those that want it, names last."""
    widths = {each: least[each] for each in group}
    left = room + (gap if table.box is None else 0) - sum(gap + width for width in widths.values())
    for each in sorted(group, key=lambda each: table.columns[each].overflow == "fold"):
        more = max(0, min(left, most[each] - least[each]))
        widths[each] += more
        left -= more
    return widths


def _part(table: Table, group: Sequence[int], widths: dict[int, int]) -> Table:
    part = Table(box=table.box, pad_edge=table.pad_edge, header_style=table.header_style, show_header=table.show_header)
    for each in group:
        column, width = table.columns[each], widths[each]
        part.add_column(_lines(column, column.header, width), justify=column.justify, overflow="fold", width=width)
    for cells in zip(*(table.columns[each].cells for each in group), strict=True):
        part.add_row(*(_lines(table.columns[e], cell, widths[e]) for e, cell in zip(group, cells, strict=True)))
    return part


def _lines(column: Column, cell: RenderableType, width: int) -> Text:
    text = _text(cell)
    return Text("\n").join(text[start:end] for start, end in broken(text.plain, width, names=column.overflow == "fold"))

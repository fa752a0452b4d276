"""Tables on narrow terminals: one block per row, so that no name, number or interval is ever cut."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from rich.cells import cell_len
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

INDENT = "  "
SEPARATOR = " · "


def fitting(table: Table, console: Console) -> list[Any]:
    """Return what to print for a table: the table if every word of it fits into the console's width, else its rows as blocks.

    A block is headed by the row's first cell. A column whose cells are all equal is written once, above the blocks.
    """
    if not table.columns:
        return [table]
    space = max(table.padding[1], table.padding[3]) if table.collapse_padding else table.padding[1] + table.padding[3]
    available = console.width - space * (len(table.columns) - 1)
    least, natural = ([_width(column, table, console, wrap=wrap) for column in table.columns] for wrap in (True, False))
    if sum(least) > available:
        return list(_blocks(table, console))
    if sum(natural) > available:
        # rich would also narrow columns that have no room for their longest word.
        share = (available - sum(least)) / (sum(natural) - sum(least))
        widths = [low + int(share * (high - low)) for low, high in zip(least, natural, strict=True)]
        narrowed = copy.copy(table)
        narrowed.columns = [replace(column, width=width) for column, width in zip(table.columns, widths, strict=True)]
        return [narrowed]
    return [table]


def _width(column: Column, table: Table, console: Console, wrap: bool) -> int:
    """Return the width of a column's longest line or, if lines may wrap, of its longest word."""
    lines = [line for cell in (*[column.header] * table.show_header, *column.cells) for line in _text(cell, console).plain.split("\n")]
    return max((cell_len(part) for line in lines for part in (line.split() if wrap and not column.no_wrap else [line])), default=0)


def _blocks(table: Table, console: Console) -> Iterator[Any]:
    headings = [_one_line(column.header, console) for column in table.columns]
    rows = [[_one_line(cell, console) for cell in row] for row in zip(*(column.cells for column in table.columns), strict=True)]
    if table.title:
        yield Text(_one_line(table.title, console).plain, "bold")
    shared = [place for place in range(1, len(headings)) if len(rows) > 1 and len({row[place].plain for row in rows}) == 1]
    if shared:
        yield from _filled([_labelled(headings[place], rows[0][place]) for place in shared], console.width, "")
    for row in rows:
        yield row[0] if row[0].spans or row[0].style else Text(row[0].plain, "bold")
        items = [_labelled(headings[place], row[place]) for place in range(1, len(row)) if place not in shared and row[place].plain]
        yield from _filled(items, console.width, INDENT)
    if table.caption:
        yield table.caption


def _filled(items: Sequence[Text], width: int, indent: str) -> Iterator[Text]:
    """Yield lines with as many items as fit; only an item that is wider than a line is broken by the console."""
    line = Text(indent)
    for item in items:
        is_first = len(line) == len(indent)
        if not is_first and line.cell_len + len(SEPARATOR) + item.cell_len > width:
            yield line
            line, is_first = Text(indent), True
        line = Text.assemble(line, "" if is_first else SEPARATOR, item)
    if len(line) > len(indent):
        yield line


def _labelled(heading: Text, cell: Text) -> Text:
    return Text.assemble((f"{heading.plain} ", "dim"), cell) if heading.plain else cell


def _one_line(cell: Any, console: Console) -> Text:
    return Text(" ").join(_text(cell, console).split("\n"))


def _text(cell: Any, console: Console) -> Text:
    text = console.render_str(cell) if isinstance(cell, str) else cell
    return text if isinstance(text, Text) else Text(str(text))

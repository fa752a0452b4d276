"""Consoles of the command line for standard output and standard error, and the progress bar of long work.

Strings are text: square brackets are no markup, and control characters are escaped. Styles are given as `style=` or as `rich.text.Text`.
Tables that are too wide are printed as blocks.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from harness.cli.narrow import fitting
from model_zoo.errors import printable

# Everything but line feeds and no-break spaces, which tables contain.
_CONTROLLED = re.compile("[^\n\u00a0]+")


class TextConsole(Console):
    """Console that prints strings, also those in tables, as text, and tables so that no word of them is cut."""

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, emoji=False, highlight=False, **options)

    def print(self, *objects: Any, **options: Any) -> None:
        """Print objects; a table that is wider than the console is printed as one block per row."""
        if not any(isinstance(item, Table) for item in objects):
            super().print(*objects, **options)
            return
        for item in objects:
            for line in fitting(item, self) if isinstance(item, Table) else [item]:
                super().print(line, **options)

    def render_str(self, text: str, **options: Any) -> Text:
        """Return a string as text whose control characters, except line feeds, are escaped."""
        return super().render_str(_CONTROLLED.sub(lambda part: printable(part[0]), text), **options)


# Results go to standard output, messages about the work to standard error.
# A pipe has no width; 160 columns keep the rows of tables on one line.
out = TextConsole(width=None if sys.stdout.isatty() else 160)
err = TextConsole(stderr=True, soft_wrap=True)


@contextmanager
def progress_bar(unit: str) -> Iterator[Progress]:
    """Show a bar with count, speed in `unit`, and the time elapsed and left; nothing if standard error is not a terminal."""
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn(unit + " · {task.fields[speed]}"),
        TimeElapsedColumn(),
        TextColumn("· left"),
        TimeRemainingColumn(),
        console=err,
        disable=not sys.stderr.isatty(),
    )
    with bar:
        yield bar

"""Consoles of the command line for standard output and standard error, and the progress bar of long work."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

# Results go to standard output, messages about the work to standard error.
# A pipe has no width; 160 columns keep the rows of tables on one line.
out = Console(highlight=False, width=None if sys.stdout.isatty() else 160)
err = Console(stderr=True, soft_wrap=True, highlight=False)


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

"""`harness store`: group of the commands that maintain a folder of outcomes."""

from __future__ import annotations

import click

from harness.cli.lazy import LazyGroup


@click.group(
    "store",
    cls=LazyGroup,
    prefix="store_",
    commands={
        "verify": "Check every file of a store against its hash.",
        "merge": "Copy outcomes from other stores.",
        "invalidate": "Declare outcomes invalid, with a reason.",
        "pack": "Move all outcomes into two files.",
    },
)
def command() -> None:
    """Check, merge, correct or pack a folder of outcomes.

    \b
    Examples:
      harness store verify
      harness store merge ../colleague/results
    """

"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., None])


def store_option(help_text: str = "Folder with stored outcomes.") -> Callable[[Command], Command]:
    """Return the option --store."""
    return click.option("--store", type=click.Path(path_type=Path), default=Path("results"), show_default=True, help=help_text)


def data_dir_option(help_text: str = "Folder with data sets that are not part of the package.") -> Callable[[Command], Command]:
    """Return the option --data-dir, whose value may come from the environment."""
    return click.option("--data-dir", type=click.Path(path_type=Path), envvar="HARNESS_DATA_DIR", help=help_text)


def json_option(help_text: str = "Print one JSON list, for scripts.") -> Callable[[Command], Command]:
    """Return the flag --json, which reaches the command as `as_json`."""
    return click.option("--json", "as_json", is_flag=True, help=help_text)

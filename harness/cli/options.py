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


def executor_options(command: Command) -> Command:
    """Add the options that say where units are computed: --executor, --cpus-per-unit (`cpus`), --gpus-per-unit (`gpus`) and --device."""
    for option in reversed(_EXECUTOR_OPTIONS):
        command = option(command)
    return command


def _current_name(context: click.Context, parameter: click.Parameter, name: str | None) -> str | None:
    from harness.runner.executors import FORMER_NAMES

    if name is None or name not in FORMER_NAMES:
        return name
    click.echo(f"harness: executor `{name}` is now `{FORMER_NAMES[name]}`; the old name will go with the next version", err=True)
    return FORMER_NAMES[name]


_EXECUTOR_OPTIONS = (
    click.option(
        "--executor",
        callback=_current_name,
        help="Executor: in-process, processes, or ray (RAY_ADDRESS names a cluster).  [default: processes if --workers > 1]",
    ),
    click.option(
        "--cpus-per-unit",
        "cpus",
        type=click.FloatRange(0, min_open=True),
        default=1.0,
        show_default=True,
        help="CPU cores that Ray reserves per unit.",
    ),
    click.option(
        "--gpus-per-unit",
        "gpus",
        type=click.FloatRange(0),
        default=0.0,
        show_default=True,
        help="GPUs that Ray reserves per unit; may be a fraction.",
    ),
    click.option("--device", type=click.Choice(["cpu", "cuda"]), default="cpu", show_default=True, help="Device that computes the units."),
)


def json_option(help_text: str = "Print one JSON list, for scripts.") -> Callable[[Command], Command]:
    """Return the flag --json, which reaches the command as `as_json`."""
    return click.option("--json", "as_json", is_flag=True, help=help_text)

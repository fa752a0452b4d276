"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., None])


def store_option(help_text: str = "Folder with stored outcomes.") -> Callable[[Command], Command]:
    """Return the option --store."""
    return click.option("--store", type=click.Path(path_type=Path), default=Path("results"), show_default=True, help=help_text)


def data_dir_option(help_text: str = "Folder with data sets that are not part of the package.") -> Callable[[Command], Command]:
    """Return the option --data-dir, whose value may come from the environment."""
    return click.option("--data-dir", type=click.Path(path_type=Path), envvar="HARNESS_DATA_DIR", help=help_text)


def download_option() -> Callable[[Command], Command]:
    """Return the flag --download."""
    return click.option("--download", is_flag=True, help="Download CIFAR if it is missing; other data sets are never downloaded.")


def image_options(
    help_text: str, required: bool = False, names: tuple[str, ...] = ("--dataset",)
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Return the options that select images, --dataset (under one or more `names`), --resize and --channels.

    The command gets one value, `dataset`: the text that `harness.datasets.load` takes. A UsageError is raised if --resize or --channels
    does not apply to the data set.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        @wraps(command)
        def wrapped(dataset: str | None, resize: int | None, channels: str | None, **values: Any) -> None:
            if resize is not None or channels is not None:
                from harness.datasets import with_reading
                from harness.datasets.reading import Reading

                reading = Reading(resize, None if channels is None else int(channels))
                dataset = with_reading(dataset, reading, "--resize" if resize is not None else "--channels")
            command(dataset=dataset, **values)

        for option in reversed((click.option(*names, "dataset", required=required, metavar="DATASET", help=help_text), *_READING)):
            wrapped = option(wrapped)
        return wrapped

    return decorate


_READING = (
    click.option("--resize", type=click.IntRange(1, 4096), metavar="N", help="Resize images to N x N pixels; not CIFAR, not ImageNet-100."),
    click.option("--channels", type=click.Choice(["1", "3"]), help="Read images as grey (1) or RGB (3); not CIFAR, not ImageNet-100."),
)


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

"""Options for what an exported network does not contain, such as normalisation; shared by the commands that take one."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import click


def _parse_numbers(context: click.Context, parameter: click.Parameter, value: str | None) -> tuple[float, ...]:
    try:
        return tuple(float(number) for number in value.split(",")) if value else ()
    except ValueError:
        raise click.BadParameter(f"{value!r}: expected one number, or one per channel, such as 0.49,0.48,0.45") from None


_OPTIONS = (
    click.option("--scale", type=float, default=1.0, help="Exported networks: factor for pixels in [0, 1], for example 255."),
    click.option(
        "--mean",
        callback=_parse_numbers,
        metavar="M[,M,M]",
        help="Exported networks: mean subtracted after scaling, one number or one per channel.",
    ),
    click.option(
        "--std",
        callback=_parse_numbers,
        metavar="S[,S,S]",
        help="Exported networks: divisor after the mean, one number or one per channel.",
    ),
    click.option("--channels-last", is_flag=True, help="Exported networks: pass images as [N, H, W, C]."),
    click.option("--output", default="", metavar="NAME", help="ONNX files with several outputs: name of the output with the logits."),
)


def preprocessing_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add these options to a command, which gets their values as the argument `preprocessing`."""

    @wraps(command)
    def wrapped(scale: float, mean: tuple[float, ...], std: tuple[float, ...], channels_last: bool, output: str, **values: Any) -> None:
        from model_zoo.adapters.preprocessing import Preprocessing

        command(preprocessing=Preprocessing(scale, mean, std, channels_last, output), **values)

    for option in reversed(_OPTIONS):
        wrapped = option(wrapped)
    return wrapped

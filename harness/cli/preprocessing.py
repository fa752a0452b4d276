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
        raise click.BadParameter(f"{value!r}: one number, or one for each channel, such as 0.49,0.48,0.45") from None


_OPTIONS = (
    click.option("--scale", type=float, default=1.0, help="Exported networks: multiply pixels in [0, 1] by this first (255)."),
    click.option("--mean", callback=_parse_numbers, metavar="M[,M,M]", help="Exported networks: then subtract this, per channel."),
    click.option("--std", callback=_parse_numbers, metavar="S[,S,S]", help="Exported networks: then divide by this, per channel."),
    click.option("--channels-last", is_flag=True, help="Exported networks: then make images [N, H, W, C]."),
    click.option("--output", default="", metavar="NAME", help="ONNX with several outputs: the one with the logits."),
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

"""Parameters of attacks: strict, and every value is spelled out."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Annotated, Any, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, ValidationError

from model_zoo.errors import UsageError, one_line
from model_zoo.threat import exact_fraction


def _exact(value: object) -> Fraction:
    try:
        fraction = exact_fraction(value) if isinstance(value, str) else None
    except ValueError:
        fraction = None
    if fraction is None or fraction <= 0:
        raise ValueError('a positive exact fraction such as "1/20" is expected')
    return fraction


# Steps, restarts, queries: at least 1, and few enough for the integers of numpy and torch.
Count = Annotated[int, Field(ge=1, lt=2**31)]
# Finite, not negative, and small enough for float32.
Size = Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)]
# A positive exact fraction, written as a string.
Ratio = Annotated[Fraction, BeforeValidator(_exact), PlainSerializer(str)]
# At least one name.
Names = Annotated[list[str], Field(min_length=1)]


class Parameters(BaseModel):
    """Base class of an adapter's parameters: strict types, no unknown fields, no defaults."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, arbitrary_types_allowed=True)

    @classmethod
    def parse(cls, values: Mapping[str, Any], adapter: str) -> Self:
        """Check the values of a specification; raises a UsageError that names the adapter and the first wrong parameter."""
        try:
            return cls.model_validate(dict(values))
        except ValidationError as error:
            details = error.errors()[0]
            name = ".".join(map(str, details["loc"]))
            if details["type"] == "extra_forbidden":
                raise UsageError(
                    f"attack adapter {adapter!r} has no parameter {name!r}; it has {one_line(', '.join(cls.model_fields), 120)}"
                ) from None
            if details["type"] == "missing":
                raise UsageError(f"attack adapter {adapter!r} needs the parameter {name!r}: specifications have no defaults") from None
            raise UsageError(
                f"attack adapter {adapter!r}, {name} = {one_line(repr(details['input']), 60)}: {_sentence(details['msg'])}"
            ) from None


class RestartedAscent(Parameters):
    """Parameters of gradient ascent with restarts.

    `step` is in units of the radius; a later restart attacks only the images that are not broken yet; batches have `batch_size` images.
    """

    steps: Count
    step: Ratio
    random_start: bool
    restarts: Count
    batch_size: Count


def _sentence(message: str) -> str:
    message = message.removeprefix("Value error, ")
    return message[:1].lower() + message[1:]

"""Progress of an attack, measured at the model: forward passes done divided by forward passes expected."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

Progress = Callable[[float, str], None]

# At most a hundred reports per stage.
RESOLUTION = 0.01


@contextmanager
def counted(
    model: nn.Module, progress: Progress | None, label: str, expected: int, start: float = 0.0, share: float = 1.0
) -> Iterator[None]:
    """Report `start + share * passes / expected` while the block runs, and `start + share` at its end.

    Parameters
    ----------
    model : nn.Module
        Model whose calls are counted, whatever their batch size, by a forward hook that is removed at the end.
    expected : int
        Number of calls if no image is broken early; fewer calls are normal.
    start, share : float
        Beginning and length of this stage as fractions of the whole attack, in [0, 1].
    """
    if progress is None:
        yield
        return
    passes, reported = 0, 0.0

    def count(*_: Any) -> None:
        nonlocal passes, reported
        passes += 1
        fraction = min(passes / max(expected, 1), 1.0)
        if fraction - reported >= RESOLUTION:
            reported = fraction
            progress(start + share * fraction, label)

    progress(start, label)
    hook = model.register_forward_hook(count)
    try:
        yield
    finally:
        hook.remove()
    progress(start + share, label)

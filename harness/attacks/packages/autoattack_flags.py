"""Collect pyautoattack's warnings as data; the package only logs them, once per batch and target."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from harness.attacks.common import Flag

LOGGER = "auto-attack"

# What each of the package's messages contains, and our word for it.
KINDS = {
    "zero-gradient": "with zero gradient",
    "square-helps": "Square Attack has decreased",
    "randomized": "randomized defense",
    "dynamic": "dynamic defense",
    "probabilities": "is a probability distribution",
    "classes": "possible",
}


class FlagCollector(logging.Handler):
    """Logging handler that keeps one flag per kind: the one with the largest count ("there are 3 points with ...")."""

    def __init__(self, flags: Iterable[Flag] = ()) -> None:
        super().__init__(logging.WARNING)
        self._messages = {flag.kind: flag.message for flag in flags}

    def emit(self, record: logging.LogRecord) -> None:
        """Store the record's message if it is the first of its kind or has a larger count."""
        message = record.getMessage()
        kind = next((kind for kind, phrase in KINDS.items() if phrase in message), "other")
        if kind not in self._messages or _count(message) > _count(self._messages[kind]):
            self._messages[kind] = message

    @property
    def flags(self) -> tuple[Flag, ...]:
        """The collected flags, in order of first appearance."""
        return tuple(Flag(kind, message) for kind, message in self._messages.items())


@contextmanager
def collected_flags(flags: Iterable[Flag] = ()) -> Iterator[FlagCollector]:
    """Collect the package's warnings while the block runs, in addition to `flags`.

    Nothing is printed, and the logger is restored at the end.
    """
    logger = logging.getLogger(LOGGER)
    collector = FlagCollector(flags)
    previous = logger.level, logger.propagate, logger.disabled, logger.handlers
    logger.setLevel(logging.WARNING)
    logger.propagate, logger.disabled, logger.handlers = False, False, [collector]
    try:
        yield collector
    finally:
        level, logger.propagate, logger.disabled, logger.handlers = previous
        logger.setLevel(level)


def _count(message: str) -> int:
    match = re.search(r"\d+", message)
    return int(match[0]) if match else 0

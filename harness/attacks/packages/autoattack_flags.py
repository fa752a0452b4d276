"""The warnings of pyautoattack as data: it only writes them to a logger, once for every batch and target."""

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
    """Keeps one flag of each kind; of several counts of points ("there are 3 points with ...") the largest."""

    def __init__(self, flags: Iterable[Flag] = ()) -> None:
        super().__init__(logging.WARNING)
        self._found = {flag.kind: flag.message for flag in flags}

    def emit(self, record: logging.LogRecord) -> None:
        """Take one record."""
        message = record.getMessage()
        kind = next((kind for kind, phrase in KINDS.items() if phrase in message), "other")
        if kind not in self._found or _count(message) > _count(self._found[kind]):
            self._found[kind] = message

    @property
    def flags(self) -> tuple[Flag, ...]:
        """What was collected, in the order of first appearance."""
        return tuple(Flag(kind, message) for kind, message in self._found.items())


@contextmanager
def collected_flags(flags: Iterable[Flag] = ()) -> Iterator[FlagCollector]:
    """Collect the package's warnings while the block runs, beside `flags`. Nothing is printed; the logger is left as it was found."""
    logger = logging.getLogger(LOGGER)
    collector = FlagCollector(flags)
    before = logger.level, logger.propagate, logger.disabled, logger.handlers
    logger.setLevel(logging.WARNING)
    logger.propagate, logger.disabled, logger.handlers = False, False, [collector]
    try:
        yield collector
    finally:
        level, logger.propagate, logger.disabled, logger.handlers = before
        logger.setLevel(level)


def _count(message: str) -> int:
    number = re.search(r"\d+", message)
    return int(number[0]) if number else 0

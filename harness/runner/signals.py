"""Context managers that defer or ignore signals, so that stopping a run does not interrupt a write."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def held_back() -> Iterator[None]:
    """Defer SIGINT and SIGTERM until the block ends (no effect outside the main thread)."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    received: list[int] = []
    handlers = {number: signal.signal(number, lambda number, _: received.append(number)) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for signum, handler in handlers.items():
            signal.signal(signum, handler if handler is not None else signal.SIG_DFL)
        for number in received:
            signal.raise_signal(number)


@contextmanager
def ignored(number: signal.Signals) -> Iterator[None]:
    """Ignore a signal in the block, and in processes that are started in it (no effect outside the main thread)."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handler = signal.signal(number, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(number, handler if handler is not None else signal.SIG_DFL)

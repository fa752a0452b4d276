"""Context managers that defer or ignore signals, so that stopping a run does not interrupt a write."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def deferred_signals() -> Iterator[None]:
    """Defer SIGINT and SIGTERM until the block ends (no effect outside the main thread)."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    received: list[int] = []
    deferred = (signal.SIGINT, signal.SIGTERM)
    handlers = {number: signal.signal(number, lambda received_number, _: received.append(received_number)) for number in deferred}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)
        for received_number in received:
            signal.raise_signal(received_number)


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

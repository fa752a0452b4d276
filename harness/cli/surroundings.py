"""What the command line needs from its surroundings: standard streams, signals, and messages about what the system refuses."""

from __future__ import annotations

import os
import signal
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any

from model_zoo.exhaustion import is_memory


def open_streams() -> None:
    """Open standard streams that are closed, and write characters that their encoding lacks as escapes."""
    # The system gives the lowest free number: without this, the next file would be what libraries take for standard output.
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(number)
    for name in ("stdout", "stderr"):
        stream: Any = getattr(sys, name)
        if stream is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_WRONLY), "w", encoding="utf-8"))
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


@contextmanager
def termination_interrupts() -> Iterator[None]:
    """Treat SIGTERM as Ctrl-C, so that commands end their workers and keep what is finished (no effect outside the main thread)."""
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _interrupt(number: int, frame: FrameType | None) -> None:
    handler = signal.getsignal(signal.SIGINT)
    if callable(handler):
        handler(signal.SIGINT, frame)
    else:
        # A shell starts background jobs with SIGINT ignored.
        raise KeyboardInterrupt


def flush_output() -> None:
    """Write what was printed; a full disk may refuse it only now."""
    sys.stdout.flush()


def drop_output() -> None:
    """Discard what is still to be written to standard output if it cannot be written."""
    try:
        sys.stdout.flush()
    except OSError:
        with suppress(OSError):
            descriptor = os.open(os.devnull, os.O_WRONLY)
            os.dup2(descriptor, sys.stdout.fileno())
            os.close(descriptor)


def system_message(error: BaseException) -> str | None:
    """Return one line about an error of the system or of memory, with the file if there is one; None for any other error."""
    if isinstance(error, OSError):
        return f"{_place(error)}: {error.strerror or error}"
    if is_memory(error):
        return f"out of memory ({error})" if str(error) else "out of memory"
    return None


def _place(error: OSError) -> str:
    """Return the file of an error; of errors without one, standard output or the working folder."""
    if isinstance(error.filename, (str, bytes)):
        return os.fsdecode(error.filename)
    # Only the command line, through click and rich, writes to streams.
    innermost = [frame.f_globals.get("__name__", "") for frame, _ in traceback.walk_tb(error.__traceback__)][-1:]
    if innermost == [__name__] or (innermost and innermost[0].split(".")[0] in ("click", "rich")):
        return "standard output"
    try:
        folder = Path.cwd()
    except OSError:
        return "the working folder"
    return f"in {folder}"

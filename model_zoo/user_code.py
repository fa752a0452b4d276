"""Context manager in which code of users is called: whatever it raises becomes one error that names it."""

from __future__ import annotations

import os
import signal
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import torch

from model_zoo.errors import UserCodeError, UserError
from model_zoo.exhaustion import error_text, is_full, is_memory
from model_zoo.surroundings import surroundings_restored

_TORCH = str(Path(torch.__file__).parent)


@contextmanager
def user_code(what: str) -> Iterator[None]:
    """Turn any exception of the block into a `UserCodeError` whose message begins with `what`.

    This includes `SystemExit`, `KeyboardInterrupt` and calls of `os._exit` by the user's code. Errors of this package, exhausted memory, a
    full disk, and the `KeyboardInterrupt` of a person who stops the run pass unchanged. Text printed inside goes to standard error.
    """
    with _exits_raise(), surroundings_restored(), _interrupts() as interrupts:
        try:
            yield
        except UserError:
            raise
        except BaseException as error:
            if (isinstance(error, KeyboardInterrupt) and interrupts) or is_memory(error) or is_full(error):
                raise
            raise failure(what, error) from None


def failure(what: str, error: BaseException) -> UserCodeError:
    """Return the `UserCodeError` of an exception: one line with its type, text and location, and the whole traceback."""
    trace = "".join(traceback.format_exception(error))
    first_line = next(iter(error_text(error).splitlines()), "")[:200]
    return UserCodeError(f"{what}: {type(error).__name__}: {first_line}{_location(error)}", trace)


def _location(error: BaseException) -> str:
    """Return the innermost line of the traceback that is neither in torch nor in this file."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith((_TORCH, __file__))]
    return f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""


@contextmanager
def _exits_raise() -> Iterator[None]:
    """Make `os._exit` raise in this thread and process, because it would end the run with the status that the user's code chose."""
    original_exit = os._exit
    owner = os.getpid(), threading.get_ident()

    def _raise_exit(status: int) -> NoReturn:
        if (os.getpid(), threading.get_ident()) == owner:
            raise SystemExit(f"os._exit({status})")
        original_exit(status)

    os._exit = _raise_exit
    try:
        yield
    finally:
        os._exit = original_exit


@contextmanager
def _interrupts() -> Iterator[list[int]]:
    """Yield a list that contains SIGINT once the signal arrived, to distinguish Ctrl-C from a KeyboardInterrupt of the user's code."""
    received: list[int] = []
    handler: Any = signal.getsignal(signal.SIGINT) if threading.current_thread() is threading.main_thread() else None
    if not callable(handler):
        yield received
        return
    previous: Callable[[int, Any], Any] = handler

    def _note_interrupt(number: int, frame: Any) -> None:
        received.append(number)
        previous(number, frame)

    signal.signal(signal.SIGINT, _note_interrupt)
    try:
        yield received
    finally:
        if signal.getsignal(signal.SIGINT) is _note_interrupt:
            signal.signal(signal.SIGINT, handler)

"""Simulation of a full or read-only disk: functions of `os` and `open` raise an OSError."""

from __future__ import annotations

import builtins
import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any


def refuse(error: int, after: int, root: str, on_refusal: Callable[[], None]) -> None:
    """Replace the functions that create, rename and delete files.

    After `after` calls, they call `on_refusal` and raise the error with the number `error` for files in `root`.
    """
    count = 0

    def refusing(function: Callable[..., Any], is_writing: Callable[..., bool]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            nonlocal count
            path = arguments[0] if arguments else None
            if isinstance(path, (str, os.PathLike)) and str(Path(path).absolute()).startswith(root) and is_writing(*arguments, **options):
                count += 1
                if count > after:
                    on_refusal()
                    raise OSError(error, os.strerror(error), os.fspath(path))
            return function(*arguments, **options)

        return call

    def opens_for_writing(path: object, mode: str = "r", *rest: object, **options: object) -> bool:
        return any(letter in mode for letter in "wxa+")

    for name in ("mkdir", "replace", "rename", "link", "unlink", "utime"):
        setattr(os, name, refusing(getattr(os, name), lambda *arguments, **options: True))
    os.open = refusing(os.open, lambda path, flags, *rest, **options: bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)))
    builtins.open = io.open = refusing(io.open, opens_for_writing)

"""Run `harness` while the system refuses to write: python -m tests.fuzz.refusing_system ARGUMENTS.

With the variables FUZZ_ERRNO, FUZZ_AFTER and FUZZ_ROOT, functions of `os` and `open` raise that error for files below that root from the
call with that number on, as a disk does that is full or was mounted read-only.
"""

from __future__ import annotations

import builtins
import io
import os
from collections.abc import Callable
from typing import Any

from harness.cli.main import main


def refuse(error: int, after: int, root: str) -> None:
    """Replace the functions that create, rename and delete files."""
    count = 0

    def refusing(function: Callable[..., Any], is_writing: Callable[..., bool]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            nonlocal count
            path = arguments[0] if arguments else None
            if isinstance(path, (str, os.PathLike)) and os.path.abspath(path).startswith(root) and is_writing(*arguments, **options):
                count += 1
                if count > after:
                    raise OSError(error, os.strerror(error), os.fspath(path))
            return function(*arguments, **options)

        return call

    def opens_for_writing(path: object, mode: str = "r", *rest: object, **options: object) -> bool:
        return any(letter in mode for letter in "wxa+")

    for name in ("mkdir", "replace", "rename", "link", "unlink", "utime"):
        setattr(os, name, refusing(getattr(os, name), lambda *arguments, **options: True))
    os.open = refusing(os.open, lambda path, flags, *rest, **options: bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)))
    builtins.open = io.open = refusing(io.open, opens_for_writing)


if __name__ == "__main__":
    if "FUZZ_ERRNO" in os.environ:
        refuse(int(os.environ["FUZZ_ERRNO"]), int(os.environ["FUZZ_AFTER"]), os.environ["FUZZ_ROOT"])
    main(prog_name="harness")

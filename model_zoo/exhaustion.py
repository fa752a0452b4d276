"""Recognition of exceptions that say that memory, threads or a disk are exhausted; needs the standard library only.

The command line uses it when torch itself could not be imported for lack of memory.
"""

from __future__ import annotations

import errno

# Parts of the messages of torch's allocators, of the dynamic linker and of `threading`.
_NO_MEMORY = ("not enough memory", "out of memory", "failed to map segment", "cannot allocate", "can't start new thread")


def is_memory(error: BaseException) -> bool:
    """Return whether an exception says that memory is exhausted, or what needs it: threads and address space for libraries."""
    text = error_text(error).lower()
    return isinstance(error, MemoryError) or (isinstance(error, (RuntimeError, ImportError)) and any(part in text for part in _NO_MEMORY))


def is_full(error: BaseException) -> bool:
    """Return whether an exception says that a disk is full, over quota or read-only."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


def error_text(error: BaseException) -> str:
    """Return the text of an exception, also of one whose class raises when it is converted to text."""
    try:
        return str(error)
    except BaseException:
        return "(no text)"

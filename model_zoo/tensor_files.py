"""Reading of safetensors files, which anybody may have written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open

from model_zoo.errors import DamagedFileError


def read_tensors(path: Path, kind: str) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Return the tensors of a safetensors file by name, and its metadata; `kind` is what error messages call the file.

    Raises
    ------
    DamagedFileError
        If there is no file, it is not in this format, or has tensors of a type that NumPy does not know.
    """
    if not path.is_file():
        raise DamagedFileError(path, kind, "no file")
    try:
        with safe_open(path, framework="numpy") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
            return tensors, dict(file.metadata() or {})
    except (SafetensorError, OSError, ValueError, TypeError, KeyError, AttributeError, OverflowError, MemoryError) as error:
        raise DamagedFileError(path, f"{kind} (safetensors)", f"{type(error).__name__}: {error}") from None

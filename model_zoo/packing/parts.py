"""Breakdown of the bytes of a packed checkpoint by purpose."""

from __future__ import annotations

from pathlib import Path

from safetensors import SafetensorError, safe_open

from model_zoo.errors import DamagedFileError

# Purpose of each tensor of the packed format; all other tensors contain values of weights.
PARTS = {"mask": "mask", "signs": "sign", "batch_norm": "batch_norm"}
VALUES, HEADER = "value", "header"


def file_parts(path: Path) -> dict[str, int]:
    """Return the bytes of a packed checkpoint by purpose; they add up to the size of the file.

    Returns
    -------
    dict of str to int
        `mask`, `sign`, `value` (weights that are not binary, scales and codebooks), `batch_norm`, and `header` (names, shapes,
        architecture, provenance).

    Raises
    ------
    DamagedFileError
        If the file does not exist or is not a safetensors file.
    """
    parts = dict.fromkeys((*PARTS.values(), VALUES, HEADER), 0)
    try:
        with safe_open(path, framework="numpy") as file:
            for name in file.keys():  # noqa: SIM118 - not a mapping
                parts[PARTS.get(name, VALUES)] += file.get_tensor(name).nbytes
    except (SafetensorError, OSError) as error:
        raise DamagedFileError(path, "a packed checkpoint (safetensors)", str(error)) from None
    parts[HEADER] = path.stat().st_size - sum(parts.values())
    return parts

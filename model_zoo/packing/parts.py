"""Breakdown of the bytes of a packed checkpoint by purpose."""

from __future__ import annotations

from pathlib import Path

from model_zoo.tensor_files import read_tensors

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
    for name, tensor in read_tensors(path, "a packed checkpoint")[0].items():
        parts[PARTS.get(name, VALUES)] += tensor.nbytes
    parts[HEADER] = path.stat().st_size - sum(parts.values())
    return parts

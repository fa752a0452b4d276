"""Stored state of a training run: everything that decides how it continues, written atomically and read without executing code."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from model_zoo.errors import DamagedFileError, UsageError, UserError
from model_zoo.exhaustion import is_memory
from model_zoo.files import placing
from model_zoo.training.migrations import VERSION, migrate
from model_zoo.training.recipe import Recipe

FORMAT = "robust-binary-training"


def state_path(folder: Path, recipe: str) -> Path:
    """Return the path of the state of a recipe's run, in the folder of its other results."""
    return folder / f"{recipe}.state.pt"


def arrays_sha256(images: np.ndarray, labels: np.ndarray) -> str:
    """Return the sha256 of training images uint8 [N, H, W, 3] and labels [N]."""
    digest = hashlib.sha256(f"{images.shape}".encode())
    digest.update(np.ascontiguousarray(images).tobytes())
    digest.update(np.ascontiguousarray(labels, dtype=np.int64).tobytes())
    return digest.hexdigest()


def write_state(path: Path, state: Mapping[str, Any]) -> None:
    """Write a state of tensors, numbers, strings, lists and dictionaries atomically; creates the folder if needed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with placing(path) as temporary:
        torch.save({"format": FORMAT, "version": VERSION, **state}, temporary)


def read_state(path: Path) -> dict[str, Any]:
    """Return a stored state, converted to the current version, with tensors on the CPU.

    Raises
    ------
    DamagedFileError
        If the file does not exist, is not a training state, is truncated, or has a newer version.
    """
    with restoring(path):
        state = torch.load(path, map_location="cpu", weights_only=True)
        if not isinstance(state, dict) or state.get("format") != FORMAT:
            raise DamagedFileError(path, "the state of a training run", "another file")
        if state["version"] > VERSION:
            raise DamagedFileError(path, f"version {VERSION} or older", f"version {state['version']}")
        return migrate(state)


@contextmanager
def restoring(path: Path) -> Iterator[None]:
    """Turn whatever goes wrong while a stored state is read or restored into a DamagedFileError that names the file."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        # Values of a damaged file may be of any type, and torch raises many exceptions when it reads one.
        if is_memory(error):
            raise
        first_line = next(iter(str(error).splitlines()), "")
        raise DamagedFileError(path, "the state of a training run", f"{type(error).__name__}: {first_line}") from None


def check_same(path: Path, state: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    """Check that a stored state has the expected values; raises UsageError naming the first that differs.

    A recipe may have been stored before some of its fields existed; these are filled in with their defaults.
    """
    for name, value in expected.items():
        if (_with_defaults(path, state[name]) if name == "recipe" else state[name]) != value:
            raise UsageError(f"{path} was started with another {name}: finish it with that one, or delete the file to start again")


def _with_defaults(path: Path, recipe: Mapping[str, Any]) -> dict[str, Any]:
    try:
        return Recipe.from_dict(recipe).to_dict()
    except UsageError as error:
        raise UsageError(f"{path} was started with another recipe, which cannot be read any more: {error}") from None

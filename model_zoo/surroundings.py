"""Protection of the process state from user code: settings of torch, the working folder, standard output, library functions."""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from model_zoo.adapters.user_modules import is_installed
from model_zoo.errors import RefusedError

# Functions that read and write each setting.
_SETTINGS: dict[str, tuple[Any, Any]] = {
    "torch's gradient mode": (torch.is_grad_enabled, torch.set_grad_enabled),
    "torch's number of threads": (torch.get_num_threads, torch.set_num_threads),
    "torch's default type": (torch.get_default_dtype, torch.set_default_dtype),
    "torch's precision of products": (torch.get_float32_matmul_precision, torch.set_float32_matmul_precision),
    "torch's default device": (torch.get_default_device, lambda device: torch.set_default_device(None if device.type == "cpu" else device)),
    "torch's detection of anomalies": (torch.is_anomaly_enabled, torch.autograd.set_detect_anomaly),
    "NumPy's treatment of errors": (np.geterr, lambda treatment: np.seterr(**treatment)),
    "Python's recursion limit": (sys.getrecursionlimit, sys.setrecursionlimit),
    "torch's deterministic mode": (torch.are_deterministic_algorithms_enabled, torch.use_deterministic_algorithms),
}


def settings() -> list[Any]:
    """Return the values of all settings, for `restore`."""
    return [read() for read, _ in _SETTINGS.values()]


def restore(before: list[Any]) -> list[str]:
    """Set all settings to the values `before` and return the names of those that had changed."""
    changed = []
    for (name, (read, write)), value in zip(_SETTINGS.items(), before, strict=True):
        if read() != value:
            write(value)
            changed.append(name)
    return changed


@contextmanager
def isolated_torch() -> Iterator[None]:
    """Seed torch's generator with 0 for the block; on exit, restore torch's settings and the generators of torch, NumPy and Python."""
    torch_settings, python_state, numpy_state = settings(), random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            yield
    finally:
        restore(torch_settings)
        random.setstate(python_state)
        np.random.set_state(numpy_state)


@contextmanager
def surroundings_restored() -> Iterator[None]:
    """Restore the working folder and standard output on exit; inside the block, printed text goes to standard error."""
    folder, output = Path.cwd(), sys.stdout
    sys.stdout = sys.stderr
    try:
        yield
    finally:
        sys.stdout = output
        with suppress(OSError):
            if Path.cwd() != folder:
                os.chdir(folder)


@contextmanager
def libraries_restored() -> Iterator[None]:
    """Restore functions and constants of torch and of this package on exit, and raise an error if the block replaced any.

    Raises
    ------
    RefusedError
        If one was replaced; the message names the first.
    """
    originals = {name: dict(vars(owner)) for name, owner in _owners().items()}
    try:
        yield
    finally:
        replaced = [
            text for name, owner in _owners().items() if name in originals for text in _restore_replaced(name, owner, originals[name])
        ]
    if replaced:
        raise RefusedError(f"model refused: its code replaces {replaced[0]}")


def _restore_replaced(name: str, owner: Any, originals: dict[str, Any]) -> list[str]:
    current = dict(vars(owner))
    changed = {key for key, value in originals.items() if key not in _PYTHON_ATTRIBUTES and current.get(key) is not value}
    # torch.Tensor inherits most of its methods, so that a new attribute may hide one of them.
    hidden = {key for key in current.keys() - originals.keys() if any(key in vars(base) for base in getattr(owner, "__mro__", ())[1:])}
    replaced = sorted(key for key in changed | hidden if not _is_library(name, current.get(key)))
    for key in replaced:
        if key in originals:
            setattr(owner, key, originals[key])
        else:
            delattr(owner, key)
    return [f"{name}.{key}" for key in replaced]


def _is_library(owner: str, value: Any) -> bool:
    """Return whether an installed package put `value` into torch, as some do when they are imported."""
    module = sys.modules.get(str(getattr(value, "__module__", None)))
    return owner.startswith("torch") and module is not None and is_installed(module)


# Attributes that Python changes without any assignment by user code.
_PYTHON_ATTRIBUTES = {"__annotations__", "__doc__", "__abstractmethods__"}


def _owners() -> dict[str, Any]:
    package_modules = {
        name: module for name, module in sys.modules.items() if name.split(".")[0] in ("harness", "model_zoo") and module is not None
    }
    torch_owners = {"torch": torch, "torch.Tensor": torch.Tensor, "torch.nn.functional": nn.functional, "torch.nn.Module": nn.Module}
    return {**package_modules, **torch_owners}

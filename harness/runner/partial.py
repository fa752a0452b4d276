"""State of a unit in progress: one file in the store, removed when the unit is done."""

from __future__ import annotations

import json
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from harness.attacks.common import Flag
from harness.attacks.memory import Saved
from model_zoo.documents import parse_json
from model_zoo.errors import DamagedFileError
from model_zoo.files import place


class PartialFile:
    """Memory of one unit in a file; see `harness.attacks.memory.Memory`. An unreadable file counts as missing."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def load(self) -> Saved | None:
        """Return the state that was saved last; None if there is none."""
        try:
            with safe_open(self.path, "pt") as file:
                metadata = file.metadata()
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
            flags = tuple(Flag(**flag) for flag in parse_json(metadata["flags"].encode(), self.path, "flags"))
            done = tuple(map(str, parse_json(metadata["done"].encode(), self.path, "names of components")))
            return Saved(done, tensors, flags)
        except (OSError, SafetensorError, ValueError, KeyError, TypeError, AttributeError, DamagedFileError):
            return None

    def save(self, saved: Saved) -> None:
        """Save a state in place of the last one."""
        metadata = {"done": json.dumps(saved.done), "flags": json.dumps([vars(flag) for flag in saved.flags])}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        place(self.path, save({name: tensor.contiguous().cpu() for name, tensor in saved.tensors.items()}, metadata))

    def forget(self) -> None:
        """Remove the file."""
        self.path.unlink(missing_ok=True)

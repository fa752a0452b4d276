"""Plug-in folders of a user, named by HARNESS_PLUGINS. Standard library only."""

from __future__ import annotations

import importlib.util
import os
import sys
from hashlib import sha256
from pathlib import Path
from types import ModuleType

from model_zoo.errors import UsageError, UserError

VARIABLE = "HARNESS_PLUGINS"


def plugin_folders() -> tuple[Path, ...]:
    """Return the folders that HARNESS_PLUGINS names; raises a UsageError for one that does not exist."""
    folders = tuple(Path(part).resolve() for part in os.environ.get(VARIABLE, "").split(os.pathsep) if part)
    for folder in folders:
        if not folder.is_dir():
            raise UsageError(f"no plug-in folder {folder} ({VARIABLE} or --plugins)")
    return folders


def add_plugin_folder(folder: Path) -> None:
    """Add a plug-in folder for this process and those it starts."""
    parts = [part for part in os.environ.get(VARIABLE, "").split(os.pathsep) if part]
    if str(folder.resolve()) not in parts:
        os.environ[VARIABLE] = os.pathsep.join([*parts, str(folder.resolve())])


def import_file(path: Path) -> ModuleType:
    """Import a plug-in's file under a unique name; raises a UserError that names the file if that fails."""
    name = f"_harness_plugin_{sha256(str(path).encode()).hexdigest()[:12]}_{path.stem}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # a plug-in may fail in any way
        del sys.modules[name]
        raise UserError(f"plug-in {path} cannot be loaded: {type(error).__name__}: {error}") from error
    return module

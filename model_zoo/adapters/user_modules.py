"""Modules that a user's file imports from its own folder, kept apart from modules of the same names elsewhere."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from model_zoo.errors import UsageError

_OURS = ("harness", "model_zoo")
_INSTALLED = tuple({str(Path(sysconfig.get_path(name)).resolve()) for name in ("stdlib", "platstdlib", "purelib", "platlib")})
_OUR_FOLDERS = tuple(str(Path(__file__).resolve().parents[2] / name) for name in _OURS)


class UserModules:
    """What one file imports that is neither installed nor part of this package.

    Inside `active` the file's folder comes first on the search path, and its modules hide others of their names (another file's, a
    script's, this package's own if the folder has a `model_zoo.py`). Outside they are out of sight: `sys.modules` is as it was.

    Attributes
    ----------
    file : Path
        The user's file.
    modules : dict
        By name. The file itself is one of them, under `main`.
    """

    def __init__(self, file: Path) -> None:
        self.file = file.resolve()
        # Under a name of its own, so that files of one name do not meet; layers find the file they are defined in through it.
        self.main = f"harness_factory_{hashlib.sha256(str(self.file).encode()).hexdigest()[:12]}"
        self.modules: dict[str, ModuleType] = {}
        self._paths = [str(self.file.parent)]
        self._is_active = False
        entries = list(self.file.parent.iterdir())
        packages = {path.name for path in entries if (path / "__init__.py").is_file()}
        self._provided = {path.stem for path in entries if path.suffix == ".py"} | packages

    def load(self) -> ModuleType:
        """Execute the file, inside `active`; whatever it raises comes out."""
        importlib.invalidate_caches()
        spec = importlib.util.spec_from_file_location(self.main, self.file)
        if spec is None or spec.loader is None:
            raise UsageError(f"{self.file} is no Python file")
        module = importlib.util.module_from_spec(spec)
        sys.modules[self.main] = module
        spec.loader.exec_module(module)
        return module

    @contextmanager
    def active(self) -> Iterator[None]:
        """Find the user's modules, and keep those that are imported."""
        if self._is_active:
            yield
            return
        before, paths = dict(sys.modules), list(sys.path)
        for name in self._hidden():
            del sys.modules[name]
        sys.modules.update(self.modules)
        sys.path[:0] = self._paths
        self._is_active = True
        try:
            yield
        finally:
            self._is_active = False
            self._paths = list(dict.fromkeys([*self._paths, *(path for path in sys.path if path not in paths)]))
            sys.path[:] = paths
            found = {name: module for name, module in sys.modules.items() if before.get(name) is not module}
            self.modules |= {name: module for name, module in found.items() if not is_installed(module)}
            for name in found.keys() & self.modules.keys():
                del sys.modules[name]
            sys.modules.update({name: module for name, module in before.items() if name not in sys.modules})

    def sha256(self) -> str:
        """Hash of the names and contents of all files that were imported."""
        digest = hashlib.sha256()
        for name, module in sorted(self.modules.items()):
            origin = getattr(module, "__file__", None)
            content = Path(origin).read_bytes() if origin and Path(origin).is_file() else b""
            digest.update(f"{'' if name == self.main else name} {hashlib.sha256(content).hexdigest()}\n".encode())
        return digest.hexdigest()

    def _hidden(self) -> list[str]:
        """Names of loaded modules that the folder has modules of its own for."""
        tops = {name for name in self._provided if name in sys.modules and not self._stays(name)}
        return [name for name in sys.modules if name.split(".")[0] in tops] if tops else []

    def _stays(self, name: str) -> bool:
        module = sys.modules[name]
        if name in _OURS:
            # Who works in a checkout of this package has it beside the file.
            return _origin(module).startswith(str(self.file.parent / name))
        return name == "__main__" or name in sys.stdlib_module_names or (_origin(module) != "" and is_installed(module))


def _origin(module: object) -> str:
    """Where a module comes from; "" for one that is built in."""
    file = getattr(module, "__file__", None)
    folders = list(getattr(module, "__path__", None) or [])
    return str(Path(file or folders[0]).resolve()) if file or folders else ""


def is_installed(module: object) -> bool:
    """Whether a module is Python's, in site-packages, or this package's own."""
    origin = _origin(module)
    return not origin or origin.startswith((*_INSTALLED, *_OUR_FOLDERS))

"""Isolation of the modules that a user's file imports from its folder from other modules of the same names."""

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
# Name of the package that a folder without `__init__.py` is for relative imports; the same for every folder, as identities contain it.
_FOLDER = "harness_user_folder"
# Name of the module that a user's file is; identities contain it, so that it must not depend on the file's folder.
_MAIN = "harness_user_file"
_INSTALLED = tuple({str(Path(sysconfig.get_path(name)).resolve()) for name in ("stdlib", "platstdlib", "purelib", "platlib")})
_OUR_FOLDERS = tuple(str(Path(__file__).resolve().parents[2] / name) for name in _OURS)


class UserModules:
    """Modules that one file imports and that are neither installed nor part of this package.

    Inside `active`, the file's folder comes first on the search path, and its modules hide others of the same names (those of another file
    or a script, and those of this package if the folder has a `model_zoo.py`). Outside, `sys.modules` does not contain them.

    Relative imports work: if the folder has an `__init__.py`, the file belongs to that package, and the folder that contains the outermost
    package is on the search path, too. Any other folder is a package without a parent.

    Attributes
    ----------
    file : Path
        The user's file.
    main : str
        Name of the file's module.
    modules : dict
        Imported modules by name, including the file under `main`; complete when the outermost `active` block has ended.
    """

    main = _MAIN

    def __init__(self, file: Path) -> None:
        self.file = file.resolve()
        self.modules: dict[str, ModuleType] = {}
        self._package, root = _package_of(self.file.parent)
        self._folders = list(dict.fromkeys([self.file.parent, root]))
        self._paths = [str(folder) for folder in self._folders]
        self._modules_outside: dict[str, ModuleType] | None = None
        entries = [path for folder in self._folders for path in folder.iterdir()]
        packages = {path.name for path in entries if (path / "__init__.py").is_file()}
        self._folder_modules = {path.stem for path in entries if path.suffix == ".py"} | packages

    def load(self) -> ModuleType:
        """Execute the file, inside `active`, and return its module; exceptions of the file propagate."""
        importlib.invalidate_caches()
        spec = importlib.util.spec_from_file_location(self.main, self.file)
        if spec is None or spec.loader is None:
            raise UsageError(f"{self.file} is not a Python file")
        module = importlib.util.module_from_spec(spec)
        if self._package == _FOLDER:
            sys.modules[_FOLDER] = ModuleType(_FOLDER)
            sys.modules[_FOLDER].__path__ = [str(self.file.parent)]
        # Python checks that the package is the parent of the specification's name; the module's own name is part of identities.
        module.__package__ = self._package
        spec.name = f"{self._package}.{self.main}"
        sys.modules[self.main] = module
        spec.loader.exec_module(module)
        return module

    @contextmanager
    def active(self) -> Iterator[None]:
        """Make the user's modules importable inside the block, and record those that are imported."""
        if self._modules_outside is not None:
            yield
            return
        previous_modules, previous_path = dict(sys.modules), list(sys.path)
        for name in self._shadowed():
            del sys.modules[name]
        sys.modules.update(self.modules)
        sys.path[:0] = self._paths
        self._modules_outside = previous_modules
        try:
            yield
        finally:
            imported = self._imported()
            self._modules_outside = None
            self._paths = list(dict.fromkeys([*self._paths, *(path for path in sys.path if path not in previous_path)]))
            sys.path[:] = previous_path
            self.modules |= imported
            for name in imported:
                del sys.modules[name]
            sys.modules.update({name: module for name, module in previous_modules.items() if sys.modules.get(name) is None})

    @property
    def names(self) -> frozenset[str]:
        """Names of all modules imported so far, including those of the current `active` block."""
        return frozenset(self.modules.keys() | self._imported().keys())

    def sha256(self) -> str:
        """Return the sha256 of the names and contents of all files that were imported."""
        digest = hashlib.sha256()
        for name, module in sorted(self.modules.items()):
            if name == _FOLDER:
                continue
            origin = getattr(module, "__file__", None)
            content = Path(origin).read_bytes() if origin and Path(origin).is_file() else b""
            digest.update(f"{'' if name == self.main else name} {hashlib.sha256(content).hexdigest()}\n".encode())
        return digest.hexdigest()

    def _imported(self) -> dict[str, ModuleType]:
        """Return the modules in `sys.modules` that are the user's; none outside of `active`."""
        outside = self._modules_outside
        if outside is None:
            return {}
        return {name: module for name, module in sys.modules.items() if outside.get(name) is not module and not is_installed(module)}

    def _shadowed(self) -> list[str]:
        """Return the names of loaded modules that modules of the folder replace."""
        top_levels = {name for name in self._folder_modules if name in sys.modules and not self._must_stay(name)}
        return [name for name in sys.modules if name.split(".")[0] in top_levels] if top_levels else []

    def _must_stay(self, name: str) -> bool:
        module = sys.modules[name]
        if name in _OURS:
            # In a checkout of this package, the user's file may be in the same folder as the package.
            return any(_origin(module).startswith(str(folder / name)) for folder in self._folders)
        return name == "__main__" or name in sys.stdlib_module_names or (_origin(module) != "" and is_installed(module))


def _package_of(folder: Path) -> tuple[str, Path]:
    """Return the name of the package that a folder is, and the folder to which imports of that name are relative."""
    names, root = list[str](), folder
    while (root / "__init__.py").is_file() and root != root.parent:
        names.insert(0, root.name)
        root = root.parent
    return (".".join(names), root) if names else (_FOLDER, folder)


def _origin(module: object) -> str:
    """Return the path of a module; "" for a built-in module."""
    file = getattr(module, "__file__", None)
    folders = list(getattr(module, "__path__", None) or [])
    return str(Path(file or folders[0]).resolve()) if file or folders else ""


def is_installed(module: object) -> bool:
    """Return whether a module belongs to Python, to site-packages, or to this package."""
    origin = _origin(module)
    return not origin or origin.startswith((*_INSTALLED, *_OUR_FOLDERS))

"""Registries of named things, open to other packages and to a user's folders. Standard library only.

A registry collects its entries from four places: modules or TOML files of this project, entry points of installed packages, plug-in
folders, and calls of `Registry.add`. Entry points are in the group `robust_binary_harness.<plural>`, plug-in folders are named by
HARNESS_PLUGINS (`harness --plugins DIR`), and their files are in `<DIR>/<plural>/`. Entries are loaded when a registry is first asked.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import pkgutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from operator import attrgetter
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from model_zoo.errors import UnknownNameError, UsageError, UserError
from model_zoo.plugin_folders import import_file, plugin_folders

if TYPE_CHECKING:
    from model_zoo.adapters import Adapter as Format
    from model_zoo.families import Family
    from model_zoo.training.methods import Method
    from model_zoo.training.recipe import Recipe

GROUP = "robust_binary_harness"
# Origin of the entries that ship.
PROJECT_ORIGIN = "this project"

T = TypeVar("T")


@dataclass(frozen=True)
class Entry(Generic[T]):
    """One entry of a registry.

    Attributes
    ----------
    load : callable
        Returns the entry.
    origin : str
        Where it comes from, for messages.
    file : Path or None
        The file that defines it, if it is known.
    is_plugin : bool
        Whether it comes from outside this project.
    """

    load: Callable[[], T]
    origin: str
    file: Path | None = None
    is_plugin: bool = True


class Registry(Generic[T]):
    """Named entries of one type.

    Parameters
    ----------
    kind : str
        What one entry is called in messages: "attack".
    plural : str
        Last part of the entry point group, and folder name in plug-in folders: "attacks".
    accepts : str
        "module:Type" of the entries. "callable" accepts any function.
    listing : str
        Command that lists the entries.
    packages : sequence of str
        Packages of this project whose modules define entries.
    attribute : str, optional
        Attribute of a module that holds its entry, a list of entries with `name`, or a mapping from names to entries.
    by_module : bool
        Whether an entry is named like its module, with hyphens for underscores; only the module that is asked for is then imported.
    files : str, optional
        "package:folder" of this project's TOML files.
    read : str, optional
        "module:function" that reads a TOML file, for registries whose entries may be TOML files.
    """

    def __init__(
        self,
        kind: str,
        plural: str,
        accepts: str,
        listing: str,
        *,
        packages: Sequence[str] = (),
        attribute: str | None = None,
        by_module: bool = False,
        files: str | None = None,
        read: str | None = None,
    ) -> None:
        self.kind, self.plural, self.accepts, self.listing = kind, plural, accepts, listing
        self.packages, self.attribute, self.by_module = packages, attribute, by_module
        self.files, self.read = files, read
        self._added: dict[str, Entry[T]] = {}
        self._loaded: dict[str, T] = {}
        self._collecting: dict[str, Entry[T]] | None = None
        self._collected: tuple[tuple[Path, ...], dict[str, Entry[T]]] | None = None

    def names(self) -> list[str]:
        """Return the names of all entries, sorted."""
        return sorted(self.entries())

    def get(self, name: str) -> T:
        """Return the entry called `name`.

        If entries may be TOML files, the path of one is accepted too.

        Raises
        ------
        UnknownNameError
            If there is no such entry; the message has the near miss.
        UserError
            If the entry cannot be loaded or is of another type.
        """
        if self.read is not None and name.endswith(".toml"):
            path = Path(name)
            if not path.is_file():
                raise UsageError(f"no {self.kind} file {name}")
            return self._checked(cast(T, _resolve(self.read)(path)), name)
        entry = self.origin(name)
        if name not in self._loaded:
            self._loaded[name] = self._checked(entry.load(), entry.origin)
        return self._loaded[name]

    def items(self) -> Iterator[tuple[str, T]]:
        """Yield names and entries in order of name."""
        for name in self.names():
            yield name, self.get(name)

    def origin(self, name: str) -> Entry[T]:
        """Return where an entry comes from; raises an UnknownNameError if there is none."""
        if name not in self.entries():
            raise UnknownNameError(self.kind, name, self.entries(), self.listing)
        return self.entries()[name]

    def add(self, name: str, entry: T, origin: str = "added by a program") -> None:
        """Register an entry in this process; raises a UsageError if the name is taken or the entry is of another type."""
        self._checked(entry, origin)
        if name in self.entries():
            raise UsageError(f"{self.kind} {name!r} is already registered ({self.entries()[name].origin})")
        self._added[name] = Entry(lambda: entry, origin)
        self._collected = None

    @contextmanager
    def temporarily(self, name: str, entry: T) -> Iterator[None]:
        """Register an entry while the block runs."""
        self.add(name, entry)
        try:
            yield
        finally:
            del self._added[name]
            self._loaded.pop(name, None)
            self._collected = None

    def entries(self) -> Mapping[str, Entry[T]]:
        """Return all entries by name, without loading those that need not be.

        Raises
        ------
        UserError
            If two entries have one name, or a plug-in cannot be imported; names the plug-in.
        """
        folders = plugin_folders()
        files = tuple(path for folder in folders for path in sorted((folder / self.plural).glob("*.*")))
        if self._collecting is not None:
            # A plug-in that is being imported asks: it sees the entries that come before it.
            return self._collecting
        if self._collected is None or self._collected[0] != files:
            collected: dict[str, Entry[T]] = {}
            self._collecting = collected
            try:
                for name, entry in self._all(folders):
                    if name in collected:
                        raise UserError(f"two entries are called {self.kind} {name!r}: {collected[name].origin}, and {entry.origin}")
                    collected[name] = entry
            finally:
                self._collecting = None
            self._loaded.clear()
            self._collected = files, collected
        return self._collected[1]

    def _all(self, folders: tuple[Path, ...]) -> Iterator[tuple[str, Entry[T]]]:
        yield from self._added.items()
        for package in self.packages:
            yield from self._of_package(package)
        if self.files is not None:
            package, data = self.files.split(":")
            yield from self._of_files(_package_path(package) / data, PROJECT_ORIGIN)
        for point in importlib.metadata.entry_points(group=f"{GROUP}.{self.plural}"):
            yield from self._of_entry_point(point)
        for folder in folders:
            yield from self._of_files(folder / self.plural)
            if self.packages:
                for path in sorted((folder / self.plural).glob("*.py")):
                    yield from self._of_module(import_file(path), str(path), path)

    def _of_package(self, package: str) -> Iterator[tuple[str, Entry[T]]]:
        for module in pkgutil.iter_modules([str(_package_path(package))]):
            name = f"{package}.{module.name}"
            if self.by_module:
                load = partial(_resolve, f"{name}:{self.attribute}")
                yield module.name.replace("_", "-"), Entry(load, PROJECT_ORIGIN, is_plugin=False)
            else:
                yield from self._of_module(importlib.import_module(name), PROJECT_ORIGIN, None)

    def _of_module(self, module: ModuleType, origin: str, file: Path | None) -> Iterator[tuple[str, Entry[T]]]:
        entries = getattr(module, str(self.attribute), None)
        if entries is None:
            if file is not None:
                raise UserError(f"plug-in {origin} cannot be used: it has no {self.attribute}, the {self.kind} that it defines")
            return
        yield from self._named(entries, origin, file)

    def _of_files(self, folder: Path, origin: str | None = None) -> Iterator[tuple[str, Entry[T]]]:
        if self.read is not None:
            for path in sorted(folder.glob("*.toml")):
                yield path.stem, Entry(partial(_read, self.read, path), origin or str(path), path, is_plugin=origin is None)

    def _of_entry_point(self, point: importlib.metadata.EntryPoint) -> Iterator[tuple[str, Entry[T]]]:
        package = "" if point.dist is None else f" of {point.dist.name} {point.dist.version}"
        origin = f"entry point {point.name!r}{package}"
        try:
            loaded = point.load()
        except Exception as error:  # a plug-in may fail in any way
            raise UserError(f"plug-in {origin} cannot be loaded: {type(error).__name__}: {error}") from error
        module = sys.modules.get(point.module)
        file = Path(module.__file__) if module is not None and module.__file__ else None
        if isinstance(loaded, (str, Path)) and self.read is not None:
            # A folder of TOML files, or one file.
            path = Path(loaded)
            paths = sorted(path.glob("*.toml")) if path.is_dir() else [path]
            for item in paths:
                yield item.stem, Entry(partial(_read, self.read, item), origin, item)
        elif isinstance(loaded, (list, tuple, Mapping)):
            yield from self._named(loaded, origin, file)
        else:
            yield point.name, Entry(lambda: loaded, origin, file)

    def _named(self, entries: Any, origin: str, file: Path | None) -> Iterator[tuple[str, Entry[T]]]:
        if isinstance(entries, Mapping):
            named = dict(entries)
        elif isinstance(entries, (list, tuple)):
            named = {entry.name: entry for entry in entries}
        else:
            default = file.stem.replace("_", "-") if file is not None else ""
            named = {getattr(entries, "name", default): entries}
        for name, entry in named.items():
            yield name, Entry(partial(_same, entry), origin, file, is_plugin=file is not None or origin != PROJECT_ORIGIN)

    def _checked(self, entry: T, origin: str) -> T:
        is_right = callable(entry) if self.accepts == "callable" else isinstance(entry, _resolve(self.accepts))
        if not is_right:
            raise UsageError(f"{origin}: {self.kind} of type {self.accepts.split(':')[-1]} expected, found {type(entry).__name__}")
        return entry


def source_sha256(entry: Entry[Any]) -> str | None:
    """Return the hash of the file that defines a plug-in's entry; None for an entry of this project."""
    return None if entry.file is None or not entry.is_plugin else sha256(entry.file.read_bytes()).hexdigest()


def _package_path(package: str) -> Path:
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError(f"no package {package}")
    return Path(next(iter(spec.submodule_search_locations)))


def _resolve(target: str) -> Any:
    """Return the object that "module:attribute" or "module:Class.method" names."""
    module, names = target.split(":")
    return attrgetter(names)(importlib.import_module(module))


def _read(reader: str, path: Path) -> Any:
    return _resolve(reader)(path)


def _same(entry: T) -> T:
    return entry


FAMILIES: Registry[Family] = Registry(
    "family", "families", "model_zoo.families:Family", "harness ls families", packages=("model_zoo.families",), attribute="FAMILY"
)
METHODS: Registry[type[Method]] = Registry(
    "training method",
    "methods",
    "callable",
    "harness ls methods",
    packages=("model_zoo.training.methods",),
    attribute="METHOD",
    by_module=True,
)
ARCHITECTURES: Registry[Callable[..., Any]] = Registry(
    "architecture",
    "architectures",
    "callable",
    "harness ls architectures",
    packages=("model_zoo.architectures",),
    attribute="ARCHITECTURES",
)
FORMATS: Registry[Format] = Registry(
    "format", "formats", "model_zoo.adapters:Adapter", "harness ls formats", packages=("model_zoo.adapters",), attribute="ADAPTER"
)
RECIPES: Registry[Recipe] = Registry(
    "recipe",
    "recipes",
    "model_zoo.training.recipe:Recipe",
    "harness ls recipes",
    files="model_zoo:recipes",
    read="model_zoo.training.recipe:Recipe.load",
)

"""References to models: a registered id, a record file, FILE.py:FUNCTION, an exported file, or robustbench:NAME."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from torch import nn

from model_zoo import registry, user_model
from model_zoo.adapters import exported, robustbench
from model_zoo.adapters.preprocessing import NO_PREPROCESSING, Preprocessing
from model_zoo.errors import MissingDataError, UsageError, UserError
from model_zoo.recorded import load_recorded
from model_zoo.schema import Attackable, Record
from model_zoo.user_code import user_code
from model_zoo.user_model import UserModel

# FILE.py:FUNCTION, followed by @FILE if weights come from a file.
_FACTORY = re.compile(r"(?P<file>.+\.py):(?P<function>[A-Za-z_]\w*)(@(?P<weights>.+))?")
# robustbench:NAME or robustbench:DATASET/NORM/NAME, followed by @FOLDER for the folder of its file.
_ROBUSTBENCH = re.compile(r"robustbench:((?P<dataset>[a-z0-9]+)/(?P<norm>\w+)/)?(?P<name>[^/@]+)(@(?P<folder>.+))?")


class _Reference(ABC):
    """Base class of references; `str` returns the text that `parse` turns into an equal reference."""

    @abstractmethod
    def describe(self) -> Attackable:
        """Return the facts about the model that decide its identity."""

    @abstractmethod
    def open(self) -> tuple[Attackable, nn.Module]:
        """Return the description and the model: frozen, in eval mode, float32 [N, 3, H, W] in [0, 1] to logits [N, classes]."""

    def load(self) -> nn.Module:
        """Return the model of `open`, with this reference as text in its attribute `loaded_from`."""
        _, model = self.open()
        model.loaded_from = str(self)  # type: ignore[assignment]
        return model


class _WithRecord(_Reference):
    """Base class of references to models with a record."""

    @property
    @abstractmethod
    def record_path(self) -> Path:
        """Path of the record file."""

    @property
    def checkpoint_path(self) -> Path:
        """Path of the checkpoint."""
        return registry.checkpoint_of(self.describe(), self.record_path)

    def describe(self) -> Record:
        """Return the record, which is read once; raises the errors of `record_path` and `registry.read_record`."""
        return self._record

    def open(self) -> tuple[Record, nn.Module]:
        """Return the record and the model.

        Raises
        ------
        UserError
            As `describe` and `model_zoo.recorded.load_recorded` raise it.
        MissingDataError
            If only the outcomes of the model ship and its checkpoint is not on this machine.
        """
        if not self.checkpoint_path.is_file() and (reason := registry.absence(str(self))) is not None:
            raise MissingDataError(reason)
        return self.describe(), load_recorded(self.describe(), self.checkpoint_path)

    @cached_property
    def _record(self) -> Record:
        return registry.read_record(self.record_path)


@dataclass(frozen=True)
class RegisteredModel(_WithRecord):
    """Model of the registry."""

    id: str

    def __str__(self) -> str:
        return self.id

    @property
    def record_path(self) -> Path:
        """Path of the record file; raises an UnknownNameError if no registered model has the id."""
        return registry.record_path(self.id)


@dataclass(frozen=True)
class RecordFile(_WithRecord):
    """Model of a record file, whose checkpoint is in the same folder."""

    file: str

    def __str__(self) -> str:
        return self.file

    @property
    def record_path(self) -> Path:
        """Path of the record file; raises a UsageError if it does not exist."""
        path = Path(self.file)
        if not path.is_file():
            raise UsageError(f"no record file {self.file}")
        return path


class _WithoutRecord(_Reference):
    """Base class of references to user models, which are described by inspection; paths are absolute."""

    def describe(self) -> UserModel:
        """Load the model and return its description; raises the errors of `open`."""
        return self.open()[0]

    def open(self) -> tuple[UserModel, nn.Module]:
        """Return the description and the model; raises the errors of the function of `model_zoo.user_model` for this kind."""
        with user_code(f"{self} failed"):
            try:
                return self._open()
            except UserError as error:
                if self.short_name not in str(error):
                    error.args = (f"{self.short_name}: {error.args[0]}",)
                raise

    @property
    @abstractmethod
    def short_name(self) -> str:
        """Name of the file or of the model without folders, which every error message contains."""

    @abstractmethod
    def _open(self) -> tuple[UserModel, nn.Module]: ...


@dataclass(frozen=True)
class FactoryFile(_WithoutRecord):
    """Function of a Python file that makes a network, which is filled from a file of weights if there is one."""

    path: Path
    function: str
    weights: Path | None = None

    def __str__(self) -> str:
        return f"{self.path}:{self.function}" + (f"@{self.weights}" if self.weights else "")

    @property
    def short_name(self) -> str:
        """Name of the Python file."""
        return self.path.name

    def _open(self) -> tuple[UserModel, nn.Module]:
        return user_model.open_factory(self.path, self.function, self.weights)


@dataclass(frozen=True)
class ExportedFile(_WithoutRecord):
    """File with TorchScript, torch.export or ONNX, and the preprocessing that it does not contain."""

    path: Path
    preprocessing: Preprocessing = NO_PREPROCESSING

    def __str__(self) -> str:
        return f"{self.path}{self.preprocessing.to_text()}"

    @property
    def short_name(self) -> str:
        """Name of the file."""
        return self.path.name

    def _open(self) -> tuple[UserModel, nn.Module]:
        return user_model.open_exported(self.path, self.preprocessing)


@dataclass(frozen=True)
class RobustBenchEntry(_WithoutRecord):
    """Model of a RobustBench leaderboard; its file is downloaded into `folder` if it is not there."""

    name: str
    dataset: str
    norm: str
    folder: Path

    def __str__(self) -> str:
        return f"robustbench:{self.dataset}/{self.norm}/{self.name}@{self.folder}"

    @property
    def short_name(self) -> str:
        """Name of the model on the leaderboard."""
        return self.name

    def _open(self) -> tuple[UserModel, nn.Module]:
        return user_model.open_robustbench(self.name, self.dataset, self.norm, self.folder)


RecordReference = RegisteredModel | RecordFile
UserReference = FactoryFile | ExportedFile | RobustBenchEntry
Reference = RecordReference | UserReference


def parse(text: str, weights: Path | None = None, preprocessing: Preprocessing = NO_PREPROCESSING) -> Reference:
    """Return the reference that a text stands for; no file is read.

    Parameters
    ----------
    text : str
        Registered id, path of a record (.toml), "FILE.py:FUNCTION", "FILE.py:FUNCTION@WEIGHTS", file of an exported network,
        "robustbench:NAME" (of the CIFAR-10 Linf leaderboard) or "robustbench:DATASET/NORM/NAME", both with "@FOLDER" for another folder
        than `models`.
    weights : Path, optional
        File of weights for FILE.py:FUNCTION.
    preprocessing : Preprocessing
        Preprocessing for an exported network, in place of what the text says of it.

    Raises
    ------
    UsageError
        If `weights` or `preprocessing` does not apply to this kind of model, or the text names a Python file without a function.
    """
    path, _, query = text.partition("?")
    factory = _FACTORY.fullmatch(text)
    if preprocessing != NO_PREPROCESSING and (factory is not None or not path.endswith(exported.SUFFIXES)):
        raise UsageError("--scale, --mean, --std, --channels-last and --output are for a file with an exported network (ONNX, .pt2, .ts)")
    if weights is not None and (factory is None or factory["weights"]):
        raise UsageError("a file of weights needs a function that makes the network: FILE.py:FUNCTION")
    if match := _ROBUSTBENCH.fullmatch(text):
        folder = Path(match["folder"] or robustbench.FOLDER).resolve()
        return RobustBenchEntry(match["name"], match["dataset"] or "cifar10", match["norm"] or "Linf", folder)
    if factory is not None:
        weights = weights or (Path(factory["weights"]) if factory["weights"] else None)
        return FactoryFile(Path(factory["file"]).resolve(), factory["function"], weights.resolve() if weights else None)
    if path.endswith(".py"):
        raise UsageError(f"name the function of {text} that makes the network: {text}:FUNCTION")
    if path.endswith(exported.SUFFIXES):
        return ExportedFile(Path(path).resolve(), preprocessing if preprocessing != NO_PREPROCESSING else Preprocessing.from_text(query))
    return parse_recorded(text)


def parse_recorded(text: str) -> RecordReference:
    """Return the reference to a model with a record: a path that ends in .toml, otherwise a registered id."""
    return RecordFile(text) if text.endswith(".toml") else RegisteredModel(text)

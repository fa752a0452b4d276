"""Trained models of a store: one document per training, and the model's files beside it while they are on this machine.

`trainings/<id>.json` describes a training and its results. `trainings/<id>/` contains the record, the packed checkpoint and the curve,
or the state of a training in progress. A packed store has all documents in `trainings.json.zst`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from pydantic import Field

from harness.runner.compressed import file_stamp, read_compressed, write_compressed
from harness.runner.documents import Document, Part
from harness.runner.identity import unit_id
from model_zoo.documents import validated
from model_zoo.errors import DamagedFileError
from model_zoo.files import place
from model_zoo.schema import Record
from model_zoo.training.curve import check_curve

PACKED = "trainings.json.zst"
PACK_VERSION = 1
# Files of a trained model: its record, its checkpoint and its curve.
MODEL_SUFFIXES = (".toml", ".safetensors", ".csv")


class TrainingDocument(Document):
    """Description of a training and its results.

    Attributes
    ----------
    training : str
        The unit's id, the sha256 of `identity`.
    recipe : str
        The recipe's id, which the model has too.
    record : mapping
        Fields of the model's record.
    curve : str
        Training curve as CSV.
    seconds : float
        Run time over all processes that worked on it.
    marks : tuple of str
        What readers must know of the model, such as "empty layer".
    environment : mapping
        Software and hardware.
    """

    KIND = "a training"

    training: str
    identity: dict[str, Any]
    recipe: str = Field(pattern=r"^[a-z0-9][a-z0-9.-]{0,199}$")
    record: dict[str, Any]
    curve: str
    seconds: float = Field(ge=0, allow_inf_nan=False)
    marks: tuple[str, ...] = ()
    environment: dict[str, Any] = Field(default_factory=dict)

    def model(self) -> Record:
        """Return the model's record; raises a DamagedFileError if its fields are not those of a record."""
        return validated(Record, self.record, Path(self.recipe), "a model record")


class Trainings:
    """The trainings of a store.

    Parameters
    ----------
    root : Path
        Folder of the store.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.folder = root / "trainings"

    def work_folder(self, training: str) -> Path:
        """Return the folder of the model's files."""
        return self.folder / training

    def record_path(self, document: TrainingDocument) -> Path:
        """Return the path of the model's record file, which exists if the model is on this machine."""
        return self.work_folder(document.training) / f"{document.recipe}.toml"

    def document_path(self, training: str) -> Path:
        """Return the path of a training's document, if it is not in the pack."""
        return self.folder / f"{training}.json"

    def ids(self) -> list[str]:
        """Return the ids of all finished trainings, sorted."""
        return sorted({path.stem for path in self.folder.glob("*.json")} | set(self._packed()))

    def holds(self, training: str) -> bool:
        """Return whether the training is done and its document readable."""
        try:
            self.read(training)
        except (DamagedFileError, FileNotFoundError):
            return False
        return True

    def read(self, training: str) -> TrainingDocument:
        """Return the document of a finished training.

        Raises
        ------
        FileNotFoundError
            If the training was never finished.
        DamagedFileError
            If the document cannot be read or is that of another training.
        """
        path = self.document_path(training)
        try:
            document = TrainingDocument.read(path)
        except FileNotFoundError:
            packed = self._packed()
            if training not in packed:
                raise
            return packed[training]
        if document.training != training:
            raise DamagedFileError(path, "a training's document", f"that of {document.training[:12]}")
        return _checked(document, path)

    def read_all(self) -> Iterator[TrainingDocument | DamagedFileError]:
        """Yield every finished training in order of id; for a damaged one, the error that describes it."""
        try:
            names = self.ids()
        except DamagedFileError as error:
            yield error
            return
        for name in names:
            try:
                yield self.read(name)
            except DamagedFileError as error:
                yield error

    def write(self, document: TrainingDocument) -> None:
        """Store a document."""
        self.folder.mkdir(parents=True, exist_ok=True)
        place(self.document_path(document.training), document.to_bytes())

    def write_pack(self, documents: Iterable[TrainingDocument]) -> list[Path]:
        """Write documents to the pack in place of those that it has, and return its path; write nothing if there are no documents."""
        contents = [document.content() for document in documents]
        if not contents:
            return []
        path = self.root / PACKED
        write_compressed(path, {"trainings": contents}, PACK_VERSION)
        return [path]

    def adopt(self, document: TrainingDocument, other: Trainings) -> None:
        """Store a training that another store has finished, with the files of its model that are there."""
        for path in sorted(other.work_folder(document.training).glob(f"{document.recipe}.*")):
            if path.suffix in MODEL_SUFFIXES:
                target = self.work_folder(document.training) / path.name
                target.parent.mkdir(parents=True, exist_ok=True)
                place(target, path.read_bytes())
        self.write(document)

    def _packed(self) -> Mapping[str, TrainingDocument]:
        path = self.root / PACKED
        stamp = file_stamp(path)
        return {} if stamp is None else _open(path, stamp)


class _Identity(Part):
    """Identity of a training."""

    protocol: int
    training: dict[str, Any]
    data: str
    engine: str


def _checked(document: TrainingDocument, path: Path) -> TrainingDocument:
    """Return a document whose identity, record and curve are what readers expect.

    Raises a DamagedFileError that names `path` if the identity does not hash to the training, or the record is that of another recipe.
    """
    validated(_Identity, document.identity, path, "the identity of a training")
    if (hashed := unit_id(document.identity)) != document.training:
        raise DamagedFileError(path, "an identity that hashes to its name", hashed)
    record = validated(Record, document.record, path, "a training with a model record")
    if record.id != document.recipe:
        raise DamagedFileError(path, f"the record of {document.recipe}", f"that of {record.id}")
    try:
        check_curve(document.curve)
    except ValueError as error:
        raise DamagedFileError(path, "a training curve as CSV", str(error)) from None
    return document


class _PackContent(Part):
    trainings: tuple[dict[str, Any], ...]


@lru_cache(maxsize=4)
def _open(path: Path, stamp: tuple[int, int, int]) -> Mapping[str, TrainingDocument]:
    kind = "packed trainings"
    packed = validated(_PackContent, read_compressed(path, kind, PACK_VERSION), path, kind)
    documents = [_checked(TrainingDocument.parse(path, entry), path) for entry in packed.trainings]
    if len({document.training for document in documents}) < len(documents):
        raise DamagedFileError(path, f"{kind}, each once", "one several times")
    return {document.training: document for document in documents}

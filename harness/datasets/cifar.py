"""CIFAR-10 and CIFAR-100, whole splits: the official python batches, checked by md5, or arrays in .npz files.

CIFAR-10 is in its official order. Copies of CIFAR-100 differ in order (some are sorted by class), so every copy is sorted by the sha256 of
each image with its label; `index` is the position in that order, which is the same on every machine and mixes the classes from the start.
"""

from __future__ import annotations

import hashlib
import io
import logging
import pickle
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from harness.datasets.base import DataKind, DatasetInfo, ImageSet, Source
from harness.datasets.cifar_kinds import CIFAR10_KIND, CIFAR100_KIND
from harness.datasets.class_names import CIFAR10, CIFAR100
from model_zoo.arrays import read_arrays
from model_zoo.download import Report, fetch
from model_zoo.errors import DamagedFileError, MissingDataError, UnknownNameError
from model_zoo.files import place

TRAIN, TEST = "train", "test"
TRAINING_IMAGES = 50_000


@dataclass(frozen=True)
class Cifar:
    """Where one of the two data sets comes from, and the hashes of its files.

    `batches` maps each split to file names and their published md5, in the official order. `meta` is the file with the class names, which
    other packages read. `content` maps each split to the `content_sha256` of its arrays. If copies differ in order, any order is accepted
    (`ordered` is False).
    """

    kind: DataKind
    title: str
    classes: tuple[str, ...]
    folder: str
    url: str
    md5: str
    label_key: bytes
    batches: Mapping[str, Mapping[str, str]]
    meta: str
    content: Mapping[str, str]
    ordered: bool

    @property
    def name(self) -> str:
        """Name of the kind and of the data set with the whole test split."""
        return self.kind.name


SETS = {
    "cifar10": Cifar(
        CIFAR10_KIND,
        "CIFAR-10 test split",
        CIFAR10,
        "cifar-10-batches-py",
        "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
        "c58f30108f718f92721af3b95e74349a",
        b"labels",
        {
            TRAIN: {
                "data_batch_1": "c99cafc152244af753f735de768cd75f",
                "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
                "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
                "data_batch_4": "634d18415352ddfa80567beed471001a",
                "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
            },
            TEST: {"test_batch": "40351d587109b95175f43aff81a1287e"},
        },
        "batches.meta",
        {
            TRAIN: "f346965a853863b685ff3f267b92ee7672256cd6bf6c129812f80c65b0ca1b84",
            TEST: "e54cbeffd1115844b94dc3b192d5e925e31f92bd4dded0cbb618da6f6e628569",
        },
        True,
    ),
    "cifar100": Cifar(
        CIFAR100_KIND,
        "CIFAR-100 test split, fine labels",
        CIFAR100,
        "cifar-100-python",
        "https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz",
        "eb9058c3a382ffc7106e4002c42a8d85",
        b"fine_labels",
        {TRAIN: {"train": "16019d7e3df5f24257cddd939b257f8d"}, TEST: {"test": "f0ef6b0ae62326f3e7ffdfab6717acfc"}},
        "meta",
        {
            TRAIN: "1c84180f6d8ae8d7ff27cd3f4b3ab4ba9f05ee6fe6c2d0b33773ae0c088aeb99",
            TEST: "aed05841c627c0c04bb6b9b75c9e1abcce9b5bf3ef2ea06d606088a6eb685e18",
        },
        False,
    ),
}
# Globals that an official batch may refer to, besides plain containers and numbers, and the modules that define them today.
_ALLOWED_GLOBALS = {
    ("numpy.core.multiarray", "_reconstruct"): "numpy._core.multiarray",
    ("numpy", "ndarray"): "numpy",
    ("numpy", "dtype"): "numpy",
    ("_codecs", "encode"): "_codecs",
}


class _BatchUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED_GLOBALS:
            raise pickle.UnpicklingError(f"{module}.{name} is not part of an official batch")
        return super().find_class(_ALLOWED_GLOBALS[module, name], name)


def content_sha256(images: np.ndarray, labels: np.ndarray, ordered: bool) -> str:
    """Return the hash of images uint8 [N, 32, 32, 3] with their labels; the same in any order unless `ordered`."""
    hashes = _image_hashes(images, labels)
    return hashlib.sha256(b"".join(hashes if ordered else sorted(hashes))).hexdigest()


def _image_hashes(images: np.ndarray, labels: np.ndarray) -> list[bytes]:
    pairs = zip(images, labels, strict=True)
    return [hashlib.sha256(image.tobytes() + int(label).to_bytes(2, "little")).digest() for image, label in pairs]


def read_batch(path: Path, md5: str, label_key: bytes) -> tuple[np.ndarray, np.ndarray]:
    """Return images uint8 [N, 32, 32, 3] and labels int64 [N] of an official batch, which is unpickled only if its md5 is `md5`.

    Raises
    ------
    DamagedFileError
        If the md5 differs.
    """
    content = path.read_bytes()
    actual = hashlib.md5(content, usedforsecurity=False).hexdigest()
    if actual != md5:
        raise DamagedFileError(path, f"md5 {md5}", f"{actual} ({len(content):,} bytes)")
    batch = _BatchUnpickler(io.BytesIO(content), encoding="bytes").load()
    images = batch[b"data"].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    return np.ascontiguousarray(images), np.array(batch[label_key], np.int64)


def read_published(path: Path, content: str, ordered: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return images and labels of an .npz file whose `content_sha256` must be `content`.

    Raises
    ------
    DamagedFileError
        If the file cannot be read or contains other images.
    """
    images, labels = read_arrays(path)
    is_valid = images.shape[1:] == (32, 32, 3) and bool(((labels >= 0) & (labels < 100)).all())
    actual = content_sha256(images, labels, ordered) if is_valid else f"images {list(images.shape)}, or labels not from 0 to 99"
    if actual != content:
        raise DamagedFileError(path, f"images and labels with content sha256 {content}", actual)
    return images, labels


def read_split(data: Cifar, split: str, folder: Path, download: bool = False, report: Report = lambda done, total: None) -> ImageSet:
    """Return a whole split from the files in `folder`, in the order that the module describes; downloads them if allowed and absent.

    Raises
    ------
    MissingDataError
        If the split is absent; the message says what to do.
    DamagedFileError
        If a file is not the official one.
    """
    batches, arrays = folder / data.folder, folder / f"{data.name}_{split}.npz"
    if download and not _has_batches(data, split, folder) and not arrays.is_file():
        fetch_batches(data, folder, report)
    if _has_batches(data, split, folder):
        parts = [read_batch(batches / file, md5, data.label_key) for file, md5 in data.batches[split].items()]
        images, labels = (np.concatenate([part[array_index] for part in parts]) for array_index in (0, 1))
    elif arrays.is_file():
        images, labels = read_published(arrays, data.content[split], data.ordered)
    else:
        raise MissingDataError(f"{data.name}: no complete {data.folder} and no {arrays.name} in {folder}. {download_hint(data)}")
    if not data.ordered:
        hashes = _image_hashes(images, labels)
        order = np.array(sorted(range(len(hashes)), key=hashes.__getitem__))
        images, labels = images[order], labels[order]
    return ImageSet(data.name, images, labels, np.arange(len(images)), data.classes)


def load_train(name: str, folder: Path, download: bool = False) -> ImageSet:
    """Return the training split of "cifar10" or "cifar100", see `read_split`; UnknownNameError for another name."""
    if name not in SETS:
        raise UnknownNameError("training data set", name, SETS, "harness ls datasets")
    return read_split(SETS[name], TRAIN, folder, download)


def download_hint(data: Cifar) -> str:
    """Return a sentence that tells users what to do if the data is absent."""
    return f"Name its folder with --data-dir or HARNESS_DATA_DIR, allow --download, or use {data.name}-sample, which ships."


def _has_batches(data: Cifar, split: str, folder: Path) -> bool:
    return all((folder / data.folder / file).is_file() for file in data.batches[split])


def fetch_batches(data: Cifar, data_dir: Path, report: Report = lambda done, total: None) -> None:
    """Download the official batches of both splits, and the class names, into `data_dir`.

    Raises the errors of `model_zoo.download.fetch`, and MissingDataError if the archive cannot be unpacked.
    """
    logging.getLogger("pooch").setLevel(logging.ERROR)
    archive = fetch(data.url, data.md5, data_dir, download_hint(data), report)
    folder = data_dir / data.folder
    expected = {data.meta, *(file for files in data.batches.values() for file in files)}
    try:
        folder.mkdir(exist_ok=True)
        with tarfile.open(archive) as members:
            for member in members:
                # Only known files are extracted, by file name alone, so that the archive does not decide where they are written.
                name = PurePosixPath(member.name).name
                content = members.extractfile(member) if name in expected and member.isfile() else None
                if content is not None:
                    place(folder / name, content.read())
    except OSError as error:
        raise MissingDataError(f"{archive.name} cannot be unpacked into {folder}: {error}") from None


def _make_source(data: Cifar) -> Source:
    def present(folder: Path) -> bool:
        return _has_batches(data, TEST, folder) or (folder / f"{data.name}_{TEST}.npz").is_file()

    info = DatasetInfo(data.name, data.title, data.kind, 10_000, present, download_hint(data))
    read = partial(read_split, data, TEST)
    return Source(
        info,
        lambda folder, n, download: read(folder, download),
        # The function is looked up when it is called, so that tests can replace it.
        read_training=lambda folder, download: load_train(data.name, folder, download),
        training_images=TRAINING_IMAGES,
    )


SOURCES = {name: _make_source(data) for name, data in SETS.items()}

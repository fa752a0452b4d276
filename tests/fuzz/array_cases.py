"""Array files for the door `images`, each with the images and labels that must be read, or None if the file must be rejected."""

from __future__ import annotations

import io
import os
import zipfile
from pathlib import Path
from random import Random

import numpy as np
import scipy.io

from tests.fuzz.picture_cases import array
from tests.fuzz.values import damaged

Expected = tuple[np.ndarray, np.ndarray] | None


class Trap:
    """Object that creates a folder when it is unpickled."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, ("trapped",)


def data(random: Random) -> tuple[np.ndarray, np.ndarray]:
    """Return images uint8 [N, H, W, C] and labels [N] from 0."""
    count, height, width = random.randint(2, 9), random.randint(4, 12), random.randint(4, 12)
    labels = np.array([0, *(random.randrange(5) for _ in range(count - 1))])
    return array(random, count, height, width, random.choice([1, 3])), labels


def npz(random: Random, path: Path) -> Expected:
    """Write a valid .npz file in one of the accepted forms, or one with a fault."""
    images, labels = data(random)
    stored, stored_labels = _laid_out(random, images), labels.astype(random.choice([np.int64, np.uint8, np.int32, np.float64]))
    if random.random() < 0.4:
        stored = (stored / 255).astype(random.choice([np.float32, np.float64]))
    if random.random() < 0.3:
        stored_labels = stored_labels[:, None]
    names = random.choice([("images", "labels"), ("x", "y"), ("X", "y"), ("data", "labels")])
    arrays: dict[str, object] = {names[0]: stored, names[1]: stored_labels}
    is_valid = random.random() < 0.5
    if not is_valid:
        _spoil(random, arrays, *names)
    write = random.choice([np.savez, np.savez_compressed])
    write(path, **arrays)  # type: ignore[arg-type]
    return (images, labels) if is_valid else None


def _laid_out(random: Random, images: np.ndarray) -> np.ndarray:
    forms = [images, images.transpose(0, 3, 1, 2), np.asfortranarray(images)]
    return random.choice([*forms, images[..., 0]] if images.shape[3] == 1 else forms)


def _spoil(random: Random, arrays: dict[str, object], images: str, labels: str) -> None:
    """Change the arrays in place so that the file must be rejected."""
    pixels, classes = np.asarray(arrays[images]), np.asarray(arrays[labels]).reshape(-1)
    floats = pixels / 255 if pixels.dtype == np.uint8 else pixels.copy()
    wrong = floats.copy()
    wrong.flat[random.randrange(wrong.size)] = random.choice([np.nan, np.inf, -np.inf, -0.1, 1.1, 255.0, 1e30])
    count = len(classes)
    changes: list[dict[str, object]] = [
        {images: wrong},
        {images: floats * 255 + 2},
        {images: (floats * 255).astype(random.choice([np.int64, np.uint16, np.int8, np.uint32]))},
        {images: pixels.astype(object)},
        {images: np.array([Trap()], dtype=object)},
        {images: pixels.reshape(count, -1)},
        {images: pixels[:0], labels: classes[:0]},
        {images: np.zeros((count, 3, 8, 3), np.uint8)},
        {images: np.zeros((count, 8, 8, random.choice([2, 4, 8])), np.uint8)},
        {images: np.zeros((8, 8, 3), np.uint8)},
        {images: floats.astype(np.complex64)},
        {labels: classes + 1},
        {labels: classes - 1.0},
        {labels: classes + 0.5},
        {labels: np.full(count, np.nan)},
        {labels: np.eye(5)[classes.astype(int)]},
        {labels: classes[:-1]},
        {labels: np.append(classes, 0)},
        {labels: classes.astype(str)},
        {labels: np.full(count, 2**40)},
        {labels: np.array([Trap()] * count, dtype=object)},
        {"images" if images != "images" else "x": pixels},
    ]
    arrays |= random.choice(changes)


def short_header(random: Random, path: Path) -> Expected:
    """Write an .npz file whose header claims a wrong size, up to 10^12 elements."""
    shape = random.choice([(10**12, 8, 8, 3), (2**62, 8, 8), (-1, 8, 8, 3), (3, 8, 8, 3), (1, 8, 8, 3), (10**6, 10**6), (0, 8, 8, 3)])
    header = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    content = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode() + bytes(8 * 8 * 3 * 2)
    labels = io.BytesIO()
    np.save(labels, np.arange(2))
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x.npy", content)
        archive.writestr("y.npy", labels.getvalue())
    return None


def mat(random: Random, path: Path) -> Expected:
    """Write a valid .mat file like SVHN, with labels from 0 or from 1 to 10, or one with a fault."""
    images, labels = data(random)
    stored = images.transpose(1, 2, 3, 0)
    stored_labels = labels
    if random.random() < 0.5:
        labels = np.array([0, *(random.randrange(10) for _ in labels[1:])])
        stored_labels = np.where(labels == 0, 10, labels)
    arrays: dict[str, object] = {"X": stored, "y": stored_labels.astype(random.choice([np.uint8, np.float64]))[:, None]}
    if random.random() < 0.3:
        arrays["X"] = stored / 255
    is_valid = random.random() < 0.5
    if not is_valid:
        arrays |= random.choice(
            [
                {"X": stored * 1.0 + 2},
                {"X": np.where(stored == stored.max(), np.nan, stored / 255)},
                {"X": stored.astype(np.int32)},
                {"X": np.zeros((8, 8, 4, len(labels)), np.uint8)},
                {"X": "text"},
                {"X": {"a": 1}},
                {"X": scipy.sparse.eye(4)},
                {"y": labels[:-1, None]},
                {"y": labels[:, None] + 0.5},
                {"y": labels[:, None] - 1.0},
                {"y": np.full((len(labels), 1), 7)},
                {"y": np.eye(11)[labels]},
            ]
        )
        if random.random() < 0.2:
            arrays = {"data": stored}
    scipy.io.savemat(path, arrays, do_compression=random.random() < 0.5)
    return (images, labels) if is_valid else None


def damaged_file(random: Random, path: Path) -> Expected:
    """Write a damaged file with checksums: it is rejected or read unchanged (the caller allows both)."""
    images, labels = data(random)
    if path.suffix == ".mat":
        scipy.io.savemat(path, {"X": images.transpose(1, 2, 3, 0), "y": labels[:, None]}, do_compression=True)
    else:
        random.choice([np.savez, np.savez_compressed])(path, x=images, y=labels)
    path.write_bytes(damaged(random, path.read_bytes()))
    return images, labels


def no_arrays(random: Random, path: Path) -> Expected:
    """Write other content into a file with the name of an array file."""
    empty = io.BytesIO()
    zipfile.ZipFile(empty, "w").close()
    contents = (b"", b"<html>", b"version https://git-lfs.github.com/spec/v1\n", random.randbytes(300), empty.getvalue(), b"text")
    hdf = b"MATLAB 7.3 MAT-file".ljust(128) + b"\x89HDF\r\n"
    kind = random.randrange(len(contents) + 3)
    if kind < len(contents):
        path.write_bytes(contents[kind])
    elif kind == len(contents):
        path.write_bytes(hdf)
    elif kind == len(contents) + 1:
        path.mkdir()
    else:
        os.mkfifo(path)
    return None

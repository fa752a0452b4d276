"""Users' images: `folder:PATH` is a tree with one folder per class, classes in sorted order, all images of one size."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from harness.datasets.base import DataKind, DatasetInfo, ImageSet, Source
from harness.datasets.tree import list_tree, read_tree
from model_zoo.errors import UsageError

if TYPE_CHECKING:
    from PIL.Image import Image

# Maximum number of files, spread over the folder, whose content enters its name; of the others only the path and the size do.
READ = 1000
# Separates a path from the size in pixels that images are resized to.
RESIZE = "?resize="
LARGEST = 4096


def folder_source(text: str) -> Source:
    """Return the data set of `PATH`, or of `PATH?resize=N` with all images resized to N x N pixels; no image is decoded yet.

    Its name is that of the folder and the beginning of a hash of its images, without the path: results stay valid if the folder is moved,
    and two folders with the same name are two data sets.

    Raises
    ------
    UsageError
        If N is not a number from 1 to 4096.
    """
    path, _, size_text = text.partition(RESIZE)
    root, size = Path(path).expanduser(), _parse_size(size_text)
    name = f"folder:{root.resolve().name}"
    count = None
    if root.is_dir():
        digest, count = _hash_content(root)
        name += f"-{digest[:8]}"
    if size is not None:
        name += f"-{size}px"

    def resized(picture: Image) -> Image:
        from PIL.Image import Resampling

        return picture if size is None else picture.resize((size, size), Resampling.BILINEAR)

    def read(data_folder: Path, n: int | None, download: bool) -> ImageSet:
        return read_tree(name, list_tree(root), n, resized)

    info = DatasetInfo(name, f"images in {root}", DataKind(name), count, lambda data_folder: root.is_dir(), f"{root} is not a folder")
    return Source(info, read)


def _parse_size(text: str) -> int | None:
    if not text:
        return None
    if not text.isdecimal() or not 1 <= int(text) <= LARGEST:
        raise UsageError(f"images are resized to a number of pixels from 1 to {LARGEST}, not {text!r}")
    return int(text)


def _hash_content(root: Path) -> tuple[str, int]:
    """Return a hash of the paths and sizes of all images and of the content of up to `READ` of them, and the number of images."""
    files = sorted(list_tree(root).files, key=lambda path: path.relative_to(root).as_posix())
    entries = tuple((path.relative_to(root).as_posix(), path.stat().st_size, path.stat().st_mtime_ns) for path in files)
    return _hash_files(root, entries), len(entries)


@lru_cache(maxsize=8)
def _hash_files(root: Path, files: tuple[tuple[str, int, int], ...]) -> str:
    digest = hashlib.sha256()
    step = -(-len(files) // READ)
    for position, (path, size, _) in enumerate(files):
        digest.update(f"{path} {size}\n".encode())
        if position % step == 0:
            digest.update(hashlib.sha256((root / path).read_bytes()).digest())
    return digest.hexdigest()

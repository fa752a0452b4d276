"""Images of one's own: `folder:PATH` is a tree with a folder a class, classes in sorted order, all images of one size."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path

from harness.datasets.base import DatasetInfo, ImageSet, Source
from harness.datasets.tree import list_tree, read_tree

# Files whose content enters the name of a folder, spread over all of it; of the others only the path and the size do.
READ = 1000


def folder_source(root: Path) -> Source:
    """The data set in `root`; no image is decoded yet.

    Its name is the folder's own and the beginning of a hash of its images, not where it lies: results move with it, and two folders of one
    name are two data sets.
    """
    root = root.expanduser()
    name = f"folder:{root.resolve().name}"
    if root.is_dir():
        name += f"-{_content(root)[:8]}"

    def read(data_folder: Path, n: int | None, download: bool) -> ImageSet:
        return read_tree(name, list_tree(root), n, lambda picture: picture)

    info = DatasetInfo(name, f"images in {root}", None, None, None, name, lambda data_folder: root.is_dir(), f"{root} is not a folder")
    return Source(info, read)


def _content(root: Path) -> str:
    """Hash of the paths and sizes of all images, and of the content of up to `READ` of them."""
    files = sorted(list_tree(root).files, key=lambda path: path.relative_to(root).as_posix())
    return _hashed(root, tuple((path.relative_to(root).as_posix(), path.stat().st_size, path.stat().st_mtime_ns) for path in files))


@lru_cache(maxsize=8)
def _hashed(root: Path, files: tuple[tuple[str, int, int], ...]) -> str:
    digest = hashlib.sha256()
    step = -(-len(files) // READ)
    for position, (path, size, _) in enumerate(files):
        digest.update(f"{path} {size}\n".encode())
        if position % step == 0:
            digest.update(hashlib.sha256((root / path).read_bytes()).digest())
    return digest.hexdigest()

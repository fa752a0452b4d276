"""Images of one's own: `folder:PATH` is a tree with a folder a class, classes in sorted order, all images of one size."""

from __future__ import annotations

from pathlib import Path

from harness.datasets.base import DatasetInfo, ImageSet, Source
from harness.datasets.tree import list_tree, read_tree


def folder_source(root: Path) -> Source:
    """The data set in `root`; nothing is read yet. Its name says the folder's own name, not where it lies, so results move with it."""
    root = root.expanduser()
    name = f"folder:{root.resolve().name}"

    def read(data_folder: Path, n: int | None, download: bool) -> ImageSet:
        return read_tree(name, list_tree(root), n, lambda picture: picture)

    info = DatasetInfo(name, f"images in {root}", None, None, None, name, lambda data_folder: root.is_dir(), f"{root} is not a folder")
    return Source(info, read)

"""GTSRB (Stallkamp et al. 2011): traffic signs of 43 classes, whole images resized to 32 x 32 unless the reading says another size.

Test images are in the order of `GT-final_test.csv`; the regions of interest in that table are not used. Training images are in the order of
their names, in the layout of the published archive (`GTSRB/Final_Training/Images`) or in that of torchvision (`GTSRB/Training`).
"""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

from harness.datasets.base import DataKind, DatasetInfo, ImageSet
from harness.datasets.published import TEST, find, has, published
from harness.datasets.read_files import read_tree
from harness.datasets.reading import Reading
from harness.datasets.regular import read_text
from harness.datasets.tree import Tree
from model_zoo.errors import DamagedFileError

SIZE = 32
CLASSES = tuple(map(str, range(43)))
# A radius is not stated, because published ones differ; a mirrored sign may be another one.
KIND = DataKind("gtsrb", len(CLASSES), (3, SIZE, SIZE), mirrors=False)
TABLE, TEST_IMAGES = "GT-final_test.csv", "GTSRB/Final_Test/Images"
# Folders in which the archives may have been unpacked, and the places of the table relative to these.
ROOTS = ("gtsrb", ".")
TABLES = tuple([TEST_IMAGES, table] for table in (TABLE, f"GTSRB/{TABLE}", f"{TEST_IMAGES}/{TABLE}"))
TRAINING = (["GTSRB/Final_Training/Images"], ["GTSRB/Training"])
INFO = DatasetInfo(
    "gtsrb",
    "GTSRB test split, 43 traffic signs, 32 x 32",
    KIND,
    12_630,
    lambda data_dir: has(data_dir, ROOTS, *TABLES),
    f"put GTSRB/Final_Test/Images and {TABLE} into DATA_DIR or DATA_DIR/gtsrb",
)


def read(data_dir: Path, split: str, n: int | None, reading: Reading) -> ImageSet:
    """Return a split; see `harness.datasets.published.ReadSplit`.

    Raises
    ------
    MissingDataError
        If the images or the table are absent.
    DamagedFileError
        If the table cannot be read or names a file that is absent, or an image cannot be decoded.
    """
    tree = _list_test(data_dir) if split == TEST else _list_training(data_dir)
    sized = replace(reading, resize=reading.resize or SIZE)
    return read_tree("gtsrb", tree, n, sized.resized, sized.channels or 3)


def _list_test(data_dir: Path) -> Tree:
    folder, table = find("gtsrb", data_dir, ROOTS, *TABLES)
    expected = "columns Filename and ClassId, separated by semicolons"
    rows = csv.DictReader(read_text(table, expected).splitlines(), delimiter=";", skipinitialspace=True)
    if not {"Filename", "ClassId"} <= set(rows.fieldnames or ()):
        raise DamagedFileError(table, expected, ";".join(rows.fieldnames or ())[:80])
    files, labels = [], []
    for row in rows:
        name, label = row["Filename"] or "", row["ClassId"] or ""
        is_class = label.isascii() and label.isdecimal() and len(label) < 6 and int(label) < len(CLASSES)
        if not is_class or not name or "/" in name or not (folder / name).is_file():
            actual = f"{name[:40]!r} and {label[:20]!r} in line {rows.line_num}"
            raise DamagedFileError(table, f"files of {TEST_IMAGES} with classes from 0 to 42", actual)
        files.append(folder / name)
        labels.append(int(label))
    if not files:
        raise DamagedFileError(table, "rows with images", "a header only")
    return Tree(files, labels, CLASSES)


def _list_training(data_dir: Path) -> Tree:
    (root,) = find("gtsrb", data_dir, ROOTS, *TRAINING)
    files = sorted(root.glob("[0-9][0-9][0-9][0-9][0-9]/*.ppm"))
    strangers = [path for path in files if int(path.parent.name) >= len(CLASSES)]
    if strangers or not files:
        raise DamagedFileError(root, "folders 00000 to 00042 with .ppm files", str(strangers[0].parent.name) if strangers else "none")
    return Tree(files, [int(path.parent.name) for path in files], CLASSES)


SOURCES = {"gtsrb": published(INFO, None, read)}

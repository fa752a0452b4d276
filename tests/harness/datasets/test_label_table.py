"""Tests of pictures with `labels.csv` and `classes.txt`: labels are read correctly, or the error names the offending line."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from harness import datasets
from model_zoo.errors import DamagedFileError, MissingDataError

PIXELS = np.random.default_rng(0).integers(0, 256, (6, 8, 8, 3), dtype=np.uint8)
NAMES = ("b.png", "a.png", "deep/c.png", "d.png", "é, f.png", "spare.png")


def write_pictures(root: Path) -> None:
    (root / "deep").mkdir(parents=True)
    for name, pixels in zip(NAMES, PIXELS, strict=True):
        Image.fromarray(pixels).save(root / name)


def labels_by_picture(root: Path) -> dict[str, str]:
    """Return the class of each picture by its file name, matched by pixels."""
    images = datasets.load(f"folder:{root}")
    positions = {pixels.tobytes(): name for name, pixels in zip(NAMES, PIXELS, strict=True)}
    return {positions[image.tobytes()]: images.classes[label] for image, label in zip(images.images, images.labels, strict=True)}


EXPECTED = {"b.png": "dog", "a.png": "cat", "deep/c.png": "dog", "d.png": "cat", "é, f.png": "cat"}


@pytest.mark.parametrize("header", ["", "file,label\n", "Filename,class\n"])
@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_class_names_with_every_header_separator_and_byte_order_mark(tmp_path: Path, header: str, separator: str, mark: str) -> None:
    write_pictures(tmp_path)
    rows = [f'"{name}"{separator}{label}\r\n' for name, label in EXPECTED.items()]
    (tmp_path / "labels.csv").write_bytes((mark + header.replace(",", separator) + "".join(rows) + "\n").encode())
    assert labels_by_picture(tmp_path) == EXPECTED
    images = datasets.load(f"folder:{tmp_path}")
    assert images.classes == ("cat", "dog") and images.labels.tolist() == [0, 1, 0, 1, 0]
    assert images.notes == ("its labels are those of labels.csv", "1 picture skipped that labels.csv does not list")


def test_class_indices_with_and_without_a_class_list(tmp_path: Path) -> None:
    write_pictures(tmp_path)
    (tmp_path / "labels.csv").write_text("a.png,2\nb.png,0\n")
    images = datasets.load(f"folder:{tmp_path}")
    assert images.classes == ("0", "1", "2") and images.labels.tolist() == [0, 2]
    assert "no images of 1 of its 3 classes: 1" in images.notes
    name = images.name
    (tmp_path / "classes.txt").write_text("ant\nbee\ncat\ndog\n")
    assert labels_by_picture(tmp_path) == {"a.png": "cat", "b.png": "ant"}
    assert datasets.load(f"folder:{tmp_path}").name != name
    (tmp_path / "labels.csv").write_text("a.png,dog\nb.png,bee\n")
    assert datasets.load(f"folder:{tmp_path}").labels.tolist() == [1, 3]


@pytest.mark.parametrize(
    ("table", "classes", "words"),
    [
        ("a.png,1\nb.png,2\n", None, "labels from 1 to 2"),
        ("a.png,0\nb.png,-1\n", None, "'-1'"),
        ("a.png,0\nb.png,0.5\n", None, "'0.5'"),
        ("a.png,0\nb.png,cat\n", None, "'0' and 'cat'"),
        ("a.png,0\nb.png,nan\n", None, "'nan'"),
        ("a.png,0\nb.png,99999\n", None, "up to 99999"),
        ("a.png,0\nb.png,2\n", "ant\nbee", "'2'"),
        ("a.png,ant\nb.png,1\n", "ant\nbee", "'1'"),
        ("a.png,ant\nb.png,wasp\n", "ant\nbee", "'wasp'"),
        ("a.png,0\nb.png,1\n", "1\n0", "both, with different meanings"),
        ("a.png,0\nb.png,1\n", "ant\n\nbee", "blank line 2"),
        ("a.png,0\nb.png,1\n", "ant\nant", "'ant' twice, in lines 1 and 2"),
        ("a.png,0\nb.png,1\n", "ant\nb\x1b[31m", "control characters in line 2"),
        ("a.png,0\nb.png,1\n", " \n", "an empty file"),
        ("a.png,0\nx.png,1\n", None, "'x.png' in line 2"),
        ("picture name,label\na.png,1\n", None, "'picture name' in line 1.*header"),
        ("a.png,0\n../a.png,1\n", None, r"'\.\./a\.png' in line 2"),
        ("a.png,0\na.png,1\n", None, "'a.png' in lines 1 and 2"),
        ("a.png,0\n./a.png,1\n", None, "'a.png' in lines 1 and 2"),
        ("a.png,0\nb.png,\n", None, "'' in line 2"),
        ("a.png,0\nb.png\n", None, "1 cells in line 2"),
        ("a.png,0,5\nb.png,1,5\n", None, "3 cells in line 1"),
        ("a.png\nb.png\n", None, "1 cells in line 1"),
        ("file,label\n", None, "only a header"),
        ("", None, "an empty file"),
        ('a.png,"0\nb.png,1\n', None, "unexpected end of data"),
        ("a.png,\x07\n", None, r"'\\x07' in line 1"),
    ],
)
def test_invalid_tables_are_errors_that_name_the_line(tmp_path: Path, table: str, classes: str | None, words: str) -> None:
    write_pictures(tmp_path)
    (tmp_path / "labels.csv").write_text(table)
    if classes is not None:
        (tmp_path / "classes.txt").write_text(classes)
    with pytest.raises(DamagedFileError, match=rf"(labels\.csv|classes\.txt).*{words}") as caught:
        datasets.load(f"folder:{tmp_path}")
    assert len(str(caught.value)) <= 300 and str(caught.value).isprintable()


def test_another_encoding_is_an_error(tmp_path: Path) -> None:
    write_pictures(tmp_path)
    (tmp_path / "labels.csv").write_bytes("a.png,föhn\n".encode("latin-1"))
    with pytest.raises(DamagedFileError, match=r"labels\.csv.*UTF-8"):
        datasets.load(f"folder:{tmp_path}")


def test_pictures_without_labels_are_an_error(tmp_path: Path) -> None:
    write_pictures(tmp_path / "x")
    (tmp_path / "x" / "deep" / "c.png").unlink()
    with pytest.raises(MissingDataError, match=r"5 pictures without class folders and without labels\.csv"):
        datasets.load(f"folder:{tmp_path / 'x'}")


def test_separators_in_file_names_are_not_taken_for_column_separators(tmp_path: Path) -> None:
    write_pictures(tmp_path)
    (tmp_path / "labels.csv").write_text("é, f.png;0\na.png;1\n", encoding="utf-8")
    assert labels_by_picture(tmp_path) == {"é, f.png": "0", "a.png": "1"}

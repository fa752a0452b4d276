"""Tests of users' .npz and .mat files: layouts, scales and labels are read exactly or are an error that names the file."""

import io
import os
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import scipy.io
from PIL import Image

from harness import datasets
from model_zoo.errors import DamagedFileError, MissingDataError, UserError

RNG = np.random.default_rng(0)
COLOUR = RNG.integers(0, 256, (12, 8, 10, 3), dtype=np.uint8)
GREY = RNG.integers(0, 256, (12, 8, 10, 1), dtype=np.uint8)
LABELS = np.arange(12) % 4


def save_arrays(path: Path, **arrays: object) -> Path:
    np.savez(path, **arrays)  # type: ignore[arg-type]
    return path


@pytest.mark.parametrize("names", [("images", "labels"), ("x", "y"), ("X", "y"), ("data", "labels")])
def test_alternative_names_of_the_arrays(tmp_path: Path, names: tuple[str, str]) -> None:
    images = datasets.load(str(save_arrays(tmp_path / "a.npz", **{names[0]: COLOUR, names[1]: LABELS})))
    assert np.array_equal(images.images, COLOUR) and images.labels.tolist() == LABELS.tolist()
    assert images.classes == ("0", "1", "2", "3") and images.notes == ()


@pytest.mark.parametrize(
    ("stored", "expected"),
    [
        (COLOUR, COLOUR),
        (COLOUR.transpose(0, 3, 1, 2), COLOUR),
        (GREY, GREY),
        (GREY[..., 0], GREY),
        (GREY.transpose(0, 3, 1, 2), GREY),
        ((COLOUR / 255).astype(np.float32), COLOUR),
        ((GREY / 255).transpose(0, 3, 1, 2), GREY),
        (np.asfortranarray(COLOUR), COLOUR),
    ],
)
def test_layout_and_scale_are_recognised_by_shape_and_type(tmp_path: Path, stored: np.ndarray, expected: np.ndarray) -> None:
    images = datasets.load(str(save_arrays(tmp_path / "a.npz", x=stored, y=LABELS)))
    assert np.array_equal(images.images, expected)
    assert images.notes == (("its floats were multiplied by 255 and rounded",) if stored.dtype.kind == "f" else ())


@pytest.mark.parametrize(
    ("images", "words"),
    [
        (COLOUR[:, :3], "fits both"),
        (COLOUR[..., :2], r"C = 1 or 3, found \[12, 8, 10, 2\]"),
        (COLOUR[0], "one image"),
        (COLOUR.reshape(12, -1), r"\[12, 240\]"),
        (COLOUR.astype(np.float32), r"floats from 0 to 255 \(divide by 255"),
        (COLOUR / 255 - 0.5, "floats from -0.5"),
        (np.where(COLOUR > 250, np.nan, COLOUR / 255), "NaN or infinite"),
        (np.where(COLOUR > 250, np.inf, COLOUR / 255), "NaN or infinite"),
        (COLOUR.astype(np.int64), "type int64"),
        (COLOUR.astype(np.uint16) * 257, "type uint16"),
        (COLOUR[:0], "at least one image"),
        (COLOUR > 128, "type bool"),
        (COLOUR.astype(np.complex64), "type complex64"),
        (COLOUR.astype(object), "never unpickled"),
        (COLOUR.astype("S1"), r"type \|S1"),
    ],
)
def test_images_of_ambiguous_layout_or_wrong_range_are_errors(tmp_path: Path, images: np.ndarray, words: str) -> None:
    with pytest.raises(DamagedFileError, match=rf"a\.npz.*{words}"):
        datasets.load(str(save_arrays(tmp_path / "a.npz", x=images, y=LABELS[: len(images)])))


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (LABELS + 1, "labels from 1 to 4"),
        (LABELS - 1, "labels from -1 to 2"),
        (LABELS[:-1], r"12 labels, as many as images, found labels \[11\]"),
        (np.eye(4)[LABELS], "one-hot"),
        (LABELS + 0.5, "whole numbers, found 0.5"),
        (np.where(LABELS == 1, np.nan, LABELS), "whole numbers, found nan"),
        (LABELS.astype(str), "of numbers, found type <U"),
        (LABELS > 1, "type bool"),
        (np.int64(1), "12 labels"),
        (LABELS.astype(np.uint64) * 2**62, "up to"),
    ],
)
def test_labels_that_are_not_class_indices_are_errors(tmp_path: Path, labels: np.ndarray, words: str) -> None:
    with pytest.raises(DamagedFileError, match=rf"a\.npz.*{words}"):
        datasets.load(str(save_arrays(tmp_path / "a.npz", x=COLOUR, y=labels)))


@pytest.mark.parametrize("labels", [LABELS[:, None], LABELS.astype(np.float64), LABELS.astype(np.uint8)])
def test_labels_may_be_a_column_or_integral_floats(tmp_path: Path, labels: np.ndarray) -> None:
    assert datasets.load(str(save_arrays(tmp_path / "a.npz", x=COLOUR, y=labels))).labels.tolist() == LABELS.tolist()


def test_the_name_depends_on_the_content_only(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    np.savez_compressed(tmp_path / "other" / "a.npz", images=COLOUR.transpose(0, 3, 1, 2), labels=LABELS)
    plain, packed = (
        datasets.load(str(save_arrays(tmp_path / "a.npz", x=COLOUR, y=LABELS))),
        datasets.load(str(tmp_path / "other" / "a.npz")),
    )
    assert plain.name == packed.name and plain.name.startswith("file:a-")
    changed = datasets.load(str(save_arrays(tmp_path / "a.npz", x=COLOUR[::-1], y=LABELS)))
    assert changed.name != plain.name
    # A stored name describes itself, as reports need.
    assert datasets.describe(plain.name).family == plain.name


def test_a_class_list_in_the_folder_gives_the_class_names(tmp_path: Path) -> None:
    path = save_arrays(tmp_path / "a.npz", x=COLOUR, y=LABELS + 1)
    (tmp_path / "classes.txt").write_text("none\nant\nbee\ncat\ndog\n", encoding="utf-8")
    images = datasets.load(str(path))
    assert images.classes == ("none", "ant", "bee", "cat", "dog") and images.labels.min() == 1
    assert images.notes == ("its class names are from classes.txt in the same folder",)
    (tmp_path / "classes.txt").write_text("ant\nbee\ncat\ndog\n", encoding="utf-8")
    with pytest.raises(DamagedFileError, match=r"labels from 0 to 3, of the 4 class names, found labels from 1 to 4"):
        datasets.load(str(path))


def test_resize_and_channels_convert_the_images(tmp_path: Path) -> None:
    path = save_arrays(tmp_path / "a.npz", x=GREY, y=LABELS)
    images = datasets.load(f"{path}?resize=16&channels=3")
    expected = np.asarray(Image.fromarray(GREY[5, ..., 0]).resize((16, 16), Image.Resampling.BILINEAR))
    assert images.images.shape == (12, 16, 16, 3) and (images.images[5] == expected[..., None]).all()
    assert np.array_equal(datasets.load(f"{save_arrays(tmp_path / 'b.npz', x=np.repeat(GREY, 3, 3), y=LABELS)}?channels=1").images, GREY)
    with pytest.raises(DamagedFileError, match=r"c\.npz.*grey.*colours"):
        datasets.load(f"{save_arrays(tmp_path / 'c.npz', x=COLOUR, y=LABELS)}?channels=1")


def test_a_note_reports_sorted_files_if_the_first_images_lack_classes(tmp_path: Path) -> None:
    path = str(save_arrays(tmp_path / "a.npz", x=COLOUR, y=np.sort(LABELS)))
    assert datasets.load(path, n=4).notes == ("it is sorted by class: its first 4 images are of 2 of 4 classes",)
    assert datasets.load(path).notes == ()


def test_a_note_reports_images_that_contain_only_zeros_and_ones(tmp_path: Path) -> None:
    assert "0 and 1 only" in datasets.load(str(save_arrays(tmp_path / "a.npz", x=COLOUR % 2, y=LABELS))).notes[0]


def write_member(path: Path, name: str, content: bytes) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(name, content)
        buffer = io.BytesIO()
        np.save(buffer, LABELS)
        archive.writestr("y.npy", buffer.getvalue())


class Trap:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, ("trapped",)


def test_nothing_is_unpickled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    np.savez(tmp_path / "a.npz", x=np.array([Trap()], dtype=object), y=LABELS)
    write_member(tmp_path / "b.npz", "x.npy", pickle.dumps(Trap()))
    (tmp_path / "c.npz").write_bytes(pickle.dumps(Trap()))
    for name in "abc":
        with pytest.raises(DamagedFileError, match=rf"{name}\.npz"):
            datasets.load(f"{name}.npz")
    assert not (tmp_path / "trapped").exists()


@pytest.mark.parametrize("shape", [(10**12, 8, 8, 3), (2**62, 4), (-1, 8, 8, 3), (2, 8, 8, 3), (1, 8, 8, 3)])
def test_a_header_with_a_wrong_size_is_an_error_before_memory_is_allocated(tmp_path: Path, shape: tuple[int, ...]) -> None:
    header = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    write_member(tmp_path / "a.npz", "x.npy", b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode() + b"\0" * 300)
    with pytest.raises(DamagedFileError, match=r"a\.npz.*bytes"):
        datasets.load(str(tmp_path / "a.npz"))


def test_files_of_another_kind_are_errors_that_name_the_kind(tmp_path: Path) -> None:
    for name, content, words in (
        ("page.npz", b"<!DOCTYPE html><html>", "a web page"),
        ("empty.npz", b"", "an empty file"),
        ("pointer.npz", b"version https://git-lfs.github.com/spec/v1\n", "Git LFS"),
        ("page.mat", b"<!DOCTYPE html><html>", "a web page"),
        ("empty.mat", b"", "an empty file"),
        ("hdf.mat", b"MATLAB 7.3 MAT-file".ljust(128) + b"\x89HDF\r\n", r"7\.3.*-v7"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DamagedFileError, match=f"{name}.*{words}"):
            datasets.load(str(tmp_path / name))
    os.mkfifo(tmp_path / "pipe.npz")
    (tmp_path / "folder.npz").mkdir()
    (tmp_path / "text.txt").write_text("x")
    for name, words in (("pipe.npz", "a pipe"), ("folder.npz", "a folder"), ("file:text.txt", "expected a .npz or .mat file")):
        with pytest.raises(UserError, match=words):
            datasets.load(name.replace("file:", f"file:{tmp_path}/") if ":" in name else str(tmp_path / name))
    with pytest.raises(MissingDataError, match=r"absent\.npz does not exist"):
        datasets.load(str(tmp_path / "absent.npz"))


def test_arrays_must_be_unambiguous_and_have_known_names(tmp_path: Path) -> None:
    with pytest.raises(DamagedFileError, match="images, x"):
        datasets.load(str(save_arrays(tmp_path / "a.npz", x=COLOUR, images=COLOUR, y=LABELS)))
    with pytest.raises(DamagedFileError, match="x_train, y_train"):
        datasets.load(str(save_arrays(tmp_path / "b.npz", x_train=COLOUR, y_train=LABELS)))


def svhn(path: Path, images: np.ndarray, labels: np.ndarray, **options: object) -> str:
    scipy.io.savemat(path, {"X": images.transpose(1, 2, 3, 0), "y": labels}, **options)  # type: ignore[arg-type]
    return str(path)


@pytest.mark.parametrize("compressed", [False, True])
def test_svhn_label_10_is_digit_0(tmp_path: Path, compressed: bool) -> None:
    digits = np.arange(12) % 10
    labels = np.where(digits == 0, 10, digits).astype(np.uint8)[:, None]
    images = datasets.load(svhn(tmp_path / "test_32x32.mat", COLOUR, labels, do_compression=compressed))
    assert np.array_equal(images.images, COLOUR) and images.labels.tolist() == digits.tolist()
    assert images.classes == tuple("0123456789") and images.notes == ("its label 10 is read as digit 0, as in SVHN",)


def test_other_mat_files_have_labels_from_zero(tmp_path: Path) -> None:
    assert datasets.load(svhn(tmp_path / "a.mat", COLOUR / 255, LABELS.astype(float))).labels.tolist() == LABELS.tolist()
    assert len(datasets.load(svhn(tmp_path / "one.mat", COLOUR[:1], LABELS[:1]))) == 1
    for name, images, labels, words in (
        ("b", COLOUR, LABELS + 1, "labels from 1 to 4"),
        ("c", COLOUR.transpose(1, 2, 3, 0), LABELS, r"X \[10, 3, 12, 8\]"),
        ("d", COLOUR, LABELS[:5], "X .* and y"),
    ):
        with pytest.raises(DamagedFileError, match=rf"{name}\.mat.*{words}"):
            datasets.load(svhn(tmp_path / f"{name}.mat", images, labels))
    scipy.io.savemat(tmp_path / "e.mat", {"data": COLOUR})
    with pytest.raises(DamagedFileError, match=r"e\.mat.*no X, only data"):
        datasets.load(str(tmp_path / "e.mat"))


def test_labels_up_to_ten_with_class_names_other_than_digits_are_ambiguous(tmp_path: Path) -> None:
    labels = np.where(np.arange(12) % 10 == 0, 10, np.arange(12) % 10)
    path = svhn(tmp_path / "a.mat", COLOUR, labels)
    (tmp_path / "classes.txt").write_text("\n".join("abcdefghij"))
    with pytest.raises(DamagedFileError, match=r"a\.mat.*counted from 1, or SVHN's"):
        datasets.load(path)

"""Tests of image trees (users' folders and ImageNet-100) with real images written as files."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from harness import datasets
from harness.datasets.imagenet100 import resize_and_crop
from model_zoo.errors import DamagedFileError, MissingDataError, UsageError

SAMPLE = datasets.load("cifar10-sample")


def write_tree(root: Path, classes: int = 3, per_class: int = 2, size: tuple[int, int] = (32, 32)) -> None:
    for label in range(classes):
        folder = root / f"class{label:03}"
        folder.mkdir(parents=True)
        for number, row in enumerate(np.flatnonzero(SAMPLE.labels == label % 10)[:per_class]):
            Image.fromarray(SAMPLE.images[row]).resize(size).save(folder / f"{number}.png")


def test_a_folder_of_class_folders_is_a_data_set(tmp_path: Path) -> None:
    write_tree(tmp_path)
    images = datasets.load(f"folder:{tmp_path}")
    assert images.classes == ("class000", "class001", "class002")
    assert images.labels.tolist() == [0, 1, 2, 0, 1, 2]
    first = SAMPLE.images[np.flatnonzero(SAMPLE.labels == 1)[0]]
    assert np.array_equal(images.images[1], first)


def test_the_name_of_a_folder_does_not_depend_on_its_location(tmp_path: Path) -> None:
    for parent in ("first", "second"):
        write_tree(tmp_path / parent / "birds")
    first, second = (datasets.load(f"folder:{tmp_path / parent / 'birds'}") for parent in ("first", "second"))
    assert first.name == second.name and first.name.startswith("folder:birds-")
    assert first.sha256 == second.sha256


def test_folders_with_the_same_name_and_different_content_have_different_names(tmp_path: Path) -> None:
    for parent in ("first", "second"):
        write_tree(tmp_path / parent / "birds")
    changed = tmp_path / "second" / "birds" / "class001" / "1.png"
    name_before = datasets.describe(f"folder:{tmp_path / 'second' / 'birds'}").name
    Image.fromarray(SAMPLE.images[0][::-1]).save(changed)
    first, second = (datasets.load(f"folder:{tmp_path / parent / 'birds'}", n=2) for parent in ("first", "second"))
    # The two images that are loaded are equal; the data sets differ.
    assert first.sha256 == second.sha256 and first.name == name_before != second.name


def test_the_first_n_are_balanced_and_no_others_are_decoded(tmp_path: Path) -> None:
    write_tree(tmp_path)
    (tmp_path / "class001" / "1.png").write_bytes(b"not an image")
    assert datasets.load(f"folder:{tmp_path}", n=4).labels.tolist() == [0, 1, 2, 0]
    with pytest.raises(DamagedFileError, match=r"class001/1\.png"):
        datasets.load(f"folder:{tmp_path}")


def test_an_image_of_another_size_is_named(tmp_path: Path) -> None:
    write_tree(tmp_path)
    Image.new("RGB", (31, 32)).save(tmp_path / "class002" / "0.png")
    with pytest.raises(DamagedFileError, match=r"class002/0\.png.*32 x 32.*31 x 32"):
        datasets.load(f"folder:{tmp_path}")


def test_too_large_n_is_an_error_before_any_image_is_decoded(tmp_path: Path) -> None:
    write_tree(tmp_path)
    (tmp_path / "class000" / "0.png").write_bytes(b"not an image")
    with pytest.raises(UsageError, match="6 images"):
        datasets.load(f"folder:{tmp_path}", n=7)


def test_hidden_files_and_folders_are_neither_images_nor_classes(tmp_path: Path) -> None:
    write_tree(tmp_path)
    (tmp_path / ".thumbnails").mkdir()
    for hidden in (".thumbnails/0.png", "class001/._0.png"):
        (tmp_path / hidden).write_bytes(b"not an image")
    images = datasets.load(f"folder:{tmp_path}")
    assert len(images) == 6 and len(images.classes) == 3


def test_a_truncated_image_is_named_in_every_format(tmp_path: Path) -> None:
    for suffix in ("png", "jpg", "webp", "bmp", "tiff"):
        path = tmp_path / suffix / "class000" / f"0.{suffix}"
        path.parent.mkdir(parents=True)
        Image.fromarray(SAMPLE.images[1]).save(path)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        with pytest.raises(DamagedFileError, match=f"class000/0.{suffix}"):
            datasets.load(f"folder:{tmp_path / suffix}")


def test_missing_and_empty_folders_are_errors(tmp_path: Path) -> None:
    with pytest.raises(MissingDataError, match="no images"):
        datasets.load(f"folder:{tmp_path}")
    with pytest.raises(MissingDataError, match="no folder"):
        datasets.load(f"folder:{tmp_path / 'absent'}")


def test_imagenet100_is_resized_and_cropped(tmp_path: Path) -> None:
    write_tree(tmp_path / "imagenet100" / "val", classes=100, per_class=1, size=(300, 280))
    images = datasets.load("imagenet100", tmp_path, n=5)
    assert images.images.shape == (5, 224, 224, 3) and images.labels.tolist() == [0, 1, 2, 3, 4]
    assert datasets.present("imagenet100", tmp_path)


def test_a_class_list_fixes_the_order(tmp_path: Path) -> None:
    write_tree(tmp_path / "imagenet100", classes=101, per_class=1)
    with pytest.raises(DamagedFileError, match="100 classes"):
        datasets.load("imagenet100", tmp_path, n=2)
    listed = [f"class{label:03}" for label in reversed(range(1, 101))]
    (tmp_path / "imagenet100" / "classes.txt").write_text("\n".join(listed))
    assert datasets.load("imagenet100", tmp_path, n=2).classes == tuple(listed)
    (tmp_path / "imagenet100" / "classes.txt").write_text("\n".join([*listed[:99], "unheard-of"]))
    with pytest.raises(MissingDataError, match="unheard-of"):
        datasets.load("imagenet100", tmp_path, n=2)


@pytest.mark.parametrize("content", [b"class000\nclass001\nclass000\n", b"\xff\xfe"])
def test_an_invalid_class_list_is_an_error(content: bytes, tmp_path: Path) -> None:
    write_tree(tmp_path / "imagenet100", per_class=1)
    (tmp_path / "imagenet100" / "classes.txt").write_bytes(content)
    with pytest.raises(DamagedFileError, match=r"classes\.txt"):
        datasets.load("imagenet100", tmp_path)


@pytest.mark.parametrize("size", [(256, 256), (500, 375), (375, 500), (64, 48), (333, 500)])
def test_the_crop_is_central_for_every_shape(size: tuple[int, int]) -> None:
    width, height = size
    ramp = np.zeros((height, width, 3), np.uint8)
    ramp[..., 0] = np.linspace(0, 255, width).astype(np.uint8)
    ramp[..., 1] = np.linspace(0, 255, height).astype(np.uint8)[:, None]
    cropped = np.asarray(resize_and_crop(Image.fromarray(ramp))).astype(int)
    assert cropped.shape == (224, 224, 3)
    assert cropped[..., 0].mean() == pytest.approx(127.5, abs=1.5) and cropped[..., 1].mean() == pytest.approx(127.5, abs=1.5)


def test_resizing_is_bilinear_with_antialiasing() -> None:
    # Halving with a triangle filter: each pixel is the mean of four with weights 1, 3, 3, 1 along each axis.
    picture = np.concatenate(list(SAMPLE.images[:256].reshape(16, 16, 32, 32, 3).transpose(0, 2, 1, 3, 4).reshape(16, 32, 512, 3)))
    halved = picture.astype(float)
    for _ in range(2):
        padded = np.pad(halved, ((1, 1), (0, 0), (0, 0)))
        halved = sum(weight / 8 * padded[start : start + 511 : 2] for start, weight in enumerate((1, 3, 3, 1))).transpose(1, 0, 2)  # type: ignore[union-attr]
    cropped = np.asarray(resize_and_crop(Image.fromarray(picture)))
    assert np.abs(cropped - halved[16:240, 16:240]).max() <= 1


def test_missing_imagenet_is_an_error_that_gives_the_expected_path() -> None:
    with pytest.raises(MissingDataError, match="imagenet100/val/CLASS/FILE"):
        datasets.load("imagenet100", Path("absent"))


def test_skipped_files_are_counted_in_notes(tmp_path: Path) -> None:
    write_tree(tmp_path)
    for name in ("class000/notes.txt", "class001/more.txt", "class001/film.mp4", "class002/.DS_Store"):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "__MACOSX" / "class000").mkdir(parents=True)
    (tmp_path / "class003").mkdir()
    images = datasets.load(f"folder:{tmp_path}")
    assert len(images) == 6 and "__MACOSX" not in images.classes
    assert images.notes == (
        "3 files skipped, since their suffixes are not those of images: .mp4, .txt",
        "no images of 1 of its 4 classes: class003",
    )
    assert images.first(2).notes == images.notes


def test_numbered_classes_are_ordered_numerically(tmp_path: Path) -> None:
    for number in range(12):
        (tmp_path / str(number)).mkdir()
        Image.fromarray(SAMPLE.images[number]).save(tmp_path / str(number) / "0.png")
    images = datasets.load(f"folder:{tmp_path}")
    assert images.classes == tuple(map(str, range(12)))
    assert images.notes == ("its classes are in the order of their numbers: 0, 1, 2, ..., 11",)


@pytest.mark.parametrize("parts", [("train", "val"), ("Train", "Test"), ("validation",)])
def test_splits_are_not_classes(tmp_path: Path, parts: tuple[str, ...]) -> None:
    for part in parts:
        write_tree(tmp_path / part)
    with pytest.raises(UsageError, match=f"parts of a data set.*folder:.*{sorted(parts)[-1]}"):
        datasets.load(f"folder:{tmp_path}")
    assert len(datasets.load(f"folder:{tmp_path / parts[0]}")) == 6


def test_a_parent_of_the_data_set_is_an_error_with_a_hint(tmp_path: Path) -> None:
    write_tree(tmp_path / "pictures")
    with pytest.raises(UsageError, match=r"one folder deeper, folder:.*pictures"):
        datasets.load(f"folder:{tmp_path}")


def test_images_can_be_resized_to_one_size(tmp_path: Path) -> None:
    write_tree(tmp_path, size=(40, 30))
    Image.new("RGB", (31, 32)).save(tmp_path / "class002" / "0.png")
    with pytest.raises(DamagedFileError, match="--resize"):
        datasets.load(f"folder:{tmp_path}")
    resized = datasets.load(f"folder:{tmp_path}?resize=24")
    assert resized.images.shape == (6, 24, 24, 3) and resized.name.endswith("-24px")
    assert datasets.describe(f"folder:{tmp_path}").name != resized.name
    for wrong in ("0", "x", "99999"):
        with pytest.raises(UsageError, match=r"resize must be a number of pixels|expected options such as \?resize=32"):
            datasets.load(f"folder:{tmp_path}?resize={wrong}")


def test_a_class_list_orders_and_selects_the_folders(tmp_path: Path) -> None:
    write_tree(tmp_path)
    name = datasets.load(f"folder:{tmp_path}").name
    (tmp_path / "classes.txt").write_text("class002\nclass000\n")
    images = datasets.load(f"folder:{tmp_path}")
    assert images.classes == ("class002", "class000") and images.name != name
    assert images.notes == ("1 folder skipped that classes.txt does not list: class001",)
    first = SAMPLE.images[np.flatnonzero(SAMPLE.labels == 2)[0]]
    assert np.array_equal(images.images[0], first)
    (tmp_path / "classes.txt").write_text("class000\nclass009\n")
    with pytest.raises(MissingDataError, match="no folder for class 'class009'"):
        datasets.load(f"folder:{tmp_path}")


def test_pictures_outside_class_folders_are_counted(tmp_path: Path) -> None:
    write_tree(tmp_path)
    Image.new("RGB", (32, 32)).save(tmp_path / "loose.png")
    assert datasets.load(f"folder:{tmp_path}").notes == ("1 picture skipped outside the class folders: loose.png",)


def test_links_to_folders_are_counted_and_not_followed(tmp_path: Path) -> None:
    write_tree(tmp_path)
    (tmp_path / "class000" / "again").symlink_to(tmp_path / "class000")
    (tmp_path / "class001" / "more").symlink_to(tmp_path / "class000")
    images = datasets.load(f"folder:{tmp_path}")
    assert len(images) == 6 and images.notes == ("2 files skipped, since their suffixes are not those of images: link to a folder",)
    (tmp_path / "loop").symlink_to(tmp_path)
    with pytest.raises(UsageError, match="'loop' is a link to a folder that contains it"):
        datasets.load(f"folder:{tmp_path}")


def test_unprintable_names_are_escaped(tmp_path: Path) -> None:
    write_tree(tmp_path / "a\nb")
    (tmp_path / "a\nb" / "class000" / "x\x1b[31m.png").write_bytes(b"not an image")
    with pytest.raises(DamagedFileError) as caught:
        datasets.load(f"folder:{tmp_path / 'a'}\nb")
    assert str(caught.value).isprintable() and r"x\x1b[31m.png" in str(caught.value)
    assert datasets.describe(f"folder:{tmp_path / 'a'}\nb").name.startswith("folder:a-b-")
    (tmp_path / "a\nb" / "class\t3").mkdir()
    with pytest.raises(UsageError, match="cannot be printed as text"):
        datasets.load(f"folder:{tmp_path / 'a'}\nb")


def test_names_that_are_not_valid_utf8_are_read(tmp_path: Path) -> None:
    write_tree(tmp_path)
    source = tmp_path / "class000" / "0.png"
    source.rename(os.fsdecode(os.fsencode(tmp_path / "class000") + b"/\xff.png"))
    assert len(datasets.load(f"folder:{tmp_path}")) == 6


def test_an_unreadable_folder_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_tree(tmp_path)
    (tmp_path / "class001" / "locked").mkdir()
    scan = os.scandir

    def refuse(path: str) -> object:
        if str(path).endswith("locked"):
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(MissingDataError, match="class001/locked cannot be read: Permission denied"):
        datasets.load(f"folder:{tmp_path}")


def test_grey_pictures_have_one_channel_on_request(tmp_path: Path) -> None:
    write_tree(tmp_path)
    with pytest.raises(DamagedFileError, match=r"a grey picture.*colours"):
        datasets.load(f"folder:{tmp_path}?channels=1")
    for path in tmp_path.rglob("*.png"):
        Image.open(path).convert("L").save(path)
    grey, colour = datasets.load(f"folder:{tmp_path}?resize=24&channels=1"), datasets.load(f"folder:{tmp_path}?resize=24")
    assert grey.images.shape == (6, 24, 24, 1) and grey.name.endswith("-24px-grey")
    assert (colour.images == grey.images).all() and colour.images.shape[-1] == 3
    assert grey.tensors()[0].shape == (6, 1, 24, 24)


@pytest.mark.parametrize("options", ["channels=2", "channels=", "resize=24&channels=x", "resize=24&colour=1", "channels=1e9"])
def test_invalid_options_are_errors(tmp_path: Path, options: str) -> None:
    with pytest.raises(UsageError, match="channel"):
        datasets.load(f"folder:{tmp_path}?{options}")

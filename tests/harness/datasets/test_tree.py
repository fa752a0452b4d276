"""Trees of images: one's own folders and ImageNet-100, on real images written as files."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from harness import datasets
from harness.datasets.imagenet100 import resize_and_crop
from model_zoo.errors import DamagedFileError, MissingDataError

SAMPLE = datasets.load("cifar10-sample")


def write_tree(root: Path, classes: int = 3, each: int = 2, size: tuple[int, int] = (32, 32)) -> None:
    for label in range(classes):
        folder = root / f"class{label:03}"
        folder.mkdir(parents=True)
        for number, row in enumerate(np.flatnonzero(SAMPLE.labels == label % 10)[:each]):
            Image.fromarray(SAMPLE.images[row]).resize(size).save(folder / f"{number}.png")


def test_a_folder_of_images_is_a_data_set(tmp_path: Path) -> None:
    write_tree(tmp_path)
    images = datasets.load(f"folder:{tmp_path}")
    assert images.classes == ("class000", "class001", "class002")
    assert images.labels.tolist() == [0, 1, 2, 0, 1, 2]
    first = SAMPLE.images[np.flatnonzero(SAMPLE.labels == 1)[0]]
    assert np.array_equal(images.images[1], first)


def test_the_first_n_are_balanced_and_only_they_are_read(tmp_path: Path) -> None:
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


def test_nothing_to_read_says_so(tmp_path: Path) -> None:
    with pytest.raises(MissingDataError, match="no images"):
        datasets.load(f"folder:{tmp_path}")
    with pytest.raises(MissingDataError, match="no folder"):
        datasets.load(f"folder:{tmp_path / 'absent'}")


def test_imagenet100_is_resized_and_cropped(tmp_path: Path) -> None:
    write_tree(tmp_path / "imagenet100" / "val", classes=100, each=1, size=(300, 280))
    images = datasets.load("imagenet100", tmp_path, n=5)
    assert images.images.shape == (5, 224, 224, 3) and images.labels.tolist() == [0, 1, 2, 3, 4]
    assert datasets.present("imagenet100", tmp_path)


def test_a_class_list_fixes_the_order(tmp_path: Path) -> None:
    write_tree(tmp_path / "imagenet100", classes=101, each=1)
    with pytest.raises(DamagedFileError, match="100 classes"):
        datasets.load("imagenet100", tmp_path, n=2)
    listed = [f"class{label:03}" for label in reversed(range(1, 101))]
    (tmp_path / "imagenet100" / "classes.txt").write_text("\n".join(listed))
    assert datasets.load("imagenet100", tmp_path, n=2).classes == tuple(listed)
    (tmp_path / "imagenet100" / "classes.txt").write_text("\n".join([*listed[:99], "unheard-of"]))
    with pytest.raises(MissingDataError, match="unheard-of"):
        datasets.load("imagenet100", tmp_path, n=2)


@pytest.mark.parametrize("size", [(256, 256), (500, 375), (375, 500), (64, 48), (333, 500)])
def test_the_crop_is_central_whatever_the_shape(size: tuple[int, int]) -> None:
    width, height = size
    ramp = np.zeros((height, width, 3), np.uint8)
    ramp[..., 0] = np.linspace(0, 255, width).astype(np.uint8)
    ramp[..., 1] = np.linspace(0, 255, height).astype(np.uint8)[:, None]
    cropped = np.asarray(resize_and_crop(Image.fromarray(ramp))).astype(int)
    assert cropped.shape == (224, 224, 3)
    assert cropped[..., 0].mean() == pytest.approx(127.5, abs=1.5) and cropped[..., 1].mean() == pytest.approx(127.5, abs=1.5)


def test_no_imagenet_says_where_to_put_it() -> None:
    with pytest.raises(MissingDataError, match="imagenet100/val/CLASS/FILE"):
        datasets.load("imagenet100", Path("absent"))

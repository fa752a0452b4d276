"""Small archives in the formats of published data sets, with images whose brightness shows their class."""

import gzip
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import scipy.io
from PIL import Image

PREFIXES = {"test": "t10k", "train": "train"}
# Classes of Tiny-ImageNet in an order that is not sorted, as in the archive.
WNIDS = [f"n{number:08d}" for number in reversed(range(200))]


def pixels(labels: Sequence[int] | np.ndarray, classes: int, *shape: int) -> np.ndarray:
    """Return noisy images uint8 [N, *shape] whose mean is 255 (label + 1/2) / classes."""
    noise = np.random.default_rng(0).integers(-3, 4, (len(labels), *shape))
    means = 255 * (np.asarray(labels) + 0.5) / classes
    return np.clip(noise + np.rint(means).reshape(-1, *[1] * len(shape)), 0, 255).astype(np.uint8)


def write_idx(path: Path, array: np.ndarray) -> None:
    """Write an idx file of unsigned bytes, compressed if its name ends in .gz."""
    header = bytes((0, 0, 8, array.ndim)) + b"".join(length.to_bytes(4, "big") for length in array.shape)
    content = header + array.astype(np.uint8).tobytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


def write_mnist(folder: Path, count: int, split: str = "test", suffix: str = ".gz") -> np.ndarray:
    """Write images and labels of a split of MNIST; return the images. The label of image k is k modulo 10."""
    images = pixels(np.arange(count) % 10, 10, 28, 28)
    write_idx(folder / f"{PREFIXES[split]}-images-idx3-ubyte{suffix}", images)
    write_idx(folder / f"{PREFIXES[split]}-labels-idx1-ubyte{suffix}", np.arange(count) % 10)
    return images


def write_svhn(folder: Path, count: int, split: str = "test") -> np.ndarray:
    """Write a split of SVHN; return the images. The digit of image k is k modulo 10."""
    folder.mkdir(parents=True, exist_ok=True)
    digits = np.arange(count) % 10
    images = pixels(digits, 10, 32, 32, 3)
    labels = np.where(digits == 0, 10, digits).astype(np.uint8)
    scipy.io.savemat(folder / f"{split}_32x32.mat", {"X": images.transpose(1, 2, 3, 0), "y": labels[:, None]})
    return images


def write_gtsrb(folder: Path, count: int, table: str = "GT-final_test.csv") -> None:
    """Write a test split of GTSRB with images of several sizes; the class of image k is k modulo 43."""
    images = folder / "GTSRB" / "Final_Test" / "Images"
    images.mkdir(parents=True, exist_ok=True)
    lines = ["Filename;Width;Height;Roi.X1;Roi.Y1;Roi.X2;Roi.Y2;ClassId"]
    for number in range(count):
        width, height = 30 + number % 7, 33 + number % 5
        Image.fromarray(pixels([number % 43], 43, height, width, 3)[0]).save(images / f"{number:05d}.ppm")
        lines.append(f"{number:05d}.ppm;{width};{height};5;6;{width - 5};{height - 6};{number % 43}")
    (folder / table).write_text("\n".join(lines) + "\n")


def write_gtsrb_training(folder: Path, classes: Sequence[int], layout: str = "GTSRB/Final_Training/Images") -> None:
    """Write one training image and a table per class."""
    for label in classes:
        class_folder = folder / layout / f"{label:05d}"
        class_folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels([label], 43, 31, 29, 3)[0]).save(class_folder / "00000_00000.ppm")
        (class_folder / f"GT-{label:05d}.csv").write_text("Filename;ClassId\n")


def write_tiny_imagenet(data_dir: Path, count: int, split: str = "test") -> None:
    """Write a split of Tiny-ImageNet-200; image k has class k of the sorted wnids, and every third image is grey."""
    root = data_dir / "tiny-imagenet-200"
    (root / "val" / "images").mkdir(parents=True, exist_ok=True)
    (root / "wnids.txt").write_text("\n".join(WNIDS))
    lines = []
    for number in range(count):
        image = pixels([number], 200, 64, 64, 3)[0]
        wnid = sorted(WNIDS)[number]
        folder = root / "val" / "images" if split == "test" else root / "train" / wnid / "images"
        folder.mkdir(parents=True, exist_ok=True)
        name = f"val_{number}.JPEG" if split == "test" else f"{wnid}_0.JPEG"
        Image.fromarray(image[..., 0] if number % 3 == 2 else image).save(folder / name)
        lines.append(f"{name}\t{wnid}\t0\t0\t63\t63")
    if split == "test":
        (root / "val" / "val_annotations.txt").write_text("\n".join(lines) + "\n")

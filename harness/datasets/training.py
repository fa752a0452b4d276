"""Images to train on, by the name that a recipe gives its data: the training splits of CIFAR, or all images of another data set."""

from __future__ import annotations

from pathlib import Path

from harness import datasets
from harness.datasets import cifar
from harness.datasets.base import ImageSet
from model_zoo.errors import MissingDataError, UsageError


def training_sha256(name: str, data_dir: Path | None = None) -> str:
    """Return a hash of the training images and labels; for CIFAR it is known without the data.

    Raises
    ------
    UserError
        As `load_training` raises it.
    """
    if name in cifar.SETS:
        return cifar.SETS[name].content[cifar.TRAIN]
    images = load_training(name, data_dir)
    return cifar.content_sha256(images.images, images.labels, ordered=True)


def load_training(name: str, data_dir: Path | None = None, download: bool = False) -> ImageSet:
    """Return the images to train on: the training split for "cifar10" and "cifar100", otherwise all images of the data set.

    Raises
    ------
    UsageError
        If the images of the data set differ in size or number of channels from what recipes train on.
    MissingDataError
        If the data is not on this machine.
    """
    if name in cifar.SETS:
        return cifar.load_train(name, datasets.data_folder(data_dir), download)
    images = datasets.load(name, data_dir, download=download)
    if images.images.ndim != 4 or images.images.shape[-1] != 3:
        raise UsageError(f"recipes train on colour images, not on {name} with shape {list(images.images.shape)}")
    return images


def training_size(name: str) -> int:
    """Return the number of images that `load_training` returns, without reading them.

    Raises
    ------
    MissingDataError
        If the size of the data set is only known once it is read.
    """
    if name in cifar.SETS:
        return cifar.TRAINING_IMAGES
    size = datasets.describe(name).size
    if size is None:
        raise MissingDataError(f"the number of images of {name} is known only after reading it")
    return size

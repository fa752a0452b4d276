"""Hash of the images to train on, by the name that a recipe gives its data; part of a training's identity."""

from __future__ import annotations

from pathlib import Path

from harness import datasets
from harness.datasets import cifar


def training_sha256(name: str, data_dir: Path | None = None) -> str:
    """Return a hash of the training images and labels; for CIFAR it is known without the data.

    Raises
    ------
    UserError
        As `harness.datasets.load_training` raises it.
    """
    if name in cifar.SETS:
        return cifar.SETS[name].content[cifar.TRAIN]
    images = datasets.load_training(name, data_dir)
    return cifar.content_sha256(images.images, images.labels, ordered=True)

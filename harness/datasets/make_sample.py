"""Make the samples that ship from whole test splits: `python -m harness.datasets.make_sample --data-dir DIR`.

The script shows where the shipped images come from. Running it again gives the same pixels; the bytes of the files may differ with the
version of the WebP encoder.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
from pathlib import Path

import numpy as np

from harness.datasets.base import ImageSet
from harness.datasets.sample import FOLDER, SPRITE, to_sprite
from model_zoo.files import place


def first_of_each_class(images: ImageSet, number: int) -> ImageSet:
    """Return the first `number` images of each class, in the order of `images`."""
    rows = np.sort(np.concatenate([np.flatnonzero(images.labels == label)[:number] for label in range(len(images.classes))]))
    return ImageSet(f"{images.name}-sample", images.images[rows], images.labels[rows], images.index[rows], images.classes)


def smallest_hashes_of_each_class(images: ImageSet, number: int) -> ImageSet:
    """Return the `number` images of smallest pixel sha256 of each class, all in order of that hash; `index` counts from 0."""
    hashes = np.array([hashlib.sha256(image.tobytes()).hexdigest() for image in images.images])
    rows_by_class = [np.flatnonzero(images.labels == label) for label in range(len(images.classes))]
    rows = np.concatenate([class_rows[np.argsort(hashes[class_rows], kind="stable")[:number]] for class_rows in rows_by_class])
    rows = rows[np.argsort(hashes[rows], kind="stable")]
    return ImageSet(f"{images.name}-sample", images.images[rows], images.labels[rows], np.arange(len(rows)), images.classes)


def write_sample(images: ImageSet, stem: str, folder: Path) -> None:
    """Write sprites `stem_K.webp` and the description `stem.json` into `folder`."""
    from PIL import Image

    folder.mkdir(parents=True, exist_ok=True)
    files = {}
    for number, start in enumerate(range(0, len(images), SPRITE)):
        buffer = io.BytesIO()
        sprite = Image.fromarray(to_sprite(images.images[start : start + SPRITE]))
        sprite.save(buffer, "WEBP", lossless=True, quality=100, method=6)
        file = f"{stem}_{number}.webp"
        place(folder / file, buffer.getvalue())
        files[file] = hashlib.sha256(buffer.getvalue()).hexdigest()
    description = {"files": files, "content_sha256": images.sha256, "labels": images.labels.tolist(), "index": images.index.tolist()}
    place(folder / f"{stem}.json", (json.dumps(description) + "\n").encode())


def main(arguments: list[str] | None = None) -> None:
    """Make both samples from the official files (or checked arrays) in --data-dir and write them to --out."""
    from harness.datasets import load

    parser = argparse.ArgumentParser(prog="python -m harness.datasets.make_sample", description="Make the samples that ship.")
    parser.add_argument("--data-dir", type=Path, required=True, help="folder with the whole CIFAR-10 and CIFAR-100 test splits")
    parser.add_argument("--out", type=Path, default=FOLDER, help="folder to write to (default: the package)")
    options = parser.parse_args(arguments)
    write_sample(first_of_each_class(load("cifar10", options.data_dir), 100), "cifar10_sample", options.out)
    write_sample(smallest_hashes_of_each_class(load("cifar100", options.data_dir), 10), "cifar100_sample", options.out)


if __name__ == "__main__":
    main()

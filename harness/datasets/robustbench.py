"""The CIFAR-10 and CIFAR-100 test images that RobustBench evaluates on, through the robustbench package's loading code.

The package takes the first n images of torchvision's test split, which is in the official order; `index` is the position in it.
`robustbench-cifar10` has the images of `cifar10` in the same order. `robustbench-cifar100` has those of `cifar100` in another order
(`harness.datasets.cifar` explains why `cifar100` is not in the official one), so the first n of the two are different images.

RobustBench's ImageNet images are not included: how they are resized and cropped depends on the model, which a data set does not know.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from harness.datasets.base import DatasetInfo, ImageSet, Source
from harness.datasets.cifar import SETS, Cifar, download_hint, fetch_batches
from model_zoo.errors import DamagedFileError, MissingDataError, RefusedError

if TYPE_CHECKING:
    import torch


def to_uint8(images: torch.Tensor) -> np.ndarray:
    """Return float images [N, 3, H, W] in [0, 1] as uint8 [N, H, W, 3], from which `ImageSet.tensors` restores exactly the same floats.

    Raises
    ------
    RefusedError
        If the images are not float32, or a value is not an integer over 255 as float32 rounds it.
    """
    import torch

    pixels = images.mul(255).round_().clamp_(0, 255).to(torch.uint8)
    if images.dtype != torch.float32 or not torch.equal(pixels.float().div_(255.0), images):
        raise RefusedError(f"images refused: {images.dtype} with values that are not integers over 255")
    return np.ascontiguousarray(pixels.permute(0, 2, 3, 1).numpy())


def read(data: Cifar, data_dir: Path, n: int | None = None, download: bool = False) -> ImageSet:
    """Return the first n test images in the official order (all if n is None); parameters as in `harness.datasets.load`.

    Raises
    ------
    MissingDataError
        If official files are absent and may not or cannot be downloaded.
    DamagedFileError
        If a file is not the official one.
    UserError
        If the extra `robustbench` is not installed.
    """
    missing = _missing_files(data, data_dir)
    name = _name(data)
    if missing and not download:
        raise MissingDataError(f"{name}: no {missing[0]} in {data_dir}; the package reads the official batches only. {download_hint(data)}")
    # Imported here because listing the data sets must work without the package, and its import takes seconds.
    from model_zoo.adapters.compat import import_robustbench

    import_robustbench()
    if missing:
        # Downloaded by our code, because the package prints, cannot resume, and unpacks whatever an archive contains.
        fetch_batches(data, data_dir)
    _check_md5(data, data_dir)
    images, labels = _load_images(data, data_dir, n)
    return ImageSet(name, to_uint8(images), labels.numpy(), np.arange(len(images)), data.classes)


def _name(data: Cifar) -> str:
    return f"robustbench-{data.name}"


def _missing_files(data: Cifar, data_dir: Path) -> list[str]:
    """Return the missing ones of the files that the package asks for, which include those of the training split."""
    files = [*(file for split in data.batches.values() for file in split), data.meta]
    return [f"{data.folder}/{file}" for file in files if not (data_dir / data.folder / file).is_file()]


def _check_md5(data: Cifar, data_dir: Path) -> None:
    """Refuse files whose md5 is not torchvision's, because the package would download them again, allowed or not.

    torchvision unpickles with the plain `pickle.load`, but only files with these md5: its constructor checks the batches of both splits
    before it opens one, and the file of class names before it reads them.
    """
    from torchvision import datasets
    from torchvision.datasets.utils import check_integrity

    official = {"cifar10": datasets.CIFAR10, "cifar100": datasets.CIFAR100}[data.name]
    for file, md5 in [*official.train_list, *official.test_list, (official.meta["filename"], official.meta["md5"])]:
        path = data_dir / official.base_folder / file
        if not check_integrity(path, md5):
            raise DamagedFileError(path, f"md5 {md5}", "another md5")


def _load_images(data: Cifar, data_dir: Path, n: int | None) -> tuple[torch.Tensor, torch.Tensor]:
    """Return images float32 [N, 3, 32, 32] in [0, 1] and labels int64 [N], as `robustbench.eval.benchmark` gets them."""
    import torch
    from robustbench.data import PREPROCESSINGS, load_clean_dataset
    from robustbench.model_zoo.enums import BenchmarkDataset

    # A DataLoader draws a seed from the global generator even if it does not shuffle.
    with torch.random.fork_rng(devices=[]):
        # Resolved, because torchvision would read a leading "~" as the home folder, and look and download there.
        images, labels = load_clean_dataset(BenchmarkDataset(data.name), n, str(data_dir.resolve()), PREPROCESSINGS[None])
    return images, labels


def _make_source(data: Cifar) -> Source:
    def present(folder: Path) -> bool:
        return not _missing_files(data, folder)

    title = f"{data.title}, through the robustbench package"
    info = DatasetInfo(_name(data), title, data.kind, 10_000, present, download_hint(data))
    return Source(info, partial(read, data))


SOURCES = {source.info.name: source for source in map(_make_source, SETS.values())}

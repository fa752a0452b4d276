"""Tests of image sets (validation, slices, content hashes) and of loading data sets by name."""

import subprocess
import sys
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch

from harness import datasets
from harness.datasets.base import DataKind, ImageSet
from harness.runner.protocol import default_threat
from model_zoo.classifier import NORMALISATIONS
from model_zoo.errors import RefusedError, UnknownNameError, UsageError

IMAGES = np.random.default_rng(0).integers(0, 256, (5, 4, 6, 3), dtype=np.uint8)


def image_set(**change: object) -> ImageSet:
    fields = {"name": "x", "images": IMAGES, "labels": np.arange(5), "index": np.arange(5) + 10, "classes": tuple("abcde"), **change}
    return ImageSet(**fields)  # type: ignore[arg-type]


def test_tensors_are_pixels_divided_by_255() -> None:
    images, labels = image_set().tensors()
    assert images.shape == (5, 3, 4, 6) and images.dtype == torch.float32 and images.is_contiguous()
    assert images[3, 2, 1, 5].item() == pytest.approx(IMAGES[3, 1, 5, 2] / 255)
    assert labels.tolist() == [0, 1, 2, 3, 4] and labels.dtype == torch.int64


def test_the_hash_depends_on_content_and_not_on_memory_layout() -> None:
    original = image_set()
    assert image_set(images=np.asfortranarray(IMAGES)).sha256 == original.sha256
    changed = IMAGES.copy()
    changed[4, 3, 5, 2] ^= 1
    variants = [image_set(images=changed), image_set(labels=np.array([0, 1, 2, 3, 3])), image_set(index=np.arange(5)), original.first(4)]
    assert len({original.sha256, *(variant.sha256 for variant in variants)}) == 5


def test_slices_keep_their_indices() -> None:
    assert image_set().slice(2, 4).index.tolist() == [12, 13]
    assert len(image_set().first(5)) == 5
    for n in (0, 6):
        with pytest.raises(UsageError, match="from 1 to 5"):
            image_set().first(n)


@pytest.mark.parametrize(
    "change",
    [
        {"images": IMAGES.astype(np.float32)},
        {"images": IMAGES[..., :2]},
        {"labels": np.arange(4)},
        {"labels": np.arange(5) + 1},
        {"labels": np.arange(5) - 1},
        {"labels": np.arange(5.0)},
        {"index": np.arange(5, dtype=np.int32)},
        {"index": np.arange(6)},
    ],
)
def test_inconsistent_fields_are_errors(change: dict[str, object]) -> None:
    with pytest.raises(RefusedError):
        image_set(**change)


def test_names_and_suggestions() -> None:
    assert {"cifar10", "cifar10-sample", "cifar100", "cifar100-sample", "imagenet100"} <= set(datasets.names())
    with pytest.raises(UnknownNameError, match="Did you mean 'cifar10-sample'"):
        datasets.load("cifar10-smaple")
    with pytest.raises(UsageError, match="at least 1"):
        datasets.load("cifar10-sample", n=0)
    with pytest.raises(UsageError, match="1000 images"):
        datasets.load("cifar10-sample", n=1001)


def test_the_data_folder_comes_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARNESS_DATA_DIR", str(tmp_path))
    assert not datasets.present("imagenet100")
    (tmp_path / "imagenet100").mkdir()
    assert datasets.present("imagenet100")
    assert datasets.data_folder(Path("elsewhere")) == Path("elsewhere")
    monkeypatch.delenv("HARNESS_DATA_DIR")
    assert datasets.data_folder().name == "robust-binary-harness"


def test_listing_names_imports_nothing_heavy() -> None:
    code = (
        "import sys\nfrom harness import datasets\ndatasets.names()\n"
        "sys.exit(', '.join({'torch', 'pandas', 'PIL', 'pooch', 'torchvision'} & set(sys.modules)) or 0)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False).returncode == 0


def test_data_kinds_match_their_data_sets_and_the_radii_of_the_protocol() -> None:
    kinds = datasets.kinds()
    assert {name: dict(kind.radii) for name, kind in kinds.items() if name in ("cifar10", "cifar100", "imagenet100")} == {
        "cifar10": {"Linf": Fraction(8, 255)},
        "cifar100": {"Linf": Fraction(4, 255)},
        "imagenet100": {"Linf": Fraction(2, 255)},
    }
    for name in ("cifar10", "cifar100"):
        kind = kinds[name]
        assert kind.sample == f"{name}-sample" and kind is datasets.describe(name).kind is datasets.describe(kind.sample).kind
        sample = datasets.load(kind.sample, n=1)
        assert (len(sample.classes), tuple(sample.tensors()[0].shape[1:])) == (kind.classes, kind.shape)
    assert all(kind.normalisation in NORMALISATIONS for kind in kinds.values())


def test_a_data_set_defines_its_kind_and_default_radius() -> None:
    sample = datasets.DATASETS.get("cifar10-sample")
    kind = DataKind("mine", 10, (3, 32, 32), {"Linf": Fraction(3, 255)})
    with datasets.DATASETS.temporarily("my-data", replace(sample, info=replace(sample.info, name="my-data", kind=kind))):
        assert str(default_threat("Linf", "mine")) == "Linf 3/255"
        assert str(default_threat("L2", "mine")) == "L2 1/2"
    with pytest.raises(UsageError, match="no radius"):
        default_threat("Linf", "mine")
    assert str(default_threat("L2", "mine")) == "L2 1/2"

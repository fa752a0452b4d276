"""Images for the tests of corruptions."""

import numpy as np
import pytest

from harness import datasets
from harness.datasets.base import ImageSet


@pytest.fixture(scope="session")
def photographs() -> ImageSet:
    return datasets.load("cifar10-sample", n=24)


def plain(value: int, n: int = 8) -> ImageSet:
    """Return n images whose pixels are all `value`."""
    images = np.full((n, 32, 32, 3), value, np.uint8)
    return ImageSet("plain", images, np.zeros(n, np.int64), np.arange(n), ("one",))

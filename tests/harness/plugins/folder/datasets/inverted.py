"""An external data set: the shipped sample with inverted pixels."""

from dataclasses import replace

from harness import datasets
from harness.datasets.base import ImageSet, Source

INFO = datasets.describe("cifar10-sample")


def read(data_dir: object, n: int | None, download: bool) -> ImageSet:
    """Return the shipped sample with inverted pixels."""
    sample = datasets.load("cifar10-sample")
    return replace(sample, name="inverted-sample", images=255 - sample.images)


SOURCES = {"inverted-sample": Source(replace(INFO, name="inverted-sample", title="the sample, inverted"), read)}

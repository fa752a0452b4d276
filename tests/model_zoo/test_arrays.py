"""Tests of reading labelled images from .npz files."""

from pathlib import Path

import numpy as np
import pytest

from model_zoo.arrays import read_arrays
from model_zoo.errors import DamagedFileError, UsageError
from tests.model_zoo.training.tiny import SAMPLE


@pytest.mark.parametrize(
    "arrays", [{"x": SAMPLE.images}, {"x": SAMPLE.images[0], "y": SAMPLE.labels}, {"x": SAMPLE.images, "y": SAMPLE.labels[:9]}]
)
def test_arrays_of_wrong_shape_are_errors(arrays: dict[str, np.ndarray], tmp_path: Path) -> None:
    path = tmp_path / "arrays.npz"
    np.savez(path, **arrays)  # type: ignore[arg-type]
    with pytest.raises(DamagedFileError, match=r"arrays\.npz"):
        read_arrays(path)


def test_pickled_arrays_and_absent_files_are_errors(tmp_path: Path) -> None:
    path = tmp_path / "arrays.npz"
    np.savez(path, x=np.array([object()]), y=np.zeros(1))
    with pytest.raises(DamagedFileError, match=r"arrays\.npz"):
        read_arrays(path)
    with pytest.raises(UsageError, match="no file"):
        read_arrays(tmp_path / "absent.npz")

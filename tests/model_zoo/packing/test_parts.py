"""Tests of the breakdown of a packed file's bytes into parts."""

from pathlib import Path

import pytest

from model_zoo.errors import DamagedFileError
from model_zoo.packing.parts import file_parts
from model_zoo.registry import checkpoint_path, get_record

PRUNED, DENSE = "cifar10-rn8w32-pruned-binary-k10-p01", "cifar10-rn8w28-dense"


@pytest.mark.parametrize("model", [PRUNED, DENSE])
def test_parts_add_up_to_the_file(model: str) -> None:
    parts = file_parts(checkpoint_path(model))
    assert sum(parts.values()) == get_record(model).checkpoint.bytes == checkpoint_path(model).stat().st_size
    assert all(size >= 0 for size in parts.values()) and parts["header"] > 8


def test_parts_of_pruned_binary_and_dense_files() -> None:
    pruned, dense = file_parts(checkpoint_path(PRUNED)), file_parts(checkpoint_path(DENSE))
    # One sign bit per kept weight (30,746 of them); masks take more bytes than signs.
    assert pruned["value"] == 0 and 30_000 / 8 < pruned["sign"] < 31_500 / 8 < pruned["mask"]
    assert dense["mask"] == dense["sign"] == 0 and dense["value"] > 0.95 * sum(dense.values())


def test_an_invalid_file_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"not a checkpoint")
    with pytest.raises(DamagedFileError, match="a packed checkpoint"):
        file_parts(path)

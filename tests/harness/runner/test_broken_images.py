"""Tests that broken images are read back as stored, and that damaged files are errors that name the file."""

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save

from harness.runner.plan import Unit, plan_request
from harness.runner.store import Store
from model_zoo.errors import DamagedFileError
from tests.harness.reporting.page.conftest import PRUNED, store_outcome


@pytest.fixture
def unit() -> Unit:
    return plan_request([PRUNED], ["pgd"], "cifar10-sample", 12).units[0]


def test_write_and_read_round_trip(unit: Unit, tmp_path: Path) -> None:
    store = Store(tmp_path)
    store_outcome(store, unit, 5)
    broken = store.broken(unit.id)
    assert broken is not None
    assert broken[0].tolist() == unit.block.index[5:8].tolist() and broken[1].shape == (3, 3, 32, 32)
    store_outcome(store, unit, 8)
    (tmp_path / "units" / f"{unit.id}.safetensors").unlink()
    assert store.broken(unit.id) is None


@pytest.mark.parametrize(
    "content",
    [
        b"short",
        save({"image": np.zeros(1, np.int64)}),
        save({"image": np.zeros(2, np.int64), "perturbation": np.zeros((1, 3, 4, 4), np.float16)}),
        save({"image": np.zeros(1, np.int64), "perturbation": np.full((1, 3, 4, 4), np.nan, np.float16)}),
    ],
)
def test_invalid_content_is_an_error_with_and_without_a_hash(content: bytes, unit: Unit, tmp_path: Path) -> None:
    store = Store(tmp_path)
    store_outcome(store, unit, 5)
    path = tmp_path / "units" / f"{unit.id}.safetensors"
    path.write_bytes(content)
    with pytest.raises(DamagedFileError, match="sha256"):
        store.broken(unit.id)
    # Manifests of version 1 have no hash of the images.
    manifest = tmp_path / "units" / f"{unit.id}.json"
    manifest.write_text("".join(line for line in manifest.read_text().splitlines(True) if "broken_sha256" not in line))
    with pytest.raises(DamagedFileError, match=path.name):
        store.broken(unit.id)

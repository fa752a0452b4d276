"""Tests of RobustBench's images, loaded by the package from small files in the official format."""

import dataclasses
import io
import pickle
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from harness import datasets
from harness.cli.main import main
from harness.datasets import robustbench
from harness.datasets.base import ImageSet
from harness.datasets.cifar import SETS, TEST, TRAIN
from harness.datasets.robustbench import read, to_uint8
from model_zoo.adapters.compat import import_robustbench
from model_zoo.errors import DamagedFileError, MissingDataError, RefusedError, UsageError
from tests.harness.datasets.test_cifar import md5
from tests.model_zoo.adapters.test_robustbench import NAME, architecture
from tests.model_zoo.test_download import Server, server, url

__all__ = ["server"]

pytestmark = pytest.mark.needs_robustbench
# More than the hundred images that the package loads per batch.
IMAGES = 120
each_family = pytest.mark.parametrize("family", ["cifar10", "cifar100"])


def sample(family: str) -> ImageSet:
    return datasets.load(f"{family}-sample").first(IMAGES)


def batch(family: str, n: int) -> bytes:
    """Return a batch file of the first n images, as Python 2 and its numpy wrote it."""
    images = sample(family).first(n)
    rows = images.images.transpose(0, 3, 1, 2).reshape(n, -1)
    content = pickle.dumps({"data": rows, SETS[family].label_key.decode(): images.labels.tolist()}, protocol=2)
    return content.replace(b"numpy._core.multiarray", b"numpy.core.multiarray").replace(b"\x89\x88\x87", b"K\x00K\x01\x87")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folder with both data sets reduced to a few images; torchvision gets the md5 of the written files, and downloads fail the test."""
    import_robustbench()
    from torchvision import datasets as official

    for family, kind in (("cifar10", official.CIFAR10), ("cifar100", official.CIFAR100)):
        data = SETS[family]
        contents = {file: batch(family, 1) for file in data.batches[TRAIN]}
        contents |= {file: batch(family, IMAGES) for file in data.batches[TEST]}
        contents[data.meta] = pickle.dumps({kind.meta["key"]: list(data.classes)}, protocol=2)
        (tmp_path / data.folder).mkdir()
        for file, content in contents.items():
            (tmp_path / data.folder / file).write_bytes(content)
        monkeypatch.setattr(kind, "train_list", [[file, md5(contents[file])] for file in data.batches[TRAIN]])
        monkeypatch.setattr(kind, "test_list", [[file, md5(contents[file])] for file in data.batches[TEST]])
        monkeypatch.setattr(kind, "meta", {**kind.meta, "md5": md5(contents[data.meta])})
    monkeypatch.setattr("torchvision.datasets.cifar.download_and_extract_archive", lambda *args, **kwargs: pytest.fail("a download"))
    return tmp_path


@each_family
def test_images_and_labels_match_the_files_in_order(family: str, folder: Path) -> None:
    state = torch.get_rng_state()
    loaded, expected = datasets.load(f"robustbench-{family}", folder), sample(family)
    assert np.array_equal(loaded.images, expected.images) and np.array_equal(loaded.labels, expected.labels)
    assert loaded.index.tolist() == list(range(IMAGES)) and loaded.classes == expected.classes
    assert torch.equal(torch.get_rng_state(), state)


def test_the_first_n_images_are_loaded(folder: Path) -> None:
    for n in (1, 100, 110):
        loaded = datasets.load("robustbench-cifar10", folder, n)
        assert np.array_equal(loaded.images, sample("cifar10").images[:n]) and loaded.index.tolist() == list(range(n))
    with pytest.raises(UsageError, match=f"from 1 to {IMAGES}"):
        datasets.load("robustbench-cifar10", folder, IMAGES + 1)


@each_family
def test_missing_files_are_an_error_and_not_downloaded(family: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(robustbench, "fetch_batches", lambda *args: pytest.fail("a download"))
    data = SETS[family]
    for file in (*data.batches[TEST], *data.batches[TRAIN], data.meta):
        path = folder / data.folder / file
        content = path.read_bytes()
        path.unlink()
        assert not datasets.present(f"robustbench-{family}", folder)
        with pytest.raises(MissingDataError, match=rf"no {data.folder}/{file} in .*--download.*{family}-sample"):
            datasets.load(f"robustbench-{family}", folder)
        path.write_bytes(content)
    assert datasets.present(f"robustbench-{family}", folder)


def test_a_changed_byte_is_an_error_and_not_downloaded(folder: Path) -> None:
    for file in ("test_batch", "data_batch_3", "batches.meta"):
        path = folder / "cifar-10-batches-py" / file
        content = path.read_bytes()
        path.write_bytes(content[:-3] + b"\x00" + content[-2:])
        with pytest.raises(DamagedFileError, match=rf"{file}: expected md5"):
            datasets.load("robustbench-cifar10", folder, download=True)
        path.write_bytes(content)


def test_unofficial_files_are_not_unpickled(folder: Path) -> None:
    class Harmful:
        def __reduce__(self) -> tuple[object, tuple[Path]]:
            return Path.touch, (folder / "touched",)

    for file in ("test_batch", "batches.meta"):
        path = folder / "cifar-10-batches-py" / file
        content = path.read_bytes()
        path.write_bytes(pickle.dumps({"data": Harmful()}))
        with pytest.raises(DamagedFileError, match=file):
            datasets.load("robustbench-cifar10", folder)
        path.write_bytes(content)
    assert not (folder / "touched").exists()


def test_a_download_contains_every_file_that_the_package_reads(folder: Path, server: Server, tmp_path: Path) -> None:
    data = SETS["cifar100"]
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        archive.add(folder / data.folder, data.folder)
    server.content = buffer.getvalue()
    served = dataclasses.replace(data, url=url(server), md5=md5(server.content))
    loaded = read(served, tmp_path / "data", 5, download=True)
    assert np.array_equal(loaded.images, sample("cifar100").images[:5])


def test_a_failed_download_is_a_one_line_error(folder: Path, tmp_path: Path) -> None:
    unreachable = dataclasses.replace(SETS["cifar10"], url="http://127.0.0.1:9/file.tar.gz")
    with pytest.raises(MissingDataError, match="could not be downloaded") as raised:
        read(unreachable, tmp_path / "data", download=True)
    assert "\n" not in str(raised.value)


def test_floats_are_converted_to_bytes_exactly_or_are_an_error() -> None:
    all_bytes = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16).expand(1, 3, 16, 16)
    assert np.array_equal(to_uint8(all_bytes.float().div(255)), all_bytes.permute(0, 2, 3, 1).numpy())
    for value in (0.5, -1 / 255, 256 / 255, float("nan"), 0.2 + 1e-7):
        with pytest.raises(RefusedError, match="integers over 255"):
            to_uint8(torch.full((1, 3, 2, 2), value))
    with pytest.raises(RefusedError, match="float64"):
        to_uint8(torch.zeros(1, 3, 2, 2, dtype=torch.float64))


def test_listing_data_sets_imports_no_package() -> None:
    code = (
        "import sys\nfrom harness import datasets\n"
        "found = [datasets.present(name) for name in datasets.names()]\n"
        "sys.exit(str({'robustbench', 'torchvision', 'torch'} & set(sys.modules) or ''))"
    )
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert not process.stderr.strip()


def test_a_leaderboard_model_runs_on_the_data_of_robustbench(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "models" / "cifar10" / "Linf").mkdir(parents=True)
    torch.save(architecture().state_dict(), folder / "models" / "cifar10" / "Linf" / f"{NAME}.pt")
    monkeypatch.chdir(folder)
    options = [
        "--model",
        f"robustbench:{NAME}",
        "--dataset",
        "robustbench-cifar10",
        "--data-dir",
        str(folder),
        "--attack",
        "pgd-20",
        "--n",
        "2",
    ]
    result = CliRunner().invoke(main, ["run", *options, "--workers", "1"])
    assert result.exit_code == 0, result.stderr
    assert "1 units run" in result.stderr and "robustbench-cifar10" in result.stdout and "n = 2" in result.stdout
    status = CliRunner().invoke(main, ["status", *options])
    assert status.exit_code == 0 and "1 of 1 units done" in status.stdout

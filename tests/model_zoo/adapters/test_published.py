"""Tests of published files: every list is valid, ambiguous names are errors, and downloads are checked by hash."""

import dataclasses
import hashlib
from pathlib import Path

import pytest

from model_zoo.adapters import formats
from model_zoo.adapters.published import GDRIVE, PublishedFile, locate, published_files
from model_zoo.errors import DamagedFileError, UnknownNameError, UsageError
from tests.model_zoo.test_download import CONTENT, Server, server, url

__all__ = ["server"]
ADAPTERS = formats()


@pytest.mark.parametrize("name", formats())
def test_every_list_is_valid(name: str) -> None:
    for row in published_files(name):
        assert row.url.startswith("https://") and row.name and row.file == Path(row.file).name
        assert row.sha256 == "" or len(bytes.fromhex(row.sha256)) == 32
    assert ADAPTERS[name].files


def test_a_google_drive_id_becomes_a_download_url() -> None:
    assert PublishedFile("a", "gdrive:ID-1", "a.pt", "", "").url == GDRIVE + "ID-1"


def test_a_path_is_returned_unchanged(tmp_path: Path) -> None:
    path = tmp_path / "model.pth"
    path.write_bytes(b"")
    assert locate(ADAPTERS["hydra"], str(path), tmp_path / "downloads") == (path, None)
    assert not (tmp_path / "downloads").exists()


def test_a_duplicate_name_is_an_error_and_can_be_numbered(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = "HYDRA_Sehwag2020Hydra_R18_CIFAR10_US_90"
    adapter = ADAPTERS["apbench"]
    with pytest.raises(UsageError, match=r"names 2 files: .*#1 is gdrive:1VU99.*V16_US_99 is missing"):
        locate(adapter, name, tmp_path)
    with pytest.raises(UsageError, match="names 2 files"):
        locate(adapter, f"{name}#3", tmp_path)
    rows = [dataclasses.replace(row, link=url(server)) for row in published_files(adapter.name)]
    monkeypatch.setattr("model_zoo.adapters.published.published_files", lambda name: rows)
    for number in (1, 2):
        path, row = locate(adapter, f"{name}#{number}", tmp_path)
        assert row is not None and row.name == name and path.read_bytes() == CONTENT
    assert {path.name for path in tmp_path.iterdir() if path.suffix == ".tar"} == {f"{name}.pth.tar", f"{name}-2.pth.tar"}


def test_the_listed_hash_is_checked_before_the_file_is_used(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [dataclasses.replace(row, link=url(server)) for row in published_files("biprop")]
    assert all(row.sha256 for row in rows)
    monkeypatch.setattr("model_zoo.adapters.published.published_files", lambda name: rows)
    with pytest.raises(DamagedFileError, match="6fa5bd64"):
        locate(ADAPTERS["biprop"], "resnet18-BN", tmp_path)
    rows[0] = dataclasses.replace(rows[0], sha256=hashlib.sha256(CONTENT).hexdigest())
    assert locate(ADAPTERS["biprop"], "resnet18-BN", tmp_path)[0].read_bytes() == CONTENT


def test_an_unknown_name_is_an_error_that_tells_where_files_are_published(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no file absent\.pth; rst files are available from"):
        locate(ADAPTERS["rst"], "absent.pth", tmp_path)
    with pytest.raises(UsageError, match="no file folder/absent"):
        locate(ADAPTERS["bcs"], "folder/absent", tmp_path)
    with pytest.raises(UnknownNameError, match="cifar10_resnet18_sparse1_at"):
        locate(ADAPTERS["bcs"], "cifar10_resnet18_sparse_at", tmp_path)

"""Tests of hostile, damaged and oversized checkpoint files: one-line errors, nothing executed, nothing large allocated."""

import argparse
import io
import os
import resource
import tracemalloc
import zipfile
from pathlib import Path

import pytest
import torch

from model_zoo.adapters import Request, formats
from model_zoo.adapters.checkpoint import read_checkpoint, tensors
from model_zoo.adapters.hydra import load_hydra
from model_zoo.errors import DamagedFileError, UnknownNameError, UsageError
from tests.model_zoo.adapters.official import PostActResNet, save_checkpoint, seeded

NAMES = [name for name in formats() if name not in ("bcs", "ivrl")]


class RunsCommand:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch executed",)


@pytest.mark.parametrize("name", formats())
@pytest.mark.parametrize("legacy", [False, True])
def test_no_format_executes_code_in_a_file(name: str, legacy: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "HARP_Zhao2023Holistic_R18_CIFAR10_US_50.pth"
    request = Request("cifar10", keep_ratio=0.5)
    for content in (
        RunsCommand(),
        {"state_dict": {"conv1.weight": RunsCommand()}},
        {"state_dict": seeded(PostActResNet).state_dict(), "args": RunsCommand()},
    ):
        torch.save(content, path, _use_new_zipfile_serialization=not legacy)
        with pytest.raises(DamagedFileError):
            formats()[name].load(path, request)
    for damage in (b"", b"text", path.read_bytes()[:-100], path.read_bytes()[:300]):
        path.write_bytes(damage)
        with pytest.raises(DamagedFileError) as refusal:
            formats()[name].load(path, request)
        assert "\n" not in str(refusal.value) and "weights_only" not in str(refusal.value)
    path.unlink()
    with pytest.raises(UsageError, match="no file"):
        formats()[name].load(path, request)
    assert not list(tmp_path.iterdir())


def test_the_legacy_format_and_objects_next_to_tensors_are_read(tmp_path: Path) -> None:
    network = seeded(PostActResNet)
    path = tmp_path / "model.pth"
    torch.save({"net": network.state_dict(), "args": argparse.Namespace(k=0.1)}, path, _use_new_zipfile_serialization=False)
    assert load_hydra(path, Request("cifar10")).family == "dense"


def test_a_storage_longer_than_its_file_is_an_error_without_allocation(tmp_path: Path) -> None:
    path = tmp_path / "model.pth"
    torch.save({"a": torch.zeros(6)}, path, _use_new_zipfile_serialization=False)
    content = path.read_bytes()
    length = content.index(b"K\x06", content.index(b"FloatStorage"))
    path.write_bytes(content[:length] + b"\x8a\x06" + (10**10).to_bytes(6, "little") + content[length + 2 :])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(DamagedFileError):
        read_checkpoint(path)
    # ru_maxrss is in KiB; the storage claims forty million KiB.
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000


def test_compressed_entries_are_errors_without_decompression(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    torch.save({"state_dict": {"a": torch.zeros(1000, 1000)}}, buffer)
    path = tmp_path / "bomb.pth"
    with zipfile.ZipFile(buffer) as source, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        for entry in source.infolist():
            packed.writestr(entry.filename, source.read(entry))
    assert path.stat().st_size < 20_000
    with pytest.raises(DamagedFileError, match="decompress to 4,00"):
        read_checkpoint(path)


def test_an_expanded_view_counts_with_its_full_size(tmp_path: Path) -> None:
    path = save_checkpoint({"state_dict": {"conv1.weight": torch.zeros(1).expand(40_000, 40_000)}}, tmp_path)
    tracemalloc.start()
    try:
        with pytest.raises(DamagedFileError, match=r"conv1\.weight.*40000, 40000"):
            tensors(path, read_checkpoint(path))
        assert tracemalloc.get_traced_memory()[1] < 2**24
    finally:
        tracemalloc.stop()


def test_a_file_above_the_size_limit_is_an_error_without_reading(tmp_path: Path) -> None:
    path = tmp_path / "large.pth"
    with path.open("wb") as file:
        file.truncate((2 << 30) + 1)
    for name in formats():
        with pytest.raises(DamagedFileError, match="2,147,483,648 bytes"):
            formats()[name].load(Path(path), Request("cifar10", "HARP_Zhao2023Holistic_R18_CIFAR10_US_50", keep_ratio=0.5))


def test_inconsistent_name_prefixes(tmp_path: Path) -> None:
    path = save_checkpoint({"state_dict": {}}, tmp_path)
    tensor = torch.zeros(1)
    with pytest.raises(DamagedFileError, match="something else"):
        tensors(path, {"state_dict": {"a": tensor, "b": 3}})
    assert tensors(path, {"module.a": tensor, "module.b": tensor}).keys() == {"a", "b"}
    # A prefix that only some names have is part of the name.
    assert tensors(path, {"module.a": tensor, "b": tensor}).keys() == {"module.a", "b"}


@pytest.mark.parametrize(
    "names",
    [("conv1.weight",), ("layer1.0.conv1.weight", "fc.weight"), ("block1.0.conv1.weight",), ("layer99999999999.0.conv1.weight",)],
)
@pytest.mark.parametrize("format_name", NAMES)
def test_tensors_of_an_unknown_network_are_a_one_line_error(names: tuple[str, ...], format_name: str, tmp_path: Path) -> None:
    path = save_checkpoint(
        {"state_dict": {name: torch.zeros(2, 2, 3, 3) for name in names}}, tmp_path, "HARP_Zhao2023Holistic_R18_CIFAR10_US_50.pth"
    )
    with pytest.raises((DamagedFileError, UsageError)) as refusal:
        formats()[format_name].load(path, Request("cifar10"))
    assert "\n" not in str(refusal.value)


def test_an_unknown_format_error_has_a_suggestion() -> None:
    from model_zoo.adapters import get_format

    with pytest.raises(UnknownNameError, match="flying-bird"):
        get_format("flyingbird")

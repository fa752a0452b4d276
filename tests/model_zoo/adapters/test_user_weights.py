"""Tests of published weights for a user's network: searched in the whole file, matched by name, an error if types do not fit."""

import argparse
import collections
import datetime
import gzip
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from model_zoo.adapters.user_weights import fill_user_network
from model_zoo.errors import DamagedFileError, UsageError


def network(seed: int = 0) -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(nn.Conv2d(3, 4, 5, 4), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(196, 10))


STATE = network(1).state_dict()


class Settings:
    """An object stored with the tensors, of a class that is not available to readers."""

    def __init__(self) -> None:
        self.rate = 0.1


class Config(dict[str, object]):
    """A dictionary with an attribute, of a class that is not available to readers."""

    def __init__(self) -> None:
        super().__init__(rate=0.1)
        self.path = "config"


def prefixed(prefix: str) -> dict[str, torch.Tensor]:
    return {prefix + name: tensor for name, tensor in STATE.items()}


READ: dict[str, Any] = {
    "the state dict itself": STATE,
    "under net": {"net": STATE, "acc": 69.2, "epoch": 3},
    "under model": {"model": STATE},
    "under model_state_dict": {"model_state_dict": STATE, "optimizer_state_dict": {"state": {}, "param_groups": [{"lr": 0.1}]}},
    "under any other name": {"student_weights": STATE},
    "two levels down": {"checkpoint": {"model": STATE, "epoch": 1}},
    "in a list of one": {"state_dict": [STATE], "err": 0.5},
    "with the optimiser's state": {"state_dict": STATE, "optimizer": torch.optim.Adam(network().parameters()).state_dict()},
    "module.": prefixed("module."),
    "_orig_mod.": prefixed("_orig_mod."),
    "_orig_mod.module.": {"state_dict": prefixed("_orig_mod.module.")},
    "model. of a trainer": {"state_dict": prefixed("model.")},
    "numpy's scalars": {"state_dict": STATE, "acc": np.float64(69.2), "best": np.float32(3)},
    "a namespace": {"state_dict": STATE, "args": argparse.Namespace(lr=0.1)},
    "a date": {"state_dict": STATE, "when": datetime.datetime(2026, 1, 1)},
    "a path": {"state_dict": STATE, "where": Path("runs")},
    "an object of a class nobody has": {"state_dict": STATE, "settings": Settings()},
    "a dictionary of a class nobody has": {"state_dict": STATE, "config": Config(), "more": collections.defaultdict(list, a=[1])},
    "a deque": {"state_dict": STATE, "log": collections.deque([1.0, 2.0], maxlen=4)},
    "numpy's other types": {"state_dict": STATE, "best": np.bool_(True), "seed": np.random.get_state(), "name": np.str_("a")},
    "the same mapping twice": {"model": STATE, "ema": STATE},
    "without counts of batches": {name: tensor for name, tensor in STATE.items() if "tracked" not in name},
    "double": {name: tensor.double() if tensor.is_floating_point() else tensor for name, tensor in STATE.items()},
}


@pytest.mark.parametrize("case", READ)
@pytest.mark.parametrize("zipped", [True, False])
def test_weights_are_found_anywhere_in_the_file(tmp_path: Path, case: str, zipped: bool) -> None:
    path = tmp_path / "weights.pth"
    torch.save(READ[case], path, _use_new_zipfile_serialization=zipped)
    filled = network()
    fill_user_network(filled, path)
    assert all(torch.equal(tensor, STATE[name]) for name, tensor in filled.state_dict().items() if "tracked" not in name)
    assert all(parameter.dtype == torch.float32 for parameter in filled.parameters())


def test_half_precision_is_cast_and_safetensors_may_have_any_suffix(tmp_path: Path) -> None:
    halved = {name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in STATE.items()}
    torch.save(halved, tmp_path / "half.pt")
    save_file(STATE, tmp_path / "weights.bin")
    for name, tolerance in (("half.pt", 1e-3), ("weights.bin", 0.0)):
        filled = network()
        fill_user_network(filled, tmp_path / name)
        assert (filled[4].weight - STATE["4.weight"]).abs().max() <= tolerance


def test_a_wrapped_network_accepts_the_weights_of_the_plain_one(tmp_path: Path) -> None:
    torch.save(STATE, tmp_path / "plain.pt")
    wrapped = nn.DataParallel(network())
    fill_user_network(wrapped, tmp_path / "plain.pt")
    assert torch.equal(wrapped.state_dict()["module.4.weight"], STATE["4.weight"])


def changed(name: str, tensor: torch.Tensor) -> dict[str, torch.Tensor]:
    return {**STATE, name: tensor}


REFUSED: dict[str, tuple[Any, str]] = {
    "eight bits": (changed("4.weight", (STATE["4.weight"] * 100).to(torch.int8)), r"'4\.weight' of float32, found int8 \(quantised\?"),
    "bytes": ({"state_dict": changed("0.bias", torch.zeros(4, dtype=torch.uint8))}, r"'0\.bias' of float32, found uint8"),
    "floats for counts": (changed("1.num_batches_tracked", torch.tensor(3.0)), r"num_batches_tracked' of int64, found float32"),
    "another shape": (changed("0.bias", torch.zeros(5)), r"'0\.bias' of shape \[4\], found \[5\]"),
    "a missing tensor": ({name: tensor for name, tensor in STATE.items() if name != "0.bias"}, r"a tensor '0\.bias', found none"),
    "one too many": ({"state_dict": changed("5.bias", torch.zeros(2))}, r"under 'state_dict', found additional ones: '5\.bias'"),
    "two that fit": ({"state_dict": STATE, "ema": prefixed("module.")}, r"found several, under 'ema' and 'state_dict'"),
    "no values": (changed("0.bias", torch.zeros(4, device="meta")), r"'0\.bias' with all its values, found a meta tensor"),
    "sparse": (changed("4.weight", STATE["4.weight"].to_sparse()), r"'4\.weight' with all its values, found a sparse tensor"),
    "quantised": (
        {"net": changed("4.weight", torch.quantize_per_tensor(STATE["4.weight"], 0.1, 0, torch.qint8))},
        r"'4\.weight' of float32, found qint8 \(quantised\?",
    ),
    "no tensors": ({"epoch": 3}, "a state dict of tensors"),
    "another network": ({"net": nn.Linear(3, 4).state_dict()}, r"a tensor '0\.weight' \(and \d+ more\) under 'net'"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_weights_that_do_not_fit_are_a_one_line_error(tmp_path: Path, case: str) -> None:
    content, words = REFUSED[case]
    torch.save(content, tmp_path / "weights.pth")
    filled = network()
    before = {name: tensor.clone() for name, tensor in filled.state_dict().items()}
    with pytest.raises(DamagedFileError, match=words) as refused:
        fill_user_network(filled, tmp_path / "weights.pth")
    assert len(str(refused.value)) < 300 + len(str(tmp_path)) and "\n" not in str(refused.value)
    assert all(torch.equal(tensor, before[name]) for name, tensor in filled.state_dict().items())


FILES: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "an empty file"),
    "a web page": (b"\n<!DOCTYPE html><html><body>Sign in</body></html>", "a web page"),
    "a pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 3\n", "a Git LFS pointer"),
    "text": (b"see the release page\n", "found text"),
    "JSON": (b'{"message": "Not Found"}', "JSON"),
    "compressed": (gzip.compress(b"weights"), "gzip"),
    "a cut archive": (b"PK\x03\x04" + b"\0" * 40, "cut short"),
}


@pytest.mark.parametrize("case", FILES)
def test_a_file_of_another_kind_is_an_error_that_names_the_kind(tmp_path: Path, case: str) -> None:
    content, words = FILES[case]
    (tmp_path / "weights.pth").write_bytes(content)
    with pytest.raises(DamagedFileError, match=words):
        fill_user_network(network(), tmp_path / "weights.pth")


def test_bit_flips_are_detected_and_archives_without_checksums_are_read(tmp_path: Path) -> None:
    path = tmp_path / "weights.pt"
    torch.save(STATE, path)
    content, values = path.read_bytes(), STATE["4.weight"].numpy().tobytes()
    offset = content.index(values)
    path.write_bytes(content[:offset] + bytes([content[offset] ^ 1]) + content[offset + 1 :])
    with pytest.raises(DamagedFileError, match="damaged"):
        fill_user_network(network(), path)
    torch.serialization.set_crc32_options(False)
    try:
        torch.save(STATE, path)
    finally:
        torch.serialization.set_crc32_options(True)
    fill_user_network(network(), path)


def test_recursive_mappings_are_searched_once(tmp_path: Path) -> None:
    content: dict[str, Any] = {"state_dict": STATE}
    content |= {f"again{number}": content for number in range(1_000)}
    torch.save(content, tmp_path / "weights.pt")
    fill_user_network(network(), tmp_path / "weights.pt")


def test_networks_and_arrays_instead_of_weights_are_errors(tmp_path: Path) -> None:
    torch.jit.trace(network().eval(), torch.zeros(1, 3, 32, 32)).save(str(tmp_path / "script.pt"))
    np.savez(tmp_path / "arrays.npz", weight=np.zeros(3))
    for name, words in (("script.pt", "TorchScript"), ("arrays.npz", "arrays of numpy")):
        with pytest.raises(DamagedFileError, match=words):
            fill_user_network(network(), tmp_path / name)
    with pytest.raises(UsageError, match="no file"):
        fill_user_network(network(), tmp_path / "absent.pt")


class Command:
    """An object that runs a command when it is unpickled."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, (f"touch {self.file}",)


@pytest.mark.parametrize("zipped", [True, False])
def test_code_in_a_file_is_not_executed(tmp_path: Path, zipped: bool) -> None:
    torch.save({"state_dict": STATE, "args": Command(tmp_path / "run")}, tmp_path / "w.pth", _use_new_zipfile_serialization=zipped)
    with pytest.raises(DamagedFileError, match=r"executed \(.*system\)"):
        fill_user_network(network(), tmp_path / "w.pth")
    assert not (tmp_path / "run").exists()

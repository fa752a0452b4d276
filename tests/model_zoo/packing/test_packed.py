"""Tests of packed checkpoints: they load exactly as stored, or raise an error that names the file."""

import hashlib
import json
import math
import resource
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load, save

from model_zoo.classifier import Classifier, build_classifier
from model_zoo.errors import DamagedFileError
from model_zoo.families import get_family
from model_zoo.packing.frozen import batch_norm_tensors, effective_weights, empty, freeze, weights_sha256
from model_zoo.packing.packed import check_file, load_packed, pack

ARCHITECTURE = {
    "name": "cifar-resnet8",
    "classes": 10,
    "width": 8,
    "stem_stride": 2,
    "last_batch_norm": "plain",
    "normalisation": "cifar10",
}
OPTIONS: dict[str, dict[str, Any]] = {
    "pruned-binary": {"keep_ratio": 0.1, "allocation_power": 0.1},
    "dense": {},
    "dense-binary": {},
    "int8": {},
}
IMAGES = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def training_model(kind: str) -> tuple[Classifier, bool]:
    """Return a model in its training form with batch-norm statistics of random images, and whether its batch norms are affine."""
    family = get_family(kind)
    options = family.options(OPTIONS[kind])
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = build_classifier(ARCHITECTURE, family.convolution(options), family.affine)
    family.prepare(model, options)
    model.train()(torch.rand(32, 3, 32, 32, generator=torch.Generator().manual_seed(2)))
    return model.eval(), family.affine


@pytest.fixture(params=OPTIONS)
def packed(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Classifier, Path]:
    model, affine = training_model(request.param)
    path = tmp_path / "model.safetensors"
    path.write_bytes(pack(freeze(model, ARCHITECTURE, affine), ARCHITECTURE, affine, {"id": "test"}))
    return model, path


def test_the_loaded_model_has_the_same_logits_bit_for_bit(packed: tuple[Classifier, Path]) -> None:
    model, path = packed
    loaded = load_packed(path).model
    with torch.no_grad():
        assert torch.equal(loaded(IMAGES), freeze(model, ARCHITECTURE, load_packed(path).header["affine"])(IMAGES))
        # The exported form computes what the latent or score-masked form computes.
        assert torch.allclose(loaded(IMAGES), model(IMAGES), atol=1e-5)
    assert weights_sha256(loaded) == weights_sha256(freeze(model, ARCHITECTURE, load_packed(path).header["affine"]))
    assert not loaded.training and not any(parameter.requires_grad for parameter in loaded.parameters())


def test_an_eight_bit_network_takes_one_byte_per_weight() -> None:
    model, affine = training_model("int8")
    content = pack(model, ARCHITECTURE, affine, {})
    size = int.from_bytes(content[:8], "little")
    assert json.loads(json.loads(content[8 : 8 + size])["__metadata__"]["harness"])["weights"] == "int8"
    weights = effective_weights(model)
    assert load(content)["levels"].nbytes == sum(array.size for array in weights)
    assert load(content)["scales"].nbytes == 4 * sum(len(array) for array in weights)


def test_packing_is_reproducible(packed: tuple[Classifier, Path]) -> None:
    model, path = packed
    header = load_packed(path).header
    assert pack(model, ARCHITECTURE, header["affine"], {"id": "test"}) == path.read_bytes()


def test_a_pruned_binary_file_consists_of_mask_entropy_signs_and_statistics(tmp_path: Path) -> None:
    model, affine = training_model("pruned-binary")
    content = pack(model, ARCHITECTURE, affine, {})
    weights = effective_weights(model)
    bits = 0.0
    for array in weights:
        kept, size = int(np.count_nonzero(array)), array.size
        bits += (math.lgamma(size + 1) - math.lgamma(kept + 1) - math.lgamma(size - kept + 1)) / math.log(2) + kept
    statistics = 4 * 2 * sum(module.num_features for module in model.modules() if isinstance(module, torch.nn.BatchNorm2d))
    assert len(content) <= bits / 8 + statistics + 1000
    assert len(content) < sum(array.nbytes for array in weights) / 8


def test_the_hash_depends_on_values_and_not_on_memory_layout() -> None:
    model, affine = training_model("dense")
    frozen = freeze(model, ARCHITECTURE, affine)
    before = weights_sha256(frozen)
    assert weights_sha256(frozen.to(memory_format=torch.channels_last)) == before  # type: ignore[call-overload]
    with torch.no_grad():
        next(frozen.parameters())[0, 0, 0, 0] += 1e-6
    assert weights_sha256(frozen) != before


def repack(path: Path, header_change: dict[str, Any], **tensors: np.ndarray | None) -> None:
    content = path.read_bytes()
    size = int.from_bytes(content[:8], "little")
    header = json.loads(json.loads(content[8 : 8 + size])["__metadata__"]["harness"])
    changed = {**load(content), **tensors}
    path.write_bytes(
        save({name: array for name, array in changed.items() if array is not None}, {"harness": json.dumps({**header, **header_change})})
    )


def test_missing_extra_and_misshapen_content_is_an_error(tmp_path: Path) -> None:
    model, affine = training_model("pruned-binary")
    content = pack(model, ARCHITECTURE, affine, {})
    path = tmp_path / "model.safetensors"
    cases: list[tuple[dict[str, Any], dict[str, np.ndarray | None]]] = [
        ({}, {"signs": None}),
        ({}, {"another": np.zeros(3, np.float32)}),
        ({}, {"batch_norm": np.zeros(7, np.float32)}),
        ({"architecture": {**ARCHITECTURE, "width": 9}}, {}),
        ({"architecture": {**ARCHITECTURE, "name": "cifar-resnet9"}}, {}),
        ({"kept": [1] * 10}, {}),
        ({"weights": "float16"}, {}),
        ({"version": 4}, {}),
        ({"format": "something else"}, {}),
    ]
    for header, tensors in cases:
        path.write_bytes(content)
        repack(path, header, **tensors)
        with pytest.raises(DamagedFileError, match=r"model\.safetensors"):
            load_packed(path)


def test_a_header_with_a_huge_network_is_an_error_before_it_is_built(tmp_path: Path) -> None:
    model, affine = training_model("dense")
    path = tmp_path / "model.safetensors"
    path.write_bytes(pack(model, ARCHITECTURE, affine, {}))
    with torch.device("meta"):
        wide = empty({**ARCHITECTURE, "width": 6000}, affine)
    statistics = np.zeros(sum(tensor.numel() for tensor in batch_norm_tensors(wide)), np.float32)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    repack(path, {"architecture": {**ARCHITECTURE, "width": 6000}}, batch_norm=statistics)
    with pytest.raises(DamagedFileError, match="weights, but at most"):
        load_packed(path)
    # The weights would take forty gigabytes; ru_maxrss is in KiB (on macOS in bytes, which makes the bound stricter).
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**20


def test_truncated_and_foreign_files_are_errors(tmp_path: Path) -> None:
    model, affine = training_model("dense")
    content = pack(model, ARCHITECTURE, affine, {})
    path = tmp_path / "model.safetensors"
    for damaged in (content[: len(content) // 2], b"", b"\x80\x04not safetensors", content[:4]):
        path.write_bytes(damaged)
        with pytest.raises(DamagedFileError, match=r"model\.safetensors"):
            load_packed(path)
    with pytest.raises(DamagedFileError, match="no file"):
        load_packed(tmp_path / "absent.safetensors")


def test_a_file_is_compared_with_its_record_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"12345")
    check_file(path, hashlib.sha256(b"12345").hexdigest(), 5)
    with pytest.raises(DamagedFileError, match="6 bytes"):
        check_file(path, "0" * 64, 6)
    with pytest.raises(DamagedFileError, match="sha256"):
        check_file(path, "0" * 64, 5)

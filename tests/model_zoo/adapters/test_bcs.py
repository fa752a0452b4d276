"""Tests of the Bayesian connectivity sampling adapter: TensorFlow's padding, order and layout, read from a pickle without executing it."""

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from model_zoo.adapters import Request
from model_zoo.adapters.bcs import load_bcs, pickle_in
from model_zoo.errors import DamagedFileError, UsageError
from tests.model_zoo.adapters.official import IMAGES, VGG, check
from tests.model_zoo.adapters.tensorflow_like import Network, ResourceVariable, pickled, resnet, vgg16, wide_resnet

REQUEST = Request("cifar10")
NETWORKS: dict[str, Callable[[], tuple[Network, Any]]] = {
    "bcs-resnet18": lambda: resnet("resnet18", (2, 2, 2, 2)),
    "bcs-resnet34": lambda: resnet("resnet34", (3, 4, 6, 3), width=2),
    "bcs-resnet50": lambda: resnet("resnet50", (3, 4, 6, 3), width=2, expansion=4),
    "bcs-wide-resnet": wide_resnet,
    "vgg16": lambda: vgg16(VGG),
}


def write_pickle(content: object, folder: Path, protocol: int = 4) -> Path:
    path = folder / "sparse1_at_best_weights.pickle"
    path.write_bytes(pickled(content, protocol))
    return path


@pytest.mark.parametrize("name", NETWORKS)
def test_logits_equal_those_of_the_tensorflow_code(name: str, tmp_path: Path) -> None:
    network, call = NETWORKS[name]()
    imported = load_bcs(write_pickle(network.content(), tmp_path), REQUEST)
    assert (imported.architecture["name"], imported.family, imported.method) == (name, "sparse", "ozdenizci2021")
    check(imported, lambda images: call(images.permute(0, 2, 3, 1)), tmp_path, "none")
    thetas = [variable.value for variable in network.variables if variable.name.endswith("/T")]
    assert imported.keep_ratio == sum(int((theta > 0).sum()) for theta in thetas) / sum(theta.size for theta in thetas)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_every_pickle_protocol_and_the_published_zip_can_be_read(protocol: int, tmp_path: Path) -> None:
    network, call = resnet("resnet18", (2, 2, 2, 2))
    path = write_pickle(network.content(), tmp_path, protocol)
    if protocol == 2:
        # Protocol 2 stores bytes as text, which takes another name to decode; the official code writes the highest protocol.
        with pytest.raises(DamagedFileError, match=r"_codecs\.encode"):
            load_bcs(path, REQUEST)
        return
    if protocol == 3:
        # Module names that NumPy had before release 2.
        path.write_bytes(path.read_bytes().replace(b"numpy._core.", b"numpy.core."))
    expected = call(IMAGES.permute(0, 2, 3, 1))
    with torch.no_grad():
        assert torch.allclose(load_bcs(path, REQUEST).model(IMAGES), expected, atol=1e-5)
        with zipfile.ZipFile(tmp_path / "published.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            archive.write(path, f"results/{path.name}")
            archive.writestr("__MACOSX/._x.pickle", b"")
        assert torch.allclose(load_bcs(tmp_path / "published.zip", REQUEST).model(IMAGES), expected, atol=1e-5)


def test_symmetric_padding_gives_a_different_network(tmp_path: Path) -> None:
    source, _ = resnet("resnet18", (2, 2, 2, 2))
    network = load_bcs(write_pickle(source.content(), tmp_path), REQUEST).model.network
    strided = network.layer2[0].conv1  # type: ignore[index,union-attr]
    inputs = torch.rand(1, 4, 32, 32)
    symmetric = torch.nn.functional.conv2d(inputs, strided.convolution.weight, stride=2, padding=1)
    assert strided(inputs).shape == symmetric.shape and not torch.allclose(strided(inputs), symmetric, atol=1e-2)


def test_missing_extra_and_unordered_variables_are_errors(tmp_path: Path) -> None:
    network, _ = resnet("resnet18", (2, 2, 2, 2))
    complete = network.variables
    swapped = [*complete[:2], complete[3], complete[2], *complete[4:]]
    wide = ResourceVariable(np.zeros((3, 3, 4, 5), np.float32), complete[6].name)
    nan = ResourceVariable(np.full_like(complete[2].value, np.nan), complete[2].name)
    for variables, words in (
        (complete[:-1], "the end of the list"),
        ([*complete, complete[-1]], "additional"),
        (swapped, "a variable .../gamma"),
        ([*complete[:6], wide, *complete[7:]], "magnitudes and signs"),
        ([*complete[:2], nan, *complete[3:]], "finite"),
        ([ResourceVariable(complete[0].value, "squeezenet/conv1/T"), *complete[1:]], "squeezenet"),
        ([], "param_list"),
        ([1, 2], "param_list"),
    ):
        with pytest.raises(DamagedFileError, match=words):
            load_bcs(write_pickle({"param_list": variables}, tmp_path), REQUEST)
    with pytest.raises(DamagedFileError, match="param_list"):
        load_bcs(write_pickle(complete, tmp_path), REQUEST)


def test_an_archive_that_expands_too_much_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "published.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("weights.pickle", bytes(2_000_000))
    with pytest.raises(DamagedFileError, match="1,000,000 bytes"):
        pickle_in(path, 1_000_000)


def test_a_keep_ratio_is_an_error_if_the_file_determines_it(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="omit --keep-ratio"):
        load_bcs(write_pickle(resnet("resnet18", (2, 2, 2, 2))[0].content(), tmp_path), Request("cifar10", keep_ratio=0.1))

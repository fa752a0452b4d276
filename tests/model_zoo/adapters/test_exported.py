"""Tests of networks in a single file: logits and gradients equal those of the exported network, and records contain no programs."""

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from model_zoo.adapters.exported import load_exported, load_onnx, to_onnx
from model_zoo.adapters.keep_user_model import keep_user_model
from model_zoo.errors import DamagedFileError, UsageError, UserError
from model_zoo.footprint import measure_layers
from model_zoo.loading import load_model
from model_zoo.references import parse

IMAGES = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))
PROPERTIES: dict[str, Any] = {
    "id": "mine",
    "title": "mine",
    "family": "dense",
    "method": "madry2018",
    "weight_bits": 32,
    "activation_bits": 32,
    "backward": "exact",
    "data": {"train": "cifar10"},
    "threat": {"norm": "Linf", "radius": "8/255"},
}
OWN_BACKWARD = """
import torch
from torch import nn

class Sign(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return torch.sign(x)

    @staticmethod
    def backward(ctx, gradient):
        return gradient

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.convolution, self.linear = nn.Conv2d(3, 4, 5, 4), nn.Linear(196, 10)

    def forward(self, images):
        return self.linear(Sign.apply(self.convolution(images)).flatten(1))

def make():
    return Net()
"""


def network() -> nn.Module:
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 4, 3, 2), nn.BatchNorm2d(4), nn.ReLU(), nn.AvgPool2d(3), nn.Flatten(), nn.Linear(100, 10)]
    return nn.Sequential(*layers).eval().requires_grad_(False)


def program(path: Path, model: nn.Module, batch: Any = torch.export.Dim.DYNAMIC) -> Path:
    torch.export.save(torch.export.export(model, (IMAGES,), dynamic_shapes=({0: batch},)), path)
    return path


def scripted(path: Path, model: nn.Module) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.script(model).save(str(path))
    return path


def gradient(model: nn.Module) -> torch.Tensor:
    point = IMAGES.clone().requires_grad_(True)
    return torch.autograd.grad(model(point).logsumexp(1).sum(), point)[0]


@pytest.mark.parametrize(("write", "name", "kind"), [(program, "n.pt2", "torch-export"), (scripted, "n.ts", "torchscript")])
def test_a_program_has_the_logits_and_gradients_of_its_network(write: Any, name: str, kind: str, tmp_path: Path) -> None:
    model = network()
    user_model, loaded = parse(str(write(tmp_path / name, model))).open()
    assert user_model.architecture["name"] == kind and user_model.classes == 10 and user_model.convention == "given file"
    assert user_model.bytes == (tmp_path / name).stat().st_size
    assert torch.allclose(loaded(IMAGES), model(IMAGES), atol=1e-6)
    assert torch.allclose(gradient(loaded), gradient(model), atol=1e-6)
    assert not any(module.training for module in loaded.modules())
    # Attack packages switch a model to training mode and back.
    loaded.train()
    assert torch.allclose(loaded.eval()(IMAGES[:1]), model(IMAGES[:1]), atol=1e-6)


def test_networks_with_equal_weights_and_different_code_are_distinguished(tmp_path: Path) -> None:
    model, other = network(), network()
    other[2] = nn.Hardtanh()  # type: ignore[index]
    first, second = (parse(str(program(tmp_path / f"{number}.pt2", net))).describe() for number, net in enumerate((model, other)))
    assert first.weights_sha256 == second.weights_sha256 and first.architecture != second.architecture


def test_a_fixed_batch_size_is_an_error_with_a_hint(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="dynamic batch"):
        parse(str(program(tmp_path / "n.pt2", network(), None))).open()


def test_a_program_cannot_be_added_as_a_record(tmp_path: Path) -> None:
    path = scripted(tmp_path / "n.ts", network())
    with pytest.raises(UserError, match="program"):
        keep_user_model(parse(str(path)), tmp_path / "out", IMAGES, PROPERTIES)
    assert not (tmp_path / "out").exists()


@pytest.mark.needs_onnx
def test_onnx_preserves_logits_gradients_and_layers(tmp_path: Path) -> None:
    model, path = network(), tmp_path / "n.onnx"
    path.write_bytes(to_onnx(model, IMAGES))
    loaded = load_exported(path)
    assert torch.allclose(loaded.module(IMAGES[:2]), model(IMAGES[:2]), atol=1e-5)
    assert torch.allclose(gradient(loaded.module), gradient(model), atol=1e-6)
    assert any(isinstance(layer, nn.Conv2d) for layer in loaded.module.modules())


class Twice(nn.Module):
    """Network that uses the weights of two of its layers twice, and whose last product is of a plain parameter."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.convolution, self.linear = nn.Conv2d(3, 3, 3, padding=1), nn.Linear(48, 48, bias=False)
        self.matrix = nn.Parameter(torch.rand(48, 10))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        features = nn.functional.avg_pool2d(self.convolution(self.convolution(images).relu()), 8).flatten(1)
        logits: torch.Tensor = self.linear(self.linear(features).relu()) @ self.matrix
        return logits


@pytest.mark.needs_onnx
def test_weights_that_an_onnx_file_holds_once_count_once(tmp_path: Path) -> None:
    path = tmp_path / "n.onnx"
    path.write_bytes(to_onnx(Twice().eval().requires_grad_(False), IMAGES))
    rows = measure_layers(load_onnx(path).module)
    assert [(row.weights, row.macs) for row in rows] == [(81, 2 * 81 * 1024), (48 * 48, 2 * 48 * 48), (480, 480)]


@pytest.mark.needs_onnx
def test_a_stored_file_does_not_depend_on_the_folder_and_names_no_path(tmp_path: Path) -> None:
    contents = []
    for folder in ("one", "two/deep folder"):
        source = tmp_path / folder / "net.py"
        source.parent.mkdir(parents=True)
        source.write_text(OWN_BACKWARD.replace("Sign.apply(self.convolution(images))", "self.convolution(images).relu()"))
        keep_user_model(parse(f"{source}:make"), source.parent / "added", IMAGES, PROPERTIES)
        contents.append([(source.parent / "added" / f"mine.{suffix}").read_bytes() for suffix in ("onnx", "toml")])
    assert contents[0] == contents[1]
    for words in (str(tmp_path), "net.py", "site-packages", str(Path.home())):
        assert words.encode() not in contents[0][0]


@pytest.mark.needs_onnx
def test_external_data_of_an_onnx_file_is_part_of_its_hash(tmp_path: Path) -> None:
    import onnx

    (tmp_path / "one.onnx").write_bytes(to_onnx(network(), IMAGES))
    onnx.save(onnx.load(tmp_path / "one.onnx"), tmp_path / "two.onnx", save_as_external_data=True, location="two.data", size_threshold=0)
    assert load_onnx(tmp_path / "one.onnx").sha256 == load_onnx(tmp_path / "two.onnx").sha256
    data = bytearray((tmp_path / "two.data").read_bytes())
    data[3] ^= 1
    (tmp_path / "two.data").write_bytes(data)
    assert load_onnx(tmp_path / "one.onnx").sha256 != load_onnx(tmp_path / "two.onnx").sha256


@pytest.mark.needs_onnx
def test_an_invalid_onnx_file_is_a_damaged_file_error(tmp_path: Path) -> None:
    (tmp_path / "n.onnx").write_bytes(b"\x08\x0a" + b"nonsense")
    with pytest.raises(DamagedFileError, match="ONNX"):
        load_onnx(tmp_path / "n.onnx")


@pytest.mark.needs_onnx
@pytest.mark.parametrize("name", ["n.pt2", "n.onnx"])
def test_an_added_file_can_be_loaded_as_a_model(name: str, tmp_path: Path) -> None:
    model, path = network(), tmp_path / name
    path.write_bytes(to_onnx(model, IMAGES)) if name == "n.onnx" else program(path, model)
    record = keep_user_model(parse(str(path)), tmp_path / "out", IMAGES, PROPERTIES)
    toml = str(tmp_path / "out" / "mine.toml")
    assert torch.allclose(load_model(toml)(IMAGES), model(IMAGES), atol=1e-5)
    if name == "n.onnx":
        user_model = parse(str(path)).describe()
        assert (user_model.architecture, user_model.affine, user_model.weights_sha256) == (
            record.architecture,
            record.affine,
            record.weights_sha256,
        )
    with pytest.raises(UsageError, match="already exists"):
        keep_user_model(parse(str(path)), tmp_path / "out", IMAGES, PROPERTIES)
    with pytest.raises(UsageError, match="family"):
        keep_user_model(parse(str(path)), tmp_path / "out", IMAGES, {**PROPERTIES, "id": "other", "family": "dens"})
    file = tmp_path / "out" / "mine.onnx"
    file.write_bytes(file.read_bytes() + b"\x00")
    with pytest.raises(DamagedFileError, match="bytes"):
        load_model(toml)


@pytest.mark.needs_onnx
def test_a_network_with_a_custom_backward_pass_cannot_be_exported_to_onnx(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(OWN_BACKWARD)
    reference = parse(f"{tmp_path / 'net.py'}:make")
    assert float(gradient(reference.open()[1]).abs().max()) > 0
    with pytest.raises(UserError, match="gradients"):
        keep_user_model(reference, tmp_path / "out", IMAGES, PROPERTIES)
    assert not (tmp_path / "out").exists()

"""Tests of models without a record: functions in files, with or without weights; their identity, and errors."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from model_zoo.classifier import Classifier
from model_zoo.errors import DamagedFileError, RefusedError, UserError
from model_zoo.fence import unfenced
from model_zoo.loading import load_model
from model_zoo.references import parse
from model_zoo.registry import get_record
from model_zoo.user_model import UserModel

SHIPPED = "cifar10-rn8w32-pruned-binary-k05-p01"
FACTORY = """
from torch import nn
from helper import Scale

def make_model():
    return nn.Sequential(Scale(), nn.Conv2d(3, 4, 5, 4), nn.Dropout(), nn.ReLU(), nn.Flatten(), nn.Linear(196, 10))

def blind():
    return Blind()

class Blind(nn.Module):
    def forward(self, images):
        return images.detach().mean((2, 3)).repeat(1, 4)[:, :10]

def nothing():
    return 3

def broken():
    raise OSError("no\\nsuch thing")
"""
HELPER = """
from torch import nn

class Scale(nn.Module):
    def forward(self, images):
        return 2.0 * images
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "helper.py").write_text(HELPER)
    (tmp_path / "my_Net.py").write_text(FACTORY)
    return tmp_path / "my_Net.py"


def test_a_function_returns_the_same_frozen_network_every_time(file: Path) -> None:
    state = torch.get_rng_state()
    user_model, model = parse(f"{file}:make_model").open()
    repeated, _ = parse(f"{file}:make_model").open()
    assert user_model == repeated and torch.equal(torch.get_rng_state(), state)
    assert user_model.id.startswith("my-net-") and user_model.classes == 10 and user_model.data is None and user_model.family is None
    assert user_model.convention == "tensors" and user_model.bytes == 4 * (3 * 4 * 25 + 4 + 1960 + 10)
    assert not any(module.training for module in model.modules()) and not any(p.requires_grad for p in model.parameters())


@pytest.mark.parametrize("suffix", ["safetensors", "pt", "nested.pt"])
def test_weights_are_loaded_strictly_from_a_file(file: Path, suffix: str, tmp_path: Path) -> None:
    _, model = parse(f"{file}:make_model").open()
    state = {name: tensor + 1.0 for name, tensor in unfenced(model).state_dict().items()}
    weights = tmp_path / f"w.{suffix}"

    def write(content: dict[str, torch.Tensor]) -> None:
        if suffix == "safetensors":
            save_file(content, weights)
        else:
            torch.save({"state_dict": content} if "nested" in suffix else content, weights)

    write(state)
    reference = parse(f"{file}:make_model", weights)
    user_model, filled = reference.open()
    assert torch.equal(unfenced(filled).state_dict()["1.weight"], state["1.weight"])
    assert user_model.weights_sha256 != parse(f"{file}:make_model").describe().weights_sha256
    for wrong, words in (
        ({**state, "more": torch.ones(1)}, "additional ones: 'more'"),
        ({name: tensor for name, tensor in state.items() if name != "1.bias"}, "'1.bias'"),
        ({**state, "1.bias": torch.ones(3)}, r"shape \[4\]"),
    ):
        write(wrong)
        with pytest.raises(DamagedFileError, match=words):
            reference.open()


def test_weights_that_execute_code_are_an_error(file: Path, tmp_path: Path) -> None:
    class TouchesFile:
        def __reduce__(self) -> tuple[object, ...]:
            return Path.touch, (tmp_path / "executed",)

    torch.save({"1.weight": TouchesFile()}, tmp_path / "evil.pt")
    with pytest.raises(DamagedFileError, match="executed"):
        parse(f"{file}:make_model@{tmp_path / 'evil.pt'}").open()
    assert not (tmp_path / "executed").exists()


def test_code_is_part_of_the_identity(file: Path) -> None:
    before = parse(f"{file}:make_model").describe()
    helper = file.parent / "helper.py"
    helper.write_text(HELPER.replace("2.0", "3.0"))
    other_layer = parse(f"{file}:make_model").describe()
    file.write_text(FACTORY.replace("nn.ReLU()", "nn.GELU()"))
    other_file = parse(f"{file}:make_model").describe()
    assert before.weights_sha256 == other_layer.weights_sha256 == other_file.weights_sha256
    assert len({str(user_model.architecture) for user_model in (before, other_layer, other_file)}) == 3


def test_a_network_of_this_package_is_described_like_its_record(tmp_path: Path) -> None:
    file = tmp_path / "ours.py"
    file.write_text(f"from model_zoo.loading import load_model\n\ndef make():\n    return load_model({SHIPPED!r})\n")
    user_model, model = parse(f"{file}:make").open()
    record = get_record(SHIPPED)
    assert isinstance(user_model, UserModel) and isinstance(model, Classifier)
    assert (user_model.architecture, user_model.affine, user_model.weights_sha256) == (
        record.architecture,
        record.affine,
        record.weights_sha256,
    )
    # The record's file is larger because its header contains the provenance.
    assert user_model.convention == "packed file" and 0.9 < user_model.bytes / record.checkpoint.bytes <= 1
    images = torch.rand(2, 3, 32, 32)
    assert torch.equal(model(images), load_model(SHIPPED)(images))


def test_a_network_of_this_package_declares_the_gradient_of_its_activation(tmp_path: Path) -> None:
    file = tmp_path / "ours.py"
    architecture = {"name": "cifar-resnet8", "classes": 10, "width": 4, "normalisation": "cifar10", "activation": "sign-ste"}
    file.write_text(f"from model_zoo.classifier import build_classifier\n\ndef make():\n    return build_classifier({architecture})\n")
    user_model = parse(f"{file}:make").describe()
    assert (user_model.architecture, user_model.backward) == (architecture, "ste")


@pytest.mark.parametrize(
    ("function", "words"),
    [
        ("blind", "no gradient"),
        ("nothing", "returns int"),
        ("broken", r"failed: OSError: no \(my_Net\.py, line \d+\)$"),
        ("absent", "no function 'absent'"),
    ],
)
def test_unusable_functions_are_one_line_errors(file: Path, function: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        parse(f"{file}:{function}").open()


def test_a_file_with_weights_only_is_an_error(tmp_path: Path) -> None:
    torch.save({"w": torch.ones(1)}, tmp_path / "w.pt")
    with pytest.raises(UserError, match="contains no network"):
        parse(str(tmp_path / "w.pt")).open()
    (tmp_path / "cut.pt2").write_bytes(b"PK")
    with pytest.raises(DamagedFileError):
        parse(str(tmp_path / "cut.pt2")).open()
    with pytest.raises(RefusedError, match=r"logits \[2, classes\]"):
        (tmp_path / "flat.py").write_text("from torch import nn\n\ndef make():\n    return nn.Conv2d(3, 10, 1)\n")
        parse(f"{tmp_path / 'flat.py'}:make").open()


KINDS = """
from torch import nn
import torch

class Net(nn.Module):
    def __init__(self, factor):
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Sequential(nn.Conv2d(3, 4, 5, 4), nn.ReLU(), nn.Flatten(), nn.Linear(196, 10))
        self.parts = {"factors": [factor]}

    def forward(self, images):
        return self.layer(images * self.parts["factors"][0])

def one():
    return Net(1.0)

def two():
    return Net(2.0)

def half():
    return Net(1.0).to(torch.bfloat16)

def outside():
    raise SystemExit(0)

def lazy():
    return nn.Sequential(nn.LazyConv2d(4, 3), nn.Flatten(), nn.LazyLinear(10))

def integers():
    return torch.ao.quantization.quantize_dynamic(Net(1.0), {nn.Linear}, dtype=torch.qint8)
"""


def test_networks_that_differ_in_a_nested_attribute_are_distinguished(tmp_path: Path) -> None:
    (tmp_path / "kinds.py").write_text(KINDS)
    first, second = (parse(f"{tmp_path}/kinds.py:{function}").describe() for function in ("one", "two"))
    assert first.weights_sha256 == second.weights_sha256 and first.architecture != second.architecture and first.id != second.id
    assert parse(f"{tmp_path}/kinds.py:one").describe() == first


def test_half_precision_weights_are_supported(tmp_path: Path) -> None:
    (tmp_path / "kinds.py").write_text(KINDS)
    _, exact = parse(f"{tmp_path}/kinds.py:one").open()
    user_model, rounded = parse(f"{tmp_path}/kinds.py:half").open()
    images = torch.rand(4, 3, 32, 32, requires_grad=True)
    logits = rounded(images)
    assert logits.dtype == torch.float32 and user_model.bytes == parse(f"{tmp_path}/kinds.py:one").describe().bytes // 2  # type: ignore[attr-defined]
    assert torch.allclose(logits, exact(images), atol=0.05) and not torch.equal(logits, exact(images))
    (gradient,) = torch.autograd.grad(logits.sum(), images)
    assert gradient.abs().sum() > 0


@pytest.mark.parametrize(("function", "words"), [("outside", "SystemExit: 0"), ("lazy", "lazy"), ("integers", "no gradient|does not run")])
def test_unsupported_networks_are_one_line_errors(function: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "kinds.py").write_text(KINDS)
    with pytest.raises(UserError, match=words) as raised:
        parse(f"{tmp_path}/kinds.py:{function}").open()
    assert len(str(raised.value).splitlines()) == 1


def write_folders(tmp_path: Path, name: str) -> list[str]:
    """Write two folders with different modules of the same name, and files that import them; return references to the models."""
    references = []
    for folder, factor in (("first", 1.0), ("second", -1.0)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / f"{name}.py").write_text(
            f"from torch import nn\n\nclass Scale(nn.Module):\n    def forward(self, images):\n        return {factor} * images\n"
        )
        (tmp_path / folder / "net.py").write_text(
            f"from torch import nn\nfrom {name} import Scale\n\n"
            "def make():\n    return nn.Sequential(Scale(), nn.Conv2d(3, 4, 5, 4), nn.ReLU(), nn.Flatten(), nn.Linear(196, 10))\n"
        )
        references.append(f"{tmp_path}/{folder}/net.py:make")
    return references


@pytest.mark.parametrize("name", ["parts", "model_zoo", "harness"])
def test_modules_of_the_same_name_are_not_shared_between_files(name: str, tmp_path: Path) -> None:
    import sys

    before, paths = dict(sys.modules), list(sys.path)
    (first, first_model), (second, second_model) = (parse(model).open() for model in write_folders(tmp_path, name))
    assert sys.modules == before and sys.path == paths
    images = torch.rand(2, 3, 32, 32)
    assert torch.allclose(first_model(images), unfenced(first_model)[1:](images)) and torch.allclose(
        second_model(images), unfenced(second_model)[1:](-images)
    )
    assert first.weights_sha256 == second.weights_sha256 and first.id != second.id


def test_an_imported_module_of_the_same_name_is_preserved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys
    from types import ModuleType

    module = ModuleType("parts")
    monkeypatch.setitem(sys.modules, "parts", module)
    parse(write_folders(tmp_path, "parts")[0]).open()
    assert sys.modules["parts"] is module


def test_modules_imported_during_a_call_are_found(tmp_path: Path) -> None:
    (tmp_path / "late.py").write_text("FACTOR = 3.0\n")
    (tmp_path / "net.py").write_text(
        "from torch import nn\n\nclass Net(nn.Linear):\n    def forward(self, images):\n        from late import FACTOR\n\n"
        "        return FACTOR * super().forward(images.flatten(1))\n\ndef make():\n    return Net(3072, 10)\n"
    )
    user_model, model = parse(f"{tmp_path}/net.py:make").open()
    images = torch.rand(2, 3, 32, 32)
    assert user_model.classes == 10 and torch.equal(model(images), model(images))


def test_a_rebuilt_network_has_no_state_in_its_modules(tmp_path: Path) -> None:
    (tmp_path / "memory.py").write_text("SEEN = []\n")
    (tmp_path / "net.py").write_text(
        "from torch import nn\nimport memory\n\nclass Net(nn.Linear):\n    def forward(self, images):\n"
        "        memory.SEEN.append(len(images))\n        return super().forward(images.flatten(1)) + len(memory.SEEN)\n\n"
        "def make():\n    return Net(3072, 10)\n"
    )
    from model_zoo.adapters import factory

    first = factory.make(tmp_path / "net.py", "make").network
    images = torch.rand(2, 3, 32, 32)
    before = first(images)
    assert not torch.equal(first(images), before)
    assert torch.equal(factory.make(tmp_path / "net.py", "make").network(images), before)


def test_a_changed_network_of_this_package_is_a_user_model(tmp_path: Path) -> None:
    file = tmp_path / "changed.py"
    file.write_text(
        f"from model_zoo.loading import load_model\n\ndef make():\n    model = load_model({SHIPPED!r})\n"
        "    model.register_forward_hook(lambda module, inputs, logits: -logits)\n    return model\n"
    )
    user_model, model = parse(f"{file}:make").open()
    images = torch.rand(2, 3, 32, 32)
    assert user_model.architecture["name"] == "factory" and torch.allclose(model(images), -load_model(SHIPPED)(images))


def test_replacing_functions_of_torch_is_an_error_that_names_them(tmp_path: Path) -> None:
    original = torch.Tensor.argmax
    (tmp_path / "patch.py").write_text(
        "import torch\nfrom torch import nn\n\ntorch.Tensor.argmax = lambda self, *a, **k: torch.zeros(len(self)).long()\n\n"
        "def make():\n    return nn.Sequential(nn.Flatten(), nn.Linear(3072, 10))\n"
    )
    with pytest.raises(RefusedError, match=r"replaces torch\.Tensor\.argmax"):
        parse(f"{tmp_path}/patch.py:make").open()
    assert torch.Tensor.argmax is original


def test_modules_imported_during_a_call_are_part_of_the_identity(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(
        "from torch import nn\n\nclass Net(nn.Linear):\n    def forward(self, images):\n        from late import FACTOR\n\n"
        "        return FACTOR * super().forward(images.flatten(1))\n\ndef make():\n    return Net(3072, 10)\n"
    )
    ids = []
    for factor in (3.0, 2.0):
        (tmp_path / "late.py").write_text(f"FACTOR = {factor}\n# {factor}\n")
        ids.append(parse(f"{tmp_path}/net.py:make").describe().id)
    assert ids[0] != ids[1]


GREY = """
from torch import nn

def make():
    return nn.Sequential(nn.Conv2d(1, 4, 5, 4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 10))
"""


def test_a_network_for_grey_images_is_described_as_such(tmp_path: Path) -> None:
    (tmp_path / "grey.py").write_text(GREY)
    description, network = parse(f"{tmp_path / 'grey.py'}:make").open()
    assert isinstance(description, UserModel) and (description.channels, description.size, description.classes) == (1, 28, 10)
    assert network(torch.zeros(2, 1, 28, 28)).shape == (2, 10)

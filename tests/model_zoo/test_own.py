"""Models without a record: a function in a file, with weights or without; what identifies them, and what is refused."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from model_zoo.classifier import Classifier
from model_zoo.errors import DamagedFileError, RefusedError, UserError
from model_zoo.loading import load_model
from model_zoo.own import Own, describe, is_own, open_own, with_checkpoint
from model_zoo.registry import checkpoint_path, get_record

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


@pytest.fixture(autouse=True)
def forget_helper(monkeypatch: pytest.MonkeyPatch) -> None:
    # Each test writes a helper of its own.
    import sys

    monkeypatch.delitem(sys.modules, "helper", raising=False)


def test_a_function_makes_the_same_frozen_network_every_time(file: Path) -> None:
    state = torch.get_rng_state()
    own, model = open_own(f"{file}:make_model")
    again, _ = open_own(f"{file}:make_model")
    assert own == again and torch.equal(torch.get_rng_state(), state)
    assert own.id.startswith("my-net-") and own.classes == 10 and own.data is None and own.family is None
    assert own.convention == "tensors" and own.bytes == 4 * (3 * 4 * 25 + 4 + 1960 + 10)
    assert not any(module.training for module in model.modules()) and not any(p.requires_grad for p in model.parameters())


@pytest.mark.parametrize("suffix", ["safetensors", "pt", "nested.pt"])
def test_weights_come_from_a_file_and_strictly(file: Path, suffix: str, tmp_path: Path) -> None:
    _, model = open_own(f"{file}:make_model")
    state = {name: tensor + 1.0 for name, tensor in model.state_dict().items()}
    weights = tmp_path / f"w.{suffix}"

    def write(content: dict[str, torch.Tensor]) -> None:
        if suffix == "safetensors":
            save_file(content, weights)
        else:
            torch.save({"state_dict": content} if "nested" in suffix else content, weights)

    write(state)
    given = with_checkpoint(f"{file}:make_model", weights)
    own, filled = open_own(given)
    assert torch.equal(filled.state_dict()["1.weight"], state["1.weight"])
    assert own.weights_sha256 != describe(f"{file}:make_model").weights_sha256
    for wrong, words in (
        ({**state, "more": torch.ones(1)}, "also 'more'"),
        ({name: tensor for name, tensor in state.items() if name != "1.bias"}, "'1.bias'"),
        ({**state, "1.bias": torch.ones(3)}, r"shape \[4\]"),
    ):
        write(wrong)
        with pytest.raises(DamagedFileError, match=words):
            open_own(given)


def test_weights_that_would_have_to_be_executed_are_refused(file: Path, tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, ...]:
            return Path.touch, (tmp_path / "executed",)

    torch.save({"1.weight": Evil()}, tmp_path / "evil.pt")
    with pytest.raises(DamagedFileError, match="executed"):
        open_own(f"{file}:make_model@{tmp_path / 'evil.pt'}")
    assert not (tmp_path / "executed").exists()


def test_code_is_part_of_what_a_model_is_even_with_the_same_weights(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    before = describe(f"{file}:make_model")
    helper = file.parent / "helper.py"
    helper.write_text(HELPER.replace("2.0", "3.0"))
    monkeypatch.delitem(sys.modules, "helper", raising=False)
    other_layer = describe(f"{file}:make_model")
    file.write_text(FACTORY.replace("nn.ReLU()", "nn.GELU()"))
    other_file = describe(f"{file}:make_model")
    assert before.weights_sha256 == other_layer.weights_sha256 == other_file.weights_sha256
    assert len({str(one.architecture) for one in (before, other_layer, other_file)}) == 3


def test_a_network_of_this_package_is_what_a_record_of_it_would_be(tmp_path: Path) -> None:
    file = tmp_path / "ours.py"
    file.write_text(f"from model_zoo.loading import load_model\n\ndef make():\n    return load_model({SHIPPED!r})\n")
    own, model = open_own(f"{file}:make")
    record = get_record(SHIPPED)
    assert isinstance(own, Own) and isinstance(model, Classifier)
    assert (own.architecture, own.affine, own.weights_sha256) == (record.architecture, record.affine, record.weights_sha256)
    # All but what the header says of where it came from.
    assert own.convention == "packed file" and 0.9 < own.bytes / record.checkpoint.bytes <= 1
    images = torch.rand(2, 3, 32, 32)
    assert torch.equal(model(images), load_model(SHIPPED)(images))


@pytest.mark.parametrize(
    ("function", "words"),
    [("blind", "no gradient"), ("nothing", "returns int"), ("broken", "failed: OSError: no$"), ("absent", "no function 'absent'")],
)
def test_what_cannot_be_attacked_is_refused_in_one_line(file: Path, function: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        open_own(f"{file}:{function}")


def test_names_are_told_apart() -> None:
    assert all(map(is_own, ("a/b.py:make", "b.py:make@w.pt", "net.onnx", "net.pt2", "net.pt", "b.py")))
    assert not any(map(is_own, (SHIPPED, "my.toml", str(checkpoint_path(SHIPPED)))))
    with pytest.raises(UserError, match="say which function"):
        open_own("b.py")
    with pytest.raises(UserError, match=r"FILE\.py:FUNCTION"):
        with_checkpoint("net.onnx", Path("w.pt"))
    assert with_checkpoint(SHIPPED, None) == SHIPPED


def test_weights_alone_are_no_network(tmp_path: Path) -> None:
    torch.save({"w": torch.ones(1)}, tmp_path / "w.pt")
    with pytest.raises(UserError, match="weights alone"):
        open_own(str(tmp_path / "w.pt"))
    (tmp_path / "cut.pt2").write_bytes(b"PK")
    with pytest.raises(DamagedFileError):
        open_own(str(tmp_path / "cut.pt2"))
    with pytest.raises(RefusedError, match=r"logits \[2, classes\]"):
        (tmp_path / "flat.py").write_text("from torch import nn\n\ndef make():\n    return nn.Conv2d(3, 10, 1)\n")
        open_own(f"{tmp_path / 'flat.py'}:make")

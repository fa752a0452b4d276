"""Tests of references to models: how texts are parsed, their normal form, and the descriptions and models they lead to."""

import pickle
import shutil
from pathlib import Path

import pytest
import torch

from model_zoo import registry
from model_zoo.adapters.preprocessing import Preprocessing
from model_zoo.errors import DamagedFileError, UnknownNameError, UsageError
from model_zoo.references import (
    ExportedFile,
    FactoryFile,
    RecordFile,
    Reference,
    RegisteredModel,
    RobustBenchEntry,
    UserReference,
    parse,
)

SHIPPED = "cifar10-rn8w32-pruned-binary-k05-p01"
CURRENT = Path.cwd()


@pytest.mark.parametrize(
    ("text", "reference"),
    [
        (SHIPPED, RegisteredModel(SHIPPED)),
        ("anything", RegisteredModel("anything")),
        ("a/b.safetensors", RegisteredModel("a/b.safetensors")),
        ("robustbench:", RegisteredModel("robustbench:")),
        ("./my.toml", RecordFile("./my.toml")),
        ("a/b.py:make", FactoryFile(CURRENT / "a/b.py", "make")),
        ("b.py:make@w.pt", FactoryFile(CURRENT / "b.py", "make", CURRENT / "w.pt")),
        ("b.py:make@w.toml", FactoryFile(CURRENT / "b.py", "make", CURRENT / "w.toml")),
        ("net.onnx", ExportedFile(CURRENT / "net.onnx")),
        ("net.pt2?scale=255", ExportedFile(CURRENT / "net.pt2", Preprocessing(scale=255.0))),
        ("net.pt", ExportedFile(CURRENT / "net.pt")),
        ("robustbench:Name", RobustBenchEntry("Name", "cifar10", "Linf", CURRENT / "models")),
        ("robustbench:cifar100/L2/Name@/there", RobustBenchEntry("Name", "cifar100", "L2", Path("/there"))),
    ],
)
def test_a_text_is_parsed_and_its_normal_form_is_equal(text: str, reference: Reference) -> None:
    parsed = parse(text)
    assert parsed == reference and hash(parsed) == hash(reference)
    assert parse(str(parsed)) == parsed == pickle.loads(pickle.dumps(parsed))  # noqa: S301
    assert str(parsed) == text or isinstance(parsed, UserReference)


def test_normal_forms_of_user_models_have_absolute_paths() -> None:
    texts = ("b.py:make@w.pt", "net.pt2?scale=255", "robustbench:Name")
    assert [str(parse(text)) for text in texts] == [
        f"{CURRENT}/b.py:make@{CURRENT}/w.pt",
        f"{CURRENT}/net.pt2?scale=255.0",
        f"robustbench:cifar10/Linf/Name@{CURRENT}/models",
    ]


def test_weights_and_preprocessing_are_part_of_the_reference() -> None:
    assert parse("b.py:make", Path("w.pt")) == parse("b.py:make@w.pt")
    assert parse("net.onnx?scale=2", preprocessing=Preprocessing(scale=255.0)) == parse("net.onnx?scale=255")


@pytest.mark.parametrize("text", [SHIPPED, "my.toml", "b.py:make@other.pt", "net.onnx", "robustbench:Name"])
def test_weights_are_accepted_only_with_a_function(text: str) -> None:
    with pytest.raises(UsageError, match=r"FILE\.py:FUNCTION"):
        parse(text, Path("w.pt"))


@pytest.mark.parametrize("text", [SHIPPED, "my.toml", "b.py:make", "robustbench:Name"])
def test_preprocessing_is_accepted_only_with_an_exported_network(text: str) -> None:
    with pytest.raises(UsageError, match="exported network"):
        parse(text, preprocessing=Preprocessing(scale=255.0))


def test_a_file_without_function_and_unknown_preprocessing_are_errors() -> None:
    with pytest.raises(UsageError, match=r"name the function of b\.py"):
        parse("b.py")
    with pytest.raises(UsageError, match="size=3"):
        parse("net.onnx?size=3")


def test_absent_models_are_errors_when_they_are_described() -> None:
    with pytest.raises(UsageError, match=r"no record file absent\.toml"):
        parse("absent.toml").describe()
    with pytest.raises(UnknownNameError, match=f"Did you mean '{SHIPPED}'"):
        parse(SHIPPED.replace("p01", "p1")).describe()


def test_an_id_and_a_copy_of_its_record_give_the_same_model(tmp_path: Path) -> None:
    registered = parse(SHIPPED)
    assert isinstance(registered, RegisteredModel)
    shutil.copy(registered.checkpoint_path, tmp_path)
    path = registry.write_record(registered.describe(), tmp_path)
    copied = parse(str(path))
    assert isinstance(copied, RecordFile) and copied.describe() == registered.describe() == registry.get_record(SHIPPED)
    assert copied.checkpoint_path == tmp_path / registered.checkpoint_path.name
    images = torch.rand(2, 3, 32, 32)
    models = [reference.load() for reference in (registered, copied)]
    assert torch.equal(models[0](images), models[1](images))
    assert [model.loaded_from for model in models] == [SHIPPED, str(path)]
    copied.checkpoint_path.unlink()
    with pytest.raises(DamagedFileError):
        copied.load()


def test_opening_a_model_reads_its_record_once(monkeypatch: pytest.MonkeyPatch) -> None:
    read_paths, original = list[Path](), registry.read_record
    monkeypatch.setattr(registry, "read_record", lambda path: read_paths.append(path) or original(path))  # type: ignore[func-returns-value]
    reference = parse(SHIPPED)
    record, _ = reference.open()
    assert reference.describe() is record and len(read_paths) == 1


def test_a_function_is_described_by_the_network_it_returns(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text("from torch import nn\n\ndef make():\n    return nn.Sequential(nn.Flatten(), nn.Linear(3072, 10))\n")
    reference = parse(f"{tmp_path}/net.py:make")
    described, model = reference.open()
    assert described == reference.describe() and described.title == "net.py:make" and described.classes == 10
    assert model(torch.rand(2, 3, 32, 32)).shape == (2, 10) and reference.load().loaded_from == str(reference)

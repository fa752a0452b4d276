"""Tests of models loaded by the robustbench package from files that the tests write."""

from pathlib import Path

import pytest
import torch

from model_zoo.adapters import Request
from model_zoo.adapters.compat import import_robustbench
from model_zoo.adapters.hydra import load_hydra
from model_zoo.adapters.robustbench import load_robustbench, robustbench_names
from model_zoo.errors import DamagedFileError, MissingDataError, UnknownNameError
from model_zoo.references import RobustBenchEntry, parse

pytestmark = pytest.mark.needs_robustbench
NAME = "Addepalli2022Efficient_RN18"


def architecture() -> torch.nn.Module:
    import_robustbench()
    from robustbench.model_zoo import model_dicts
    from robustbench.model_zoo.enums import BenchmarkDataset, ThreatModel

    with torch.random.fork_rng():
        torch.manual_seed(0)
        return model_dicts[BenchmarkDataset.cifar_10][ThreatModel.Linf][NAME]["model"]().eval()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "cifar10" / "Linf").mkdir(parents=True)
    return tmp_path


def test_the_loaded_model_equals_the_saved_one(folder: Path) -> None:
    original = architecture()
    torch.save({f"module.{name}": tensor for name, tensor in original.state_dict().items()}, folder / "cifar10" / "Linf" / f"{NAME}.pt")
    loaded = load_robustbench(NAME, folder)
    images = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        assert torch.equal(loaded(images), original(images))
    assert not loaded.training and not any(parameter.requires_grad for parameter in loaded.parameters())


def test_a_leaderboard_name_is_a_user_model(folder: Path) -> None:
    original = architecture()
    path = folder / "cifar10" / "Linf" / f"{NAME}.pt"
    torch.save({f"module.{name}": tensor for name, tensor in original.state_dict().items()}, path)
    reference = parse(f"robustbench:{NAME}@{folder}")
    assert isinstance(parse(f"robustbench:{NAME}"), RobustBenchEntry)
    assert str(reference) == f"robustbench:cifar10/Linf/{NAME}@{folder.resolve()}"
    user_model, loaded = reference.open()
    assert (user_model.classes, user_model.bytes, user_model.convention) == (10, path.stat().st_size, "given file")
    assert user_model.weights_sha256 == reference.open()[0].weights_sha256 and user_model.architecture["model"] == f"cifar10/Linf/{NAME}"
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        assert torch.equal(loaded(images), original(images))
    with pytest.raises(UnknownNameError, match="cifar10/Linf"):
        parse(f"robustbench:cifar11/Linf/{NAME}").open()


def test_a_state_with_a_missing_tensor_is_an_error_that_names_the_file(folder: Path) -> None:
    state = architecture().state_dict()
    state.pop(next(iter(state)))
    torch.save(state, folder / "cifar10" / "Linf" / f"{NAME}.pt")
    with pytest.raises(DamagedFileError, match=f"{NAME}.pt"):
        load_robustbench(NAME, folder)


def test_a_truncated_file_is_an_error_that_names_the_file(folder: Path) -> None:
    path = folder / "cifar10" / "Linf" / f"{NAME}.pt"
    torch.save(architecture().state_dict(), path)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(DamagedFileError, match=f"{NAME}.pt"):
        load_robustbench(NAME, folder)


def test_an_unknown_name_error_has_a_suggestion() -> None:
    with pytest.raises(UnknownNameError, match=NAME):
        load_robustbench("Addepalli2022Eficient_RN18", Path("models"))


def test_a_failed_download_is_an_error_with_a_hint(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import_robustbench()
    from robustbench import utils

    def refuse(*args: object, **kwargs: object) -> None:
        raise ConnectionError("no route")

    monkeypatch.setattr(utils, "download_gdrive_new", refuse)
    with pytest.raises(MissingDataError, match="put the file there"):
        load_robustbench(NAME, folder)


def test_leaderboard_names_are_listed() -> None:
    assert NAME in robustbench_names("cifar10", "Linf")
    assert len(robustbench_names("cifar10", "L2")) > 5


def robustbench_networks() -> dict[str, torch.nn.Module]:
    """Return RobustBench's wide ResNet with dead block, ResNet-18 and pre-activation ResNet-18 of Rice et al., by our names."""
    import_robustbench()
    from robustbench.model_zoo.architectures.resnet import BasicBlock, PreActBlockV2, PreActResNet, ResNet
    from robustbench.model_zoo.architectures.wide_resnet import WideResNet

    return {
        "wide-resnet": WideResNet(depth=10, widen_factor=1, sub_block1=True),
        "cifar-resnet18": ResNet(BasicBlock, [2, 2, 2, 2]),
        "preact-resnet18": PreActResNet(PreActBlockV2, [2, 2, 2, 2], bn_before_fc=True),
    }


@pytest.mark.parametrize("name", ["wide-resnet", "cifar-resnet18", "preact-resnet18"])
def test_networks_of_robustbench_match_ours_after_hydra_import(name: str, tmp_path: Path) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        original = robustbench_networks()[name]
        original.train()(torch.rand(16, 3, 32, 32))
    torch.save({"state_dict": original.eval().state_dict()}, tmp_path / "model.pt")
    imported = load_hydra(tmp_path / "model.pt", Request("cifar10"))
    assert imported.architecture["name"] == name and set(imported.left_out) == ({"sub_block1"} if name == "wide-resnet" else set())
    images = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = original(images)
        assert torch.allclose(imported.model(images), expected, atol=1e-5 * float(expected.abs().max().clamp(min=1)))

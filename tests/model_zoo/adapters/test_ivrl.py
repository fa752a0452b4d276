"""Tests of the adapter of the paper's official code on checkpoints in its format: logits, detected fields and errors."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from model_zoo.adapters import Imported, Request
from model_zoo.adapters.ivrl import load_ivrl
from model_zoo.adapters.keep import keep_imported
from model_zoo.classifier import Classifier, build_classifier
from model_zoo.errors import DamagedFileError, UnknownNameError, UsageError
from model_zoo.families import get_family
from model_zoo.layers.binary_connect import BinaryConnectConv2d
from model_zoo.layers.pruned_binary import PrunedBinaryConv2d
from model_zoo.loading import load_model
from model_zoo.packing.frozen import freeze
from model_zoo.schema import Threat, TrainedOn

ARCHITECTURE = {"name": "cifar-resnet8", "classes": 10, "width": 8, "normalisation": "cifar10"}
PRUNED = {"keep_ratio": 0.1, "allocation_power": 0.1}
IMAGES = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def network(family: str, last: str, affine: bool | None = None) -> Classifier:
    """Return a network in its training form whose statistics and scales differ from the initial ones."""
    kind = get_family(family)
    options = kind.options(PRUNED if family == "pruned-binary" else {})
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = build_classifier(
            {**ARCHITECTURE, "last_batch_norm": last}, kind.convolution(options), kind.affine if affine is None else affine
        )
        kind.prepare(model, options)
        model.train()(torch.rand(64, 3, 32, 32))
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d) and module.affine:
                nn.init.uniform_(module.weight, 0.5, 1.5)
                nn.init.uniform_(module.bias, -0.5, 0.5)
    return model.eval()


def official(model: Classifier, prefix: str = "module.1.") -> dict[str, Any]:
    """Return the checkpoint that the official code would save for the model."""
    state: dict[str, torch.Tensor] = {}
    for name, module in model.network.named_modules():
        layer_name = name.replace("last_bn", "last")
        if isinstance(module, PrunedBinaryConv2d):
            state[f"{prefix}{layer_name}.weight"], state[f"{prefix}{layer_name}.scores"] = (
                module.signs.clone(),
                module.scores.detach().clone(),
            )
        elif isinstance(module, BinaryConnectConv2d):
            state[f"{prefix}{layer_name}.weight"] = module.latent.detach().clone()
            state[f"{prefix}{layer_name}.binweight"] = torch.full_like(module.latent, 7.0)
        elif isinstance(module, nn.Conv2d):
            state[f"{prefix}{layer_name}.weight"] = module.weight.detach().clone()
        elif isinstance(module, nn.BatchNorm2d):
            state |= {f"{prefix}{layer_name}.{key}": value.clone() for key, value in module.state_dict().items()}
    return {"epoch": 400, "arch": "cResNet8", "state_dict": state, "best_acc1": 45.0, "optimizer": {"state": {}, "param_groups": []}}


def request(**fields: Any) -> Request:
    return Request("cifar10", **fields)


def write_checkpoint(content: object, folder: Path) -> Path:
    path = folder / "model_best.pth"
    torch.save(content, path)
    return path


@pytest.mark.parametrize("last", ["plain", "affine", "none"])
@pytest.mark.parametrize("family", ["pruned-binary", "dense-binary", "dense"])
@pytest.mark.parametrize("prefix", ["module.1.", "1.", "module.", ""])
def test_logits_are_equal_and_all_fields_are_detected(family: str, last: str, prefix: str, tmp_path: Path) -> None:
    model = network(family, last)
    path = write_checkpoint(official(model, prefix), tmp_path)
    imported = load_ivrl(path, request(**(PRUNED if family == "pruned-binary" else {})))
    assert (imported.family, imported.architecture["last_batch_norm"], imported.affine, imported.zeros) == (
        family,
        last,
        family != "pruned-binary",
        0,
    )
    with torch.no_grad():
        assert torch.equal(imported.model(IMAGES), freeze(model, imported.architecture, imported.affine)(IMAGES))
        assert torch.allclose(imported.model(IMAGES), model(IMAGES), atol=1e-5)


def test_zeros_among_kept_weights_are_counted_and_contribute_nothing(tmp_path: Path) -> None:
    model = network("pruned-binary", "plain")
    content = official(model)
    layer = model.network.layer1[0].conv1  # type: ignore[union-attr,index]
    kept_index = tuple(layer.mask.nonzero()[5].tolist())
    pruned_index = tuple((layer.mask == 0).nonzero()[5].tolist())
    for index in (kept_index, pruned_index):
        content["state_dict"]["module.1.layer1.0.conv1.weight"][index] = 0.0
        layer.signs[index] = 0.0
    layer.refresh()
    imported = load_ivrl(write_checkpoint(content, tmp_path), request(**PRUNED))
    assert (imported.zeros, imported.ties) == (1, 0)
    with torch.no_grad():
        assert torch.allclose(imported.model(IMAGES), model(IMAGES), atol=1e-5)


def test_ties_at_the_threshold_are_counted(tmp_path: Path) -> None:
    content = official(network("pruned-binary", "plain"))
    scores = content["state_dict"]["module.1.layer1.0.conv1.scores"]
    mask = load_ivrl(write_checkpoint(content, tmp_path), request(**PRUNED)).model.network.layer1[0].conv1.weight != 0  # type: ignore[union-attr,index]
    threshold = scores.abs()[mask].min()
    scores[tuple((~mask).nonzero()[3].tolist())] = -threshold
    assert load_ivrl(write_checkpoint(content, tmp_path), request(**PRUNED)).ties == 2


@pytest.mark.parametrize("number", [np.float64(45.0), np.float32(45.0), np.int64(45), 45.0, torch.tensor(45.0)])
def test_scalars_next_to_the_tensors_are_accepted(number: object, tmp_path: Path) -> None:
    path = write_checkpoint({**official(network("dense", "plain")), "best_acc1": number}, tmp_path)
    assert load_ivrl(path, request()).family == "dense"


def test_the_keep_ratio_changes_the_network(tmp_path: Path) -> None:
    path = write_checkpoint(official(network("pruned-binary", "plain")), tmp_path)
    first, second = (load_ivrl(path, request(keep_ratio=keep_ratio, allocation_power=0.1)) for keep_ratio in (0.1, 0.2))
    with torch.no_grad():
        assert not torch.allclose(first.model(IMAGES), second.model(IMAGES), atol=0.1)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda state: state.pop("module.1.layer2.0.bn1.running_var"), "layer2.0.bn1.running_var"),
        (lambda state: state.pop("module.1.fc.scores"), "fc.scores"),
        (lambda state: state.update({"module.1.layer3.0.conv9.weight": torch.zeros(1)}), "layer3.0.conv9.weight"),
        (lambda state: state.update({"module.1.layer3.1.conv1.weight": torch.zeros(1)}), "stages of 1, 1, 2 blocks"),
        (lambda state: state.update({"module.1.conv1.weight": torch.zeros(8, 3, 5, 5)}), r"conv1.weight' of shape \[8, 3, 3, 3\]"),
    ],
)
def test_damaged_states_are_errors_that_name_the_tensor(change: Any, words: str, tmp_path: Path) -> None:
    content = official(network("pruned-binary", "plain"))
    change(content["state_dict"])
    with pytest.raises(DamagedFileError, match=words):
        load_ivrl(write_checkpoint(content, tmp_path), request(**PRUNED))


def test_a_keep_ratio_is_required_if_and_only_if_there_are_scores(tmp_path: Path) -> None:
    path = write_checkpoint(official(network("pruned-binary", "plain")), tmp_path)
    with pytest.raises(UsageError, match="has scores"):
        load_ivrl(path, request())
    path = write_checkpoint(official(network("dense", "plain")), tmp_path)
    with pytest.raises(UsageError, match="has no scores"):
        load_ivrl(path, request(**PRUNED))


class RunsPrint:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return print, ("executed",)


def test_invalid_files_are_errors_and_nothing_is_executed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_checkpoint(official(network("dense", "none")), tmp_path)
    complete = path.read_bytes()
    for content in (b"", complete[: len(complete) // 2], b"not a checkpoint"):
        path.write_bytes(content)
        with pytest.raises(DamagedFileError, match=r"model_best\.pth"):
            load_ivrl(path, request())
    for object_ in (RunsPrint(), {"state_dict": {"a": RunsPrint()}}, {"state_dict": {}}, [1, 2]):
        with pytest.raises(DamagedFileError, match=r"model_best\.pth") as refusal:
            load_ivrl(write_checkpoint(object_, tmp_path), request())
        # The message must neither advise executing the file nor contain terminal codes.
        assert "weights_only" not in str(refusal.value) and str(refusal.value).isprintable()
    with pytest.raises(DamagedFileError, match=r"executed \(\S*print\)"):
        load_ivrl(write_checkpoint(RunsPrint(), tmp_path), request())
    assert "executed" not in capsys.readouterr().out
    with pytest.raises(UsageError, match="no file"):
        load_ivrl(tmp_path / "absent.pth", request())


def keep_as(imported: Imported, folder: Path, name: str) -> None:
    data, threat = TrainedOn(train="cifar10"), Threat(norm="Linf", radius="8/255")
    keep_imported(imported, folder, name=name, title="imported", source="model_best.pth", data=data, threat=threat)


def test_an_imported_model_can_be_loaded(tmp_path: Path) -> None:
    imported = load_ivrl(write_checkpoint(official(network("pruned-binary", "plain")), tmp_path), request(**PRUNED))
    keep_as(imported, tmp_path, "official")
    with torch.no_grad():
        assert torch.equal(load_model(str(tmp_path / "official.toml"))(IMAGES), imported.model(IMAGES))
    with pytest.raises(UsageError, match="id"):
        keep_as(imported, tmp_path, "Not An Id")


def test_requested_architecture_and_width_must_match(tmp_path: Path) -> None:
    path = write_checkpoint(official(network("pruned-binary", "plain")), tmp_path)
    imported = load_ivrl(path, request(architecture="cifar-resnet8", width=8, **PRUNED))
    assert imported.architecture == load_ivrl(path, request(**PRUNED)).architecture
    with pytest.raises(DamagedFileError, match=r"conv1\.weight"):
        load_ivrl(path, request(architecture="cifar-resnet8", **PRUNED))
    with pytest.raises(UnknownNameError, match="cifar-resnet8"):
        load_ivrl(path, request(architecture="cifar-resnet9", **PRUNED))


def test_the_normalisation_uses_deviations_of_image_means(tmp_path: Path) -> None:
    model = network("dense", "none")
    imported = load_ivrl(write_checkpoint(official(model), tmp_path), request())
    assert imported.architecture["normalisation"] == "cifar10"
    with torch.no_grad():
        assert (Classifier(imported.model.network, "flying-bird-cifar10")(IMAGES) - model(IMAGES)).abs().max() > 1e-2


@pytest.mark.parametrize("stem", ["cifar", "imagenet"])
def test_widths_and_stem_are_read_from_the_tensors(stem: str, tmp_path: Path) -> None:
    kind = get_family("dense")
    architecture = {
        "name": f"{stem}-resnet18",
        "classes": 100,
        "widths": [3, 5, 6, 7],
        "last_batch_norm": "plain",
        "normalisation": "cifar10",
    }
    model = build_classifier(architecture, kind.convolution({}), False)
    state = {f"module.1.{name.replace('last_bn', 'last')}": tensor for name, tensor in model.network.state_dict().items()}
    imported = load_ivrl(write_checkpoint({"state_dict": state}, tmp_path), request())
    assert dict(imported.architecture) == architecture

"""Tests of exported files: signs from a seed make them smaller with the same logits, and other networks are errors."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from harness import datasets
from model_zoo.errors import DamagedFileError, UsageError
from model_zoo.layers.pruned_binary import PrunedBinaryConv2d
from model_zoo.loading import load_model
from model_zoo.packing import drawn as drawing
from model_zoo.packing.drawn import check_drawn, draw_signs
from model_zoo.packing.export import export, parts
from model_zoo.packing.frozen import effective_weights, freeze
from model_zoo.packing.packed import load_packed, pack
from model_zoo.registry import checkpoint_path, get_record, model_ids, package_folder, record_path
from model_zoo.training.building import build_model
from model_zoo.training.recipe import Recipe

PRUNED = "cifar10-rn8w32-pruned-binary-k05-p01"
PROBE, _ = datasets.load("cifar10-sample").first(8).tensors()


@pytest.mark.parametrize("model", model_ids())
def test_an_export_equals_the_shipped_file(model: str, tmp_path: Path) -> None:
    path = tmp_path / "out.safetensors"
    content = export(model, path, False, PROBE)
    assert content == path.read_bytes() == checkpoint_path(model).read_bytes()
    assert sum(parts(content).values()) == len(content)


def test_signs_from_a_seed_are_omitted_and_redrawn(tmp_path: Path) -> None:
    path = tmp_path / "out.safetensors"
    stored, small = export(PRUNED, tmp_path / "stored.safetensors", False, PROBE), export(PRUNED, path, True, PROBE)
    assert "signs" not in parts(small) and parts(small)["mask"] == parts(stored)["mask"]
    saved = parts(stored)["signs"] + parts(stored)["header"] - parts(small)["header"]
    assert len(stored) - len(small) == saved > 1500
    with torch.no_grad():
        assert torch.equal(load_packed(path).model(PROBE), load_model(PRUNED)(PROBE))


def test_signs_of_another_seed_are_an_error() -> None:
    record = get_record(PRUNED)
    seed = {"generator": "torch-cpu", "seed": 1, "weight_init": "binary"}
    with pytest.raises(UsageError, match="not those drawn from seed 1"):
        check_drawn(record.architecture, seed, effective_weights(load_model(PRUNED)))


def test_a_torch_version_with_other_random_numbers_is_an_error_on_loading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "out.safetensors"
    export(PRUNED, path, True, PROBE)
    real = drawing.draw_signs
    monkeypatch.setattr("model_zoo.packing.packed.draw_signs", lambda *arguments: [-signs for signs in real(*arguments)])
    with pytest.raises(DamagedFileError, match="another version of torch"):
        load_packed(path)


def test_only_signs_that_were_never_trained_can_be_omitted(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="never trained"):
        export("cifar10-rn8w32-dense-binary", tmp_path / "out.safetensors", True, PROBE)


def test_a_file_of_a_later_version_is_an_error(tmp_path: Path) -> None:
    content = checkpoint_path(PRUNED).read_bytes()
    length = int.from_bytes(content[:8], "little")
    fields = json.loads(content[8 : 8 + length])
    header = json.loads(fields["__metadata__"]["harness"])
    assert header["version"] == 1
    fields["__metadata__"]["harness"] = json.dumps({**header, "version": 4})
    changed = json.dumps(fields).encode()
    path = tmp_path / "later.safetensors"
    path.write_bytes(len(changed).to_bytes(8, "little") + changed + content[8 + length :])
    with pytest.raises(DamagedFileError, match="version 4"):
        load_packed(path)


def test_impossible_exports_are_one_line_errors(tmp_path: Path) -> None:
    record, checkpoint = tmp_path / f"{PRUNED}.toml", tmp_path / f"{PRUNED}.safetensors"
    text = record_path(PRUNED).read_text()
    record.write_text("\n".join(line for line in text.splitlines() if not line.startswith(("seed", "recipe"))))
    checkpoint.write_bytes(checkpoint_path(PRUNED).read_bytes())
    before = checkpoint.read_bytes()
    with pytest.raises(UsageError, match="names no seed"):
        export(str(record), tmp_path / "out.safetensors", True, PROBE)
    with pytest.raises(UsageError, match="is the checkpoint of"):
        export(str(record), tmp_path / "." / checkpoint.name, False, PROBE)
    with pytest.raises(UsageError, match="no folder"):
        export(PRUNED, tmp_path / "absent" / "out.safetensors", False, PROBE)
    assert checkpoint.read_bytes() == before and {path.name for path in tmp_path.iterdir()} == {record.name, checkpoint.name}


def test_a_file_that_fails_its_check_does_not_replace_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "out.safetensors"
    path.write_bytes(b"old content")
    other = load_packed(checkpoint_path("cifar10-rn8w32-dense-binary"))
    first = load_packed(checkpoint_path(PRUNED))
    results = iter([first, other])
    monkeypatch.setattr("model_zoo.packing.export.load_packed", lambda path: next(results))
    with pytest.raises(DamagedFileError, match="logits"):
        export(PRUNED, path, False, PROBE)
    assert path.read_bytes() == b"old content"


def test_random_magnitudes_cannot_be_replaced_by_a_seed() -> None:
    recipe = Recipe.from_dict(
        {
            **Recipe.load(package_folder("recipes") / f"{PRUNED}.toml").to_dict(),
            "options": {"keep_ratio": 0.05, "allocation_power": 0.1, "weight_init": "kaiming-normal"},
        }
    )
    frozen = freeze(build_model(recipe), recipe.architecture, False)
    seed = {"generator": "torch-cpu", "seed": recipe.seed, "weight_init": "kaiming-normal"}
    with pytest.raises(UsageError, match="do not follow from drawn signs"):
        pack(frozen, recipe.architecture, False, {}, seed)


@pytest.mark.parametrize("kind", ["binary", "signed-constant", "signed-constant-scaled"])
def test_redrawn_signs_match_those_of_training(kind: str) -> None:
    recipe = Recipe.load(package_folder("recipes") / f"{PRUNED}.toml")
    recipe = Recipe.from_dict({**recipe.to_dict(), "options": {**recipe.options, "weight_init": kind, "score_fan": "all"}})
    seed = {"generator": "torch-cpu", "seed": recipe.seed, "weight_init": kind}
    layers = [layer for layer in build_model(recipe).modules() if isinstance(layer, PrunedBinaryConv2d)]
    state = torch.get_rng_state()
    signs = draw_signs(recipe.architecture, seed)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(np.array_equal(drawn, layer.signs.numpy()) for drawn, layer in zip(signs, layers, strict=True))

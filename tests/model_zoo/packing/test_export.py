"""Exported files: smaller with signs from a seed, the same logits, and never another network without a word."""

import json
from pathlib import Path

import pytest
import torch

from harness import datasets
from model_zoo.errors import DamagedFileError, UsageError
from model_zoo.loading import load_model
from model_zoo.packing import drawn as drawing
from model_zoo.packing.drawn import check_drawn
from model_zoo.packing.export import export, parts
from model_zoo.packing.frozen import effective_weights
from model_zoo.packing.packed import load_packed
from model_zoo.registry import checkpoint_path, get_record, model_ids

PRUNED = "cifar10-rn8w32-pruned-binary-k05-p01"
PROBE, _ = datasets.load("cifar10-sample").first(8).tensors()


@pytest.mark.parametrize("model", model_ids())
def test_an_export_is_the_file_that_ships(model: str, tmp_path: Path) -> None:
    path = tmp_path / "out.safetensors"
    content = export(model, path, False, PROBE)
    assert content == path.read_bytes() == checkpoint_path(model).read_bytes()
    assert sum(parts(content).values()) == len(content)


def test_signs_from_a_seed_are_left_out_and_drawn_again(tmp_path: Path) -> None:
    path = tmp_path / "out.safetensors"
    stored, small = export(PRUNED, tmp_path / "stored.safetensors", False, PROBE), export(PRUNED, path, True, PROBE)
    assert "signs" not in parts(small) and parts(small)["mask"] == parts(stored)["mask"]
    saved = parts(stored)["signs"] + parts(stored)["header"] - parts(small)["header"]
    assert len(stored) - len(small) == saved > 1500
    with torch.no_grad():
        assert torch.equal(load_packed(path).model(PROBE), load_model(PRUNED)(PROBE))


def test_signs_of_another_seed_are_refused() -> None:
    record = get_record(PRUNED)
    seed = {"generator": "torch-cpu", "seed": 1, "weight_init": "binary"}
    with pytest.raises(UsageError, match="not those drawn from seed 1"):
        check_drawn(record.architecture, seed, effective_weights(load_model(PRUNED)))


def test_a_torch_that_draws_otherwise_is_an_error_on_loading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "out.safetensors"
    export(PRUNED, path, True, PROBE)
    real = drawing.draw_signs
    monkeypatch.setattr("model_zoo.packing.packed.draw_signs", lambda *given: [-signs for signs in real(*given)])
    with pytest.raises(DamagedFileError, match="another torch"):
        load_packed(path)


def test_only_drawn_signs_can_be_left_out(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="never trained"):
        export("cifar10-rn8w32-dense-binary", tmp_path / "out.safetensors", True, PROBE)


def test_a_file_of_a_later_version_is_refused(tmp_path: Path) -> None:
    content = checkpoint_path(PRUNED).read_bytes()
    length = int.from_bytes(content[:8], "little")
    fields = json.loads(content[8 : 8 + length])
    header = json.loads(fields["__metadata__"]["harness"])
    assert header["version"] == 1
    fields["__metadata__"]["harness"] = json.dumps({**header, "version": 3})
    changed = json.dumps(fields).encode()
    path = tmp_path / "later.safetensors"
    path.write_bytes(len(changed).to_bytes(8, "little") + changed + content[8 + length :])
    with pytest.raises(DamagedFileError, match="version 3"):
        load_packed(path)

"""`harness export`, `footprint` and `import`, as a user types them."""

import json
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result

from harness.cli.main import main
from model_zoo.loading import load_model
from model_zoo.registry import get_record
from tests.model_zoo.adapters.test_ivrl import network, official, written

PRUNED, DENSE = "cifar10-rn8w32-pruned-binary-k05-p01", "cifar10-rn8s29-dense"


def harness(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments))


def test_export_writes_one_file_and_says_what_is_in_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = harness("export", PRUNED)
    assert done.exit_code == 0, done.output
    size = get_record(PRUNED).checkpoint.bytes
    assert (tmp_path / f"{PRUNED}.safetensors").stat().st_size == size
    assert f"{size:,} bytes" in done.output and "mask" in done.output and "bit for bit" in done.output
    small = harness("export", PRUNED, "--signs", "seed", "--out", "small.safetensors", "--json")
    told = json.loads(small.stdout)
    assert told["bytes"] == (tmp_path / "small.safetensors").stat().st_size < size
    refused = harness("export", DENSE, "--signs", "seed")
    assert refused.exit_code == 2 and "never trained" in refused.output


def test_footprint_puts_models_side_by_side() -> None:
    done = harness("footprint", PRUNED, DENSE, "--layers")
    assert done.exit_code == 0, done.output
    assert "the packed file, measured" in done.output and "16,950" in done.output and "221,420" in done.output
    assert "network.layer1.0.conv1" in done.output
    rows = json.loads(harness("footprint", PRUNED, "--json", "--layers").output)
    assert rows[0]["kept_weights"] == sum(layer["kept_weights"] for layer in rows[0]["layers"])
    assert 0 < rows[0]["layers"][1]["keep_ratio"] < 1


def test_import_makes_a_model_that_can_be_attacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    model = network("pruned-binary", "plain")
    # The paper's networks have no width to say: the one here is the smallest there is.
    path = written(official(model), tmp_path)
    given = ["--format", "ivrl", "--id", "mine", "--dataset", "cifar10", "--keep-ratio", "0.1", "--allocation-power", "0.1"]
    wrong = harness("import", str(path), *given, "--architecture", "cifar-resnet8", "--radius", "8/255")
    assert wrong.exit_code == 1 and "conv1.weight" in wrong.output
    done = harness("import", str(path), *given, "--architecture", "cifar-resnet8", "--width", "8", "--radius", "8/255")
    assert done.exit_code == 0, done.output
    assert "pruned-binary, last batch norm plain" in done.output
    images = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.allclose(load_model("imported/mine.toml")(images), model(images), atol=1e-5)
    bad = harness("import", str(path), *given, "--architecture", "cifar-resnet8", "--width", "8", "--radius", "0.03.1")
    assert bad.exit_code == 2

"""Tests of the commands `harness export`, `footprint` and `import`."""

import json
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result

from harness.cli.main import main
from model_zoo.loading import load_model
from model_zoo.registry import get_record, read_record
from tests.model_zoo.adapters.official import WideResNet, prune, save_checkpoint, seeded
from tests.model_zoo.adapters.test_ivrl import network, official, write_checkpoint

PRUNED, DENSE = "cifar10-rn8w32-pruned-binary-k05-p01", "cifar10-rn8s29-dense"


def harness(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments))


def test_export_writes_one_file_and_prints_its_contents(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = harness("export", PRUNED)
    assert result.exit_code == 0, result.output
    size = get_record(PRUNED).checkpoint.bytes
    assert (tmp_path / f"{PRUNED}.safetensors").stat().st_size == size
    assert f"{size:,} bytes" in result.output and "mask" in result.output and "bit for bit" in result.output
    small = harness("export", PRUNED, "--signs", "seed", "--out", "small.safetensors", "--json")
    content = json.loads(small.stdout)
    assert content["bytes"] == (tmp_path / "small.safetensors").stat().st_size < size
    refused = harness("export", DENSE, "--signs", "seed")
    assert refused.exit_code == 2 and "never trained" in refused.output


def test_footprint_compares_models() -> None:
    result = harness("footprint", PRUNED, DENSE, "--layers")
    assert result.exit_code == 0, result.output
    assert "the file, measured" in result.output and "16,950" in result.output and "221,420" in result.output
    assert "network.layer1.0.conv1" in result.output
    rows = json.loads(harness("footprint", PRUNED, "--json", "--layers").output)
    assert rows[0]["kept_weights"] == sum(layer["kept_weights"] for layer in rows[0]["layers"])
    assert 0 < rows[0]["layers"][1]["keep_ratio"] < 1


def test_an_imported_model_can_be_attacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    model = network("pruned-binary", "plain")
    path = write_checkpoint(official(model), tmp_path)
    options = ["--id", "mine", "--dataset", "cifar10", "--keep-ratio", "0.1", "--allocation-power", "0.1"]
    misshapen = harness("import", "ivrl", str(path), *options, "--architecture", "cifar-resnet8", "--radius", "8/255")
    assert misshapen.exit_code == 1 and "conv1.weight" in misshapen.output
    result = harness("import", "ivrl", str(path), *options, "--radius", "8/255")
    assert result.exit_code == 0, result.output
    assert "pruned-binary, last batch norm plain" in result.output
    images = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.allclose(load_model("imported/mine.toml")(images), model(images), atol=1e-5)
    bad_radius = harness("import", "ivrl", str(path), *options, "--radius", "0.03.1")
    assert bad_radius.exit_code == 2


def test_an_imported_wide_resnet_can_be_attacked_and_its_dead_block_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    pruned = prune(seeded(lambda: WideResNet(count=1)))
    path = save_checkpoint({"state_dict": pruned.state_dict()}, tmp_path)
    options = [str(path), "--id", "wide", "--dataset", "cifar10", "--radius", "0.031", "--extra-data"]
    result = harness("import", "hydra", *options)
    assert result.exit_code == 0, result.output
    dead = sum(parameter.numel() for parameter in pruned.sub_block1.parameters())
    assert f"sub_block1 ({dead:,} parameters)" in result.output and "normalisation none" in result.output
    record = read_record(Path("imported/wide.toml"))
    assert record.data.extra and record.threat.radius == "31/1000" and record.pruning is not None
    shown = harness("footprint", "imported/wide.toml")
    assert shown.exit_code == 0 and f"sub_block1 ({dead:,} parameters)" in shown.output
    attacked = harness("run", "--model", "imported/wide.toml", "--attack", "pgd", "--n", "4", "--store", "store")
    assert attacked.exit_code == 0, attacked.output
    without_scores = harness("import", "rst", *options, "--keep-ratio", "0.5")
    assert without_scores.exit_code == 2 and "has no scores" in without_scores.output


def test_formats_and_published_files_are_listed_and_misspellings_get_suggestions() -> None:
    formats = {row["name"]: row for row in json.loads(harness("ls", "formats", "--json").stdout)}
    assert formats.keys() == {"apbench", "bcs", "biprop", "flying-bird", "harp", "hydra", "ivrl", "rst"}
    assert len(formats["apbench"]["published"]) == 84 and "cifar10_resnet34_sparse1_at" in formats["bcs"]["published"]
    assert "apbench" in harness("ls", "formats").output
    options = ["--id", "x", "--dataset", "cifar10", "--radius", "8/255"]
    for arguments, words in (
        (["hidra", "x.pth"], "Did you mean 'hydra'"),
        (["bcs", "cifar10_resnet34_sparse_at"], "Did you mean 'cifar10_resnet34_sparse1_at'"),
        (["rst", "absent.pth"], "AdversarialPruningBenchmark"),
        (["apbench", "HYDRA_Sehwag2020Hydra_R18_CIFAR10_US_90"], "V16_US_99 is missing"),
        (["hydra", "x.pth", "--width", "4"], "for ivrl"),
    ):
        result = harness("import", *arguments, *options)
        assert result.exit_code == 2 and words in result.output, result.output

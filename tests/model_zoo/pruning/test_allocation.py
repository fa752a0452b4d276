"""Tests of the allocation rule against the counts of the official code (layer_allocation.csv: 8 networks, 4 powers, keep ratio 0.01)."""

import csv
import itertools
from pathlib import Path

import pytest
import torch
from torch import nn

from model_zoo.architectures import build_network
from model_zoo.pruning.allocation import allocated_counts, layer_keep_counts, layer_keep_ratios

ROWS = list(csv.DictReader((Path(__file__).parent / "layer_allocation.csv").open()))
CASES = {key: list(rows) for key, rows in itertools.groupby(ROWS, key=lambda row: (row["architecture"], row["power"]))}


@pytest.mark.parametrize("case", CASES, ids="-p".join)
def test_counts_match_the_official_code(case: tuple[str, str]) -> None:
    name, classes = case[0].split("/")
    with torch.device("meta"):
        network = build_network({"name": name, "classes": int(classes)})
    layers = [(layer, module.weight) for layer, module in network.named_modules() if isinstance(module, nn.Conv2d)]
    assert [(layer, "x".join(map(str, weight.shape))) for layer, weight in layers] == [(row["layer"], row["shape"]) for row in CASES[case]]
    counts = layer_keep_counts([weight.numel() for _, weight in layers], 0.01, float(case[1]))
    assert counts == [int(row["kept"]) for row in CASES[case]]


def test_the_reference_table_is_complete() -> None:
    assert len(CASES) == 32
    assert len(ROWS) == 4 * (2 * (21 + 37 + 54) + 37 + 54)


def test_power_one_gives_equal_ratios_and_power_zero_equal_counts() -> None:
    sizes = [1000, 50_000, 2_000_000]
    assert layer_keep_ratios(sizes, 0.2, 1.0) == pytest.approx([0.2, 0.2, 0.2], rel=1e-4)
    counts = layer_keep_counts(sizes, 0.001, 0.0)
    assert max(counts) - min(counts) <= 2


def test_the_excess_of_a_full_layer_goes_to_larger_layers() -> None:
    sizes = [100, 100_000]
    counts = layer_keep_counts(sizes, 0.01, 0.0)
    assert counts[0] == 100
    assert sum(counts) == pytest.approx(0.01 * sum(sizes), abs=2)


@pytest.mark.parametrize(("keep_ratio", "power"), [(0.0, 0.5), (1.1, 0.5), (0.1, -0.1), (0.1, 1.5)])
def test_ratios_and_powers_out_of_range_are_errors(keep_ratio: float, power: float) -> None:
    with pytest.raises(ValueError, match="is not in"):
        layer_keep_ratios([10, 20], keep_ratio, power)


def test_allocated_counts_of_adaptive_and_global_allocation() -> None:
    generator = torch.Generator().manual_seed(0)
    rankings = [scale * torch.randn(shape, generator=generator) for scale, shape in ((1.0, (10, 3)), (5.0, (40, 5)), (0.01, (7, 7)))]
    sizes = [30, 200, 49]
    adaptive = {"keep_ratio": 0.3, "allocation": "adaptive"}
    assert allocated_counts(rankings, {**adaptive, "allocation_power": 1.0}) == [size - int(0.7 * size) for size in sizes]
    assert allocated_counts(rankings, {**adaptive, "allocation_power": 0.1}) == layer_keep_counts(sizes, 0.3, 0.1)
    counts = allocated_counts(rankings, {"keep_ratio": 0.3, "allocation": "global", "allocation_power": 1.0})
    magnitudes = torch.cat([ranking.abs().flatten() for ranking in rankings])
    threshold = magnitudes.sort(descending=True).values[round(0.3 * 279) - 1]
    assert counts == [int((ranking.abs() >= threshold).sum()) for ranking in rankings]
    assert sum(counts) == 84 and counts[2] == 0

"""Tests of the computed tables: operation counts against the paper's formulas, and widths against published totals."""

import pytest

from harness.reproduction.made import make
from harness.reproduction.operations import CLAIMED, Block, pruned_blocks, resnet34_layers, saved, stage_blocks
from harness.reproduction.specification import get
from harness.reproduction.widths import NETWORKS, PUBLISHED_PARAMETERS, layer_parameters
from model_zoo.errors import UsageError
from tests.harness.reproduction.test_layout import no_measurement


def test_operations_of_a_block_match_values_computed_by_hand() -> None:
    block = Block(kernel=3, side=8, inputs=4, outputs=5, kept=18)
    assert block.weights == 180
    x, y = 18 * 64, 64 * 5
    assert block.operations("forward, training", "FP") == 2 * x + 11 * y
    assert block.operations("forward, training", "binary") == x + 11 * y
    assert block.operations("forward, evaluation", "FP") == 2 * x + 4 * y
    assert block.operations("forward, evaluation", "binary") == x + 4 * y
    assert block.operations("backward", "FP") == 4 * x + 4 * y + 180
    assert block.operations("backward", "binary") == 3 * x + 4 * y


def test_counted_operations_equal_the_formula_without_batch_norm_and_relu() -> None:
    for block in stage_blocks():
        assert block.counted() == block.operations("forward, evaluation", "binary") - 4 * block.side**2 * block.outputs


def test_savings_cover_the_whole_network() -> None:
    layers = resnet34_layers()
    blocks = pruned_blocks(layers, 0.1)
    assert (len(blocks), sum(block.kept for block in blocks)) == (37, 212_685)
    assert sum(block.weights for block in blocks) == 21_265_088
    # Multiply-accumulates with kept weights; the reference states 49.8 million at p = 0.1.
    assert sum(block.kept * block.side**2 for block in blocks) == pytest.approx(49.8e6, rel=0.01)
    assert saved(blocks)["evaluation"] == pytest.approx(0.48, abs=0.005) != CLAIMED["evaluation"]


def test_parameters_of_small_networks_match_the_published_totals() -> None:
    for label, name in NETWORKS.items():
        layers = layer_parameters(name)
        assert sum(count for _, count in layers.values()) == PUBLISHED_PARAMETERS[label]
        assert len(layers) == 38
    assert layer_parameters("cifar-small-resnet34-p1")["layer4.0.conv1"] == ("51 x 26 x 3 x 3", 11_934)


def test_computed_tables_have_footnotes() -> None:
    table = make(get("table-6"), no_measurement)
    assert [row[1].value for row in table.parts[0].rows] == ["2X + 11Y", "2X + 4Y", "4X + 4Y + W"]
    assert any(note.startswith("¹ Counted") for note in table.parts[-1].notes) and "¹" in str(table.parts[1].rows[-1][1])
    assert any("do not give the published 45 % and 32 %" in note for note in table.parts[-1].notes)
    widths = make(get("table-7"), no_measurement)
    assert "p = 0.1: 201,078 parameters, 201,078 published: equal." in widths.parts[0].notes
    with pytest.raises(UsageError, match="computed"):
        make(get("table-7"), no_measurement, rows=["p = 0"])

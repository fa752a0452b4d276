"""Tests of the figure of a stored model's masks: lines and bars are counts of kept weights."""

from typing import Any

import numpy as np
import pandas as pd
import pytest

from harness.reporting.figures import Material
from harness.reporting.figures.mask_structure import Layer, consecutive, figures, mask_structure
from harness.reporting.frames import summary
from tests.harness.reporting.conftest import rows

MODEL, LARGER = "cifar10-rn8w32-pruned-binary-k01-p01", "cifar10-rn8w32-pruned-binary-k05-p01"


def material(references: dict[str, str]) -> Material:
    models = [
        {"id": name, "family": "pruned-binary", "keep_ratio": keep, "seed": 0, "bytes": 1} for name, keep in ((LARGER, 0.05), (MODEL, 0.01))
    ]
    outcomes = pd.DataFrame([row for name in (MODEL, LARGER) for row in rows(name, "pgd", "1100")])
    return Material(outcomes, summary(outcomes, pd.DataFrame(models)), references)


def test_the_figure_shows_the_loadable_model_with_the_lowest_keep_ratio() -> None:
    ((stem, figure),) = figures(material({MODEL: MODEL, LARGER: LARGER}))
    assert stem == "masks_cifar10-sample"
    assert any(MODEL in text.get_text() and "3,081 of 307,296" in text.get_text() for text in figure.texts)
    assert not list(figures(material({}))) and not list(figures(material({MODEL: "no such model"})))


def layer(number: int, *shape: int, kept: list[tuple[int, ...]] = ()) -> Layer:  # type: ignore[assignment]
    mask = np.zeros(shape, dtype=bool)
    for index in kept:
        mask[index] = True
    return Layer(f"layer{number}", number, mask)


def test_the_pair_of_layers_is_the_last_block_and_shares_its_channels() -> None:
    layers = [layer(1, 8, 3, 3, 3), layer(2, 8, 8, 3, 3), layer(3, 16, 8, 3, 3), layer(4, 16, 16, 3, 3), layer(5, 16, 8, 1, 1)]
    pair = consecutive(layers)
    assert pair is not None and [member.number for member in pair] == [3, 4]
    assert consecutive(layers[4:]) is None


def ys(line: Any) -> list[float]:
    return [float(value) for value in line.get_ydata()]


def test_lines_and_bars_are_counts() -> None:
    kept = [(0, 0, 0, 0), (0, 0, 0, 1), (0, 1, 2, 2), (3, 0, 1, 1)]
    first, second = layer(1, 4, 2, 3, 3, kept=kept), layer(2, 4, 4, 3, 3, kept=[(1, 0, 0, 0)])
    figure = mask_structure([first, second], (first, second), "model")
    used_outputs, used_inputs, by_output, by_input, kernels, _, first_map, second_map = figure.axes
    assert ys(used_outputs.lines[1]) == [50.0, 25.0] and ys(used_inputs.lines[1]) == [100.0, 25.0]
    assert ys(by_output.lines[1]) == [3.0, 1.0, 0.0, 0.0] and ys(by_input.lines[1]) == [1.0, 0.0, 0.0, 0.0]
    assert [bar.get_height() for bar in kernels.patches][:3] == [5.0, 2.0, 1.0]  # type: ignore[attr-defined]
    # Output channels of the first layer and input channels of the second have the same height.
    assert np.asarray(first_map.images[0].get_array()).tolist() == [[2, 1], [0, 0], [0, 0], [1, 0]]
    assert np.asarray(second_map.images[0].get_array()).tolist() == [[0, 1, 0, 0], [0] * 4, [0] * 4, [0] * 4]
    assert ys(first_map.lines[0]) == [1.0, 2.0] and ys(second_map.lines[0]) == [1.0, 2.0, 3.0]


@pytest.mark.parametrize("kept", [0, 72])
def test_empty_and_full_masks_can_be_drawn(kept: int) -> None:
    mask = np.zeros(72, dtype=bool)
    mask[:kept] = True
    layers = [Layer(f"layer{number}", number, mask.reshape(2, 4, 3, 3) if number == 2 else mask.reshape(4, 2, 3, 3)) for number in (1, 2)]
    figure = mask_structure(layers, (layers[0], layers[1]), "model")
    figure.draw_without_rendering()
    assert ys(figure.axes[0].lines[1]) == [100.0 * bool(kept)] * 2

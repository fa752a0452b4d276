"""The paper's figures, of the largest model that this machine has for each."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from harness.reporting.figures.mask_structure import (
    EMPTY_HANDLE,
    KINDS,
    MEASURED,
    Layer,
    consecutive,
    draw_kernels,
    draw_maps,
    draw_sorted_channels,
    layers_of,
    random_handles,
)
from harness.reporting.style import INK, SETTINGS, legend_below, new_figure, space_apart
from harness.reproduction.cells import CellStore
from harness.reproduction.settings import Settings
from model_zoo import registry
from model_zoo.errors import MissingDataError, UserError

WIDTH = 7.2
# The model whose masks figures 1, 2, 3 and 5 show.
PRUNED = Settings(
    method="ours",
    architecture="rn34",
    weights="binary",
    dataset="cifar10",
    radius="8/255",
    strategy="adaptive",
    keep_ratio=0.01,
    p=0.1,
    last_bn=True,
    score_scale=0.01,
)
# Registered networks of the paper's size, the paper's own first, and the one to show if neither they nor a cell's model are here.
PAPER_SIZE = (
    "cifar10-rn34-pruned-binary-k01-p01",
    "cifar10-rn18-pruned-binary-k01-p01",
    "cifar10-rn18-pruned-binary-k01-p01-e60",
    "cifar10-rn18-pruned-binary-k01-p01-e20",
)
SMALL = "cifar10-rn8w32-pruned-binary-k01-p01-e15"
# Figure 4: allocation powers, and keep ratios with one panel each.
POWERS, KEEP_RATIOS = (0.1, 0.5, 0.8, 1.0), (0.01, 0.5)
CURVES: Mapping[str, tuple[str, Any]] = {
    "train_robust_accuracy": ("training images, attack of the training", ":"),
    "hold_out_pgd_accuracy": ("held-out images, PGD-10", "--"),
    "test_pgd_accuracy": ("test images, PGD-10", "-"),
}
COLOURS = ("#D55E00", "#0072B2", "#009E73", "#CC79A7")


@dataclass(frozen=True)
class Masks:
    """Name of a model for readers, what it represents, and its layers."""

    model: str
    size: str
    layers: list[Layer]


def pruned_masks(cells: CellStore) -> Masks:
    """Return the masks of the largest pruned model at hand: of the paper's size, else that of the cell, else a small one."""
    for name in PAPER_SIZE:
        if name in registry.model_ids() and registry.absence(name) is None:
            return Masks(name, "of the paper's size", layers_of(name))
    try:
        document = cells.training(PRUNED)
    except UserError:
        document = None
    if document is not None and (layers := layers_of(str(cells.store.trainings.record_path(document)))):
        return Masks(document.recipe, f"at scale {cells.scale.name}", layers)
    return Masks(SMALL, "a small network", layers_of(SMALL))


def figure_1(cells: CellStore) -> Figure:
    """Kept weights per channel of two consecutive layers of one block, sorted, next to the mean of 500 random masks."""
    masks, pair = _pair(cells)
    title = "Kept weights per channel of two consecutive layers"
    figure, placeholder = _new(masks, title, 5.0, f"layers {pair[0].number} ({pair[0].name}) and {pair[1].number} ({pair[1].name})")
    placeholder.remove()
    with mpl.rc_context(_settings()):
        axes = figure.subplots(2, 2)
        for row, layer in zip(axes, pair, strict=True):
            for axis in range(len(KINDS)):
                draw_sorted_channels(row[axis], layer, axis)
        legend_below(figure, random_handles())
    return figure


def figure_2(cells: CellStore) -> Figure:
    """Histogram of the kept weights per kernel of two consecutive layers, next to random masks."""
    masks, pair = _pair(cells)
    figure, placeholder = _new(
        masks, "Kept weights per kernel of two consecutive layers", 3.2, f"layers {pair[0].number} and {pair[1].number}"
    )
    placeholder.remove()
    with mpl.rc_context(_settings()):
        for panel, layer in zip(figure.subplots(1, 2), pair, strict=True):
            draw_kernels(panel, layer)
        legend_below(figure, random_handles()[:2])
    return figure


def figure_3(cells: CellStore) -> Figure:
    """The masks of two consecutive layers side by side, with the channels between them at the same height."""
    masks, pair = _pair(cells)
    shared = int(np.sum(~pair[0].mask.any((1, 2, 3)) & ~pair[1].mask.any((0, 2, 3))))
    empty = int(np.sum(~pair[0].mask.any((1, 2, 3))))
    text = f"{empty} of {pair[0].mask.shape[0]} channels between the layers get no weight of the first, {shared} of them none of the second"
    figure, placeholder = _new(masks, "The masks of two consecutive layers", 4.4, text)
    placeholder.remove()
    with mpl.rc_context(_settings()):
        draw_maps(figure.subplots(1, 2), pair)
        legend_below(figure, [EMPTY_HANDLE])
    return figure


def figure_4(cells: CellStore) -> Figure:
    """Learning curves by allocation power, at keep ratios 0.01 and 0.5: training, validation and test accuracy under attack.

    Raises
    ------
    MissingDataError
        If no cell of the figure is trained.
    """
    curves = {
        (keep_ratio, power): pd.read_csv(io.StringIO(document.curve))
        for keep_ratio in KEEP_RATIOS
        for power in POWERS
        if (document := cells.training(PRUNED.model_copy(update={"keep_ratio": keep_ratio, "p": power}))) is not None
    }
    if not curves:
        raise MissingDataError(
            "no learning curve of the figure is in the store: `harness reproduce table-1 --scale small` trains its models"
        )
    total = len(KEEP_RATIOS) * len(POWERS)
    text = f"{cells.scale.title}; {len(curves)} of {total} runs"
    figure, placeholder = new_figure(WIDTH, 3.8, "Learning curves by allocation power", text)
    placeholder.remove()
    space_apart(figure)
    with mpl.rc_context(_settings()):
        panels = figure.subplots(1, len(KEEP_RATIOS), sharey=True)
        for panel, keep_ratio in zip(panels, KEEP_RATIOS, strict=True):
            for power, colour in zip(POWERS, COLOURS, strict=True):
                curve = curves.get((keep_ratio, power))
                for column, (_, dashes) in CURVES.items():
                    if curve is not None and column in curve:
                        panel.plot(curve["epoch"], 100 * curve[column], color=colour, linestyle=dashes, linewidth=1.3)
            panel.set_title(f"keep ratio {keep_ratio:g}")
            panel.set_xlabel("epoch")
        panels[0].set_ylabel("robust accuracy, %")
        powers = [Line2D([], [], color=colour, label=f"p = {power:g}") for power, colour in zip(POWERS, COLOURS, strict=True)]
        kinds = [Line2D([], [], color=INK, linestyle=dashes, label=label) for label, dashes in CURVES.values()]
        legend_below(figure, [*powers, *kinds])
    return figure


def figure_5(cells: CellStore) -> Figure:
    """One whole mask: every weight of the largest layer, with its empty input channels marked."""
    masks, pair = _pair(cells)
    layer = pair[1]
    outputs, inputs, height, width = layer.mask.shape
    # Rows are output channels, columns the weights of one input channel after the other.
    picture = layer.mask.reshape(outputs, inputs * height * width)
    empty = np.flatnonzero(~layer.mask.any((0, 2, 3)))
    text = f"layer {layer.number} ({layer.name}): {int(layer.mask.sum()):,} of {layer.mask.size:,} weights, {len(empty)} of {inputs} input"
    figure, axes = _new(masks, "One mask, weight by weight", 4.6, f"{text} channels empty (shaded)")
    with mpl.rc_context(_settings()):
        axes.grid(visible=False)
        for channel in empty:
            axes.axvspan(channel * height * width - 0.5, (channel + 1) * height * width - 0.5, color="#E8E8E8", linewidth=0)
        rows, columns = np.nonzero(picture)
        axes.scatter(columns, rows, s=1.6, color=MEASURED, linewidths=0, rasterized=True)
        axes.set_xlim(-0.5, picture.shape[1] - 0.5)
        axes.set_ylim(outputs - 0.5, -0.5)
        ticks = np.linspace(0, inputs, 5).astype(int)
        axes.set_xticks(ticks * height * width, [str(tick) for tick in ticks])
        axes.set_xlabel(f"input channel, {height * width} weights each")
        axes.set_ylabel("output channel")
    return figure


FIGURES: Mapping[str, Callable[[CellStore], Figure]] = {
    f"liu2022-figure-{number}": function for number, function in enumerate((figure_1, figure_2, figure_3, figure_4, figure_5), start=1)
}


def _pair(cells: CellStore) -> tuple[Masks, tuple[Layer, Layer]]:
    masks = pruned_masks(cells)
    pair = consecutive(masks.layers)
    if pair is None:
        raise MissingDataError(f"{masks.model} has no two consecutive layers with kernels of several weights")
    return masks, pair


def _new(masks: Masks, title: str, height: float, text: str) -> tuple[Figure, Axes]:
    figure, axes = new_figure(WIDTH, height, title, f"{masks.model}, {masks.size}; {text}")
    space_apart(figure)
    return figure, axes


def _settings() -> Any:
    return {**SETTINGS, "axes.titlesize": 8.8, "axes.titlelocation": "left", "axes.labelsize": 8.8}

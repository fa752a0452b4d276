"""Figure of the channels and kernels in which the masks of a pruned model keep weights, compared with random masks."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

from harness.reporting.figures import Drawn, Material
from harness.reporting.masks import kept_by_channel, kept_by_kernel, kernels_at_random, sorted_at_random, used_at_random
from harness.reporting.style import INK, SETTINGS, legend_below, new_figure, space_apart
from model_zoo.errors import UserError

WIDTH, HEIGHT = 7.2, 10.6
FAMILY = "pruned-binary"
MEASURED, RANDOM, BAND = "#D55E00", INK, "#D9D9D9"
KINDS = ("output", "input")
EMPTY_HANDLE = Line2D([], [], color=INK, marker="_", markersize=4, linestyle="none", label="empty channel")


@dataclass(frozen=True)
class Layer:
    """A layer's name in the network, its position among the layers, from 1, and its mask, bool [out, in, k, k]."""

    name: str
    number: int
    mask: np.ndarray


def figures(material: Material) -> Drawn:
    """Yield one figure per data set, of the pruned binary model with the smallest keep ratio (then the lowest seed, then the first id)."""
    seen: set[str] = set()
    for part in material.threat_models:
        rows = part.rows
        if part.dataset in seen or not {"family", "keep_ratio", "seed"} <= set(rows):
            continue
        rows = rows[(rows["family"] == FAMILY) & rows["model"].isin(list(material.references))].dropna(subset=["keep_ratio"])
        for model in rows.sort_values(["keep_ratio", "seed", "model"])["model"].head(1):
            layers = layers_of(material.references[model])
            pair = consecutive(layers)
            if pair is not None:
                seen.add(part.dataset)
                yield f"masks_{part.dataset}", mask_structure(layers, pair, str(model))


def consecutive(layers: list[Layer]) -> tuple[Layer, Layer] | None:
    """Return the two largest consecutive layers that share channels and have kernels of more than one weight; None if there are none.

    In a residual network these are both convolutions of the last block (the paper shows those).
    """
    pairs = [
        (first, second)
        for first, second in pairwise(layers)
        if first.mask.shape[0] == second.mask.shape[1] and min(first.mask.shape[2], second.mask.shape[2]) > 1
    ]
    return max(pairs, key=lambda pair: (pair[0].mask.size + pair[1].mask.size, pair[0].number), default=None)


def mask_structure(layers: list[Layer], pair: tuple[Layer, Layer], model: str) -> Figure:
    """Return a figure of the channels used in each layer and, for a pair of layers, of kept weights by channel and by kernel and the masks.

    Random masks keep as many weights of a layer, without replacement. Their numbers of used channels and of kept weights by kernel are
    exact (hypergeometric); those of sorted channels are estimated from draws whose seed is derived from the layer.
    """
    kept, weights = sum(int(layer.mask.sum()) for layer in layers), sum(layer.mask.size for layer in layers)
    first, second = pair
    text = f"{model}, {kept:,} of {weights:,} weights kept; below the first row: layers {first.number} ({first.name}) and {second.number}"
    figure, placeholder = new_figure(WIDTH, HEIGHT, "What the masks keep", f"{text} ({second.name})")
    placeholder.remove()
    space_apart(figure)
    with mpl.rc_context(SETTINGS | {"axes.titlesize": 8.8, "axes.titlelocation": "left", "axes.labelsize": 8.8}):
        axes = figure.subplots(4, 2, height_ratios=(1, 1, 1, 1.5))
        for index, kind in enumerate(KINDS):
            _channels_used(axes[0, index], layers, index, kind)
        # The channels between the two layers: output channels of the first, input channels of the second.
        for index, layer in enumerate(pair):
            draw_sorted_channels(axes[1, index], layer, index)
            draw_kernels(axes[2, index], layer)
        draw_maps(axes[3], pair)
        legend_below(figure, [*random_handles(), EMPTY_HANDLE])
    return figure


def random_handles() -> list[Any]:
    """Return legend entries for a model beside random masks."""
    return [
        Line2D([], [], color=MEASURED, marker="o", markersize=4, linewidth=1.4, label="this model"),
        Line2D([], [], color=RANDOM, linestyle=(0, (4, 2)), linewidth=1.2, label="random masks that keep as many, mean"),
        Patch(color=BAND, label="95 % of them"),
    ]


def _channels_used(axes: Axes, layers: list[Layer], axis: int, kind: str) -> None:
    numbers = [layer.number for layer in layers]
    channels = np.array([layer.mask.shape[axis] for layer in layers])
    used = np.array([np.count_nonzero(kept_by_channel(layer.mask, axis)) for layer in layers])
    expected = np.array(
        [used_at_random(layer.mask.size, int(layer.mask.sum()), layer.mask.shape[axis]) for layer in layers], dtype=np.float64
    )
    mean, deviation = (100 * column / channels for column in expected.T)
    axes.fill_between(numbers, (mean - 1.96 * deviation).clip(0), (mean + 1.96 * deviation).clip(max=100), color=BAND, zorder=1)
    axes.plot(numbers, mean, color=RANDOM, linestyle=(0, (4, 2)), linewidth=1.2, zorder=2)
    axes.plot(numbers, 100 * used / channels, color=MEASURED, marker="o", markersize=4, linewidth=1.4, zorder=3)
    axes.set_title(f"{kind} channels with a kept weight")
    axes.set_xlabel("layer")
    axes.set_ylabel("per cent of channels")
    axes.set_ylim(0, 105)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def draw_sorted_channels(axes: Axes, layer: Layer, axis: int) -> None:
    """Draw the kept weights of each output (axis 0) or input channel (axis 1) of a layer, sorted, beside those of random masks."""
    kind = KINDS[axis]
    counts = -np.sort(-kept_by_channel(layer.mask, axis))
    ranks = np.arange(1, counts.size + 1)
    seed = int.from_bytes(hashlib.sha256(np.packbits(layer.mask).tobytes() + bytes([axis])).digest()[:8], "big")
    mean, low, high = sorted_at_random(layer.mask.size, int(layer.mask.sum()), counts.size, seed)
    axes.fill_between(ranks, low, high, color=BAND, zorder=1)
    axes.plot(ranks, mean, color=RANDOM, linestyle=(0, (4, 2)), linewidth=1.2, zorder=2)
    axes.plot(ranks, counts, color=MEASURED, linewidth=1.6, zorder=3)
    axes.set_title(f"layer {layer.number}: kept weights by {kind} channel")
    axes.set_xlabel(f"{kind} channels, fullest first")
    axes.set_ylabel("kept weights")
    axes.set_ylim(bottom=0)
    axes.set_xlim(0, counts.size + 1)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def draw_kernels(axes: Axes, layer: Layer) -> None:
    """Draw how many kernels of a layer keep 0, 1, 2, ... weights, on a logarithmic scale, beside the mean of random masks."""
    size = layer.mask.shape[2] * layer.mask.shape[3]
    kernels = layer.mask.shape[0] * layer.mask.shape[1]
    counts = np.bincount(kept_by_kernel(layer.mask).ravel(), minlength=size + 1)
    expected = kernels * kernels_at_random(layer.mask.size, int(layer.mask.sum()), size)
    kept_counts = np.arange(size + 1)
    axes.bar(kept_counts, counts, 0.7, color=MEASURED, zorder=2)
    # Expected numbers below a hundredth of a kernel are not drawn.
    is_drawn = expected >= 0.01
    axes.plot(
        kept_counts[is_drawn], expected[is_drawn], color=RANDOM, linestyle=(0, (4, 2)), linewidth=1.2, marker="_", markersize=9, zorder=3
    )
    axes.set_yscale("log")
    axes.set_ylim(0.5, 2.5 * kernels)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set_xticks(kept_counts)
    axes.grid(axis="x", visible=False)
    axes.set_title(f"layer {layer.number}: kernels by kept weights")
    axes.set_xlabel(f"kept weights of a kernel, of {size}")
    axes.set_ylabel("kernels (log scale)")


def draw_maps(axes: np.ndarray, pair: tuple[Layer, Layer]) -> None:
    """Draw the kernels with kept weights, with the channels between the two layers at the same height in both panels."""
    first, second = (kept_by_kernel(layer.mask) for layer in pair)
    shades = ListedColormap(["white", "#F0A36B", MEASURED, "#7A3500"])
    channel_kinds = (("input", "output"), ("output", "input"))
    for index, (panel, layer, counts) in enumerate(zip(axes, pair, (first, second.T), strict=True)):
        panel.imshow(counts.clip(max=3), cmap=shades, vmin=-0.5, vmax=3.5, aspect="auto", interpolation="nearest")
        x_kind, y_kind = channel_kinds[index]
        panel.set_title(f"layer {layer.number}: kept weights (1, 2, more: darker)")
        panel.set_xlabel(f"{x_kind} channels of layer {layer.number}")
        panel.set_ylabel(f"{y_kind} channels of layer {layer.number}")
        panel.grid(visible=False)
        # Mark channels without kept weights at the edge.
        empty = np.flatnonzero(counts.sum(1) == 0)
        for line in panel.plot(np.full(empty.size, counts.shape[1] + 0.5), empty, color=INK, marker="_", markersize=2.5, linestyle="none"):
            line.set_clip_on(False)
            # The layout engine would misplace a line without points.
            line.set_in_layout(False)
        panel.set_xlim(-0.5, counts.shape[1] - 0.5)


def layers_of(reference: str) -> list[Layer]:
    """Return the layers of a stored model in module order; empty if it cannot be loaded."""
    from model_zoo.loading import load_model
    from model_zoo.packing.frozen import convolutions, effective_weights

    try:
        model = load_model(reference)
    except UserError:
        return []
    names = {module: name.removeprefix("network.") for name, module in model.named_modules()}
    pairs = zip(convolutions(model), effective_weights(model), strict=True)
    return [Layer(names[module], number, weight != 0) for number, (module, weight) in enumerate(pairs, start=1)]

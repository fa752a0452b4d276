"""Draw docs/method.svg: weights of one layer, their scores, the mask, and what the layer computes with."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

CHANNELS, KEEP_RATIO = 12, 0.2


def draw() -> Figure:
    """Return the figure; weights and scores are drawn with seed 0 as the method draws them."""
    generator = np.random.default_rng(0)
    weights = generator.choice([-1.0, 1.0], (CHANNELS, CHANNELS))
    scores = generator.uniform(-0.01, 0.01, weights.shape)
    size = np.abs(scores)
    mask = size >= np.sort(size, axis=None)[-round(KEEP_RATIO * size.size)]
    panels = [
        ("weights: drawn once,\n−1 (dark) or +1 (light), never trained", weights, "cividis", (-1.0, 1.0)),
        ("scores: their magnitude,\nthe only thing that is trained", size, "Greys", (0.0, 0.01)),
        ("mask: the largest scores\nof the layer (a fifth here)", mask.astype(float), "Greys", (0.0, 1.0)),
        ("what the layer computes with:\n−1, 0 (white) or +1", np.where(mask, weights, np.nan), "cividis", (-1.0, 1.0)),
    ]
    figure = Figure(figsize=(10.0, 2.9), layout="constrained")
    for axes, (title, values, colours, limits) in zip(figure.subplots(1, 4), panels, strict=True):
        axes.imshow(values, cmap=colours, vmin=limits[0], vmax=limits[1])
        axes.set_title(title, fontsize=9)
        axes.set_xticks([])
        axes.set_yticks([])
        axes.set_xlabel("input channel", fontsize=8)
        axes.set_ylabel("output channel", fontsize=8)
    return figure


if __name__ == "__main__":
    with mpl.rc_context({"svg.hashsalt": "method", "font.family": "DejaVu Sans"}):
        draw().savefig(Path(__file__).with_name("method.svg"), metadata={"Date": None})

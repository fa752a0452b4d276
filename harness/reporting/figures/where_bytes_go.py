"""Figure of how the bytes of packed checkpoints are used."""

from __future__ import annotations

from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from harness.reporting.figures import Drawn, Material
from harness.reporting.names import short
from harness.reporting.style import INK, SEGMENTS, SETTINGS, legend_below, new_figure, readable_on, space_apart

WIDTH = 7.2
PITCH = 0.235
# Parts of the file (`model_zoo.packing.parts`), their names and colours.
PARTS: dict[str, tuple[str, str]] = {
    "mask_bytes": ("mask, range-coded", SEGMENTS[0]),
    "sign_bytes": ("signs, one bit each", SEGMENTS[1]),
    "value_bytes": ("values that are not ±1", SEGMENTS[2]),
    "batch_norm_bytes": ("batch norms, float32", SEGMENTS[3]),
    "header_bytes": ("header", SEGMENTS[8]),
}
# Bars longer than this multiple of the median are cut off, so that the others can be seen.
CUT = 2.5


def figures(material: Material) -> Drawn:
    """Yield one figure per data set."""
    seen: set[str] = set()
    for part in material.threat_models:
        if part.dataset not in seen and set(PARTS) <= set(part.rows):
            seen.add(part.dataset)
            rows = part.rows.dropna(subset=list(PARTS))
            yield (
                f"bytes_{part.dataset}",
                where_bytes_go(rows, f"models for {part.dataset}, n = {len(rows)}; packed checkpoints as on disk"),
            )


def where_bytes_go(group: pd.DataFrame, title: str) -> Figure:
    """Return a bar figure of how a file's bytes are used, in KiB and as shares of the file, one row per model, the smallest on top.

    `group` has `bytes`, `model` and the columns of `PARTS`. Bars of much larger files are cut off, with their size written next to them.
    """
    rows = group.sort_values(["bytes", "model"], ascending=[False, True]).reset_index(drop=True)
    sizes = rows["bytes"].astype(float) / 1024
    limit = min(CUT * float(sizes.median()), float(sizes.max()))
    figure, placeholder = new_figure(WIDTH, 1.6 + PITCH * len(rows), "Where the bytes go", title)
    placeholder.remove()
    space_apart(figure)
    with mpl.rc_context(SETTINGS):
        left, right = figure.subplots(1, 2, sharey=True, width_ratios=(1.25, 1))
        _bars(left, rows, sizes, limit)
        for index, size in sizes.items():
            left.text(min(size, limit) + 0.015 * limit, index, _size(size, limit), fontsize=7.2, va="center", color=INK)
        left.set_xlim(0, 1.2 * limit)
        left.set_xlabel("KiB" + (" (longer bars are cut off)" if limit < sizes.max() else ""))
        _bars(right, rows, pd.Series(100.0, rows.index), 100.0)
        right.set_xlim(0, 100)
        right.set_xlabel("per cent of the file")
        left.set_yticks(range(len(rows)), [short(str(model), rows["model"]) for model in rows["model"]], fontsize=7.8)
        left.set_ylim(-0.6, len(rows) - 0.4)
        legend_below(figure, [Patch(edgecolor=INK, linewidth=0.5, label=name, facecolor=colour) for name, colour in PARTS.values()])
    return figure


def _bars(axes: Axes, rows: pd.DataFrame, lengths: pd.Series, limit: float) -> None:
    """Draw stacked bars of the parts with the lengths `lengths`, cut off at `limit`."""
    look: dict[str, Any] = {"edgecolor": INK, "linewidth": 0.5}
    start = pd.Series(0.0, rows.index)
    for name, (_, colour) in PARTS.items():
        end = start + lengths * rows[name].astype(float) / rows["bytes"].astype(float)
        visible = end.clip(upper=limit) - start.clip(upper=limit)
        is_visible = visible > 0
        axes.barh(rows.index[is_visible], visible[is_visible], 0.78, start[is_visible], facecolor=colour, **look)
        if limit == 100.0:
            for index in np.flatnonzero(visible >= 9).tolist():
                text_style: dict[str, Any] = {"fontsize": 6.4, "ha": "center", "va": "center", "color": readable_on(colour)}
                axes.text(start[index] + visible[index] / 2, index - 0.03, f"{visible[index]:.0f}", **text_style)
        start = end
    axes.grid(axis="y", visible=False)


def _size(kib: float, limit: float) -> str:
    return f"{kib:,.1f}" if kib <= limit else f"… {kib:,.0f}"

"""Figure of accuracy under each attack alone."""

from __future__ import annotations

from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from harness.reporting.figures import Drawn, Material
from harness.reporting.frames import attacks_of
from harness.reporting.names import label
from harness.reporting.style import ATTACKS, INK, SETTINGS, WORST, legend_below, new_figure

WIDTH = 7.2
BAND = "#E2E2E2"
# Inches between the marks of one model, and their size in points, depending on the number of models.
FEW, MANY, CROWD = (0.13, 5.5), (0.08, 4.2), (0.05, 3.6)


def figures(material: Material) -> Drawn:
    """Yield one figure per threat model with several attacks."""
    for part in material.threat_models:
        if len(attacks_of(part.rows)) > 1:
            yield f"accuracy-attacks_{part.name}", accuracy_by_attack(part.rows, part.title)


def accuracy_by_attack(group: pd.DataFrame, title: str) -> Figure:
    """Return a figure that shows, per model, clean accuracy, robust accuracy under each attack, and the worst case with its 95 % interval.

    The marks of one model are placed a little below one another, in the order of the legend, so that equal numbers do not hide each other.
    """
    rows = group.dropna(subset=["worst"]).sort_values(["worst", "clean", "model"]).reset_index(drop=True)
    attacks = attacks_of(group)
    pitch, mark_size = FEW if len(rows) <= 8 else MANY if len(rows) <= 20 else CROWD
    figure, axes = new_figure(WIDTH, 1.35 + pitch * (len(attacks) + 2) * max(len(rows), 1), "What each attack leaves", title)
    with mpl.rc_context(SETTINGS):
        low, high, worst = (100 * rows[field].astype(float) for field in ("worst_low", "worst_high", "worst"))
        axes.barh(rows.index, high - low, 0.78, low, color=BAND, zorder=1)
        axes.vlines(worst, rows.index - 0.39, rows.index + 0.39, color=WORST, linewidth=1.8, zorder=2)
        marks: list[tuple[str, dict[str, Any]]] = [("clean", {"color": INK, "marker": "o", "markerfacecolor": "white"})]
        marks += [(name, dict(zip(("color", "marker"), ATTACKS[index % len(ATTACKS)], strict=True))) for index, name in enumerate(attacks)]
        handles: list[Artist] = []
        for (name, look), offset in zip(marks, np.linspace(0.29, -0.29, len(marks)), strict=True):
            values = 100 * rows[name].astype(float)
            handles += axes.plot(values, rows.index + offset, **look, markersize=mark_size, linestyle="none", label=name, zorder=3)
        handles.append(Line2D([], [], color=WORST, marker="|", markersize=11, markeredgewidth=1.8, linestyle="none", label="worst case"))
        handles.append(Patch(color=BAND, label="its 95 % interval"))
        names = [label(row, group, "\n") for _, row in rows.iterrows()]
        axes.set_yticks(list(rows.index), names, fontsize=9.5 if len(rows) <= 8 else 7.8, linespacing=1.0)
        axes.set_ylim(-0.6, len(rows) - 0.4)
        axes.set_xlim(0, max(20.0, 104 * float(rows[["clean", "worst_high"]].to_numpy(float).max(initial=0.0))))
        axes.grid(axis="y", visible=False)
        axes.set_xlabel("accuracy, per cent")
        legend_below(figure, handles)
    return figure

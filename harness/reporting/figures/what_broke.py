"""Waterfall figure: how many images each component of each attack broke, and how many withstood all of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from harness.reporting.components import BY, CLEAN, LEFT, SEEN, components
from harness.reporting.figures import Drawn, Material
from harness.reporting.frames import attacks_of
from harness.reporting.names import label
from harness.reporting.style import COMPONENTS, INK, SEGMENTS, SETTINGS, legend_below, new_figure, readable_on, space_apart

WIDTH = 7.2
# Inches per model, and the font size of the counts, depending on the number of models.
FEW, MANY = (0.34, 7.2), (0.235, 6.0)
CROWD = 12
# Segments that no attack's component accounts for.
SPECIAL: dict[str, dict[str, Any]] = {
    CLEAN: {"facecolor": "#404040"},
    SEEN: {"facecolor": "white", "hatch": "//////"},
    LEFT: {"facecolor": "#F4F4F4"},
}


def figures(material: Material) -> Drawn:
    """Yield one figure per threat model with several attacks: AutoAttack alone, if present, and all attacks one after the other."""
    for part in material.threat_models:
        names = attacks_of(part.rows)
        if len(names) < 2:
            continue
        panels = [("all attacks, one after the other", components(material.outcomes, part.rows))]
        alone = [(name, components(material.outcomes, part.rows, [name])) for name in names if name == "autoattack"]
        panels = [(f"{name} alone", frame) for name, frame in alone if not frame.empty] + panels
        yield f"components_{part.name}", what_broke(panels, part.rows, part.title)


def what_broke(panels: Sequence[tuple[str, pd.DataFrame]], group: pd.DataFrame, title: str) -> Figure:
    """Return a figure of bars that show what broke how many images, one row per model and one panel per frame from `components`.

    The length of a segment is a share of the images and the number in it a number of images; the segment "left" is the accuracy in the
    worst case of the panel's attacks. `group` is the summary of the threat model; the most robust model is on top.
    """
    order = group.dropna(subset=["worst"]).sort_values(["worst", "clean", "model"])
    order = order[order["model"].isin(panels[-1][1]["model"])]
    pitch, size = FEW if len(order) <= CROWD else MANY
    figure, placeholder = new_figure(WIDTH, 1.75 + pitch * len(order), "What broke how many images", f"{title}; numbers are images")
    placeholder.remove()
    space_apart(figure)
    segments = [str(name).removeprefix(BY) for _, frame in panels for name in frame.columns if str(name).startswith(BY)]
    attacks = [name for name in dict.fromkeys(segments) if name not in SPECIAL]
    # Use the order of the panel with all attacks.
    attacks = sorted(attacks, key=lambda name: segments[::-1].index(name), reverse=True)
    looks = SPECIAL | {name: {"facecolor": COMPONENTS.get(name, SEGMENTS[index % len(SEGMENTS)])} for index, name in enumerate(attacks)}
    names = [name for name in (CLEAN, *attacks, SEEN, LEFT) if any(frame.get(BY + name, pd.Series(0.0)).max() > 0 for _, frame in panels)]
    with mpl.rc_context(SETTINGS | {"hatch.linewidth": 0.6}):
        all_axes: list[Axes] = list(figure.subplots(1, len(panels), sharey=True, squeeze=False)[0])
        for axes, (panel_title, frame) in zip(all_axes, panels, strict=True):
            _bars(axes, frame.set_index("model"), list(order["model"]), [(name, looks[name]) for name in names], size)
            axes.set_title(panel_title, fontsize=8.8, loc="left", color=INK)
            axes.set_xlabel("images, per cent")
        texts = [label(row, group, "\n") for _, row in order.iterrows()]
        all_axes[0].set_yticks(range(len(order)), texts, fontsize=7.8, linespacing=1.0)
        all_axes[0].set_ylim(-0.6, len(order) - 0.4)
        legend_below(figure, [Patch(edgecolor=INK, linewidth=0.5, label=name, **looks[name]) for name in names])
    return figure


def _bars(axes: Axes, frame: pd.DataFrame, models: list[str], names: Sequence[tuple[str, dict[str, Any]]], size: float) -> None:
    by_model = {str(model): row for model, row in frame.iterrows()}
    for index, row in enumerate(by_model.get(model) for model in models):
        if row is None:
            continue
        start, n = 0.0, int(row["worst_n"])
        for name, look in names:
            share = row.get(BY + name, 0.0)
            if pd.isna(share) or not share:
                continue
            axes.barh(index, 100 * share, 0.78, 100 * start, edgecolor=INK, linewidth=0.5, **look)
            text = str(round(share * n))
            # Write the number only if it fits: three points per digit are about one per cent of a panel.
            if 100 * share > 1.2 + 1.5 * len(text) and "hatch" not in look:
                middle = 100 * (start + share / 2)
                axes.text(middle, index - 0.03, text, color=readable_on(look["facecolor"]), fontsize=size, ha="center", va="center")
            start += share
    axes.set_xlim(0, 100)
    axes.grid(axis="y", visible=False)

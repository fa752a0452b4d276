"""Figure of accuracy against bytes, with the Pareto front."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import matplotlib as mpl
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

from harness.reporting.ablations import neighbours
from harness.reporting.figures import Drawn, Material
from harness.reporting.labels import place_labels
from harness.reporting.names import label, short
from harness.reporting.pareto import pareto_front
from harness.reporting.style import FAINT, INK, SETTINGS, darker, family_style, legend_below, new_figure

WIDTH = 7.2
# Variants of a model whose relative difference in size is smaller are drawn as dots without names.
SAME_SIZE = 0.15


def figures(material: Material) -> Drawn:
    """Yield one figure per threat model."""
    for part in material.threat_models:
        yield f"accuracy-bytes_{part.name}", accuracy_against_bytes(part.rows, part.title)


def accuracy_against_bytes(group: pd.DataFrame, title: str) -> Figure:
    """Return a figure of worst-case robust accuracy against the bytes of the packed file, with 95 % intervals and the Pareto front.

    Clean accuracy is drawn hollow. `group` is a summary of one threat model; models without a size or without a worst case are left out.
    The label of a model says if its numbers are partial. Models with fewer images than others, and near-constant ones, are excluded from
    the front. Variants of the base model of the ablations (`harness.reporting.ablations`) that are about as large and not on the front are
    small dots without a name.
    """
    rows = group.dropna(subset=["bytes", "worst"]).sort_values(["bytes", "model"]).reset_index(drop=True)
    front = _front(rows)
    quiet = _quiet(rows, front)
    named = rows[~rows["model"].isin(quiet)]
    figure, axes = new_figure(WIDTH, 4.5 + 0.12 * max(len(named) - 8, 0), "Robust accuracy against the bytes that are stored", title)
    solid: list[tuple[float, float, float, float]] = []
    anchors: list[tuple[float, float]] = []
    with mpl.rc_context(SETTINGS):
        for _, row in named.iterrows():
            colour, marker, _ = family_style(row["family"])
            size, worst, clean, low, high = (
                float(row["bytes"]),
                *(100 * float(row[field]) for field in ("worst", "clean", "worst_low", "worst_high")),
            )
            axes.plot([size, size], [worst, clean], color=colour, linewidth=0.7, linestyle=(0, (1, 2)), zorder=2)
            axes.errorbar(size, worst, yerr=[[worst - low], [high - worst]], color=colour, fmt="none", capsize=3, linewidth=1.1, zorder=3)
            axes.plot(size, worst, marker=marker, color=colour, markersize=8, markeredgecolor="white", markeredgewidth=0.8, zorder=5)
            axes.plot(size, clean, marker=marker, color=colour, markerfacecolor="white", markersize=5.5, zorder=4)
            solid.append((size, min(low, clean), size, max(high, clean)))
            anchors.append((size, worst))
        for _, row in rows[rows["model"].isin(quiet)].iterrows():
            size, worst = float(row["bytes"]), 100 * float(row["worst"])
            axes.plot(size, worst, marker=family_style(row["family"])[1], color=FAINT, markersize=3.5, linestyle="none", zorder=6)
            solid.append((size, worst, size, worst))
        axes.set_xscale("log")
        _byte_axis(axes, rows["bytes"])
        _accuracy_limit(axes, rows)
        # Extend the front from its last point to the edge, because no larger model is better.
        corners = [*front, *((axes.get_xlim()[1], accuracy) for _, accuracy in front[-1:])]
        soft = [(x, y, next_x, y) for (x, y), (next_x, _) in pairwise(corners)]
        if front:
            axes.step(*zip(*corners, strict=True), where="post", color=FAINT, linewidth=1.1, zorder=1)
        axes.set_xlabel("packed checkpoint (log scale)")
        axes.set_ylabel("accuracy, per cent")
        handles = _legend(rows, bool(front))
        if quiet:
            base = short(next(iter(neighbours(rows))), group["model"])
            handles.append(Line2D([], [], color=FAINT, marker="o", linestyle="none", markersize=3.5, label=f"variants of {base}"))
        legend_below(figure, handles)
        texts = [(label(row, group), darker(family_style(row["family"])[0])) for _, row in named.iterrows()]
        place_labels(axes, texts, anchors, solid, soft)
    return figure


def _front(rows: pd.DataFrame) -> list[tuple[float, float]]:
    """Return the corners (bytes, per cent) of the Pareto front over the models that have the most images and are not near-constant."""
    fit = rows[(rows["worst_n"] == rows["worst_n"].max()) & ~rows["near_constant"].astype(bool)]
    sizes, worst = fit["bytes"].astype(float).tolist(), fit["worst"].astype(float).tolist()
    return [(sizes[row], 100 * worst[row]) for row in pareto_front(sizes, worst)]


def _quiet(rows: pd.DataFrame, front: Sequence[tuple[float, float]]) -> set[str]:
    """Return the variants of the ablations' base model of nearly its size; their names would hide the figure, and a table has them."""
    near = neighbours(rows)
    if not near:
        return set()
    sizes = rows.set_index("model")[["bytes", "worst"]].astype(float)
    base = float(sizes["bytes"][next(iter(near))])
    return {
        model
        for model, field in near.items()
        if field not in ("base", "keep_ratio")
        and abs(sizes["bytes"][model] / base - 1) < SAME_SIZE
        and (sizes["bytes"][model], 100 * sizes["worst"][model]) not in front
    }


def _legend(rows: pd.DataFrame, front: bool) -> list[Line2D]:
    styles = dict.fromkeys(family_style(family) for family in rows["family"])
    handles = [Line2D([], [], color=colour, marker=marker, linestyle="none", markersize=7, label=name) for colour, marker, name in styles]
    hollow: dict[str, Any] = {"color": INK, "marker": "o", "markerfacecolor": "white", "linestyle": "none", "markersize": 5.5}
    handles.append(Line2D([], [], label="clean accuracy", **hollow))
    return handles + ([Line2D([], [], color=FAINT, label="Pareto front")] if front else [])


def _byte_axis(axes: Axes, sizes: pd.Series) -> None:
    low, high = (float(sizes.min()), float(sizes.max())) if len(sizes) else (1024.0, 2.0**20)
    axes.set_xlim(low / 1.8, high * 2.8)
    axes.xaxis.set_major_locator(LogLocator(base=2, numticks=12))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value / 2**20:g} MiB" if value >= 2**20 else f"{value / 2**10:g} KiB"))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_minor_formatter(NullFormatter())


def _accuracy_limit(axes: Axes, rows: pd.DataFrame) -> None:
    axes.set_ylim(0, max(20.0, 112 * float(rows[["clean", "worst_high"]].to_numpy(float).max(initial=0.0))))

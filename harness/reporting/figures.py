"""Figures of a summary: accuracy against bytes, accuracy by attack, accuracy against radius."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator
from matplotlib.transforms import ScaledTranslation

from harness.reporting.ablations import neighbours
from harness.reporting.frames import attacks_of
from harness.reporting.labels import place_labels
from harness.reporting.names import label, short
from harness.reporting.style import ATTACKS, FAINT, INK, SETTINGS, WORST, darker, family_style, new_figure

WIDTH = 7.2
FEW_CURVES = 6
# Variants of a model whose size differs by less are drawn as one crowd.
SAME_SIZE = 0.15
BAND = "#E2E2E2"
LEGEND: dict[str, Any] = {"fontsize": 7.8, "frameon": False, "loc": "outside lower center"}


def pareto_front(sizes: Sequence[float], accuracies: Sequence[float]) -> list[int]:
    """Positions of the points that no smaller (or equal) one beats, from small to large: fewer bytes and more accuracy are better."""
    order = sorted(range(len(sizes)), key=lambda row: (sizes[row], -accuracies[row]))
    front: list[int] = []
    for row in order:
        if not front or accuracies[row] > accuracies[front[-1]]:
            front.append(row)
    return front


def accuracy_against_bytes(group: pd.DataFrame, title: str) -> Figure:
    """Worst-case robust accuracy against the bytes of the packed file, with 95 % intervals, clean accuracy hollow, and the Pareto front.

    `group` is a summary of one threat model; models without a size or without a worst case are left out. The label of a model says where
    its numbers are partial. Models with fewer images than others, and near-constant ones, are no part of the front. Variants of the base
    model of the ablations (`harness.reporting.ablations`) that are about as large and not on the front are small dots without a name.
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
        # From the last of the front to the edge: nothing larger is better.
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
        figure.legend(handles=handles, ncols=5 if len(handles) < 6 else 3, columnspacing=1.4, handletextpad=0.4, **LEGEND)
        texts = [(label(row, group), darker(family_style(row["family"])[0])) for _, row in named.iterrows()]
        place_labels(axes, texts, anchors, solid, soft)
    return figure


def accuracy_by_attack(group: pd.DataFrame, title: str) -> Figure:
    """For each model: clean accuracy, robust accuracy under every attack alone, and the worst case with its 95 % interval.

    The marks of one model stand a little below one another, in the order of the legend, so that equal numbers do not hide each other.
    """
    rows = group.dropna(subset=["worst"]).sort_values(["worst", "clean", "model"]).reset_index(drop=True)
    attacks = attacks_of(group)
    many = len(rows) > 8
    pitch, mark = (0.08, 4.2) if many else (0.13, 5.5)
    figure, axes = new_figure(WIDTH, 1.35 + pitch * (len(attacks) + 2) * max(len(rows), 1), "What each attack leaves", title)
    with mpl.rc_context(SETTINGS):
        low, high, worst = (100 * rows[field].astype(float) for field in ("worst_low", "worst_high", "worst"))
        axes.barh(rows.index, high - low, 0.78, low, color=BAND, zorder=1)
        axes.vlines(worst, rows.index - 0.39, rows.index + 0.39, color=WORST, linewidth=1.8, zorder=2)
        marks: list[tuple[str, dict[str, Any]]] = [("clean", {"color": INK, "marker": "o", "markerfacecolor": "white"})]
        marks += [(name, dict(zip(("color", "marker"), ATTACKS[place % len(ATTACKS)], strict=True))) for place, name in enumerate(attacks)]
        handles: list[Artist] = []
        for (name, look), step in zip(marks, np.linspace(0.29, -0.29, len(marks)), strict=True):
            values = 100 * rows[name].astype(float)
            handles += axes.plot(values, rows.index + step, **look, markersize=mark, linestyle="none", label=name, zorder=3)
        handles.append(Line2D([], [], color=WORST, marker="|", markersize=11, markeredgewidth=1.8, linestyle="none", label="worst case"))
        handles.append(Patch(color=BAND, label="its 95 % interval"))
        names = [label(row, group, "\n") for _, row in rows.iterrows()]
        axes.set_yticks(list(rows.index), names, fontsize=7.8 if many else 9.5, linespacing=1.0)
        axes.set_ylim(-0.6, len(rows) - 0.4)
        axes.set_xlim(0, max(20.0, 104 * float(rows[["clean", "worst_high"]].to_numpy(float).max(initial=0.0))))
        axes.grid(axis="y", visible=False)
        axes.set_xlabel("accuracy, per cent")
        figure.legend(handles=handles, ncols=8 if len(handles) < 9 else 5, columnspacing=1.4, handletextpad=0.4, **LEGEND)
    return figure


def epsilon_curve(summary: pd.DataFrame, title: str) -> Figure:
    """Worst-case robust accuracy against the radius, a line a model, with 95 % intervals; radius 0 is clean accuracy.

    `summary` has one data set and one norm. Models of a radius stand a few points apart, so that their intervals can be told apart. More
    than `FEW_CURVES` models stand on one place, without intervals (the table has them), and their legend below.
    """
    norm = str(summary["norm"].iloc[0])
    unit = 255 if norm == "Linf" else 1
    rows = summary.assign(epsilon=[unit * float(Fraction(radius)) for radius in summary["radius"]]).dropna(subset=["worst"])
    few = rows["model"].nunique() <= FEW_CURVES
    height = 4.4 if few else 4.4 + 0.1 * rows["model"].nunique()
    figure, axes = new_figure(WIDTH, height, "Robust accuracy against the radius", title)
    with mpl.rc_context(SETTINGS):
        dashes = ["-", (0, (4, 1.5)), (0, (1, 1.2)), (0, (5, 1.5, 1, 1.5))]
        used: dict[str, int] = {}
        order = list(rows.groupby("model")["clean"].max().sort_values(ascending=False, kind="stable").index)
        for place, model in enumerate(order):
            part = rows[rows["model"] == model].sort_values("epsilon")
            colour, marker, _ = family_style(part["family"].iloc[0])
            number = used[colour] = used.get(colour, -1) + 1
            # Clean accuracy is the same at every radius, save that a radius may have seen fewer images: the fullest counts.
            fullest = part.loc[part["clean_n"].idxmax()]
            x = np.array([0.0, *part["epsilon"]])
            y, low, high = (
                100 * np.array([float(fullest[f"clean{end}"]), *part[f"worst{end}"].astype(float)]) for end in ("", "_low", "_high")
            )
            apart = ScaledTranslation((place - (len(order) - 1) / 2) * (4 / 72 if few else 0), 0, figure.dpi_scale_trans)
            look: dict[str, Any] = {"marker": marker, "markersize": 5, "markerfacecolor": colour if number % 2 == 0 else "white"}
            axes.errorbar(
                x,
                y,
                yerr=[y - low, high - y] if few else None,
                color=colour,
                linestyle=dashes[number % len(dashes)],
                linewidth=1.4,
                elinewidth=0.9,
                capsize=1.8,
                label=label(part.loc[part["worst_n"].sub(part["worst_planned"]).idxmin()], rows),
                transform=axes.transData + apart,
                zorder=3,
                clip_on=False,
                **look,
            )
        radii = sorted(set(rows["epsilon"]))
        axes.set_xscale("symlog", linthresh=radii[0], base=2)
        axes.set_xticks([0.0, *radii], ["0", *(f"{radius:g}" for radius in radii)])
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xlim(-0.12 * radii[0], 1.25 * radii[-1])
        tops = ["clean_high", "worst_high"] if few else ["clean", "worst"]
        axes.set_ylim(0, max(10.0, 106 * float(rows[tops].to_numpy(float).max())))
        axes.set_xlabel(f"{norm} radius, in 1/255 (0: clean accuracy)" if unit == 255 else f"{norm} radius (0: clean accuracy)")
        axes.set_ylabel("robust accuracy, per cent")
        if few:
            axes.legend(fontsize=8, frameon=False, loc="upper right", handlelength=3.2)
        else:
            figure.legend(ncols=2, handlelength=3.2, **LEGEND)
    return figure


def _front(rows: pd.DataFrame) -> list[tuple[float, float]]:
    """Corners of the Pareto front: bytes and accuracy in per cent, over the models with most images whose accuracy means something."""
    fit = rows[(rows["worst_n"] == rows["worst_n"].max()) & ~rows["near_constant"].astype(bool)]
    sizes, worst = fit["bytes"].astype(float).tolist(), fit["worst"].astype(float).tolist()
    return [(sizes[row], 100 * worst[row]) for row in pareto_front(sizes, worst)]


def _quiet(rows: pd.DataFrame, front: Sequence[tuple[float, float]]) -> set[str]:
    """Variants of the base model of the ablations, of nearly its size: their names would hide the figure, and the table has them."""
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

"""Figures of a summary: accuracy against bytes, accuracy by attack, accuracy against radius."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from harness.reporting.frames import attacks_of
from harness.reporting.style import FAINT, INK, SETTINGS, family_style, new_figure


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

    `group` is a summary of one threat model; models without a size are left out.
    """
    rows = group.dropna(subset=["bytes", "worst"]).sort_values(["bytes", "model"]).reset_index(drop=True)
    figure, axes = new_figure(7.2, 4.5, "Robust accuracy against the bytes that are stored", title)
    with mpl.rc_context(SETTINGS):
        for _, row in rows.iterrows():
            colour, marker, _ = family_style(row["family"])
            size, worst = float(row["bytes"]), 100 * float(row["worst"])
            errors = [[worst - 100 * float(row["worst_low"])], [100 * float(row["worst_high"]) - worst]]
            axes.plot([size, size], [worst, 100 * float(row["clean"])], color=colour, linewidth=0.7, linestyle=(0, (1, 2)), zorder=2)
            axes.errorbar(size, worst, yerr=errors, color=colour, fmt="none", capsize=3, linewidth=1.1, zorder=3)
            axes.plot(size, worst, marker=marker, color=colour, markersize=8, markeredgecolor="white", markeredgewidth=0.8, zorder=4)
            axes.plot(size, 100 * float(row["clean"]), marker=marker, color=colour, markerfacecolor="white", markersize=5.5, zorder=3)
            top = 100 * max(float(row["clean"]), float(row["worst_high"]))
            label: dict[str, Any] = {
                "textcoords": "offset points",
                "rotation": 24,
                "rotation_mode": "anchor",
                "fontsize": 7.8,
                "color": INK,
            }
            axes.annotate(_short(str(row["model"]), group["model"]), (size, top), xytext=(-3, 9), **label)
        front = pareto_front(rows["bytes"].tolist(), rows["worst"].tolist())
        steps = [(float(rows["bytes"][row]), 100 * float(rows["worst"][row])) for row in front]
        if steps:
            axes.step(*zip(*steps, strict=True), where="post", color=FAINT, linewidth=1.1, zorder=1)
        axes.set_xscale("log")
        _byte_axis(axes, rows["bytes"])
        axes.set_ylim(0, max(20.0, 130 * float(rows[["clean", "worst_high"]].to_numpy().max())))
        axes.set_xlabel("packed checkpoint (log scale)")
        axes.set_ylabel("accuracy, per cent")
        styles = [family_style(family) for family in dict.fromkeys(rows["family"])]
        handles = [
            Line2D([], [], color=colour, marker=marker, linestyle="none", markersize=7, label=name) for colour, marker, name in styles
        ]
        hollow: dict[str, Any] = {"color": INK, "marker": "o", "markerfacecolor": "white", "linestyle": "none", "markersize": 5.5}
        handles += [Line2D([], [], label="clean accuracy", **hollow), Line2D([], [], color=FAINT, label="Pareto front")]
        axes.legend(handles=handles, fontsize=7.8, frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=len(handles))
    return figure


def accuracy_by_attack(group: pd.DataFrame, title: str) -> Figure:
    """For each model: clean accuracy, robust accuracy under every attack alone, and the worst case with its 95 % interval."""
    rows = group.dropna(subset=["worst"]).sort_values(["worst", "clean", "model"]).reset_index(drop=True)
    figure, axes = new_figure(7.2, 1.5 + 0.46 * len(rows), "What each attack leaves", title)
    shapes = ["o", "s", "D", "^", "v", "P"]
    colours = ["#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#999999"]
    with mpl.rc_context(SETTINGS):
        for place, (_, row) in enumerate(rows.iterrows()):
            low, high = 100 * float(row["worst_low"]), 100 * float(row["worst_high"])
            axes.plot([low, high], [place, place], color="#D5D5D5", linewidth=7, solid_capstyle="butt", zorder=1)
        style: dict[str, Any] = {"linestyle": "none", "zorder": 3}
        axes.plot(100 * rows["clean"], rows.index, "o", color=INK, markerfacecolor="white", markersize=7, label="clean", **style)
        for number, attack in enumerate(attacks_of(group)):
            look: dict[str, Any] = {"marker": shapes[number % 6], "color": colours[number % 6], "markersize": 6.5}
            axes.plot(100 * rows[attack].astype(float), rows.index, label=attack, **look, **style)
        axes.plot(100 * rows["worst"], rows.index, "|", color="#D55E00", markersize=15, markeredgewidth=2.4, label="worst case", **style)
        axes.set_yticks(list(rows.index), [_short(str(model), group["model"]) for model in rows["model"]])
        axes.set_ylim(-0.6, len(rows) - 0.4)
        axes.set_xlim(0, max(20.0, 108 * float(rows["clean"].max())))
        axes.grid(axis="y", visible=False)
        axes.set_xlabel("accuracy, per cent (grey: 95 % interval of the worst case)")
        axes.legend(
            fontsize=7.8, frameon=False, loc="upper center", bbox_to_anchor=(0.45, -0.75 / len(rows) - 0.12), ncols=8, handletextpad=0.1
        )
    return figure


def epsilon_curve(summary: pd.DataFrame, title: str) -> Figure:
    """Worst-case robust accuracy against the Linf radius, a line a model, with 95 % intervals; radius 0 is clean accuracy."""
    rows = summary.assign(epsilon=[255 * float(Fraction(radius)) for radius in summary["radius"]]).dropna(subset=["worst"])
    figure, axes = new_figure(7.2, 4.4, "Robust accuracy against the radius", title)
    with mpl.rc_context(SETTINGS):
        dashes = ["-", "--", ":", "-."]
        used: dict[str, int] = {}
        order = rows.groupby("model")["clean"].first().sort_values(ascending=False).index
        for model in order:
            part = rows[rows["model"] == model].sort_values("epsilon")
            colour, marker, _ = family_style(part["family"].iloc[0])
            number = used[colour] = used.get(colour, -1) + 1
            x = np.array([0.0, *part["epsilon"]])
            y, low, high = (
                100 * np.array([float(part[f"clean{end}"].iloc[0]), *part[f"worst{end}"].astype(float)]) for end in ("", "_low", "_high")
            )
            label = _short(str(model), rows["model"])
            axes.plot(x, y, marker=marker, color=colour, linestyle=dashes[number % 4], linewidth=1.4, markersize=5, label=label, zorder=3)
            axes.fill_between(x, low, high, color=colour, alpha=0.10, linewidth=0)
        axes.set_xscale("symlog", linthresh=2, base=2)
        ticks = sorted({0.0, *rows["epsilon"]})
        axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_ylim(bottom=0)
        axes.set_xlim(left=0)
        axes.set_xlabel("Linf radius, in 1/255")
        axes.set_ylabel("robust accuracy, per cent")
        axes.legend(fontsize=8, frameon=False, loc="upper right")
    return figure


def _byte_axis(axes: Axes, sizes: pd.Series) -> None:
    low, high = float(sizes.min()), float(sizes.max())
    axes.set_xlim(low / 1.6, high * 3.2)
    axes.xaxis.set_major_locator(LogLocator(base=2, numticks=12))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value / 2**20:g} MiB" if value >= 2**20 else f"{value / 2**10:g} KiB"))
    axes.xaxis.set_minor_formatter(NullFormatter())


def _short(model: str, models: pd.Series) -> str:
    """The id without the dash-separated beginning that all ids of the figure share."""
    parts = [str(other).split("-") for other in models.unique()]
    shared = 0
    if len(parts) > 1:
        while all(len(other) > shared + 1 for other in parts) and all(a[shared] == b[shared] for a, b in pairwise(parts)):
            shared += 1
    return "-".join(model.split("-")[shared:])

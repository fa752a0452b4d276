"""Figure of accuracy against the radius."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullLocator
from matplotlib.transforms import ScaledTranslation

from harness.reporting.figures import Drawn, Material
from harness.reporting.names import label
from harness.reporting.style import FAINT, SETTINGS, family_style, new_figure
from harness.threats import NORMS

WIDTH = 7.2
FEW_CURVES = 6


def figures(material: Material) -> Drawn:
    """Yield one figure per norm with several radii."""
    for part in material.curves:
        yield f"accuracy-radius_{part.name}", epsilon_curve(part.rows, part.title)


def epsilon_curve(summary: pd.DataFrame, title: str) -> Figure:
    """Return a figure of worst-case robust accuracy against the radius, one line per model; radius 0 is clean accuracy.

    `summary` has one data set and one norm. Models at the same radius are shifted by a few points, so that their 95 % intervals do not
    overlap. If there are more than `FEW_CURVES` models, only the best of each family (by the mean over the radii, among those with most
    images) has an interval and a name; the others are thin lines in the colour of their family (the table has their numbers).
    """
    norm = str(summary["norm"].iloc[0])
    unit = NORMS[norm].unit.denominator
    rows = summary.assign(epsilon=[unit * float(Fraction(radius)) for radius in summary["radius"]]).dropna(subset=["worst"])
    named = _named(rows)
    is_few = len(named) == rows["model"].nunique()
    figure, axes = new_figure(WIDTH, 4.4, "Robust accuracy against the radius", title)
    with mpl.rc_context(SETTINGS):
        dashes = ["-", (0, (4, 1.5)), (0, (1, 1.2)), (0, (5, 1.5, 1, 1.5))]
        curves_by_colour: dict[str, int] = {}
        for model, part in rows[~rows["model"].isin(named)].groupby("model"):
            x, (y, _, _) = _curve(part)
            axes.plot(x, y, color=family_style(part["family"].iloc[0])[0], linewidth=0.7, alpha=0.55, zorder=1, gid=str(model))
        for index, model in enumerate(named):
            part = rows[rows["model"] == model]
            colour, marker, family = family_style(part["family"].iloc[0])
            number = curves_by_colour[colour] = curves_by_colour.get(colour, -1) + 1
            x, (y, low, high) = _curve(part)
            shift = ScaledTranslation((index - (len(named) - 1) / 2) * 4 / 72, 0, figure.dpi_scale_trans)
            look: dict[str, Any] = {"marker": marker, "markersize": 5, "markerfacecolor": colour if number % 2 == 0 else "white"}
            name = label(part.iloc[int(part["worst_n"].sub(part["worst_planned"]).to_numpy().argmin())], rows)
            axes.errorbar(
                x,
                y,
                yerr=[y - low, high - y],
                color=colour,
                linestyle=dashes[number % len(dashes)],
                linewidth=1.6,
                elinewidth=0.9,
                capsize=1.8,
                label=name if is_few else f"{family}: {name}",
                transform=axes.transData + shift,
                zorder=3,
                clip_on=False,
                **look,
            )
        radii = sorted(set(rows["epsilon"]))
        axes.set_xscale("symlog", linthresh=radii[0], base=2)
        axes.set_xticks([0.0, *radii], ["0", *(f"{radius:g}" for radius in radii)])
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xlim(-0.12 * radii[0], 1.25 * radii[-1])
        axes.set_ylim(0, max(10.0, 106 * float(rows[["clean_high", "worst_high"]].to_numpy(float).max())))
        axes.set_xlabel(f"{norm} radius, in 1/255 (0: clean accuracy)" if unit == 255 else f"{norm} radius (0: clean accuracy)")
        axes.set_ylabel("robust accuracy, per cent")
        handles, names = axes.get_legend_handles_labels()
        if not is_few:
            others = rows[~rows["model"].isin(named)]
            partial = others.loc[others["worst_n"] < others["worst_planned"], "model"].nunique()
            handles.append(Line2D([], [], color=FAINT, linewidth=0.7))
            names.append(
                f"{others['model'].nunique()} more, in the colours of their families" + (f" ({partial} partial)" if partial else "")
            )
        legend_title = None if is_few else "the best of each family by its mean over the radii:"
        look = {"title": legend_title, "title_fontsize": 8, "alignment": "left"}
        axes.legend(handles, names, fontsize=8, frameon=False, loc="upper right", handlelength=3.2, **look)
    return figure


def _curve(part: pd.DataFrame) -> tuple[np.ndarray, list[np.ndarray]]:
    """Return radii, beginning with 0, and accuracy in per cent with the ends of its interval."""
    part = part.sort_values("epsilon")
    # Clean accuracy is the same at every radius, except that a radius may have fewer images: use the one with the most.
    fullest = part.iloc[int(part["clean_n"].to_numpy().argmax())]
    values = [100 * np.array([float(fullest[f"clean{end}"]), *part[f"worst{end}"].astype(float)]) for end in ("", "_low", "_high")]
    return np.array([0.0, *part["epsilon"]]), values


def _named(rows: pd.DataFrame) -> list[str]:
    """Return the models with a name, best clean accuracy first: all if they are few, otherwise the best of each family."""
    by_model = rows.groupby("model").agg(n=("worst_n", "min"), mean=("worst", "mean"), clean=("clean", "max"), family=("family", "first"))
    by_model = by_model.sort_values(["clean"], ascending=False, kind="stable")
    if len(by_model) <= FEW_CURVES:
        return [str(model) for model in by_model.index]
    ranked = by_model.sort_values(["n", "mean"], ascending=False, kind="stable")
    best = ranked[~ranked["family"].fillna("").duplicated()].index
    return [str(model) for model in by_model.index if model in best]

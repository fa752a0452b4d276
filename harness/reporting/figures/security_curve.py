"""Security curves (Biggio and Roli, arXiv 1712.03141): robust accuracy at every radius, from attacks that minimise the distance."""

from __future__ import annotations

from fractions import Fraction

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from harness.reporting.figures import Drawn, Material
from harness.reporting.minimum_norm import distances
from harness.reporting.names import label
from harness.reporting.style import FAINT, SETTINGS, family_style, new_figure
from harness.statistics import wilson_interval
from harness.threats import NORMS
from model_zoo.files import file_name

WIDTH = 7.2
# With more models, only the best of each family by its median distance has a curve, and no curve has a band.
FEW = 6
DASHES = ["-", (0, (4, 1.5)), (0, (1, 1.2)), (0, (5, 1.5, 1, 1.5))]


def figures(material: Material) -> Drawn:
    """Yield one figure per threat model with attacks that minimise the distance."""
    if material.outcomes.empty:
        return
    for keys, group in material.outcomes.groupby(["dataset", "norm", "radius"], sort=True):
        dataset, norm, radius = map(str, keys)
        by_model = {str(model): distances(part) for model, part in group.groupby("model")}
        nearest = {model: sizes.min(axis=1) for model, sizes in by_model.items() if len(sizes)}
        summary = material.summary
        rows = summary[(summary[["dataset", "norm", "radius"]] == list(keys)).all(axis=1) & summary["model"].isin(nearest)]
        if len(rows) >= material.fewest_models:
            attacks = sorted({str(name) for sizes in by_model.values() for name in sizes})
            counts = " or ".join(map(str, sorted({len(values) for values in nearest.values()})))
            title = f"{dataset}, {norm}, n = {counts}; nearest example of {', '.join(attacks)}"
            yield file_name(f"security-curve_{dataset}_{norm.lower()}-{radius}"), security_curve(rows, nearest, title)


def security_curve(rows: pd.DataFrame, nearest: dict[str, pd.Series], title: str) -> Figure:
    """Return a figure of the share of images whose nearest adversarial example is beyond a radius, against the radius.

    Parameters
    ----------
    rows : pandas.DataFrame
        Rows of a summary, all of one threat model, whose radius is marked by a vertical line.
        Of more than six models, the best of each family are shown.
    nearest : dict
        Distance of each image's nearest adversarial example, in units of the [0, 1] range, by model.
    """
    norm = NORMS[str(rows["norm"].iloc[0])]
    unit = norm.unit.denominator
    limit = unit * float(Fraction(str(rows["radius"].iloc[0])))
    finite = np.concatenate([unit * values[np.isfinite(values)] for values in nearest.values()])
    end = max(2 * limit, float(np.quantile(finite, 0.95)) if len(finite) else 0.0)
    figure, axes = new_figure(WIDTH, 4.4, "Robust accuracy against the radius, from one run", title)
    with mpl.rc_context(SETTINGS):
        curves_by_colour: dict[str, int] = {}
        ranked = rows.assign(median=[float(nearest[str(model)].median()) for model in rows["model"]])
        ranked = ranked.sort_values(["median", "model"], ascending=[False, True])
        if len(ranked) > FEW and "family" in ranked:
            ranked = ranked.drop_duplicates("family")
        for _, row in ranked.iterrows():
            sizes = unit * np.sort(nearest[str(row["model"])].to_numpy())
            radii = np.array([0.0, *sizes[(sizes > 0) & (sizes < end)], end])
            counts = len(sizes) - np.searchsorted(sizes, radii, side="right")
            colour, _, family = family_style(row.get("family"))
            number = curves_by_colour[colour] = curves_by_colour.get(colour, -1) + 1
            dash = DASHES[number % len(DASHES)]
            name = f"{family}: {label(row, rows)}"
            axes.step(radii, 100 * counts / len(sizes), where="post", color=colour, linestyle=dash, linewidth=1.6, label=name)
            if len(rows) <= FEW:
                low, high = 100 * np.array([wilson_interval(int(count), len(sizes)) for count in counts]).T
                axes.fill_between(radii, low, high, step="post", color=colour, alpha=0.1, linewidth=0)
        axes.axvline(limit, color=FAINT, linewidth=0.9, linestyle=":")
        axes.set_xlim(0, end)
        axes.set_ylim(0, 100)
        axes.set_xlabel(f"{norm.name} radius, in 1/255" if unit == 255 else f"{norm.name} radius")
        axes.set_ylabel("robust accuracy, per cent")
        axes.legend(fontsize=8, frameon=False, loc="upper right", handlelength=3.2)
    return figure

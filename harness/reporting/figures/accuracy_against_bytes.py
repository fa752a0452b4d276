"""Figure of accuracy against bytes, with the Pareto front."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import matplotlib as mpl
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

from harness.reporting.figures import Drawn, Material
from harness.reporting.labels import place_labels
from harness.reporting.names import label, may_lead, short
from harness.reporting.pareto import pareto_front
from harness.reporting.style import FAINT, SETTINGS, darker, family_style, legend_below, new_figure

WIDTH = 7.2
# With more models than this, only the front and the best of each family have a name and an interval.
NAMED = 12


def figures(material: Material) -> Drawn:
    """Yield one figure per threat model."""
    for part in material.threat_models:
        yield f"accuracy-bytes_{part.name}", accuracy_against_bytes(part.rows, part.title)


def accuracy_against_bytes(
    group: pd.DataFrame, subtitle: str, quantity: str = "robust accuracy", superlative: str = "Most robust"
) -> Figure:
    """Draw worst-case robust accuracy against the bytes of the packed file, with the Pareto front and the most robust model as title.

    Models on the front and the best of each family have a name and a 95 % interval; of more than `NAMED` models, the others are small
    marks. Models with fewer images than others, near-constant and masked ones are not part of the front.

    Parameters
    ----------
    group : pandas.DataFrame
        Summary of one threat model; models without a size or without a worst case are left out. A label says if its numbers are partial.
    quantity, superlative : str
        Name of the accuracy in the columns `worst`, and what the model with the highest one is called.
    """
    rows = group.dropna(subset=["bytes", "worst"]).sort_values(["bytes", "model"]).reset_index(drop=True)
    front = _front(rows)
    is_named = pd.Series(True, index=rows.index) if len(rows) <= NAMED else _is_front(rows, front) | _is_best(rows)
    named = rows[is_named]
    figure, axes = new_figure(WIDTH, 4.2 + 0.1 * max(len(named) - 8, 0), _message(rows, group, quantity, superlative), subtitle)
    solid: list[tuple[float, float, float, float]] = []
    anchors: list[tuple[float, float]] = []
    with mpl.rc_context(SETTINGS):
        for _, row in rows[~is_named].iterrows():
            colour, marker, _ = family_style(row["family"])
            size, worst = float(row["bytes"]), 100 * float(row["worst"])
            axes.plot(size, worst, marker=marker, color=colour, alpha=0.45, markersize=4, markeredgewidth=0, linestyle="none", zorder=2)
            solid.append((size, worst, size, worst))
        for _, row in named.iterrows():
            colour, marker, _ = family_style(row["family"])
            size, worst, low, high = (float(row["bytes"]), *(100 * float(row[field]) for field in ("worst", "worst_low", "worst_high")))
            axes.errorbar(size, worst, yerr=[[worst - low], [high - worst]], color=colour, fmt="none", capsize=3, linewidth=1.1, zorder=3)
            axes.plot(size, worst, marker=marker, color=colour, markersize=8, markeredgecolor="white", markeredgewidth=0.8, zorder=5)
            anchors.append((size, worst))
        # The columns of named models come first: `place_labels` pairs them with the anchors.
        columns = [
            (float(row["bytes"]), 100 * row["worst_low"], float(row["bytes"]), 100 * row["worst_high"]) for _, row in named.iterrows()
        ]
        axes.set_xscale("log")
        _byte_axis(axes, rows["bytes"])
        _accuracy_limit(axes, named)
        # From the last model of the front to the edge, because no larger model is better.
        corners = [*front, *((axes.get_xlim()[1], accuracy) for _, accuracy in front[-1:])]
        soft = [(x, y, next_x, y) for (x, y), (next_x, _) in pairwise(corners)]
        if front:
            axes.step(*zip(*corners, strict=True), where="post", color=FAINT, linewidth=1.1, zorder=1)
        axes.set_xlabel("packed checkpoint (log scale)")
        axes.set_ylabel(f"{quantity}, per cent")
        legend_below(figure, _legend(rows, bool(front)))
        texts = [(label(row, group), darker(family_style(row["family"])[0])) for _, row in named.iterrows()]
        place_labels(axes, texts, anchors, [*columns, *solid], soft)
    return figure


def _message(rows: pd.DataFrame, group: pd.DataFrame, quantity: str, superlative: str) -> str:
    """Return the most robust model whose number is not in doubt, with its accuracy and size."""
    candidates = _front_candidates(rows)
    if candidates.empty:
        return f"{quantity[:1].upper()}{quantity[1:]} against the bytes that are stored"
    best = candidates.sort_values(["worst", "bytes"], ascending=[False, True]).iloc[0]
    suffix = "" if best["headline"] == "worst case" else f" {best['headline']}"
    name = short(str(best["model"]), group["model"])
    return f"{superlative}{suffix}: {name}, {100 * best['worst']:.1f} % in {_size(float(best['bytes']))}"


def _front_candidates(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the models with the most images whose accuracy is not in doubt."""
    most_images = int(rows["worst_n"].max()) if len(rows) else 0
    return rows[[may_lead(row, most_images) for _, row in rows.iterrows()]]


def _is_front(rows: pd.DataFrame, front: Sequence[tuple[float, float]]) -> pd.Series:
    corners = set(front)
    points = zip(rows["bytes"].astype(float), 100 * rows["worst"].astype(float), strict=True)
    return pd.Series([point in corners for point in points], index=rows.index)


def _is_best(rows: pd.DataFrame) -> pd.Series:
    """Return whether a model is the most robust of its family; of equals, the smallest."""
    best = _front_candidates(rows).sort_values(["worst", "bytes"], ascending=[False, True]).drop_duplicates("family")
    return rows["model"].isin(best["model"])


def _front(rows: pd.DataFrame) -> list[tuple[float, float]]:
    """Return the corners of the Pareto front: bytes, and accuracy in per cent."""
    candidates = _front_candidates(rows)
    sizes, worst = candidates["bytes"].astype(float).tolist(), candidates["worst"].astype(float).tolist()
    return [(sizes[row], 100 * worst[row]) for row in pareto_front(sizes, worst)]


def _legend(rows: pd.DataFrame, has_front: bool) -> list[Line2D]:
    styles = dict.fromkeys(family_style(family) for family in rows["family"])
    handles = [Line2D([], [], color=colour, marker=marker, linestyle="none", markersize=7, label=name) for colour, marker, name in styles]
    return handles + ([Line2D([], [], color=FAINT, label="Pareto front")] if has_front else [])


def _size(value: float) -> str:
    """Return bytes as text for axes and titles: "9.4 KiB"."""
    number, unit = (value / 2**20, "MiB") if value >= 2**20 else (value / 2**10, "KiB")
    return f"{number:.2g} {unit}" if number < 100 else f"{number:.0f} {unit}"


def _byte_axis(axes: Axes, sizes: pd.Series) -> None:
    low, high = (float(sizes.min()), float(sizes.max())) if len(sizes) else (1024.0, 2.0**20)
    axes.set_xlim(low / 1.8, high * 2.8)
    axes.xaxis.set_major_locator(LogLocator(base=2, numticks=12))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _size(value)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_minor_formatter(NullFormatter())


def _accuracy_limit(axes: Axes, rows: pd.DataFrame) -> None:
    axes.set_ylim(0, max(20.0, 112 * float(rows["worst_high"].to_numpy(float).max(initial=0.0))))

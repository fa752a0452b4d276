"""Figure of robust accuracy against sparsity: one series of pruned models, and dense models for comparison."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullFormatter, NullLocator
from matplotlib.transforms import ScaledTranslation

from harness.reporting.ablations import VARIED
from harness.reporting.figures import Drawn, Material
from harness.reporting.labels import place_labels
from harness.reporting.names import short, warning
from harness.reporting.style import FAINT, INK, SETTINGS, darker, family_style, legend_below, new_figure

WIDTH, HEIGHT = 7.2, 4.4
# Fields in which all models of a series agree; they differ in keep ratio alone.
SHARED = ["setting", *(field for field in VARIED if field != "keep_ratio")]
LABEL = 7.8
# Distance, in points, between two labels at the edge, and between two dense models.
LINE, STEP = 10.5, 7.0


def figures(material: Material) -> Drawn:
    """Yield one figure per threat model that a series of pruned models met."""
    for part in material.threat_models:
        if len(series(part.rows)):
            yield f"accuracy-sparsity_{part.name}", accuracy_against_sparsity(part.rows, part.title)


def series(group: pd.DataFrame) -> pd.DataFrame:
    """Return the largest series of pruned models of one threat model that differ in keep ratio alone, keep ratios falling.

    Of equally large series, the one with the lowest seed is taken, then the one with the first id. Models without a worst case do not
    count. Empty if no two models make a series.
    """
    if not {"keep_ratio", "worst", *SHARED} <= set(group):
        return group.iloc[:0]
    pruned = group.dropna(subset=["setting", "keep_ratio", "worst"])
    parts = [part.sort_values(["keep_ratio", "model"], ascending=[False, True]) for _, part in pruned.groupby(SHARED, sort=False)]
    candidates = [part for part in parts if len(part) > 1]
    if not candidates:
        return pruned.iloc[:0]
    return min(candidates, key=lambda part: (-len(part), part["seed"].iloc[0], part["model"].min()))


def following(group: pd.DataFrame, line: pd.DataFrame) -> pd.DataFrame:
    """Return the largest series of pruned models of `line`'s architecture whose allocation power p changes with their keep ratio, falling.

    A series has one setting, one model per keep ratio, at least two powers, and at least three models that are not in `line`. Empty if
    there is no such series.
    """
    shared_fields = [field for field in SHARED if field != "allocation_power"]
    if not {"keep_ratio", "worst", "allocation_power", *shared_fields} <= set(group):
        return group.iloc[:0]
    pruned = group.dropna(subset=["setting", "keep_ratio", "worst"])
    pruned = pruned[~pruned["model"].isin(line["model"])]
    if "architecture" in pruned:
        pruned = pruned[pruned["architecture"] == line["architecture"].iloc[0]]
    parts = [
        part
        for _, part in pruned.groupby(shared_fields, sort=True)
        if part["keep_ratio"].is_unique and part["allocation_power"].nunique() > 1
    ]
    parts = [part for part in parts if len(part) > 2]
    return max(parts, key=len).sort_values("keep_ratio", ascending=False) if parts else pruned.iloc[:0]


def accuracy_against_sparsity(group: pd.DataFrame, title: str) -> Figure:
    """Return a figure of the worst-case and clean accuracy of the largest series of pruned models against their keep ratio, on a log axis.

    `group` is a summary of one threat model with the columns of `harness.reporting.traits.with_traits` and a `series`. Intervals are 95 %
    Wilson intervals. A series whose p follows the keep ratio is drawn as a second line, with its p at every point. Models that differ from
    a model of the series in the seed alone are faint dots. Dense models of the same architecture, trained on the same data for the same
    threat model, are drawn at the right edge, with a line across at their worst case.
    """
    line = series(group)
    seeds, dense, power_series = _other_seeds(group, line), _dense_models(group, line), following(group, line)
    figure, axes = new_figure(WIDTH, HEIGHT, "Robust accuracy against sparsity", f"{title}; pruned models: {_shared_settings(line)}")
    colour, marker, name = family_style(line["family"].iloc[0])
    kept = 100 * line["keep_ratio"].astype(float)
    with mpl.rc_context(SETTINGS):
        axes.set_xscale("log")
        look: dict[str, Any] = {"color": colour, "marker": marker, "zorder": 4}
        _draw_series(axes, kept, line, "clean", linestyle=(0, (4, 2)), markerfacecolor="white", markersize=5.5, linewidth=1.1, **look)
        _draw_series(axes, kept, line, "worst", linestyle="-", markersize=7, linewidth=1.8, **look)
        if len(power_series):
            _draw_series(axes, 100 * power_series["keep_ratio"].astype(float), power_series, "worst", markersize=6, linewidth=1.4, **OTHER)
        axes.plot(100 * seeds["keep_ratio"].astype(float), 100 * seeds["worst"].astype(float), **DOT)
        ratios = sorted({float(value) for value in pd.concat([kept, 100 * power_series["keep_ratio"].astype(float)])})
        axes.set_xlim(ratios[0] / 1.35, 150)
        _keep_axis(axes, ratios, bool(len(dense)))
        top = pd.concat([line, dense, power_series])[["clean_high", "worst_high"]].to_numpy(float).max()
        axes.set_ylim(0, max(10.0, 106 * float(top)))
        axes.set_ylabel("accuracy, per cent")
        for index, (_, row) in enumerate(dense.iterrows()):
            _draw_dense_model(figure, axes, row, (index - (len(dense) - 1) / 2) * STEP, bool(row["small"]))
        dashed: dict[str, Any] = {"linestyle": (0, (4, 2)), "markersize": 5.5, "markerfacecolor": "white"}
        handles = [
            Line2D([], [], color=colour, marker=marker, markersize=7, linewidth=1.8, label=f"{name}, worst case"),
            Line2D([], [], color=colour, marker=marker, label="its clean accuracy", **dashed),
        ]
        if len(power_series):
            handles.append(
                Line2D(
                    [],
                    [],
                    markersize=6,
                    linewidth=1.4,
                    label=f"p follows the keep ratio{_epochs_note(power_series, line)}, worst case",
                    **OTHER,
                )
            )
        handles += [Line2D([], [], **DOT, label="other seeds, worst case")] if len(seeds) else []
        if len(dense):
            hollow: dict[str, Any] = {"marker": "s", "markersize": 4.5, "markerfacecolor": "white", "linestyle": "none"}
            handles.append(Line2D([], [], color=INK, label="clean accuracy of dense models", **hollow))
        legend_below(figure, handles, handlelength=3.0)
        _write_edge_labels(figure, axes, dense, group)
        _write_warnings(axes, line, group, kept, darker(colour))
        _write_powers(axes, power_series)
    return figure


def _epochs_note(power_series: pd.DataFrame, line: pd.DataFrame) -> str:
    """Return how long the two series were trained, if that differs."""
    epoch_counts = [part["epochs"].iloc[0] if "epochs" in part else None for part in (power_series, line)]
    return (
        ""
        if any(pd.isna(epochs) for epochs in epoch_counts) or epoch_counts[0] == epoch_counts[1]
        else f" ({epoch_counts[0]:g} epochs, not {epoch_counts[1]:g})"
    )


def _write_powers(axes: Axes, power_series: pd.DataFrame) -> None:
    """Write the allocation power at every point of a series in which it varies."""
    for _, row in power_series.iterrows():
        point = (100 * float(row["keep_ratio"]), 100 * float(row["worst_high"]))
        axes.annotate(f"p = {row['allocation_power']:g}", point, (0, 3), textcoords="offset points", fontsize=LABEL, color=INK, ha="center")


OTHER: dict[str, Any] = {"color": INK, "marker": "D", "linestyle": "-", "zorder": 3}
DOT: dict[str, Any] = {"color": FAINT, "marker": "o", "markersize": 3.5, "linestyle": "none", "zorder": 5}


def _draw_series(axes: Axes, x: pd.Series, rows: pd.DataFrame, field: str, **look: Any) -> None:
    value, low, high = (100 * rows[f"{field}{end}"].astype(float) for end in ("", "_low", "_high"))
    axes.errorbar(x, value, yerr=[value - low, high - value], capsize=3, elinewidth=1.0, **look)


def _other_seeds(group: pd.DataFrame, line: pd.DataFrame) -> pd.DataFrame:
    others = group.dropna(subset=["setting", "worst"])
    others = others[~others["model"].isin(line["model"])]
    shared_fields = [field for field in SHARED if field != "seed"]
    return others.merge(line[[*shared_fields, "keep_ratio"]], on=[*shared_fields, "keep_ratio"]).sort_values("model")


def _dense_models(group: pd.DataFrame, line: pd.DataFrame) -> pd.DataFrame:
    """Return the models that are not pruned and were trained for the same task in the same way, best first.

    `small` is true for models with at most half the weights of another model of the family.
    """
    task = [name for name in ("architecture", "trained_on", "trained_for", "training") if name in group]
    rows = group[group["keep_ratio"].isna() & group["worst"].notna() & (group[task] == line[task].iloc[0]).all(axis=1)]
    weights = rows["parameters"].astype(float) if "parameters" in rows else pd.Series(float("nan"), rows.index)
    small = weights * 2 <= weights.groupby(rows["family"]).transform("max")
    return rows.assign(small=small, weights=weights).sort_values(["worst", "clean", "model"], ascending=[False, False, True])


def _draw_dense_model(figure: Figure, axes: Axes, row: pd.Series, offset: float, is_small: bool) -> None:
    colour, marker, _ = family_style(row["family"])
    worst, low, high, clean = (100 * float(row[field]) for field in ("worst", "worst_low", "worst_high", "clean"))
    transform = axes.transData + ScaledTranslation(offset / 72, 0, figure.dpi_scale_trans)
    axes.axhline(worst, color=colour, linewidth=0.9, linestyle=(0, (2, 2)) if is_small else "-", zorder=1)
    size = 4.5 if is_small else 6.5
    axes.errorbar(
        100,
        worst,
        yerr=[[worst - low], [high - worst]],
        fmt=marker,
        color=colour,
        markersize=size,
        elinewidth=1.0,
        capsize=2,
        transform=transform,
    )
    axes.plot(100, clean, marker=marker, color=colour, markerfacecolor="white", markersize=size - 1, transform=transform)


def _keep_axis(axes: Axes, kept: Sequence[float], has_dense: bool) -> None:
    """Set a tick at every keep ratio that has room, with the sparsity under it."""
    room = 0.05 * (len(f"{min(kept):g}") + 1)
    ticks: list[float] = [100.0] if has_dense else []
    for value in sorted(kept, reverse=True):
        if all(abs(math.log10(value / tick)) > room for tick in ticks):
            ticks.append(value)
    axes.set_xticks(ticks, [f"{value:g}\n({100 - value:g})" for value in ticks])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("kept, per cent of weights, log scale (in brackets: sparsity = 100 − kept)")


def _write_edge_labels(figure: Figure, axes: Axes, dense: pd.DataFrame, group: pd.DataFrame) -> None:
    """Write the dense models' names at the right edge, at the height of their lines or as near as possible without collisions."""
    if dense.empty:
        return
    figure.draw_without_rendering()
    height = axes.get_window_extent().height / figure.dpi * 72
    centres = [100 * float(worst) / axes.get_ylim()[1] * height for worst in dense["worst"]]
    names = [_dense_name(row) for _, row in dense.iterrows()]
    # Models that would have the same name are called by their short ids.
    names = [
        short(row["model"], group["model"]) if names.count(name) > 1 else name
        for name, (_, row) in zip(names, dense.iterrows(), strict=True)
    ]
    warnings = [warning(row, group) for _, row in dense.iterrows()]
    texts = [name + (f"\n({text})" if text else "") for name, text in zip(names, warnings, strict=True)]
    positions = _apart(centres, [LINE * (1 + text.count("\n")) for text in texts])
    for (_, row), text, centre, position in zip(dense.iterrows(), texts, centres, positions, strict=True):
        colour = darker(family_style(row["family"])[0])
        axes.annotate(
            text,
            (1.0, centre / height),
            (16, position - centre),
            xycoords="axes fraction",
            textcoords="offset points",
            fontsize=LABEL,
            color=colour,
            va="center",
            linespacing=1.0,
            annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": colour, "linewidth": 0.7, "shrinkA": 1, "shrinkB": 0, "relpos": (0, 0.5)},
        )


def _apart(centres: Sequence[float], heights: Sequence[float]) -> list[float]:
    """Return new centres near `centres` (falling) at which texts of these heights do not touch; adjacent texts share their displacement."""
    # A group: its members, and the sum of the centres that each member wants for the first one.
    groups: list[tuple[list[int], float]] = []
    offsets = [0.0] * len(centres)
    for index, centre in enumerate(centres):
        group = ([index], centre)
        offsets[index] = 0.0
        while groups:
            previous = groups[-1]
            last = previous[0][-1]
            bottom = previous[1] / len(previous[0]) - offsets[last]
            gap = (heights[last] + heights[group[0][0]]) / 2
            if bottom - group[1] / len(group[0]) >= gap:
                break
            shift = offsets[last] + gap
            for member in group[0]:
                offsets[member] += shift
            group = (previous[0] + group[0], previous[1] + group[1] + shift * len(group[0]))
            groups.pop()
        groups.append(group)
    positions = [0.0] * len(centres)
    for members, total in groups:
        for member in members:
            positions[member] = total / len(members) - offsets[member]
    return positions


def _dense_name(row: pd.Series) -> str:
    name = ("small " if row["small"] else "") + family_style(row["family"])[2]
    return name + (f" ({row['weights'] / 1000:,.0f}k weights)" if pd.notna(row["weights"]) else "")


def _shared_settings(line: pd.DataFrame) -> str:
    """Return the settings that all models of the series share."""
    row = line.iloc[0]
    return f"p = {row['allocation_power']:g}, last batch norm {row['last_batch_norm']}, {row['weight_init']} weights, seed {row['seed']:g}"


def _write_warnings(axes: Axes, line: pd.DataFrame, group: pd.DataFrame, kept: pd.Series, colour: Any) -> None:
    """Write the warnings about models next to their points."""
    values = (100 * line[["worst", "worst_low", "worst_high", "clean_low", "clean_high"]].astype(float)).to_numpy()
    warnings = [warning(row, group) for _, row in line.iterrows()]
    warned = [index for index, text in enumerate(warnings) if text]
    x = list(kept)
    # Points with a warning come first, because `place_labels` assigns the first columns to the labels.
    order = [*warned, *(index for index in range(len(x)) if index not in warned)]
    columns = [(x[index], values[index, 1], x[index], values[index, 2]) for index in order]
    columns += [(x[index], values[index, 3], x[index], values[index, 4]) for index in order]
    place_labels(axes, [(warnings[index], colour) for index in warned], [(x[index], values[index, 0]) for index in warned], columns)

"""The worst case by component: how many images each component of each attack broke, in the order in which the attacks run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from harness.attacks import spec
from harness.evaluation.counts import GROUP, WORST, by_image
from harness.reporting.cells import Cell
from harness.reporting.frames import CELLS, attacks_of, groups_of

# Prefix of the columns that contain shares of images.
BY = "by "
CLEAN, SEEN, LEFT = "clean errors", "seen, not returned", "left"


def components(outcomes: pd.DataFrame, summary: pd.DataFrame, attacks: Sequence[str] | None = None) -> pd.DataFrame:
    """Return one row per model of a summary that has a worst case; the shares of a row add up to 1.

    An image counts for the first attack, in the summary's order, that broke it, and within that attack for the component whose example was
    returned. It counts for "seen, not returned" if no attack returned an adversarial example, but one of the recorded queries was
    misclassified.

    Parameters
    ----------
    outcomes, summary : pandas.DataFrame
        The input and the result of `harness.reporting.frames.summary`.
    attacks : sequence of str, optional
        Count only these attacks, on the images that all attacks met; by default all attacks of each threat model.

    Returns
    -------
    pandas.DataFrame
        `dataset, norm, radius, model`, columns of the summary, and "by NAME" columns: fractions of the images that all attacks met. `cells`
        holds the share that is left, with the flags of the worst case.
    """
    rows: list[dict[str, Any]] = []
    for key, part in groups_of(summary):
        names = attacks_of(part)
        group_outcomes = outcomes[(outcomes[GROUP] == list(key)).all(axis=1)]
        seen, broken_by = (by_image(group_outcomes, column) for column in ("robust_to_seen", "broken_by"))
        counted = [name for name in names if attacks is None or name in attacks]
        order = _ordered_labels(group_outcomes, counted)
        for _, row in part[part["worst_n"] > 0].iterrows():
            met_attacks = [name for name in names if row.get(f"{name}_n", 0) > 0]
            if not set(met_attacks) & set(counted):
                continue
            verdict_columns = [name for name in ("verdict", "verdict_reasons") if name in row]
            identity = {name: row[name] for name in ("model", "near_constant", "worst", "worst_n", "worst_planned", *verdict_columns)}
            model = str(row["model"])
            images = seen[model][met_attacks].dropna().index
            row_attacks = [name for name in met_attacks if name in counted]
            shares = _shares(seen[model].loc[images, row_attacks].astype(bool), broken_by[model].loc[images], row_attacks, order)
            cells = {BY + LEFT: Cell("share", shares[BY + LEFT], flags=row[CELLS][WORST].flags)}
            rows.append({**dict(zip(GROUP, key, strict=True)), **identity, CELLS: cells, **shares})
    frame = pd.DataFrame(rows)
    share_columns = [name for name in frame.columns if name.startswith(BY)]
    fixed_columns = [BY + name for name in (CLEAN, SEEN, LEFT)]
    other_columns = [name for name in frame.columns if name not in share_columns]
    return (
        frame[[*other_columns, fixed_columns[0], *(name for name in share_columns if name not in fixed_columns), *fixed_columns[1:]]]
        if rows
        else frame
    )


def _shares(seen: pd.DataFrame, broken_by: pd.DataFrame, names: list[str], order: list[str]) -> dict[str, float]:
    """Return the share of a model's images that each component was the first to break.

    `seen` says whether an image withstood all queries of an attack, and `broken_by` which component broke it; one row per image, one column
    per attack.
    """
    images = seen.index
    # An image that is wrong without an attack is marked "clean" in every column.
    first = pd.Series(LEFT, index=images).where(seen.all(axis=1), SEEN)
    for name in reversed(names):
        broken = broken_by[name].notna()
        first = first.mask(broken, broken_by[name].map(lambda component, name=name: _label(name, component)))
    first = first.mask(broken_by[names[0]] == "clean", CLEAN)
    counts = first.value_counts()
    return {BY + label: float(counts.get(label, 0)) / len(images) for label in (CLEAN, *order, SEEN, LEFT)}


def _ordered_labels(outcomes: pd.DataFrame, names: list[str]) -> list[str]:
    """Return the labels of the components that broke an image, by attack, and within an attack in the order in which they run."""
    labels: dict[str, None] = {}
    for name in names:
        component_names = set(outcomes.loc[outcomes["attack"] == name, "broken_by"].dropna()) - {"clean"}
        run_order = [str(component) for component in spec.get(name).parameters.get("components", ())] if name in spec.names() else []
        for component in sorted(
            component_names, key=lambda component: (run_order.index(component) if component in run_order else len(run_order), component)
        ):
            labels[_label(name, component)] = None
    return list(labels)


def _label(attack: str, component: str | None) -> str:
    """Return a component's displayed name: the name of the attack if that begins with the component's name or no component is known."""
    return attack if not isinstance(component, str) or attack.startswith(component) else component

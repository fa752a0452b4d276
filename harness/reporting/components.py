"""The worst case taken apart: which component of which attack broke how many images, in the order in which the attacks are made."""

from __future__ import annotations

from typing import Any

import pandas as pd

from harness.reporting.frames import GROUP, attacks_of, groups_of

# Prefix of the columns that hold shares of images.
BY = "by "
CLEAN, SEEN, LEFT = "clean errors", "seen, not returned", "left"


def components(outcomes: pd.DataFrame, summary: pd.DataFrame) -> pd.DataFrame:
    """One row for every model of a summary that has a worst case; its shares add up to 1.

    An image counts for the first attack, in the summary's order, that broke it, and there for the component whose example was returned; for
    "seen, not returned" where only a query was misclassified that the meter saw and no attack gave back.

    Returns
    -------
    pandas.DataFrame
        `dataset, norm, radius, model`, what the summary says of it, and "by NAME" columns: fractions of the images that all attacks met.
    """
    rows: list[dict[str, Any]] = []
    for key, part in groups_of(summary):
        names = attacks_of(part)
        mine = outcomes[(outcomes[GROUP] == list(key)).all(axis=1)]
        for _, row in part[part["worst_n"] > 0].iterrows():
            met = [name for name in names if pd.notna(row.get(f"{name}_n"))]
            kept = [name for name in ("verdict", "verdict_reasons") if name in row]
            described = {name: row[name] for name in ("model", "near_constant", "worst", "worst_n", "worst_planned", *kept)}
            shares = _shares(mine[mine["model"] == row["model"]], met)
            rows.append({**dict(zip(GROUP, key, strict=True)), **described, **shares})
    frame = pd.DataFrame(rows)
    found = [name for name in frame.columns if name.startswith(BY)]
    ends = [BY + name for name in (CLEAN, SEEN, LEFT)]
    said = [name for name in frame.columns if name not in found]
    return frame[[*said, ends[0], *(name for name in found if name not in ends), *ends[1:]]] if rows else frame


def _shares(outcomes: pd.DataFrame, names: list[str]) -> dict[str, float]:
    """Of one model: the share of images that each component was the first to break."""
    by_image = {column: outcomes.pivot(index="image", columns="attack", values=column)[names] for column in ("robust_to_seen", "broken_by")}
    met = by_image["robust_to_seen"].dropna().index
    seen = by_image["robust_to_seen"].loc[met].astype(bool)
    by = by_image["broken_by"].loc[met]
    # An image wrong without an attack is wrong in every column.
    first = pd.Series(LEFT, index=met).where(seen.all(axis=1), SEEN)
    for name in reversed(names):
        broken = by[name].notna()
        first = first.mask(broken, by[name].map(lambda component, name=name: _label(name, component)))
    first = first.mask(by[names[0]] == "clean", CLEAN)
    order = [CLEAN, *_in_order(outcomes, names), SEEN, LEFT]
    counts = first.value_counts()
    return {BY + label: float(counts.get(label, 0)) / len(met) for label in order}


def _in_order(outcomes: pd.DataFrame, names: list[str]) -> list[str]:
    """Labels of components, attack by attack; inside an attack as they came up, which is in order of images."""
    found: dict[str, None] = {}
    for name in names:
        for component in outcomes.loc[outcomes["attack"] == name, "broken_by"].dropna().unique():
            if component != "clean":
                found[_label(name, component)] = None
    return list(found)


def _label(attack: str, component: str | None) -> str:
    """What a reader calls a component: the attack's own name where it has but one."""
    return attack if not isinstance(component, str) or attack.startswith(component) else component

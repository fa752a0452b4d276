"""How a figure calls a model."""

from __future__ import annotations

from itertools import pairwise

import pandas as pd

SAID = "-pruned-binary-"


def label(row: pd.Series, group: pd.DataFrame, separator: str = " ") -> str:
    """The model's short name among those of a figure, and what a reader has to know before believing its numbers."""
    said = warning(row, group)
    return short(str(row["model"]), group["model"]) + (f"{separator}({said})" if said else "")


def images(group: pd.DataFrame) -> str:
    """How many images the worst cases of a figure are over: "n = 40", or "n = 40 of 1000" where all of them are equally partial."""
    counts = sorted({int(n) for n in group["worst_n"] if n})
    return f"n = {' or '.join(map(str, counts))}" + (f" of {int(group['worst_planned'].iloc[0])}" if _equally_partial(group) else "")


def _equally_partial(group: pd.DataFrame) -> bool:
    """Whether all that has a number has it on equally many images, and not on all: then it is said once."""
    some = group[group["worst_n"] > 0]
    alike = some["worst_n"].nunique() == 1 and group["worst_planned"].nunique() == 1
    return alike and bool((some["worst_n"] < some["worst_planned"]).all())


def warning(row: pd.Series, group: pd.DataFrame) -> str:
    """Whether the numbers of a model are partial, those of a near-constant predictor, or under suspicion; empty where none of it."""
    n, planned = int(row["worst_n"]), int(row["worst_planned"])
    said = [f"partial {n}/{planned}"] * (n < planned and not _equally_partial(group)) + ["near-constant"] * bool(row["near_constant"])
    if "verdict" in row and row["verdict"] != "ok":
        said.append("not diagnosed" if pd.isna(row["verdict"]) else str(row["verdict"]))
    return ", ".join(said)


def short(model: str, models: pd.Series) -> str:
    """The id without the dash-separated beginning that all ids of the figure share, and without what a legend says of most of them.

    The legend says which models are pruned binary; "rn8w32-k10-p01" then means the one whose id has "pruned-binary" in the middle.
    """
    parts = [str(other).split("-") for other in models.unique()]
    shared = 0
    if len(parts) > 1:
        while all(len(other) > shared + 1 for other in parts) and all(a[shared] == b[shared] for a, b in pairwise(parts)):
            shared += 1
    name = "-".join(model.split("-")[shared:])
    shorter = name.replace(SAID, "-")
    return name if any(shorter == "-".join(other[shared:]) for other in parts) else shorter

"""How a figure calls a model."""

from __future__ import annotations

from itertools import pairwise

import pandas as pd


def label(row: pd.Series, models: pd.Series, separator: str = " ") -> str:
    """The model's short name, and what a reader has to know before believing its numbers."""
    said = warning(row)
    return short(str(row["model"]), models) + (f"{separator}({said})" if said else "")


def warning(row: pd.Series) -> str:
    """Whether the numbers of a model are partial, those of a near-constant predictor, or under suspicion; empty where none of it."""
    n, planned = int(row["worst_n"]), int(row["worst_planned"])
    said = [f"partial {n}/{planned}"] * (n < planned) + ["near-constant"] * bool(row["near_constant"])
    if "verdict" in row and row["verdict"] != "ok":
        said.append("not diagnosed" if pd.isna(row["verdict"]) else str(row["verdict"]))
    return ", ".join(said)


def short(model: str, models: pd.Series) -> str:
    """The id without the dash-separated beginning that all ids of the figure share."""
    parts = [str(other).split("-") for other in models.unique()]
    shared = 0
    if len(parts) > 1:
        while all(len(other) > shared + 1 for other in parts) and all(a[shared] == b[shared] for a, b in pairwise(parts)):
            shared += 1
    return "-".join(model.split("-")[shared:])

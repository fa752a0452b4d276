"""Names of models and warnings about them, as figures write them."""

from __future__ import annotations

from itertools import pairwise

import pandas as pd

from harness.evaluation.marks import MASKING

SHORTENED = "-pruned-binary-"


def label(row: pd.Series, group: pd.DataFrame, separator: str = " ") -> str:
    """Return a model's short name among the models of a figure, followed by its `warning` in brackets, if it has one."""
    note = warning(row, group)
    return short(str(row["model"]), group["model"]) + (f"{separator}({note})" if note else "")


def images(group: pd.DataFrame) -> str:
    """Return the number of images behind the worst cases of a figure: "n = 40", or "n = 40 of 1000" if all of them are equally partial."""
    counts = sorted({int(n) for n in group["worst_n"] if n})
    return f"n = {' or '.join(map(str, counts))}" + (f" of {int(group['worst_planned'].iloc[0])}" if _equally_partial(group) else "")


def _equally_partial(group: pd.DataFrame) -> bool:
    """Return whether all models that have a number have it on equally many images, but not on all; a figure then says so once."""
    measured = group[group["worst_n"] > 0]
    is_equal = measured["worst_n"].nunique() == 1 and group["worst_planned"].nunique() == 1
    return is_equal and bool((measured["worst_n"] < measured["worst_planned"]).all())


def is_masked(row: pd.Series) -> bool:
    """Return whether the units behind a row carry a flag that makes robustness doubtful, see `harness.evaluation.marks.MASKING`."""
    return "flags" in row and any(flag in MASKING for flag in str(row["flags"]).split(", "))


def may_lead(row: pd.Series, most_images: int) -> bool:
    """Return whether a model may be on the Pareto front: as many images as any, and nothing known that makes its number meaningless.

    A number is meaningless for a near-constant predictor, with a verdict "masked", and with a flag of `is_masked`.
    """
    return bool(row["worst_n"] == most_images and not row["near_constant"] and not is_masked(row) and row.get("verdict") != "masked")


def warning(row: pd.Series, group: pd.DataFrame) -> str:
    """Return what limits the meaning of a model's numbers: "partial 40/1000", "near-constant", a verdict that is not ok, flags."""
    n, planned = int(row["worst_n"]), int(row["worst_planned"])
    notes = [f"partial {n}/{planned}"] * (n < planned and not _equally_partial(group)) + ["near-constant"] * bool(row["near_constant"])
    if "verdict" in row and row["verdict"] != "ok":
        notes.append("not diagnosed" if pd.isna(row["verdict"]) else str(row["verdict"]))
    if is_masked(row):
        notes.append(str(row["flags"]))
    return ", ".join(notes)


def short(model: str, models: pd.Series) -> str:
    """Return a model's id without the dash-separated beginning that all ids of the figure share, and without "pruned-binary" in the middle.

    The legend says which models are pruned binary, so "rn8w32-k10-p01" is enough for them. "pruned-binary" is kept if the name without it
    would be the name of another model.
    """
    parts = [str(other).split("-") for other in models.unique()]
    shared = 0
    if len(parts) > 1:
        while all(len(other) > shared + 1 for other in parts) and all(a[shared] == b[shared] for a, b in pairwise(parts)):
            shared += 1
    name = "-".join(model.split("-")[shared:])
    shorter = name.replace(SHORTENED, "-")
    return name if any(shorter == "-".join(other[shared:]) for other in parts) else shorter

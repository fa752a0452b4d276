"""Marks of a unit: findings that a reader of its accuracy must know, such as zero gradients or non-finite logits."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import pandas as pd

from harness import attacks
from harness.evaluation import thresholds

# Every mark with its meaning.
MARKS = {
    "zero-gradient": "images have no gradient: gradient attacks cannot move them",
    "saturated": "the cross-entropy has no gradient: attacks that follow it cannot move images",
    "black-box-better": "Square, which uses no gradients, breaks images that gradient attacks do not",
    "decisions-better": "RayS, which sees only decisions, breaks images that other attacks do not",
    "transfer-better": "examples made on other models break images that its own gradients do not",
    "non-finite": "logits are NaN or infinite, which counts as broken",
}
# Marks that make robustness to gradient attacks doubtful.
MASKING = ("zero-gradient", "saturated", "black-box-better", "decisions-better", "transfer-better")


def marks(flags: Iterable[tuple[str, str]], outcomes: pd.DataFrame, attack: str) -> tuple[str, ...]:
    """Return the marks of a unit, in the order of `MARKS`.

    Parameters
    ----------
    flags : iterable of (kind, message)
        Flags of the unit. "zero-gradient" becomes a mark only if its message counts enough images ("3 of 120 images ...").
    outcomes : pandas.DataFrame
        Outcomes of the unit, with the columns `label, clean_prediction, broken_by`.
    attack : str
        Name of the attack. Square alone never gets "black-box-better", because it does not show what gradients would have broken.
    """
    attacked = int((outcomes["clean_prediction"] == outcomes["label"]).sum())
    kinds = {kind for kind, message in flags if kind in MARKS and (kind != "zero-gradient" or _is_many(message, attacked))}
    by_square = int((outcomes["broken_by"] == "square").sum())
    if not _is_square_alone(attack) and is_gain(by_square, attacked):
        kinds.add("black-box-better")
    return tuple(mark for mark in MARKS if mark in kinds)


def union(marked: Iterable[str]) -> tuple[str, ...]:
    """Return the marks of several units, each given as the text of a frame's column `flags` ("zero-gradient, saturated")."""
    names = {mark for text in set(marked) for mark in str(text).split(", ")}
    return tuple(mark for mark in MARKS if mark in names)


def in_words(marked: Sequence[str]) -> str:
    """Return the meanings of marks, joined by semicolons."""
    return "; ".join(MARKS[mark] for mark in marked)


def _is_many(message: str, attacked: int) -> bool:
    """Return whether the count in a message exceeds the allowed share of the images; True if it has no count."""
    match = re.search(r"(\d+)(?: of (\d+))?", message)
    if match is None:
        return True
    return int(match[1]) > thresholds.ZERO_GRADIENT.value * int(match[2] or attacked)


def _is_square_alone(attack: str) -> bool:
    return attack in attacks.names() and set(attacks.get(attack).parameters.get("components", ())) == {"square"}


def is_gain(gained: int, attacked: int) -> bool:
    """Return whether `gained` of `attacked` images, broken only without the model's gradients, are significantly more than is allowed."""
    from scipy.stats import binomtest

    if not gained:
        return False
    p_value = binomtest(gained, max(attacked, gained), thresholds.UNIT_BLACK_BOX_GAIN.value, alternative="greater").pvalue
    return bool(p_value < thresholds.UNIT_SIGNIFICANCE.value)

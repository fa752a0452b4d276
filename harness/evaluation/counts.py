"""From outcomes to counts: the long frame has one row per model, threat model and measure."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import pandas as pd

from harness.evaluation.marks import union
from harness.evaluation.outcomes import near_constant
from model_zoo.errors import UserError

GROUP = ["dataset", "norm", "radius"]
CELL = [*GROUP, "model", "attack"]
# The measures without an attack's name: accuracy without an attack, and pointwise over all attacks.
CLEAN, WORST = "clean", "worst"
COLUMNS = [*GROUP, "model", "measure", "successes", "n", "planned", "flags", "near_constant"]


def long_frame(outcomes: pd.DataFrame, planned: pd.DataFrame) -> pd.DataFrame:
    """Return one row per threat model, model and measure, ordered by data set, norm, radius (as a number) and model.

    Parameters
    ----------
    outcomes : pandas.DataFrame
        The frame of `harness.results`: one row per image, model, threat model and attack.
    planned : pandas.DataFrame
        Planned numbers of images, with the columns of `CELL` and `images`.

    Returns
    -------
    pandas.DataFrame
        `COLUMNS`. `measure` is "clean", the name of an attack that was planned for the model or that it met, or "worst", the pointwise
        worst case over these. `successes` of `n` images are right; `planned` is how many there should be. `flags` are the marks of the
        units behind the number, joined by ", ". `near_constant` is whether the model predicts one class for most images. All rows of a
        model and threat model are over the same images, those that all attacks have met; if there are none, each is over its own.

    Raises
    ------
    UserError
        If there are no outcomes, if outcomes of several protocol versions or of two models with the same id are mixed, or if an image
        occurs twice in a cell.
    """
    refuse_mixtures(outcomes)
    rows: list[dict[str, Any]] = []
    for key, group in sorted(outcomes.groupby(GROUP, sort=False), key=lambda item: group_order(item[0])):
        plan = planned[(planned[GROUP] == list(key)).all(axis=1)]
        robust, robust_to_seen = (by_image(group, column) for column in ("robust", "robust_to_seen"))
        for model, part in group.groupby("model"):
            shared = {**dict(zip(GROUP, key, strict=True)), "model": model}
            rows += [{**shared, **row} for row in _measures(part, robust[str(model)], robust_to_seen[str(model)], plan)]
    return pd.DataFrame(rows, columns=COLUMNS)


def planned_images(outcomes: pd.DataFrame) -> pd.DataFrame:
    """Return a plan derived from the outcomes: every model against every attack of its threat model, on as many images as any cell has."""
    cells = outcomes.groupby(CELL, as_index=False).size()
    largest = cells.groupby(GROUP, as_index=False).agg(images=("size", "max"))
    return cells[[*GROUP, "model"]].drop_duplicates().merge(cells[[*GROUP, "attack"]].drop_duplicates(), on=GROUP).merge(largest, on=GROUP)


def group_order(group: Sequence[Any]) -> tuple[str, str, Fraction]:
    """Return the sort key of a threat model (dataset, norm, radius); an empty radius, which stands for several, comes first."""
    dataset, norm, radius = group
    return str(dataset), str(norm), Fraction(str(radius) or 0)


def robust_images(outcomes: pd.DataFrame, attacks: Sequence[str]) -> pd.Series:
    """Return, by image, whether one model under one threat model withstands all `attacks` and all of their queries that were recorded.

    The result contains only images that all of these attacks have met.
    """
    return _withstood(outcomes.pivot(index="image", columns="attack", values="robust_to_seen"), attacks)


def by_image(group: pd.DataFrame, column: str) -> dict[str, pd.DataFrame]:
    """Return `column` of the outcomes of one threat model, by model: one row per image, one column per attack that the model met."""
    wide = group.pivot(index=["model", "image"], columns="attack", values=column)
    attacks_by_model = {model: list(part) for model, part in group.groupby("model")["attack"].unique().items()}
    return {str(model): part.droplevel("model")[sorted(attacks_by_model[model])] for model, part in wide.groupby(level="model")}


def _withstood(wide: pd.DataFrame, attacks: Sequence[str]) -> pd.Series:
    return wide.reindex(columns=list(attacks)).dropna().astype(bool).all(axis=1)


def _measures(part: pd.DataFrame, robust: pd.DataFrame, robust_to_seen: pd.DataFrame, plan: pd.DataFrame) -> list[dict[str, Any]]:
    planned_by_attack = plan[plan["model"] == part.iloc[0]["model"]].set_index("attack")["images"]
    names = [str(name) for name in dict.fromkeys([*plan["attack"], *robust.columns])]
    model_attacks = [name for name in names if name in robust or name in planned_by_attack]
    met = robust.reindex(columns=model_attacks).dropna().index
    if len(met):
        part, robust, robust_to_seen = part[part["image"].isin(met)], robust.loc[met], robust_to_seen.loc[met]
    clean = part.drop_duplicates("image")
    most_images = int(planned_by_attack.max()) if len(planned_by_attack) else len(clean)
    flags = dict(part.groupby("attack")["flags"].unique()) if "flags" in part else {}
    all_flags = [text for texts in flags.values() for text in texts]
    is_constant = near_constant(clean["clean_prediction"].tolist())

    def row(measure: str, right: pd.Series, planned: int, unit_flags: Sequence[str]) -> dict[str, Any]:
        counts = {"successes": int(right.sum()), "n": len(right), "planned": planned}
        return {"measure": measure, **counts, "flags": ", ".join(union(unit_flags)), "near_constant": is_constant}

    rows = [row(CLEAN, clean["clean_prediction"] == clean["label"], most_images, all_flags)]
    for name in model_attacks:
        right = robust[name].dropna().astype(bool) if name in robust else pd.Series(dtype=bool)
        rows.append(row(name, right, int(planned_by_attack.get(name, len(right))), flags.get(name, ())))
    return [*rows, row(WORST, _withstood(robust_to_seen, model_attacks), most_images, all_flags)]


def refuse_mixtures(outcomes: pd.DataFrame) -> None:
    """Raise a UserError if there are no outcomes, or of several protocols or namesakes, or an image occurs twice in a cell."""
    if outcomes.empty:
        raise UserError("no outcomes to report")
    versions: Sequence[Any] = sorted(outcomes["protocol"].unique())
    if len(versions) > 1:
        raise UserError(f"outcomes of protocols {', '.join(map(str, versions))} cannot share a table: choose one")
    if "model_sha256" in outcomes:
        hashes = outcomes.groupby("model")["model_sha256"].unique()
        for model, digests in hashes[hashes.map(len) > 1].items():
            prefixes = ", ".join(sorted(sha256[:12] for sha256 in digests))
            raise UserError(
                f"outcomes of {len(digests)} models called {model} (model_sha256 {prefixes}): choose one, or give one of them another id"
            )
    is_duplicate = outcomes.duplicated([*CELL, "image"])
    if is_duplicate.any():
        examples = outcomes.loc[is_duplicate, [*CELL, "image"]].drop_duplicates().head(3).to_numpy().tolist()
        cell_names = "; ".join(" · ".join(map(str, cell)) for cell in examples)
        raise UserError(f"{int(is_duplicate.sum())} outcomes occur twice (data set, norm, radius, model, attack, image): {cell_names}")

"""From outcomes to numbers: one row per model, one accuracy per attack, with its interval and number of images."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fractions import Fraction
from typing import Any

import pandas as pd

from harness import attacks
from harness.evaluation.marks import union
from harness.evaluation.outcomes import near_constant
from harness.statistics import Proportion
from model_zoo.errors import UserError

GROUP = ["dataset", "norm", "radius"]
CELL = [*GROUP, "model", "attack"]


def summary(
    outcomes: pd.DataFrame, models: pd.DataFrame, expected: pd.DataFrame | None = None, verdicts: pd.DataFrame | None = None
) -> pd.DataFrame:
    """Return one row per threat model and model.

    Parameters
    ----------
    outcomes : pandas.DataFrame
        The frame of `harness.results`: one row per image, model, threat model and attack.
    models : pandas.DataFrame
        The frame of `model_zoo.catalogue.catalogue`, joined by `id`. If it has a boolean column `near_constant`, a model is near-constant
        if that column or its outcomes say so.
    expected : pandas.DataFrame, optional
        Planned numbers of images, with the columns of `CELL` and `images`. A cell with fewer outcomes is partial, and so is a model's worst
        case if one of its cells is. By default every model of a threat model is expected to have all attacks, on the largest number of
        images that any model has.
    verdicts : pandas.DataFrame, optional
        The frame of `harness.runner.diagnoses.diagnosed`: `verdict, verdict_reasons, verdict_images` are added to the rows of the same data
        set and threat model.

    Returns
    -------
    pandas.DataFrame
        `dataset, norm, radius, model`, the columns of `models`, `near_constant`, `flags` (marks of the units, see
        `harness.evaluation.marks`, "" for none), `headline` (the name of the number `worst`, see `headline`), and for `clean`, each attack
        and `worst` the columns NAME (accuracy as a fraction), NAME_low, NAME_high (95 % Wilson), NAME_n, and NAME_planned. The worst case
        is pointwise over the attacks of that threat model; errors on clean images count as broken. All numbers of a row are over the same
        images, those that all attacks have met, so that they can be compared; if there are no such images, each number is over the images
        of its attack. Rows are ordered by data set, norm, radius (as a number) and model.

    Raises
    ------
    UserError
        If there are no outcomes, if outcomes of several protocol versions or of two models with the same id are mixed, or if an image
        occurs twice in a cell.
    """
    _refuse_mixtures(outcomes)
    planned = expected if expected is not None else _as_many_as_there_are(outcomes)
    rows = []
    for key, group in sorted(outcomes.groupby(GROUP, sort=False), key=lambda item: _order(item[0])):
        found = dict(zip(GROUP, key, strict=True))
        plan = planned[(planned[GROUP] == list(key)).all(axis=1)]
        robust, robust_to_seen = (by_image(group, column) for column in ("robust", "robust_to_seen"))
        for model, part in group.groupby("model"):
            rows.append(
                {
                    **found,
                    "model": model,
                    "headline": headline(str(key[1]), list(dict.fromkeys(plan["attack"]))),
                    **_numbers(part, robust[str(model)], robust_to_seen[str(model)], plan),
                }
            )
    described = models.rename(columns={"id": "model", "near_constant": "said_to_be_constant"})
    frame = pd.DataFrame(rows).merge(described, on="model", how="left", validate="many_to_one")
    if "said_to_be_constant" in frame:
        frame["near_constant"] |= frame.pop("said_to_be_constant").eq(True)
    if verdicts is None:
        return frame
    judged = verdicts.rename(columns={"id": "model"})[["model", *GROUP, "verdict", "verdict_reasons", "verdict_images"]]
    return frame.merge(judged, on=["model", *GROUP], how="left", validate="one_to_one")


def headline(norm: str, names: Sequence[str]) -> str:
    """Return the name of a number over these attacks: "worst case", or under L2 without APGD, which leaves fewer images, "after cw-l2"."""
    known = [attacks.get(name) for name in names if name in attacks.names()]
    return "worst case" if norm != "L2" or any(map(attacks.uses_apgd, known)) else f"after {', '.join(names)}"


def whole_headline(called: str, names: Sequence[str]) -> str:
    """Return a headline with the attacks that it is over: "worst case of pgd, cw-linf", "after cw-l2"."""
    return f"{called} of {', '.join(names)}" if called == "worst case" else called


def attacks_of(frame: pd.DataFrame) -> list[str]:
    """Return the names of the attacks that a summary has numbers for, in the order of its columns."""
    names = [str(column).removesuffix("_n") for column in frame.columns if str(column).endswith("_n")]
    return [name for name in names if name not in ("clean", "worst") and bool(frame[f"{name}_n"].notna().any())]


def groups_of(frame: pd.DataFrame) -> Iterable[tuple[tuple[str, str, str], pd.DataFrame]]:
    """Yield each threat model (dataset, norm, radius) of a summary and its rows, without the columns that are empty in all of them."""
    for (dataset, norm, radius), part in sorted(frame.groupby(GROUP, sort=False), key=lambda item: _order(item[0])):
        yield (str(dataset), str(norm), str(radius)), part.dropna(axis="columns", how="all")


def robust_images(outcomes: pd.DataFrame, attacks: Sequence[str]) -> pd.Series:
    """Return, by image, whether one model under one threat model withstands all `attacks` and all of their queries that were recorded.

    The result contains only images that all of these attacks have met.
    """
    return _withstood(outcomes.pivot(index="image", columns="attack", values="robust_to_seen"), attacks)


def by_image(group: pd.DataFrame, column: str) -> dict[str, pd.DataFrame]:
    """Return `column` of the outcomes of one threat model, by model: one row per image, one column per attack that the model met."""
    wide = group.pivot(index=["model", "image"], columns="attack", values=column)
    met = {model: list(part) for model, part in group.groupby("model")["attack"].unique().items()}
    return {str(model): part.droplevel("model")[sorted(met[model])] for model, part in wide.groupby(level="model")}


def _withstood(wide: pd.DataFrame, attacks: Sequence[str]) -> pd.Series:
    return wide.reindex(columns=list(attacks)).dropna().astype(bool).all(axis=1)


def _order(group: Sequence[Any]) -> tuple[str, str, Fraction]:
    dataset, norm, radius = group
    return str(dataset), str(norm), Fraction(str(radius))


def _as_many_as_there_are(outcomes: pd.DataFrame) -> pd.DataFrame:
    """Return a plan derived from the outcomes: every model against every attack of its threat model, on as many images as any cell has."""
    cells = outcomes.groupby(CELL, as_index=False).size()
    most = cells.groupby(GROUP, as_index=False).agg(images=("size", "max"))
    return cells[[*GROUP, "model"]].drop_duplicates().merge(cells[[*GROUP, "attack"]].drop_duplicates(), on=GROUP).merge(most, on=GROUP)


def _numbers(part: pd.DataFrame, robust: pd.DataFrame, robust_to_seen: pd.DataFrame, plan: pd.DataFrame) -> dict[str, Any]:
    mine = plan[plan["model"] == part.iloc[0]["model"]].set_index("attack")["images"]
    names = [str(name) for name in dict.fromkeys([*plan["attack"], *robust.columns])]
    own = [name for name in names if name in robust or name in mine]
    met = robust.reindex(columns=own).dropna().index
    if len(met):
        part, robust, robust_to_seen = part[part["image"].isin(met)], robust.loc[met], robust_to_seen.loc[met]
    clean = part.drop_duplicates("image")
    numbers: dict[str, Any] = {"near_constant": near_constant(clean["clean_prediction"].tolist())}
    numbers["flags"] = ", ".join(union(part["flags"])) if "flags" in part else ""
    most = int(mine.max()) if len(mine) else len(clean)
    numbers |= _cell("clean", clean["clean_prediction"] == clean["label"], most)
    for name in own:
        right = robust[name].dropna().astype(bool) if name in robust else pd.Series(dtype=bool)
        numbers |= _cell(name, right, int(mine.get(name, len(right))))
    return numbers | _cell("worst", _withstood(robust_to_seen, own), most)


def _cell(name: str, right: pd.Series, planned: int) -> dict[str, Any]:
    proportion = Proportion(int(right.sum()), len(right))
    low, high = proportion.interval
    empty = not proportion.n
    return {
        name: None if empty else proportion.value,
        f"{name}_low": None if empty else low,
        f"{name}_high": None if empty else high,
        f"{name}_n": proportion.n,
        f"{name}_planned": planned,
    }


def _refuse_mixtures(outcomes: pd.DataFrame) -> None:
    if outcomes.empty:
        raise UserError("no outcomes to report")
    versions: Sequence[Any] = sorted(outcomes["protocol"].unique())
    if len(versions) > 1:
        raise UserError(f"outcomes of protocols {', '.join(map(str, versions))} never share a table: choose one")
    if "model_sha256" in outcomes:
        hashes = outcomes.groupby("model")["model_sha256"].unique()
        for model, found in hashes[hashes.map(len) > 1].items():
            which = ", ".join(sorted(sha256[:12] for sha256 in found))
            raise UserError(f"outcomes of {len(found)} models called {model} (model_sha256 {which}): choose one, or give one another id")
    twice = outcomes.duplicated([*CELL, "image"])
    if twice.any():
        first = outcomes.loc[twice, [*CELL, "image"]].drop_duplicates().head(3).to_numpy().tolist()
        named = "; ".join(" · ".join(map(str, cell)) for cell in first)
        raise UserError(f"{int(twice.sum())} outcomes stand twice (data set, norm, radius, model, attack, image): {named}")

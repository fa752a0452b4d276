"""Outcomes to numbers: one row a model, one number an attack, its interval and n beside it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fractions import Fraction
from typing import Any

import pandas as pd

from harness.evaluation.outcomes import near_constant
from harness.statistics import Proportion
from model_zoo.errors import UserError

GROUP = ["dataset", "norm", "radius"]
CELL = [*GROUP, "model", "attack"]


def summary(outcomes: pd.DataFrame, models: pd.DataFrame, expected: pd.DataFrame | None = None) -> pd.DataFrame:
    """One row for every model under every threat model.

    Parameters
    ----------
    outcomes : pandas.DataFrame
        As `harness.results` gives them: one row an image, model, threat model and attack.
    models : pandas.DataFrame
        As `model_zoo.catalogue.catalogue` gives them, joined by `id`. A boolean column `near_constant`, where there is one, adds to what
        the outcomes themselves show.
    expected : pandas.DataFrame, optional
        Planned numbers of images: the columns of `CELL` and `images`. A cell with fewer outcomes is partial; so is a model's worst case
        if one of its cells is. Where None, every model of a threat model is held to all attacks and to the largest number of images that
        are there for any model.

    Returns
    -------
    pandas.DataFrame
        `dataset, norm, radius, model`, what `models` says, `near_constant`, and for `clean`, each attack and `worst` the columns NAME
        (accuracy as a fraction), NAME_low, NAME_high (95 % Wilson), NAME_n, and NAME_planned. The worst case is pointwise over the attacks
        of that threat model; errors on clean images count as broken. All numbers of a row are over the same images, those that all attacks
        have met, so that they can be compared; where there are none, each is over its own. Rows are in order of data set, norm, radius
        (as a number) and model.

    Raises
    ------
    UserError
        If there are no outcomes, outcomes of several protocol versions are mixed, or an image occurs twice in a cell.
    """
    _refuse_mixtures(outcomes)
    planned = expected if expected is not None else _as_many_as_there_are(outcomes)
    rows = [
        {**dict(zip(GROUP, key[:3], strict=True)), "model": key[3], **_numbers(part, planned)}
        for key, part in sorted(outcomes.groupby([*GROUP, "model"], sort=False), key=lambda item: (_order(item[0][:3]), item[0][3]))
    ]
    described = models.rename(columns={"id": "model", "near_constant": "said_to_be_constant"})
    frame = pd.DataFrame(rows).merge(described, on="model", how="left", validate="many_to_one")
    if "said_to_be_constant" in frame:
        frame["near_constant"] |= frame.pop("said_to_be_constant").eq(True)
    return frame


def attacks_of(frame: pd.DataFrame) -> list[str]:
    """Names of the attacks that a summary has numbers for, in their order."""
    names = [str(column).removesuffix("_n") for column in frame.columns if str(column).endswith("_n")]
    return [name for name in names if name not in ("clean", "worst") and bool(frame[f"{name}_n"].notna().any())]


def groups_of(frame: pd.DataFrame) -> Iterable[tuple[tuple[str, str, str], pd.DataFrame]]:
    """The threat models of a summary, each with its rows and without the columns of attacks that are not of it."""
    for (dataset, norm, radius), part in sorted(frame.groupby(GROUP, sort=False), key=lambda item: _order(item[0])):
        yield (str(dataset), str(norm), str(radius)), part.dropna(axis="columns", how="all")


def waterfall(outcomes: pd.DataFrame) -> pd.DataFrame:
    """How many images each component broke: `CELL`, `broken_by` (missing for robust images), `images`."""
    return outcomes.groupby([*CELL, "broken_by"], dropna=False, sort=True).size().rename("images").reset_index()


def robust_images(outcomes: pd.DataFrame, attacks: Sequence[str]) -> pd.Series:
    """Of one model under one threat model, by image: whether it withstands all `attacks`, also every query of theirs that the meter saw.

    Only images that all of them have met.
    """
    wide = outcomes.pivot(index="image", columns="attack", values="robust_to_seen").reindex(columns=list(attacks))
    return wide.dropna().astype(bool).all(axis=1)


def _order(group: Sequence[Any]) -> tuple[str, str, Fraction]:
    dataset, norm, radius = group
    return str(dataset), str(norm), Fraction(str(radius))


def _as_many_as_there_are(outcomes: pd.DataFrame) -> pd.DataFrame:
    """A plan read off the outcomes: every model against every attack of its threat model, on as many images as any cell has."""
    cells = outcomes.groupby(CELL, as_index=False).size()
    most = cells.groupby(GROUP, as_index=False).agg(images=("size", "max"))
    return cells[[*GROUP, "model"]].drop_duplicates().merge(cells[[*GROUP, "attack"]].drop_duplicates(), on=GROUP).merge(most, on=GROUP)


def _numbers(part: pd.DataFrame, planned: pd.DataFrame) -> dict[str, Any]:
    group = planned[(planned[GROUP] == part.iloc[0][GROUP].tolist()).all(axis=1)]
    mine = group[group["model"] == part.iloc[0]["model"]].set_index("attack")["images"]
    wide = part.pivot(index="image", columns="attack", values="robust")
    names = [str(name) for name in dict.fromkeys([*group["attack"], *wide.columns])]
    own = [name for name in names if name in wide or name in mine]
    met = wide.reindex(columns=own).dropna().index
    if len(met):
        part, wide = part[part["image"].isin(met)], wide.loc[met]
    clean = part.drop_duplicates("image")
    numbers: dict[str, Any] = {"near_constant": near_constant(clean["clean_prediction"].tolist())}
    most = int(mine.max()) if len(mine) else len(clean)
    numbers |= _cell("clean", clean["clean_prediction"] == clean["label"], most)
    for name in own:
        robust = wide[name].dropna().astype(bool) if name in wide else pd.Series(dtype=bool)
        numbers |= _cell(name, robust, int(mine.get(name, len(robust))))
    return numbers | _cell("worst", robust_images(part, own), most)


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
    twice = outcomes.duplicated([*CELL, "image"])
    if twice.any():
        first = outcomes.loc[twice, [*CELL, "image"]].drop_duplicates().head(3).to_numpy().tolist()
        named = "; ".join(" · ".join(map(str, cell)) for cell in first)
        raise UserError(f"{int(twice.sum())} outcomes stand twice (data set, norm, radius, model, attack, image): {named}")

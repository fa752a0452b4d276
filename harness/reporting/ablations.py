"""Ablations: a base model and the models that differ from it in one field, compared on the same images."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from harness.evaluation.counts import GROUP, WORST, robust_images
from harness.evaluation.verdict import LEVELS
from harness.reporting.cells import Cell
from harness.reporting.frames import CELLS, ENDS, attacks_of, groups_of
from harness.statistics import mcnemar, paired_bootstrap, paired_difference

# Fields that an ablation varies, in the order of the table, and their displayed names.
VARIED = {
    "keep_ratio": "keep ratio",
    "allocation_power": "allocation power p",
    "last_batch_norm": "last batch norm",
    "weight_init": "weight initialisation",
    "seed": "seed",
}


def ablations(outcomes: pd.DataFrame, summary: pd.DataFrame) -> pd.DataFrame:
    """Return, per threat model, the base model, the models that differ from it in one field, and the spread over seeds.

    Parameters
    ----------
    outcomes, summary : pandas.DataFrame
        The input and the result of `harness.reporting.frames.summary`, with the columns of `harness.reporting.traits.with_traits`. The
        result has no rows if these columns are missing or no two models differ in exactly one field.

    Returns
    -------
    pandas.DataFrame
        `dataset, norm, radius, base, varied` (a name of `VARIED`, "base", or "seed" without a model for the spread), `value`, `model`,
        `near_constant`, `bytes` and the numbers of the summary; `difference, difference_low, difference_high` (worst case of the model
        minus that of the base on the `paired_images` that both have, a fraction, with Newcombe's 95 % interval;
        `bootstrap_low, bootstrap_high` are the ends from a paired bootstrap) and `mcnemar_p`. The row of the spread has NAME_min, NAME_max
        and NAME_sd (sample standard deviation) for clean accuracy, each attack and the worst case, over `seeds` models: those of the base
        and its variants by seed that have the most images. `cells` holds the same numbers, as in a summary.
    """
    rows: list[dict[str, Any]] = []
    for key, part in groups_of(summary):
        varied_fields = neighbours(part)
        if varied_fields:
            rows += _rows(dict(zip(GROUP, key, strict=True)), varied_fields, part, outcomes)
    return pd.DataFrame(rows)


def neighbours(part: pd.DataFrame) -> dict[str, str]:
    """Return the base model of one threat model's summary and its neighbours, each with the field in which it differs from the base.

    The base comes first, with the field "base". It is the pruned model with the most neighbours; ties are broken by the lowest seed, then
    by the first id. Neighbours are ordered by field and value, keep ratios and powers from large to small. Empty if no two models are
    neighbours.
    """
    if not {*VARIED, "setting"} <= set(part):
        return {}
    pruned = part.dropna(subset=["setting", "keep_ratio"]).set_index("model", drop=False)
    models = {str(name): {field: row[field] for field in (*VARIED, "setting")} for name, row in pruned.iterrows()}
    differences = {
        name: {
            neighbour: field
            for neighbour, neighbour_traits in models.items()
            if (field := _only_difference(traits, neighbour_traits)) is not None
        }
        for name, traits in models.items()
    }
    if not any(differences.values()):
        return {}
    base = min(models, key=lambda name: (-len(differences[name]), models[name]["seed"], name))
    field_order = list(VARIED)
    ordered = sorted(
        differences[base].items(), key=lambda item: (field_order.index(item[1]), _rank(item[1], models[item[0]][item[1]]), item[0])
    )
    return {base: "base", **dict(ordered)}


def _only_difference(left: Mapping[str, Any], right: Mapping[str, Any]) -> str | None:
    """Return the only field in which two models of one setting differ; None if they differ in no field, in several, or in their setting."""
    differing = [field for field in VARIED if left[field] != right[field]]
    return differing[0] if len(differing) == 1 and left["setting"] == right["setting"] else None


def _rank(field: str, value: Any) -> tuple[float, str]:
    if field == "seed":
        return float(value), ""
    return (-float(value), "") if isinstance(value, (int, float)) else (0.0, str(value))


def _rows(key: dict[str, str], varied_fields: Mapping[str, str], part: pd.DataFrame, outcomes: pd.DataFrame) -> list[dict[str, Any]]:
    names = ["clean", *attacks_of(part), "worst"]
    columns = ["near_constant", "verdict", "verdict_reasons", "bytes", *VARIED, *(f"{name}{end}" for name in names for end in ENDS)]
    by_model = part.set_index("model")
    group_outcomes = outcomes[(outcomes[GROUP] == list(key.values())).all(axis=1)]
    base = next(iter(varied_fields))
    rows = []
    for model, field in varied_fields.items():
        row = by_model.loc[model]
        value = "" if field == "base" else _value(row[field])
        numbers = {name: row[name] for name in columns if name in by_model}
        cells: dict[str, Cell] = dict(row[CELLS])
        difference = _difference(group_outcomes, by_model, model, base) if model != base else {}
        if difference:
            ends, worst = (difference["difference_low"], difference["difference_high"]), cells[WORST]
            flags = (*worst.flags, *by_model.loc[base][CELLS][WORST].flags)
            n = difference["paired_images"]
            cells["difference"] = Cell("difference", difference["difference"], ends, n=n, planned=worst.planned, flags=flags)
        identity = {"base": base, "varied": VARIED.get(field, field), "value": value, "model": model, CELLS: cells}
        rows.append({**key, **identity, **numbers, **difference})
    seeds = [base, *(model for model, field in varied_fields.items() if field == "seed")]
    spread = _spread(by_model.loc[seeds], names)
    if spread:
        verdict = {"verdict": _worst_verdict(by_model.loc[seeds, "verdict"])} if "verdict" in by_model else {}
        spread_identity = {
            "base": base,
            "varied": VARIED["seed"],
            "value": f"spread of {spread['seeds']}",
            "near_constant": False,
            **verdict,
        }
        last_seed_row = max(index for index, row in enumerate(rows) if row["varied"] == VARIED["seed"])
        rows.insert(last_seed_row + 1, {**key, **spread_identity, **spread})
    return rows


def _worst_verdict(verdicts: pd.Series) -> str | None:
    """Return the worst of several verdicts; None if one of the models was never diagnosed."""
    return None if verdicts.isna().any() else max(verdicts, key=LEVELS.index)


def _difference(outcomes: pd.DataFrame, by_model: pd.DataFrame, model: str, base: str) -> dict[str, Any]:
    """Return the paired comparison of two worst cases; empty if they are over different attacks or share no image."""
    attacks = [[name for name in attacks_of(by_model) if bool(by_model[f"{name}_n"].notna()[compared])] for compared in (model, base)]
    if attacks[0] != attacks[1]:
        return {}
    left, right = (robust_images(outcomes[outcomes["model"] == compared], attacks[0]) for compared in (model, base))
    left, right = left.align(right, join="inner")
    if left.empty:
        return {}
    difference, low, high = paired_difference(left.tolist(), right.tolist())
    _, bootstrap_low, bootstrap_high = paired_bootstrap(left.tolist(), right.tolist())
    ends = {"difference": difference, "difference_low": low, "difference_high": high}
    ends |= {"bootstrap_low": bootstrap_low, "bootstrap_high": bootstrap_high}
    return {**ends, "paired_images": len(left), "mcnemar_p": mcnemar(left.tolist(), right.tolist())}


def _spread(rows: pd.DataFrame, names: list[str]) -> dict[str, Any]:
    complete = rows[rows["worst_n"] == rows["worst_n"].max()].dropna(subset=["worst"]) if "worst" in rows else rows.iloc[:0]
    if len(complete) < 2:
        return {}
    spread: dict[str, Any] = {"seeds": len(complete), CELLS: {}}
    for name in names:
        values = complete[name].astype(float) if name in complete else pd.Series(dtype=float)
        if len(values.dropna()) == len(complete):
            low, high, deviation = float(values.min()), float(values.max()), float(values.std())
            spread |= {f"{name}_min": low, f"{name}_max": high, f"{name}_sd": deviation}
            flags = tuple(flag for cells in complete[CELLS] for flag in cells[name].flags)
            spread[CELLS][name] = Cell("spread", deviation, (low, high), flags=flags)
    return spread


def _value(value: Any) -> str:
    return f"{value:g}" if isinstance(value, (int, float)) else str(value)

"""Traits of trained models: the fields that an ablation varies, and one key for all other settings that decide on the weights."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

import pandas as pd

from harness.reporting.ablations import VARIED
from model_zoo import registry
from model_zoo.errors import UserError
from model_zoo.references import parse_recorded
from model_zoo.schema import Record

WEIGHT_INIT, SCORE_SCALE = "binary", 0.01
PUBLISHED_WIDTH = 64


def with_traits(models: pd.DataFrame, references: Mapping[str, str]) -> pd.DataFrame:
    """Return the catalogue with more columns from records and recipes.

    Added are `architecture` (its name), `network` (its name in papers), `training` ("pgd", "fast" or "trades"), `last_batch_norm`,
    `weight_init` (of weights that are never trained), `seed`, `epochs`, `trained_on` (the data set), `trained_for` (the threat model) and
    `setting`. Of all the settings that decide on the weights, two models with the same `setting` can differ only in the fields of
    `harness.reporting.ablations.VARIED`. Values that a record lacks are taken from its recipe, if the recipe ships. For a model that is not
    registered, all of these are missing.

    Parameters
    ----------
    models : pandas.DataFrame
        The result of `model_zoo.catalogue.catalogue`.
    references : mapping
        The argument of that call: model ids, each with the reference that finds the model.
    """
    rows = []
    for name, reference in references.items():
        try:
            rows.append({"id": name, **_traits(parse_recorded(reference).describe())})
        except UserError:
            rows.append({"id": name})
    traits = pd.DataFrame(
        rows,
        columns=[
            "id",
            "architecture",
            "network",
            "training",
            "last_batch_norm",
            "weight_init",
            "seed",
            "epochs",
            "trained_on",
            "trained_for",
            "setting",
        ],
    )
    present = [column for column in traits if column != "id" and column in models]
    return models.drop(columns=present).merge(traits, on="id", how="left", validate="one_to_one")


def _traits(record: Record) -> dict[str, Any]:
    recipe = _recipe(record.recipe) if record.recipe else None
    options = recipe["options"] if recipe else {}
    is_pruned = record.keep_ratio is not None
    weight_init = record.weight_init or options.get("weight_init") or WEIGHT_INIT
    score_scale = options.get("score_scale") or SCORE_SCALE
    threat = record.threat
    settings: dict[str, Any] = {
        "architecture": {name: value for name, value in record.architecture.items() if name != "last_batch_norm"},
        # A shape that is not stated is that of the data set, as in all records before there was the field.
        "data": record.data.model_dump(exclude={"shape"} if record.data.shape is None else None),
        "threat": threat.model_dump(),
        "score_scale": score_scale if is_pruned else None,
        "epochs": record.training.epochs if record.training else None,
        "recipe": recipe and {name: recipe[name] for name in ("data", "attack", "optimiser", "select")},
        "options": {name: value for name, value in options.items() if name not in VARIED and name != "score_scale"},
    }
    # Weight bits are left out because they follow from the initialisation.
    for name in ("method", "affine", "activation_bits", "backward", "selected_on"):
        settings[name] = getattr(record, name)
    return {
        "architecture": record.architecture.get("name"),
        "network": network(record.architecture),
        "training": _training(recipe) if recipe else None,
        "last_batch_norm": record.architecture.get("last_batch_norm"),
        "weight_init": weight_init if is_pruned else None,
        "seed": record.seed,
        "epochs": record.training.epochs if record.training else None,
        "trained_on": record.data.train,
        "trained_for": f"{threat.norm} {threat.radius}",
        "setting": hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode()).hexdigest()[:12],
    }


def network(architecture: Mapping[str, Any]) -> str:
    """Return an architecture's name as papers write it: "ResNet-34" at its published width, "ResNet-8 (width 32)" at another width."""
    match = re.search(r"(small-)?resnet(\d+)(?:-(p\d+))?$", str(architecture["name"]))
    if match is None:
        return str(architecture["name"])
    name = f"{'small ' if match[1] else ''}ResNet-{match[2]}{f' {match[3]}' if match[3] else ''}"
    width, widths = architecture.get("width"), architecture.get("widths")
    if widths is not None:
        return f"{name} (widths {', '.join(map(str, widths))})"
    return name if width in (None, PUBLISHED_WIDTH) else f"{name} (width {width})"


def _training(recipe: Mapping[str, Any]) -> str:
    method = str(recipe["attack"]["method"])
    return "fast" if method in ("stored-step", "n-fgsm") else method


def _recipe(name: str) -> dict[str, Any] | None:
    """Return a recipe with all defaults filled in; None if it does not ship or cannot be read."""
    from model_zoo.training.recipe import Recipe

    try:
        return Recipe.load(registry.package_folder("recipes") / f"{name}.toml").to_dict()
    except UserError:
        return None

"""Tests that every setting in the tables of Liu et al. (2022) is a recipe that trains, can be packed, and computes the same once loaded.

A setting consists of a method, its weights, the allocation of kept weights, the initialisation, the last batch norm, and training at a
radius or on clean images. Architecture, data set and keep ratio are fields of every recipe, so one tiny network represents all of them.
"""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch

from model_zoo.architectures import build_network
from model_zoo.packing.frozen import effective_weights, freeze
from model_zoo.packing.packed import load_packed
from model_zoo.training.outcome import keep
from model_zoo.training.recipe import Recipe
from model_zoo.training.trainer import train
from tests.model_zoo.training.tiny import SAMPLE


class Row(NamedTuple):
    """Columns of the published tables that determine a recipe; `allocation` is the strategy or its power p."""

    method: str
    weights: str = "fp"
    allocation: float | str = "none"
    last_bn: bool = False
    init: str = "binary"
    is_clean: bool = False


LAST_BN = (False, True)
POWERS = (0.0, 0.1, 0.2, 0.5, 0.8, 0.9, 1.0)
PRECISIONS = ("fp", "binary")
ROWS = [
    # Tables 1 to 3 and 8.
    *(Row("ours", "binary", p, last_bn, init) for p in POWERS for last_bn in LAST_BN for init in ("binary", "signed-constant")),
    # Tables 4, 5, 9 and 10.
    *(Row("ours fast", "binary", p, True) for p in (0.1, 1.0)),
    *(Row(method, weights, "none", last_bn) for method in ("AT", "TRADES") for weights in PRECISIONS for last_bn in LAST_BN),
    *(
        Row(method, weights, "dynamic", last_bn)
        for method in ("FlyingBird", "FlyingBird+", "BCS")
        for weights in PRECISIONS
        for last_bn in LAST_BN
    ),
    *(Row("RST", "fp", 1.0, last_bn) for last_bn in LAST_BN),
    *(Row("HYDRA", weights, p, last_bn) for weights in PRECISIONS for p in (0.1, 1.0) for last_bn in LAST_BN),
    *(Row("ATMC", weights, p, last_bn) for weights in PRECISIONS for p in ("global", 0.1, 1.0) for last_bn in LAST_BN),
    # Table 11, and the two initialisations of table 8.
    *(Row("AT", weights, is_clean=True) for weights in PRECISIONS),
    *(Row(method, weights, "dynamic", is_clean=True) for method in ("FlyingBird", "FlyingBird+") for weights in PRECISIONS),
    *(Row("ATMC", weights, p, is_clean=True) for weights in PRECISIONS for p in ("global", 0.1)),
    *(Row("HYDRA", weights, 0.1, is_clean=True) for weights in PRECISIONS),
    *(Row("ours", "binary", 0.1, True, init, is_clean=True) for init in ("binary", "signed-constant")),
    Row("BCS", "fp", "dynamic", is_clean=True),
    Row("RST", "fp", 1.0, is_clean=True),
]
STAGES = {"pretrain_epochs": 1}
LATENT = {"FlyingBird": "flying-bird", "FlyingBird+": "flying-bird-plus", "BCS": "bcs"}
# Names of architectures in the tables, and the architectures they denote.
ARCHITECTURES = {
    "RN18": "cifar-resnet18",
    "RN34": "cifar-resnet34",
    "RN50": "cifar-resnet50",
    "Small RN18": "cifar-small-resnet18-p01",
    "Small RN34": "cifar-small-resnet34-p01",
    "Small RN34-p0.1": "cifar-small-resnet34-p01",
    "Small RN34-p1.0": "cifar-small-resnet34-p1",
    "Small RN50": "cifar-small-resnet50-p01",
}


def family_and_options(row: Row) -> tuple[str, dict[str, Any]]:
    """Return the family and the options of a row for keep ratio 0.1."""
    pruned = {"keep_ratio": 0.1}
    adaptive = {"allocation": "adaptive", "allocation_power": row.allocation}
    allocation = {"allocation": "global"} if row.allocation == "global" else adaptive
    weights = {"weights": "binary" if row.weights == "binary" else "real"}
    if row.method in ("AT", "TRADES"):
        return ("dense" if row.weights == "fp" else "dense-binary"), {}
    if row.method in LATENT:
        return LATENT[row.method], {**pruned, **weights, **({} if row.method == "BCS" else {"every": 1})}
    if row.method == "RST":
        return "rst", pruned
    if row.method == "HYDRA":
        return "hydra", {**pruned, **STAGES, "search_epochs": 1, **allocation, **weights}
    if row.method == "ATMC":
        bits = {"bits": 1 if row.weights == "binary" else 32, "every": 1}
        return "atmc", {**pruned, **STAGES, "admm_epochs": 1, **allocation, **bits}
    scores = {"weight_init": "signed-constant-scaled", "score_scale": 1.0, "score_fan": "all"}
    return "pruned-binary", {**pruned, "allocation_power": row.allocation, **(scores if row.init == "signed-constant" else {})}


def attack_of(row: Row) -> dict[str, Any]:
    """Return the inner attack of a row for CIFAR-10, with one step instead of the paper's ten."""
    if row.is_clean:
        return {"threat": "Linf 0/255", "method": "clean"}
    method = {"TRADES": "trades", "ours fast": "stored-step"}.get(row.method, "pgd")
    return {"threat": "Linf 8/255", "method": method, "steps": 1, "step": "4/255"}


def recipe_of(row: Row) -> Recipe:
    """Return a tiny recipe of a row, with one step per epoch."""
    family, options = family_and_options(row)
    is_affine = family not in ("pruned-binary", "rst")
    last_batch_norm = ("affine" if is_affine else "plain") if row.last_bn else "none"
    architecture = {"name": "cifar-resnet8", "classes": 10, "width": 4, "stem_stride": 2, "normalisation": "cifar10"}
    is_staged = "pretrain_epochs" in options
    return Recipe.from_dict(
        {
            "id": "tiny",
            "title": "tiny",
            "family": family,
            "seed": 0,
            "options": options,
            "architecture": {**architecture, "last_batch_norm": last_batch_norm},
            "data": {"dataset": "cifar10", "hold_out": 2, "images": 10},
            "select": "last" if is_staged else "hold-out",
            "attack": attack_of(row),
            "optimiser": {"kind": "sgd", "learning_rate": 0.05, "momentum": 0.9, "epochs": 3 if is_staged else 2, "batch": 8},
        }
    )


def name_of(row: Row) -> str:
    return "-".join(str(value) for value in row)


@pytest.mark.parametrize("row", ROWS, ids=name_of)
def test_a_published_setting_can_be_trained_and_is_stored_exactly(row: Row, tmp_path: Path) -> None:
    recipe = recipe_of(row)
    result = train(recipe, SAMPLE.images, SAMPLE.labels)
    record = keep(result, recipe, tmp_path)
    # The constants of RST count as full precision in the tables; they are stored as signs.
    assert record.weight_bits == (32 if row.weights == "fp" and row.method != "RST" else 1)
    loaded = load_packed(tmp_path / record.checkpoint.file).model
    probe = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    frozen = freeze(result.model, recipe.architecture, record.affine)
    with torch.no_grad():
        assert torch.equal(loaded(probe), frozen(probe))
    weights = effective_weights(loaded)
    if record.weight_bits == 1:
        assert all(len(np.unique(np.abs(weight[weight != 0]))) <= 1 for weight in weights)
    if row.allocation != "none":
        assert record.keep_ratio is not None and 0.05 < record.keep_ratio < 0.15
    if row.is_clean:
        # Held-out images are not attacked at radius 0, so the epoch with the best clean accuracy is selected.
        assert all(epoch.hold_out_pgd_accuracy == epoch.hold_out_clean_accuracy for epoch in result.curve)
    if isinstance(row.allocation, float) and row.method != "RST":
        assert record.allocation_power == row.allocation


@pytest.mark.parametrize("name", sorted(set(ARCHITECTURES.values())))
def test_architectures_of_the_tables_exist_for_every_last_batch_norm(name: str) -> None:
    with torch.device("meta"):
        for last_batch_norm in ("none", "plain", "affine"):
            build_network({"name": name, "classes": 10, "last_batch_norm": last_batch_norm})


def test_rows_are_distinct() -> None:
    assert len(set(ROWS)) == len(ROWS) == 88

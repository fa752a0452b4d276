"""Records of a few pruned and dense models, with outcomes whose numbers can be verified by hand."""

from typing import Any

import pandas as pd

from tests.harness.reporting.conftest import rows

PRUNED: dict[str, Any] = {
    "family": "pruned-binary",
    "weight_bits": 1,
    "keep_ratio": 0.1,
    "allocation_power": 0.1,
    "last_batch_norm": "plain",
    "weight_init": "binary",
    "seed": 0,
    "bytes": 24_000,
    "parameters": 300_000,
    "setting": "pruned",
}
TASK = {"architecture": "cifar-resnet8", "trained_on": "cifar10", "trained_for": "Linf 8/255", "near_constant": False}


def pruned(name: str, **changes: Any) -> dict[str, Any]:
    return {"id": name, **PRUNED, **TASK, **changes}


def dense(name: str, family: str, weights: int, **changes: Any) -> dict[str, Any]:
    return {
        "id": name,
        "family": family,
        "weight_bits": 32,
        "seed": 0,
        "parameters": weights,
        "bytes": weights,
        "setting": name,
        **TASK,
        **changes,
    }


def ablated() -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return outcomes on 40 images, and models.

    The models are a base, its nine neighbours, one that differs in two traits, one of another setting, and four dense ones.
    """
    models = [
        (pruned("k10"), 16),
        (pruned("k50", keep_ratio=0.5, bytes=45_000), 17),
        (pruned("k20", keep_ratio=0.2, bytes=33_000), 17),
        (pruned("k01", keep_ratio=0.01, bytes=8_000), 6),
        (pruned("p0", allocation_power=0.0, bytes=23_800), 14),
        (pruned("p1", allocation_power=1.0, bytes=24_700), 15),
        (pruned("no-lbn", last_batch_norm="none", bytes=23_900), 12),
        (pruned("kaiming", weight_init="kaiming-normal", weight_bits=32, bytes=140_000), 16),
        (pruned("seed2", seed=2, bytes=24_010), 18),
        (pruned("seed1", seed=1, bytes=24_020), 14),
        (pruned("k20-p1", keep_ratio=0.2, allocation_power=1.0, bytes=33_500), 15),
        (pruned("longer", keep_ratio=0.2, setting="trained longer", bytes=46_000), 19),
        (dense("w28-dense", "dense", 240_000), 22),
        (dense("s29-dense", "dense", 54_000), 20),
        (dense("w32-dense-binary", "dense-binary", 300_000), 20),
        (dense("s29-dense-binary", "dense-binary", 54_000, bytes=12_000), 17),
    ]
    outcomes = [row for model, correct in models for row in rows(model["id"], "pgd", "1" * correct + "0" * (40 - correct))]
    outcomes += [
        row for model, correct in models for row in rows(model["id"], "cw-linf", "0" * 2 + "1" * (correct - 2) + "0" * (40 - correct))
    ]
    return pd.DataFrame(outcomes), pd.DataFrame([model for model, _ in models])

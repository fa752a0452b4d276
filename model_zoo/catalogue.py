"""The registry as a pandas frame: what a report says about models."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd

from model_zoo import registry
from model_zoo.errors import UserError
from model_zoo.loading import load_model
from model_zoo.packing.frozen import effective_weights
from model_zoo.schema import Record


def catalogue(models: Iterable[str]) -> pd.DataFrame:
    """One row for every given id that is registered: identity, family, bits, keep ratio, sparsity, bytes of the packed file, weights.

    `weights` are the architecture's convolution weights, `kept_weights` those that are not zero; both are missing where the checkpoint
    is not on this machine.
    """
    rows = []
    for name in models:
        try:
            record = registry.get_record(name)
        except UserError:
            rows.append({"id": name, "title": name})
            continue
        rows.append(_row(record))
    return pd.DataFrame(rows)


def _row(record: Record) -> dict[str, Any]:
    row: dict[str, Any] = {
        name: getattr(record, name)
        for name in ("id", "title", "family", "method", "weight_bits", "activation_bits", "keep_ratio", "sparsity", "allocation_power")
    }
    row["bytes"] = record.checkpoint.bytes
    try:
        weights = effective_weights(load_model(record.id))
    except UserError:
        return row
    row["parameters"] = sum(array.size for array in weights)
    row["kept_weights"] = sum(int(np.count_nonzero(array)) for array in weights)
    return row

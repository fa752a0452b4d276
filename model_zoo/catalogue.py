"""The registry as a pandas frame, with the facts about models that reports need."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from model_zoo.errors import UserError
from model_zoo.packing.frozen import all_weights
from model_zoo.packing.parts import file_parts
from model_zoo.references import RecordReference, parse_recorded
from model_zoo.schema import Record, Taxonomy


def catalogue(references: Mapping[str, str]) -> pd.DataFrame:
    """Return one row per model: id, title, family, bits, keep ratio, sparsity, bytes of the packed file, its parts, and weight counts.

    `parameters` is the number of the model's weights and `kept_weights` the number of nonzero ones; NAME_bytes are the parts of the file
    (`model_zoo.packing.parts`). These columns are missing if the checkpoint is not on this machine.

    Parameters
    ----------
    references : mapping of str to str
        Model ids, each with the reference that finds the model: a registered id, or the path of a record. A row of a model whose record
        cannot be read has `id` and `title` alone.
    """
    rows = []
    for name, text in references.items():
        try:
            rows.append(_row(parse_recorded(text)))
        except UserError:
            rows.append({"id": name, "title": name})
    return pd.DataFrame(rows)


def pruned(record: Record) -> dict[str, str | bool | None]:
    """Return how a model was pruned: the fields of its `Taxonomy` as `pruned_NAME`, all None if the model is not pruned."""
    fields = record.pruning.model_dump() if record.pruning else dict.fromkeys(Taxonomy.model_fields)
    return {f"pruned_{name}": value for name, value in fields.items()}


def _row(reference: RecordReference) -> dict[str, Any]:
    record = reference.describe()
    row: dict[str, Any] = {
        name: getattr(record, name)
        for name in ("id", "title", "family", "method", "weight_bits", "activation_bits", "keep_ratio", "sparsity", "allocation_power")
    }
    row["bytes"] = record.checkpoint.bytes
    row |= pruned(record)
    try:
        weights = all_weights(reference.load())
        parts = file_parts(reference.checkpoint_path)
    except UserError:
        return row
    row |= {f"{name}_bytes": size for name, size in parts.items()}
    row["parameters"] = sum(array.size for array in weights)
    row["kept_weights"] = sum(int(np.count_nonzero(array)) for array in weights)
    return row

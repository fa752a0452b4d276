"""What is kept of an imported model: a packed checkpoint and a record."""

from __future__ import annotations

import hashlib
from pathlib import Path

from pydantic import ValidationError

from model_zoo.adapters.ivrl import Imported
from model_zoo.errors import UsageError
from model_zoo.families import get_family
from model_zoo.files import place
from model_zoo.packing.frozen import weights_sha256
from model_zoo.packing.packed import pack
from model_zoo.schema import Checkpoint, Record, Threat, TrainedOn
from model_zoo.training.outcome import TRAINING_METHODS, record_toml


def keep_imported(
    found: Imported,
    folder: Path,
    *,
    name: str,
    title: str,
    source: str,
    keep_ratio: float | None,
    allocation_power: float | None,
    dataset: str,
    threat: Threat,
) -> Record:
    """Pack an imported model and write `<name>.safetensors` and `<name>.toml` into `folder`, the record last.

    Raises
    ------
    UsageError
        If the record would not be valid, naming the field.
    """
    content = pack(found.model, found.architecture, found.affine, {"id": name, "imported_from": source})
    try:
        record = Record(
            id=name,
            title=title,
            family=found.family,  # type: ignore[arg-type]
            method=get_family(found.family).method or TRAINING_METHODS["pgd"],
            architecture=dict(found.architecture),
            affine=found.affine,
            weight_bits=32 if found.family == "dense" else 1,
            activation_bits=32,
            keep_ratio=keep_ratio,
            allocation_power=allocation_power,
            backward="exact",
            data=TrainedOn(train=dataset),
            threat=threat,
            weights_sha256=weights_sha256(found.model),
            checkpoint=Checkpoint(file=f"{name}.safetensors", sha256=hashlib.sha256(content).hexdigest(), bytes=len(content)),
        )
    except ValidationError as error:
        first = error.errors()[0]
        raise UsageError(f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}") from None
    folder.mkdir(parents=True, exist_ok=True)
    place(folder / f"{name}.safetensors", content)
    place(folder / f"{name}.toml", record_toml(record).encode())
    return record

"""Saving of an imported model as a packed checkpoint and a record."""

from __future__ import annotations

import hashlib
from pathlib import Path

from pydantic import ValidationError

from model_zoo.adapters import Imported
from model_zoo.documents import first_fault
from model_zoo.errors import UsageError
from model_zoo.files import place
from model_zoo.layers.activations import activation_of
from model_zoo.packing.frozen import weights_sha256
from model_zoo.packing.packed import pack
from model_zoo.registry import write_record
from model_zoo.schema import Checkpoint, Record, Taxonomy, Threat, TrainedOn


def keep_imported(imported: Imported, folder: Path, *, name: str, title: str, source: str, data: TrainedOn, threat: Threat) -> Record:
    """Pack an imported model, write `<name>.safetensors` and then `<name>.toml` into `folder`, and return the record.

    Layers of the original file that the network does not use are named in the packed file's provenance.

    Raises
    ------
    UsageError
        If the record would not be valid; the message names the field.
    """
    provenance = {"id": name, "imported_from": source} | ({"left_out": dict(imported.left_out)} if imported.left_out else {})
    activation = activation_of(imported.architecture)
    content = pack(imported.model, imported.architecture, imported.affine, provenance)
    try:
        record = Record(
            id=name,
            title=title,
            family=imported.family,  # type: ignore[arg-type]
            method=imported.method,
            architecture=dict(imported.architecture),
            affine=imported.affine,
            weight_bits=imported.weight_bits,
            activation_bits=activation.bits,
            keep_ratio=imported.keep_ratio,
            allocation_power=imported.allocation_power,
            pruning=Taxonomy(**imported.taxonomy) if imported.taxonomy else None,
            backward=activation.backward,
            data=data,
            threat=threat,
            weights_sha256=weights_sha256(imported.model),
            checkpoint=Checkpoint(file=f"{name}.safetensors", sha256=hashlib.sha256(content).hexdigest(), bytes=len(content)),
        )
    except ValidationError as error:
        raise UsageError(first_fault(error)) from None
    folder.mkdir(parents=True, exist_ok=True)
    place(folder / f"{name}.safetensors", content)
    write_record(record, folder)
    return record

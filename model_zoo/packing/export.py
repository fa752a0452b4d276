"""Export of a registered model as a packed file, which is loaded again and compared before it is put in place."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import torch

from model_zoo.classifier import Classifier
from model_zoo.errors import DamagedFileError, UsageError
from model_zoo.files import place
from model_zoo.packing.drawn import GENERATOR
from model_zoo.packing.packed import load_packed, pack
from model_zoo.references import parse_recorded


def export(model: str, path: Path, drawn: bool, probe: torch.Tensor) -> bytes:
    """Write a model as one packed file, after checking that it loads with the same logits, and return the bytes.

    Parameters
    ----------
    model : str
        A registered id, or the path of a record.
    path : Path
        File to write; an existing file is replaced atomically.
    drawn : bool
        Whether to omit the signs, which loading then draws again from the recipe's seed.
    probe : torch.Tensor
        Images float32 [N, 3, H, W] in [0, 1] on which logits are compared.

    Raises
    ------
    UsageError
        If the model is not a network of this package, its signs cannot be drawn, `path` is the checkpoint of the model, or the folder of
        `path` does not exist.
    DamagedFileError
        If the packed model does not give the same logits, bit for bit; nothing is written then.
    """
    reference = parse_recorded(model)
    record, network = reference.open()
    if not isinstance(network, Classifier):
        raise UsageError(f"{record.id} is not a network of this package and cannot be packed; it exists only as {record.checkpoint.file}")
    if path.resolve() == reference.checkpoint_path.resolve():
        raise UsageError(f"{path} is the checkpoint of {record.id} itself: name another file (--out)")
    if not path.parent.is_dir():
        raise UsageError(f"no folder {path.parent}")
    sign_source = None
    if drawn:
        if record.family != "pruned-binary":
            raise UsageError(f"{record.id} is {record.family}: only the signs of a pruned binary model were drawn and never trained")
        if record.seed is None:
            raise UsageError(f"the record of {record.id} names no seed: store the signs (--signs stored)")
        sign_source = {"generator": GENERATOR, "seed": record.seed, "weight_init": record.weight_init or "binary"}
    provenance = load_packed(reference.checkpoint_path).header["provenance"]
    content = pack(network, record.architecture, record.affine, provenance, sign_source)
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        copy_path = Path(folder) / path.name
        copy_path.write_bytes(content)
        if not torch.equal(load_packed(copy_path).model(probe), network(probe)):
            raise DamagedFileError(path, "the logits of the model it was made from", "other logits")
    place(path, content)
    return content


def parts(content: bytes) -> dict[str, int]:
    """Return the bytes of a packed file's `content` per tensor name, and under `header` the rest; they add up to its length."""
    length = int.from_bytes(content[:8], "little")
    fields = json.loads(content[8 : 8 + length])
    sizes = {name: item["data_offsets"][1] - item["data_offsets"][0] for name, item in fields.items() if name != "__metadata__"}
    return {**sizes, "header": len(content) - sum(sizes.values())}

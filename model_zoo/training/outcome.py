"""What is kept of a training run: packed checkpoint, record, curve; all three by atomic rename, the record last."""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import io
import json
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from model_zoo.classifier import Classifier
from model_zoo.families import get_family
from model_zoo.files import place
from model_zoo.packing.frozen import freeze, weights_sha256
from model_zoo.packing.packed import pack
from model_zoo.schema import Checkpoint, Record, Threat, TrainedOn, Training
from model_zoo.threat import ThreatModel, radius_text
from model_zoo.training.recipe import Recipe
from model_zoo.training.trainer import EpochRecord, Trained

WEIGHT_BITS = {"pruned-binary": 1, "dense-binary": 1, "dense": 32}
METHODS = {"pruned-binary": "liu2022", "dense-binary": "courbariaux2015", "dense": "madry2018"}


def keep(trained: Trained, recipe: Recipe, folder: Path, images: int) -> Record:
    """Freeze and pack a trained model and write `<id>.safetensors`, `<id>.csv` (its curve) and `<id>.toml` (its record) into `folder`.

    Parameters
    ----------
    trained : Trained
        As `model_zoo.training.trainer.train` returns it.
    recipe : Recipe
        What it was trained by.
    folder : Path
        Made if it does not exist.
    images : int
        Number of images of the training split, the hold-out included.
    """
    folder.mkdir(parents=True, exist_ok=True)
    family = get_family(recipe.family)
    frozen = freeze(trained.model, recipe.architecture, family.affine)
    content = pack(frozen, recipe.architecture, family.affine, {"id": recipe.id, "recipe": recipe.to_dict()})
    place(folder / f"{recipe.id}.safetensors", content)
    place(folder / f"{recipe.id}.csv", curve_csv(trained.curve).encode())
    record = describe(trained, recipe, frozen, content, images)
    place(folder / f"{recipe.id}.toml", record_toml(record).encode())
    return record


def describe(trained: Trained, recipe: Recipe, frozen: Classifier, content: bytes, images: int) -> Record:
    """The record of a packed model."""
    threat = ThreatModel.parse(recipe.attack.threat)
    last = trained.curve[-1]
    return Record(
        id=recipe.id,
        title=recipe.title,
        family=recipe.family,  # type: ignore[arg-type]
        method=METHODS[recipe.family],
        architecture=dict(recipe.architecture),
        affine=get_family(recipe.family).affine,
        weight_bits=WEIGHT_BITS[recipe.family],
        activation_bits=32,
        keep_ratio=recipe.options.get("keep_ratio"),
        allocation_power=recipe.options.get("allocation_power"),
        backward="exact",
        data=TrainedOn(train=recipe.data.dataset, images=(recipe.data.images or images) - recipe.data.hold_out),
        threat=Threat(norm="Linf", radius=radius_text(threat.radius)),
        recipe=recipe.id,
        seed=recipe.seed,
        selected_on="last epoch",
        training=Training(
            epochs=recipe.optimiser.epochs,
            minutes=round(last.seconds / 60, 1),
            machine=f"{platform.machine()}, {trained.threads} CPU thread{'s' if trained.threads > 1 else ''}",
            precision=trained.precision,
            threads=trained.threads,
            torch=torch.__version__.split("+")[0],
            hold_out_clean_accuracy=last.hold_out_clean_accuracy,
            hold_out_pgd_accuracy=last.hold_out_pgd_accuracy,
        ),
        weights_sha256=weights_sha256(frozen),
        checkpoint=Checkpoint(file=f"{recipe.id}.safetensors", sha256=hashlib.sha256(content).hexdigest(), bytes=len(content)),
    )


def curve_csv(curve: Sequence[EpochRecord]) -> str:
    """One line an epoch, with a header; accuracies as fractions."""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, [field.name for field in dataclasses.fields(EpochRecord)], lineterminator="\n")
    writer.writeheader()
    for epoch in curve:
        row = {name: f"{value:.6g}" if isinstance(value, float) else value for name, value in dataclasses.asdict(epoch).items()}
        writer.writerow(row)
    return buffer.getvalue()


def record_toml(record: Record) -> str:
    """A record as TOML, fields in their declared order, unknown ones left out."""
    plain: list[str] = []
    sections: list[str] = []
    for name, value in record.model_dump(exclude_none=True).items():
        if isinstance(value, Mapping):
            lines = [f"{key} = {_literal(item)}" for key, item in value.items()]
            sections.append("\n".join([f"[{name}]", *lines]))
        else:
            plain.append(f"{name} = {_literal(value)}")
    return "\n".join(plain) + "\n\n" + "\n\n".join(sections) + "\n"


def _literal(value: Any) -> str:
    # JSON's strings, numbers, booleans and flat lists are TOML's too.
    return json.dumps(value, ensure_ascii=False)

"""Diagnostics of registered models, kept in a store beside the outcomes: one JSON file for a model, a block and a threat model."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import pandas as pd

from harness.datasets.base import ImageSet
from harness.evaluation import diagnostics
from harness.evaluation.diagnostics import Diagnostics, diagnose
from harness.evaluation.gates import check_images, check_model
from harness.evaluation.unit import as_attacked, as_judged, unit_threads
from harness.evaluation.verdict import Verdict, judge
from harness.randomness import isolated
from harness.runner import protocol
from harness.runner.identity import unit_id, unit_seed
from harness.runner.store import Store
from model_zoo import registry
from model_zoo.errors import DamagedFileError, UserError
from model_zoo.files import place
from model_zoo.loading import load_model
from model_zoo.schema import Record
from model_zoo.threat import ThreatModel, radius_text

SCHEMA_VERSION = 1
# Columns of `diagnosed` that go with a model wherever a number of its is shown.
VERDICT = ["id", "verdict", "verdict_reasons"]


@dataclass(frozen=True)
class Diagnosis:
    """Diagnostics with what they are of."""

    model: str
    weights: str
    dataset: str
    threat: str
    found: Diagnostics

    @property
    def verdict(self) -> Verdict:
        """What follows from them."""
        return judge(self.found)


def twin_of(model: str) -> str | None:
    """A full-precision model to transfer from: the first registered dense one with the architecture and data of `model`, if another."""
    record = registry.get_record(model)
    for other in registry.model_ids():
        if registry.absence(other) is not None:
            continue
        candidate = registry.get_record(other)
        same = candidate.architecture["name"] == record.architecture["name"] and candidate.data.train == record.data.train
        if same and candidate.family == "dense" and candidate.weights_sha256 != record.weights_sha256:
            return other
    return None


def identity(record: Record, twin: Record | None, block: ImageSet, threat: ThreatModel) -> dict[str, Any]:
    """Everything the diagnostics depend on, as plain JSON values."""
    gradients = {} if record.backward == "exact" else {"backward": record.backward}
    draws = {"draws": list(protocol.DRAWS)} if record.stochastic else {}
    return {
        "protocol": protocol.VERSION,
        "diagnostics": diagnostics.VERSION,
        "model": {"weights": record.weights_sha256, "architecture": record.architecture, "affine": record.affine, **gradients, **draws},
        "twin": None if twin is None else twin.weights_sha256,
        "data": {"dataset": block.name, "block": block.sha256},
        "threat": {"norm": threat.norm, "radius": radius_text(threat.radius)},
    }


def run_diagnosis(
    model: str, block: ImageSet, threat: ThreatModel, store: Store, progress: Callable[[float, str], None] | None = None
) -> Diagnosis:
    """Diagnose a registered model, or read what the store holds already.

    Raises
    ------
    UserError
        If the model is refused, or there is nothing to diagnose.
    """
    record, twin = registry.get_record(model), twin_of(model)
    whole = identity(record, None if twin is None else registry.get_record(twin), block, threat)
    name = unit_id(whole)
    path = _folder(store) / f"{name}.json"
    if path.is_file():
        return _read(path)
    with unit_threads(), isolated(unit_seed(name)):
        images, labels = block.tensors()
        loaded, draws = load_model(model), protocol.DRAWS if record.stochastic else None
        check_images(images, labels, len(block.classes))
        check_model(as_judged(loaded, draws), images, len(block.classes), alone=draws is None)
        attacked, other = as_attacked(loaded, record.backward, draws), None if twin is None else load_model(twin)
        found = diagnose(attacked, images, labels, threat, unit_seed(name), other, progress)
    labels_of = {"model": record.id, "weights": record.weights_sha256, "twin": twin, "dataset": block.name, "threat": str(threat)}
    content = {"schema": SCHEMA_VERSION, "labels": labels_of, "identity": whole, "diagnostics": found.to_dict()}
    path.parent.mkdir(parents=True, exist_ok=True)
    place(path, (json.dumps(content, indent=1, sort_keys=True) + "\n").encode())
    return Diagnosis(record.id, record.weights_sha256, block.name, str(threat), found)


def diagnoses(store: Store) -> dict[str, Diagnosis]:
    """What the store has, by the hash of the weights; of several the one on most images. A file that cannot be read is left out."""
    best: dict[str, Diagnosis] = {}
    for path in sorted(_folder(store).glob("*.json")):
        try:
            diagnosis = _read(path)
        except DamagedFileError:
            continue
        known = best.get(diagnosis.weights)
        if known is None or diagnosis.found.images > known.found.images:
            best[diagnosis.weights] = diagnosis
    return best


def diagnosed(store: Store, models: Mapping[str, str]) -> pd.DataFrame:
    """What the store's diagnostics say of models, one row for each that has any, and for the others an id and nothing.

    `models` maps ids to what finds them. Of several diagnoses the one on most images counts; a file that cannot be read is absent.

    Returns
    -------
    pandas.DataFrame
        `id, dataset, norm, radius, near_constant, verdict` (ok, suspicious or masked), `verdict_reasons` (None where ok), `images` (looked
        at); the shares `zero_gradient_ce, zero_gradient_margin, zero_gradient_dlr, saturated, rising` of the images that the model gets
        right, and `median_gap`, in logits. Robust accuracies, fractions of all images: `ce, margin, square, noise, transfer, large` (at the
        largest radius of the sweep); each has NAME_n and NAME_planned, and there is `worst_planned`, as in a summary.
    """
    best = diagnoses(store)
    rows: list[dict[str, Any]] = []
    for name, found_by in models.items():
        try:
            known = best.get(registry.get_record(found_by).weights_sha256)
        except UserError:
            known = None
        rows.append({"id": name} if known is None else {"id": name, **_row(known)})
    frame = pd.DataFrame(rows)
    return frame.reindex(columns=list(dict.fromkeys([*VERDICT, "dataset", *frame.columns])))


def _row(diagnosis: Diagnosis) -> dict[str, Any]:
    found, verdict = diagnosis.found, diagnosis.verdict
    threat = ThreatModel.parse(diagnosis.threat)
    robust = {
        "ce": found.robust_ce,
        "margin": found.robust_margin,
        "square": found.robust_square,
        "noise": found.robust_noise,
        "transfer": found.robust_transfer,
        "large": found.sweep[max(found.sweep, key=Fraction)],
    }
    accuracies: dict[str, Any] = {"worst_planned": found.images}
    for name, images in robust.items():
        if images is not None:
            accuracies |= {name: sum(images) / found.images, f"{name}_n": found.images, f"{name}_planned": found.images}
    return {
        "dataset": diagnosis.dataset,
        "norm": threat.norm,
        "radius": radius_text(threat.radius),
        "near_constant": found.near_constant,
        "verdict": verdict.level,
        "verdict_reasons": None if verdict.level == "ok" else str(verdict),
        "images": found.images,
        **{f"zero_gradient_{loss}": share for loss, share in found.zero_gradient.items()},
        "saturated": found.saturated,
        "rising": found.rising,
        "median_gap": found.median_gap,
        **accuracies,
    }


def _folder(store: Store) -> Path:
    return store.root / "diagnostics"


def _read(path: Path) -> Diagnosis:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["schema"] > SCHEMA_VERSION:
            raise DamagedFileError(path, f"schema {SCHEMA_VERSION} or older", f"schema {content['schema']}")
        labels = content["labels"]
        return Diagnosis(
            labels["model"], labels["weights"], labels["dataset"], labels["threat"], Diagnostics.from_dict(content["diagnostics"])
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DamagedFileError(path, "a model's diagnostics", f"{type(error).__name__}: {error}") from None

"""Diagnostics of registered models, kept in a store beside the outcomes: one JSON file for a model, a block and a threat model."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
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


def verdicts(store: Store, models: Mapping[str, str]) -> pd.DataFrame:
    """Verdicts of models: `id, verdict, verdict_reasons`; None where the store has none, or nothing was found.

    `models` maps ids to what finds them.
    """
    best = diagnoses(store)
    rows = []
    for name, found_by in models.items():
        try:
            known = best.get(registry.get_record(found_by).weights_sha256)
        except UserError:
            known = None
        verdict = None if known is None else known.verdict
        text = None if verdict is None or verdict.level == "ok" else str(verdict)
        rows.append({"id": name, "verdict": None if verdict is None else verdict.level, "verdict_reasons": text})
    return pd.DataFrame(rows, columns=["id", "verdict", "verdict_reasons"])


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

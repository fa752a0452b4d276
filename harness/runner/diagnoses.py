"""Diagnostics of registered models, stored with the outcomes: one JSON file per model, block and threat model."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import pandas as pd
import torch

from harness import datasets, engines
from harness.attacks.native.losses import cross_entropy, margin
from harness.attacks.native.sources import COUNT, sources, transfer_examples
from harness.datasets.base import ImageSet
from harness.evaluation import diagnostics
from harness.evaluation.diagnostics import Diagnostics, diagnose
from harness.evaluation.subject import admit
from harness.evaluation.unit import unit_threads
from harness.evaluation.verdict import Verdict, judge
from harness.randomness import isolated
from harness.runner import protocol
from harness.runner.documents import DiagnosisDocument, DiagnosisLabels
from harness.runner.identity import unit_id, unit_seed
from harness.runner.store import Store
from harness.runner.work import check_clean, declared, open_checked, prepared
from model_zoo import registry
from model_zoo.errors import DamagedFileError, UserError
from model_zoo.references import parse_recorded
from model_zoo.schema import Record
from model_zoo.threat import ThreatModel, radius_text

# Columns of `diagnosed` that accompany a model's accuracy under one threat model.
VERDICT = ["id", "dataset", "norm", "radius", "verdict", "verdict_reasons", "verdict_images"]


@dataclass(frozen=True)
class Diagnosis:
    """Diagnostics with the model, data set and threat model that they describe.

    `name` is the hash of the identity; `about` describes the network and how it is differentiated, as the function `about` returns it.
    """

    name: str
    model: str
    about: Mapping[str, Any]
    dataset: str
    threat: str
    diagnostics: Diagnostics

    @property
    def verdict(self) -> Verdict:
        """Verdict that follows from the diagnostics."""
        return judge(self.diagnostics)


def identity(record: Record, sources: Sequence[str], block: ImageSet, threat: ThreatModel) -> dict[str, Any]:
    """Return everything that diagnostics depend on, as plain JSON values; `sources` are ids of models on which examples are made."""
    return {
        "protocol": protocol.VERSION,
        "diagnostics": diagnostics.VERSION,
        "model": about(record),
        "sources": {source: registry.get_record(source).weights_sha256 for source in sources},
        "data": {"dataset": block.name, "block": block.sha256},
        "threat": {"norm": threat.norm, "radius": radius_text(threat.radius)},
    }


def about(record: Record) -> dict[str, Any]:
    """Return what a network is, how it is differentiated, and its number of draws if it is stochastic, as plain JSON values."""
    gradients = {} if record.backward == "exact" else {"backward": record.backward}
    draws = {"draws": list(protocol.DRAWS)} if record.stochastic else {}
    return {"weights": record.weights_sha256, "architecture": record.architecture, "affine": record.affine, **gradients, **draws}


def run_diagnosis(
    model: str, block: ImageSet, threat: ThreatModel, store: Store, progress: Callable[[float, str], None] | None = None
) -> Diagnosis:
    """Diagnose a registered model and store the result, or return a stored diagnosis of these images or of at least as many.

    Raises
    ------
    UserError
        If the model is refused, or it misclassifies all images without an attack.
    """
    reference = parse_recorded(model)
    record = reference.describe()
    source_names = sources(datasets.describe(block.name).family, record.weights_sha256)
    full_identity = identity(record, source_names, block, threat)
    name = unit_id(full_identity)
    stored = diagnoses(store)
    for diagnosis in stored:
        if diagnosis.about == full_identity["model"] and diagnosis.name == name:
            return diagnosis
    for diagnosis in of_model(stored, record):
        if diagnosis.dataset == block.name and diagnosis.threat == str(threat) and diagnosis.diagnostics.images >= len(block):
            return diagnosis
    with unit_threads(), isolated(unit_seed(name)):
        _, network = open_checked(model)
        engine = fastest_engine(model, block)
        subject = admit(network, block, attacked=engine.model, **declared(record))
        if progress is not None and source_names:
            progress(0.0, "examples on other models")
        examples = transfer_inputs(source_names, block, threat)
        measured = diagnose(subject, block, threat, unit_seed(name), examples, progress)
    check_clean(record, block, np.array(measured.predictions))
    diagnosis_labels = DiagnosisLabels(model=record.id, dataset=block.name, threat=str(threat), engine=engine.engine)
    store.write_diagnosis(name, DiagnosisDocument(labels=diagnosis_labels, identity=full_identity, diagnostics=measured.to_dict()))
    return Diagnosis(name, record.id, about(record), block.name, str(threat), measured)


def fastest_engine(model: str, block: ImageSet) -> engines.Prepared:
    """Return the fastest engine that equals a registered model on the images of `block`; the model itself if there is none."""
    record, network = open_checked(model)
    is_plain = record.backward == "exact" and not record.stochastic
    fastest = "sparse" if importlib.util.find_spec("numba") is not None else "folded"
    return prepared(model, fastest if is_plain else "dense", network, block)


def transfer_inputs(names: Sequence[str], block: ImageSet, threat: ThreatModel) -> dict[str, list[torch.Tensor]]:
    """Return, per registered model, the examples made on it, float32 [N, C, H, W] each; recent ones are cached in the process."""
    examples = {}
    for name in names:
        reference = parse_recorded(name)
        key = (reference.describe().weights_sha256, block.sha256, str(threat))
        if key not in _EXAMPLES:
            images, labels = block.tensors()
            # Only a few blocks are in use at a time, so the oldest examples can go.
            while len(_EXAMPLES) >= 4 * COUNT:
                _EXAMPLES.pop(next(iter(_EXAMPLES)))
            seed = unit_seed(block.sha256) % 2**32
            source = fastest_engine(name, block).model
            _EXAMPLES[key] = [transfer_examples(source, images, labels, threat.epsilon, loss, seed) for loss in (cross_entropy, margin)]
        examples[name] = _EXAMPLES[key]
    return examples


_EXAMPLES: dict[tuple[str, str, str], list[torch.Tensor]] = {}


def diagnoses(store: Store) -> list[Diagnosis]:
    """Return the store's diagnoses, those on most images first; unreadable files and those of other versions are left out."""
    readable = []
    for name, document in store.diagnoses():
        if isinstance(document, DiagnosisDocument) and document.identity.get("diagnostics") == diagnostics.VERSION:
            with suppress(DamagedFileError):
                readable.append(_parse(name, document))
    return sorted(readable, key=lambda diagnosis: -diagnosis.diagnostics.images)


def of_model(known: Sequence[Diagnosis], record: Record) -> list[Diagnosis]:
    """Return the diagnoses of a record's network, the first one per data set and threat model in the order of `known`."""
    by_setting: dict[tuple[str, str], Diagnosis] = {}
    for diagnosis in known:
        if diagnosis.about == about(record):
            by_setting.setdefault((diagnosis.dataset, diagnosis.threat), diagnosis)
    return list(by_setting.values())


def diagnosed(store: Store, references: Mapping[str, str]) -> pd.DataFrame:
    """Return the store's diagnostics of models, one row per model, data set and threat model.

    `references` maps ids to ids or paths of records. If there are several diagnoses, the one on most images counts.

    Returns
    -------
    pandas.DataFrame
        `id, dataset, norm, radius, near_constant, verdict` (ok, suspicious or masked), `verdict_reasons` (None if ok), `verdict_images`
        and `images` (number of diagnosed images); the shares `zero_gradient_ce, zero_gradient_margin, zero_gradient_dlr, saturated` of
        the images that the model classifies correctly, and `rising` of those robust to PGD on the margin; `median_gap`, in logits. Robust
        accuracies as fractions of all images: `ce, margin, descent, square, noise, transfer, large` (at the largest radius of the
        sweep); as in a summary, each has NAME_n and NAME_planned, and there is `worst_planned`.
    """
    stored, rows = diagnoses(store), []
    for name, reference in references.items():
        with suppress(UserError):
            rows += [{"id": name, **_diagnosis_row(diagnosis)} for diagnosis in of_model(stored, parse_recorded(reference).describe())]
    frame = pd.DataFrame(rows)
    return frame.reindex(columns=list(dict.fromkeys([*VERDICT, *frame.columns])))


def _diagnosis_row(diagnosis: Diagnosis) -> dict[str, Any]:
    measured, verdict = diagnosis.diagnostics, diagnosis.verdict
    threat = ThreatModel.parse(diagnosis.threat)
    robust = {name: marks for name, marks in measured.robust.items() if name != "decision"}
    robust["large"] = measured.sweep[max(measured.sweep, key=Fraction)]
    accuracies: dict[str, Any] = {"worst_planned": measured.images}
    for name, marks in robust.items():
        accuracies |= {name: marks.count("1") / measured.images, f"{name}_n": measured.images, f"{name}_planned": measured.images}
    return {
        "dataset": diagnosis.dataset,
        "norm": threat.norm,
        "radius": radius_text(threat.radius),
        "near_constant": measured.near_constant,
        "verdict": verdict.level,
        "verdict_reasons": None if verdict.level == "ok" else f"{verdict} (n = {measured.images})",
        "verdict_images": measured.images,
        "images": measured.images,
        **{f"zero_gradient_{loss}": measured.share(marks) for loss, marks in measured.no_gradient.items()},
        "saturated": measured.saturated,
        "rising": measured.share(measured.rising),
        "median_gap": measured.median_gap,
        **accuracies,
    }


def check_diagnosis(store: Store, name: str, document: DiagnosisDocument) -> None:
    """Raise a DamagedFileError if the measurements of a stored diagnosis are not those of this version; other versions are not read."""
    if document.identity["diagnostics"] == diagnostics.VERSION:
        try:
            _parse(name, document)
        except DamagedFileError as error:
            raise DamagedFileError(store.root / "diagnostics" / f"{name}.json", error.expected, error.actual) from None


def _parse(name: str, document: DiagnosisDocument) -> Diagnosis:
    labels = document.labels
    try:
        measured = Diagnostics.from_dict(document.diagnostics)
        return Diagnosis(name, labels.model, document.identity["model"], labels.dataset, labels.threat, measured)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DamagedFileError(f"diagnosis {name[:12]}", "a model's diagnostics", f"{type(error).__name__}: {error}") from None

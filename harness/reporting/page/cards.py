"""The content of one model's page, apart from its numbers on boards: facts of the record, footprint, diagnostics, training curve."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import pandas as pd

from harness.evaluation.diagnostics import BROKEN, NOT_TESTED, ROBUST
from harness.reporting import curves
from harness.reporting.cells import accuracy_cell
from harness.runner.diagnoses import Diagnosis
from model_zoo import registry
from model_zoo.errors import UserError
from model_zoo.footprint import LINES, measure
from model_zoo.references import RecordReference
from model_zoo.schema import Record

# Displayed names of a record's fields; fields that are not listed are shown under their field names.
FIELDS = {
    "affine": "batch norms with scale and shift",
    "allocation_power": "allocation power p",
    "weight_init": "weight initialisation",
    "backward": "gradient",
    "weights_sha256": "sha256 of the weights",
    "data.train": "trained on",
    "data.images": "training images",
    "data.extra": "extra training images",
    "threat.norm": "trained for, norm",
    "threat.radius": "trained for, radius",
    "pruning.when": "pruned, relative to training",
    "pruning.scored": "weights kept by",
    "pruning.structured": "whole channels",
    "pruning.scope": "weights compete",
}
PROBES = {
    "ce": "PGD on the cross-entropy",
    "margin": "PGD on the margin",
    "descent": "PGD down the margin",
    "square": "Square alone, no gradients",
    "noise": "random noise",
    "transfer": "examples made on other models",
}

LOSSES = {"ce": "the cross-entropy", "margin": "the margin", "dlr": "DLR"}


@dataclass(frozen=True)
class Size:
    """A line of a footprint: its name, the amount, and for bytes of weights the share of dense float32, in per cent."""

    name: str
    amount: str
    share: float | None


@dataclass(frozen=True)
class Measured:
    """A line of the diagnostics: accuracy over all images, with its interval and `share` (per cent), or another number as text."""

    name: str
    text: str
    interval: str = ""
    share: float | None = None


@dataclass(frozen=True)
class Diagnostic:
    """The diagnostics of a model, with the verdict that follows."""

    diagnosis: Diagnosis
    probes: list[Measured]
    sweep: list[Measured]
    numbers: list[Measured]


@dataclass(frozen=True)
class Curve:
    """A training curve: the file's content, and its columns for the picture, with accuracies in per cent and missing values as None."""

    csv: bytes
    frame: pd.DataFrame
    columns: dict[str, list[float | None]]


def facts(record: Record) -> list[tuple[str, str]]:
    """Return everything that a record says as pairs of name and text, one per field."""
    fields = {**record.model_dump(exclude_none=True, exclude={"id", "title"}), "sparsity": record.sparsity}
    return [(FIELDS.get(name, name.replace("_", " ").replace(".", ", ")), text) for name, text in _flat(fields)]


def _flat(fields: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for name, value in fields.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        elif isinstance(value, bool):
            yield prefix + name, "yes" if value else "no"
        elif value is not None:
            yield prefix + name, f"{value:g}" if isinstance(value, float) else str(value)


def footprint(reference: RecordReference) -> list[Size]:
    """Return the model's size by every convention; empty if its checkpoint is not on this machine."""
    try:
        record, model = reference.open()
        measured = measure(model, reference.checkpoint_path, record.input_shape, record.signs_drawn)
    except UserError:
        return []
    sizes = []
    for field, name in LINES.items():
        amount = getattr(measured, field)
        share = 100 * amount / measured.dense_float32_bytes if amount is not None and name.startswith("bytes") else None
        if amount is not None:
            sizes.append(Size(name, f"{amount:,}", None if field == "peak_activation_bytes" else share))
    return sizes


def diagnostic(diagnosis: Diagnosis) -> Diagnostic:
    """Return the measurements behind a verdict, in words."""
    findings = diagnosis.diagnostics
    measured = {PROBES[name]: findings.robust[name] for name in PROBES if name in findings.robust}
    numbers = [
        ("right without an attack", f"{findings.n} of {findings.images}"),
        *(
            (f"no gradient of {LOSSES.get(loss, loss)}", _percent(findings.share(marks)))
            for loss, marks in sorted(findings.no_gradient.items())
        ),
        ("survivors of these that RayS breaks, which sees only decisions", _rays(findings.robust["decision"])),
        ("saturated in float32", _percent(findings.saturated)),
        ("median gap of the two largest logits", f"{findings.median_gap:.3g}"),
        ("loss still rising at the last step", _percent(findings.share(findings.rising))),
        ("near-constant predictor", "yes" if findings.near_constant else "no"),
    ]
    return Diagnostic(
        diagnosis,
        [_share(name, robust, findings.images) for name, robust in measured.items()],
        [_share(radius, findings.sweep[radius], findings.images) for radius in sorted(findings.sweep, key=Fraction)],
        [Measured(name, text) for name, text in numbers],
    )


def _share(name: str, robust: str, images: int) -> Measured:
    cell = accuracy_cell(robust.count(ROBUST), images)
    return Measured(name, cell.number, cell.brackets, 100 * cell.value)


def _rays(marks: str) -> str:
    return f"{marks.count(BROKEN)} of {len(marks) - marks.count(NOT_TESTED)}"


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.1f} %"


def curve(reference: RecordReference) -> Curve | None:
    """Return the training curve stored next to a model's checkpoint; None if there is no readable curve."""
    path = reference.checkpoint_path.with_suffix(".csv")
    try:
        frame = curves.read(path)
        content = path.read_bytes()
    except (OSError, UserError):
        return None
    curve_columns = frame[["epoch", curves.LOSS, *(column for column, _, _ in curves.ACCURACIES)]]
    columns = {str(name): [None if pd.isna(value) else float(value) for value in curve_columns[name]] for name in curve_columns}
    accuracies = {
        column: [None if value is None else round(100 * value, 4) for value in columns[column]] for column, _, _ in curves.ACCURACIES
    }
    return Curve(content, curve_columns, {**columns, **accuracies})


def recipe(record: Record) -> str | None:
    """Return the text of a model's recipe; None if the recipe does not ship."""
    paths = {path.stem: path for path in registry.package_folder("recipes").glob("*.toml")}
    return paths[record.recipe].read_text(encoding="utf-8") if record.recipe in paths else None

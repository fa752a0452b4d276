"""Diagnoses from Python."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from harness.runner.diagnoses import Diagnosis

DEFAULT_IMAGES = 250


def diagnose(
    model: str,
    *,
    n: int = DEFAULT_IMAGES,
    radius: str | None = None,
    dataset: str | None = None,
    data_dir: str | Path | None = None,
    store: str | Path = "results",
    progress: Callable[[float, str], None] | None = None,
    on_message: Callable[[str], None] = lambda line: None,
) -> Diagnosis:
    """Measure whether a registered model's robustness is real, or read what the store holds.

    Parameters
    ----------
    model : str
        An id, or the path of a record.
    n : int
        Maximum number of images, the first of the data set.
    radius : str, optional
        An exact Linf radius such as "8/255"; the protocol's for the data by default.
    dataset : str, optional
        A name as listed by `harness ls datasets`, or images of your own; the sample of the model's data by default.
    data_dir : path, optional
        Folder of the data that does not ship; see `harness.datasets.data_folder`.
    store : path
        Where diagnoses are kept.
    progress : callable, optional
        Called with the fraction done and what is being measured.
    on_message : callable
        Called with each note on how the images were read.

    Returns
    -------
    Diagnosis
        `verdict.level` is "ok", "suspicious" or "masked", `verdict.reasons` says why, and `diagnostics` contains the measurements.

    Raises
    ------
    UserError
        If the model is unknown or refused, or has other classes than the images.
    """
    from harness import datasets
    from harness.runner import protocol
    from harness.runner.diagnoses import run_diagnosis
    from harness.runner.store import Store
    from model_zoo.errors import UsageError
    from model_zoo.references import parse_recorded
    from model_zoo.threat import ThreatModel, parse_radius

    record = parse_recorded(model).describe()
    name = dataset or datasets.sample_of(datasets.family_of(record.data.train))
    info = datasets.describe(name)
    threat = ThreatModel("Linf", parse_radius(radius)) if radius else protocol.default_threat("Linf", info.family)
    images = datasets.load(name, None if data_dir is None else Path(data_dir), n if info.size is None else min(n, info.size))
    for note in images.notes:
        on_message(f"{images.name}: {note}")
    if record.classes != len(images.classes):
        raise UsageError(f"model {record.id} has {record.classes} classes, but {images.name} has {len(images.classes)}")
    return run_diagnosis(model, images, threat, Store(Path(store)), progress)

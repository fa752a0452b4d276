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
    store: str | Path = "results",
    progress: Callable[[float, str], None] | None = None,
) -> Diagnosis:
    """Measure whether a registered model's robustness is real, or read what the store holds.

    Parameters
    ----------
    model : str
        An id, or the path of a record.
    n : int
        Number of images, the first of the sample of the model's data.
    radius : str, optional
        An exact Linf radius such as "8/255"; the protocol's for the model's data by default.
    store : path
        Where diagnoses are kept.
    progress : callable, optional
        Called with the fraction done and what is being measured.

    Returns
    -------
    Diagnosis
        `verdict.level` is "ok", "suspicious" or "masked", `verdict.reasons` says why, and `found` has what was measured.

    Raises
    ------
    UserError
        If the model is unknown or refused.
    """
    from harness import datasets
    from harness.runner import protocol
    from harness.runner.diagnoses import run_diagnosis
    from harness.runner.store import Store
    from model_zoo.references import parse_recorded
    from model_zoo.threat import ThreatModel, parse_radius

    family = parse_recorded(model).describe().data.train
    threat = ThreatModel("Linf", parse_radius(radius)) if radius else protocol.default_threat("Linf", family)
    return run_diagnosis(model, datasets.load(f"{family}-sample", n=n), threat, Store(Path(store)), progress)

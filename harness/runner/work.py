"""Running one unit: the function that every executor calls, in this process or in another."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from importlib import metadata
from typing import Any

from harness import datasets
from harness.evaluation.gates import check_alphabet, check_clean_accuracy
from harness.evaluation.outcomes import UnitOutcome
from harness.evaluation.unit import THREADS, evaluate_unit
from harness.runner import protocol
from harness.runner.plan import Unit
from harness.runner.store import Store
from model_zoo.classifier import Classifier
from model_zoo.errors import UserError
from model_zoo.loading import load_model
from model_zoo.packing.frozen import effective_weights
from model_zoo.registry import get_record
from model_zoo.schema import Record


@dataclass(frozen=True)
class Done:
    """What became of a unit: `failed` or `at_fault` hold one line each where there is something to say."""

    unit: str
    failed: str | None = None
    at_fault: str | None = None


def run_unit(unit: Unit, store: Store, progress: Callable[[float, str], None] | None = None) -> Done:
    """Evaluate a unit and store its outcome; a failure that is the unit's own comes back as a line instead of being raised."""
    begun = time.perf_counter()
    try:
        outcome = evaluate_unit(_model(unit.model), unit.block, unit.threat, unit.attack, unit.seed, progress, **declared(unit.record))
        _check_clean(unit, outcome)
        store.write(unit, outcome, {"environment": environment(), "seconds": round(time.perf_counter() - begun, 3)})
    except (UserError, RuntimeError, ValueError, OSError, MemoryError) as error:
        return Done(unit.id, failed=f"{unit}: {str(error).splitlines()[0] if str(error) else type(error).__name__}")
    return Done(unit.id, at_fault=f"{unit}: {dict(outcome.flags)['at-fault']}" if outcome.at_fault else None)


def declared(record: Record) -> dict[str, Any]:
    """What a record says about how its model is to be attacked."""
    return {"backward": record.backward, "draws": protocol.DRAWS if record.stochastic else None}


def environment() -> dict[str, Any]:
    """What the outcomes were computed with; kept in the manifest, outside the identity."""
    packages = ("torch", "torchattacks", "pyautoattack", "numpy")
    return {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "device": "cpu",
        "threads": THREADS,
        **{package: metadata.version(package) for package in packages},
    }


def _check_clean(unit: Unit, outcome: UnitOutcome) -> None:
    """Refuse what a model got right to begin with if that is not the model its record describes; on data of its own kind alone."""
    training = unit.record.training
    if training is not None and datasets.describe(unit.block.name).family == unit.record.data.train:
        correct = int((outcome.frame["clean_prediction"] == outcome.frame["label"]).sum())
        check_clean_accuracy(training.hold_out_clean_accuracy, correct, len(outcome.frame))


@lru_cache(maxsize=2)
def _model(name: str) -> Classifier:
    model, record = load_model(name), get_record(name)
    check_alphabet(effective_weights(model), record.weight_bits, pruned=record.keep_ratio is not None)
    return model

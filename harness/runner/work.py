"""Execution of one unit: the function that every executor calls, in this process, in another one or on another machine."""

from __future__ import annotations

import logging
import platform
import time
import traceback
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from functools import lru_cache
from importlib import metadata
from typing import Any

import numpy as np
import torch
from torch import nn

from harness import datasets, engines
from harness.datasets.base import ImageSet
from harness.evaluation.gates import check_alphabet, check_clean_accuracy
from harness.evaluation.outcomes import UnitOutcome
from harness.evaluation.referee import device_of
from harness.evaluation.unit import THREADS, evaluate_unit, unit_threads
from harness.runner import protocol
from harness.runner.claims import Lease
from harness.runner.documents import EngineUse
from harness.runner.fingerprints import check_fingerprint, fingerprint_of
from harness.runner.partial import PartialFile
from harness.runner.plan import Unit
from harness.runner.store import Store
from harness.runner.train import train_unit
from harness.runner.training_unit import TrainingUnit
from model_zoo.errors import RefusedError, UserCodeError, UserError
from model_zoo.exhaustion import is_full, is_memory
from model_zoo.kernels.graph import UnsuitedError
from model_zoo.packing.frozen import all_weights
from model_zoo.references import UserReference, parse
from model_zoo.schema import Attackable, Record
from model_zoo.user_code import user_code
from model_zoo.user_model import UserModel

Progress = Callable[[float, str], None]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Done:
    """Result of running a unit.

    `kind` is "finished", "failed", "busy" (another run is working on it) or "stored" (another run has finished it). `message` is one line
    that says why the unit failed or that its attack was at fault, None otherwise. `fatal` means that other units would fail too.
    """

    unit: str
    kind: str
    message: str | None = None
    fatal: bool = False


def run_unit(unit: Unit | TrainingUnit, store: Store, progress: Progress | None = None, rerun: bool = False, device: str = "cpu") -> Done:
    """Run a unit on "cpu" or "cuda" and store its outcome, unless another run is working on it or the store has it.

    With `rerun`, a unit that the store has is run again. A failure of the unit is not raised: it is returned as one line and
    recorded in the store.
    """
    try:
        with store.claims.claimed(unit.id) as claim:
            if claim is None:
                return Done(unit.id, "busy")
            is_done = store.trainings.holds(unit.id) if isinstance(unit, TrainingUnit) else store.holds(unit.id)
            if is_done and not rerun:
                return Done(unit.id, "stored")
            return _run_claimed(unit, store, claim, progress, device)
    except OSError as error:
        # Claiming failed: the store itself cannot be written to.
        return Done(unit.id, "failed", f"{store.root}: {error.strerror or error}", fatal=True)


def _run_claimed(unit: Unit | TrainingUnit, store: Store, claim: Lease, progress: Progress | None, device: str) -> Done:
    def on_progress(fraction: float, component: str) -> None:
        claim.set_progress(fraction, component)
        if progress is not None:
            progress(fraction, component)

    started = time.perf_counter()
    try:
        if isinstance(unit, TrainingUnit):
            train_unit(unit, store.trainings, on_progress, environment(device), device)
            finding = None
        else:
            finding = _attack(unit, store, on_progress, device)
        logger.info("finished in %.1f s: %s", time.perf_counter() - started, unit)
    except Exception as error:
        if is_full(error):
            # Other units could not be stored either.
            text = getattr(error, "strerror", None) or error
            return Done(unit.id, "failed", f"{store.root}: {text}; finished units are stored", fatal=True)
        message = f"{unit}: {_error_line(error, unit)}"
        logger.warning("failed: %s", message)
        logger.debug("traceback of %s", unit.id, exc_info=True)
        store.fail(unit, message, error.trace if isinstance(error, UserCodeError) else "".join(traceback.format_exception(error)))
        return Done(unit.id, "failed", message)
    return Done(unit.id, "finished", finding)


def _attack(unit: Unit, store: Store, on_progress: Progress, device: str) -> str | None:
    """Attack the unit's model and store the outcome; return one line if the attack was at fault."""
    started = time.perf_counter()
    # Methods of a user's network other than its forward pass may fail too.
    with user_code("model failed") if isinstance(parse(unit.model), UserReference) else nullcontext():
        outcome, facts = _evaluate_reference(unit, store, on_progress, store.partial(unit.id), device)
    facts |= {"environment": environment(device), "seconds": round(time.perf_counter() - started, 3)}
    store.write(unit, outcome, facts)
    return f"{unit}: {dict(outcome.flags)['at-fault']}" if outcome.at_fault else None


def _evaluate_reference(
    unit: Unit, store: Store, on_progress: Progress, partial: PartialFile, device: str
) -> tuple[UnitOutcome, dict[str, Any]]:
    """Return a unit's outcome, and facts for its manifest."""
    record, model = open_checked(unit.model)
    if (record.weights_sha256, record.architecture) != (unit.record.weights_sha256, unit.record.architecture):
        raise RefusedError("model refused: its files have changed since the run was planned, or every call makes another network")
    facts: dict[str, Any] = {}
    if isinstance(record, UserModel):
        # Taken on the CPU, before the model moves to the device.
        facts["fingerprint"] = fingerprint_of(record, model.cpu())
        check_fingerprint(unit.identity, facts["fingerprint"], store)
    outcome, engine_use = evaluate(unit, model, on_progress, memory=partial, device=device)
    return outcome, facts if engine_use is None else {**facts, "engine": engine_use}


def evaluate(
    unit: Unit, model: nn.Module, progress: Progress | None = None, *, memory: PartialFile | None = None, device: str = "cpu"
) -> tuple[UnitOutcome, EngineUse | None]:
    """Evaluate one unit with all checks: the only way from a unit to its outcome, for runs, comparisons and `harness.evaluate`.

    Parameters
    ----------
    model : nn.Module
        The network that `unit.record` describes, frozen and in eval mode.

    Returns
    -------
    tuple
        The outcome, and the engine that the attack differentiated; None for the model itself.

    Raises
    ------
    UserError
        As `harness.evaluation.unit.evaluate_unit` raises it, or if the clean accuracy is not that of the record.
    """
    model = model.to(device)
    engine = prepared(unit.model, unit.engine, model, unit.block)
    if engine.engine != unit.engine:
        logger.warning("engine %s is not used for %s: %s", unit.engine, unit, engine.finding)
    declarations = declared(unit.record)
    outcome = evaluate_unit(
        model, unit.block, unit.threat, unit.attack, unit.seed, progress, memory=memory, attacked=engine.model, **declarations
    )
    check_clean(unit.record, unit.block, outcome.frame["clean_prediction"].to_numpy())
    return outcome, None if unit.engine == "dense" else EngineUse(used=engine.engine, finding=engine.finding)


def _error_line(error: BaseException, unit: Unit | TrainingUnit) -> str:
    text = str(error).splitlines()[0] if str(error) else type(error).__name__
    # Batches are not split, because kernels round differently for another batch size, which may change an outcome.
    if is_memory(error):
        size = unit.recipe.optimiser.batch if isinstance(unit, TrainingUnit) else len(unit.block)
        return f"out of memory with a batch of {size} images ({text})"
    return text if isinstance(error, (UserError, RuntimeError, ValueError, OSError)) else f"{type(error).__name__}: {text}"


def declared(record: Attackable) -> dict[str, Any]:
    """Return what a record declares about how its model is attacked, as arguments of `evaluate_unit`, `admit` and `as_attacked`."""
    return {"backward": record.backward, "draws": protocol.DRAWS if record.stochastic else None}


def environment(device: str) -> dict[str, Any]:
    """Return the software and hardware that outcomes are computed with; stored in the manifest, outside the identity."""
    packages = ("torch", "torchattacks", "pyautoattack", "numpy")
    return {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "host": platform.node(),
        "device": torch.cuda.get_device_name() if device == "cuda" else "cpu",
        "threads": THREADS,
        **{package: metadata.version(package) for package in packages},
    }


def check_clean(record: Attackable, block: ImageSet, predictions: np.ndarray) -> None:
    """Check clean predictions int64 [N] against the accuracy in a model's record, on registered data of the kind that it was trained on.

    Users' images may be those that the model was trained on, of which it gets more right than of held-out ones.
    """
    training, data = record.training, record.data
    is_registered = not datasets.is_user_data(block.name)
    if training is not None and data is not None and is_registered and datasets.describe(block.name).family == data.train:
        check_clean_accuracy(training.hold_out_clean_accuracy, int((predictions == block.labels).sum()), len(block))


@lru_cache(maxsize=2)
def open_checked(reference: str) -> tuple[Attackable, nn.Module]:
    """Return the record or description of a model and the model; one with a record must have the kind of weights that it says."""
    record, model = parse(reference).open()
    if isinstance(record, Record):
        check_alphabet(all_weights(model), record.weight_bits, pruned=record.keep_ratio is not None)
    return record, model


@lru_cache(maxsize=2)
def _build_engine(reference: str, engine: str) -> nn.Module:
    return engines.build(open_checked(reference)[1], engine)


def prepared(reference: str, engine: str, model: nn.Module, block: ImageSet) -> engines.Prepared:
    """Return an engine of the model that a reference names, compared with `model` on the images of `block`.

    It is `model` itself if the two differ, if the model has no such engine, or if `engine` is "dense".
    """
    if engine == "dense":
        return engines.Prepared(model, "dense", "")
    device = device_of(model)
    with unit_threads():
        try:
            built = _build_engine(reference, engine).to(device)
        except UnsuitedError as error:
            return engines.Prepared(model, "dense", f"engine {engine} refused: {error}")
        return engines.prepare(model, built, engine, block.tensors()[0].to(device))

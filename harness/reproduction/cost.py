"""Estimates of how long cells take: from stored trainings and attacks, or else from a few training steps on random images."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from statistics import median
from typing import Any

import numpy as np

from harness.datasets import training_size
from harness.evaluation.unit import unit_threads
from harness.reproduction.cells import CellStore
from harness.runner.identity import canonical_json
from harness.runner.training_unit import TrainingUnit
from model_zoo.training.curve import EpochRecord
from model_zoo.training.recipe import Recipe
from model_zoo.training.trained import Step
from model_zoo.training.trainer import train

# The first steps of a pilot compile kernels and fill caches; the median of the others counts.
PILOT_STEPS, WARM_UP = 5, 2
# A pilot begins with small batches, by engine, and ends with the first batch whose step takes this many seconds: on a slow machine, steps
# of a large network on a full batch would take minutes each.
FIRST_BATCH = {"dense": 8, "sparse": 16}
LONG_STEP = 0.5
# A rate at which a network that learns random labels in tiny batches does not diverge; it does not change the time of a step.
PILOT_RATE = 1e-6
# Options of a recipe that change what is learned but hardly the time that it takes.
CHEAP_OPTIONS = ("score_scale", "score_fan", "weight_init")
# Share of the time of an epoch's training that its evaluation on held-out images takes.
HOLD_OUT_SHARE = 0.05


class _EnoughError(Exception):
    """Raised to end a pilot."""


def training_seconds(cells: CellStore, units: Sequence[TrainingUnit], on_pilot: Callable[[str], None] = lambda recipe: None) -> list[float]:
    """Return the estimated seconds of trainings on one thread.

    The estimate is the median of the stored trainings of the same network and schedule; if there are none, a pilot of a few steps is timed.
    `on_pilot` is called with the id of a recipe before its pilot.
    """
    stored_seconds, seconds = _seconds_by_kind(cells), []
    for unit in units:
        kind = _kind(unit.recipe.to_dict())
        if kind not in stored_seconds:
            on_pilot(unit.recipe.id)
            stored_seconds[kind] = [_pilot(unit)]
        seconds.append(median(stored_seconds[kind]))
    return seconds


def quick_seconds(cells: CellStore, units: Sequence[TrainingUnit]) -> float | None:
    """Return the estimated seconds of trainings without a pilot, for new kinds the median of all; None if the store has none."""
    stored_seconds = _seconds_by_kind(cells)
    if not stored_seconds:
        return None
    typical = median(value for values in stored_seconds.values() for value in values)
    return sum(median(stored_seconds.get(_kind(unit.recipe.to_dict()), [typical])) for unit in units)


def _seconds_by_kind(cells: CellStore) -> dict[str, list[float]]:
    """Return the seconds of the store's trainings by `_kind`."""
    stored_seconds: dict[str, list[float]] = {}
    for document in cells.documents.values():
        stored_seconds.setdefault(_kind(document.identity["training"]), []).append(document.seconds)
    return stored_seconds


def attack_seconds(cells: CellStore, models: int) -> float | None:
    """Return the estimated seconds to attack a number of trained models, from the attacks in the store; None if there are none."""
    per_model: dict[str, float] = {}
    for manifest in cells.store.manifests():
        if manifest.seconds is not None:
            per_model[manifest.labels.model] = per_model.get(manifest.labels.model, 0.0) + manifest.seconds
    return models * median(per_model.values()) if per_model else None


def _kind(recipe: dict[str, Any]) -> str:
    """Return what decides the time that a recipe takes, as text."""
    options = {name: value for name, value in recipe["options"].items() if name not in CHEAP_OPTIONS}
    architecture = {name: value for name, value in recipe["architecture"].items() if name != "last_batch_norm"}
    schedule = {name: recipe["optimiser"][name] for name in ("epochs", "batch")}
    attack = {name: recipe["attack"][name] for name in ("method", "steps")}
    fields = {"options": options, "architecture": architecture, "schedule": schedule, "attack": attack}
    return canonical_json({**fields, "family": recipe["family"], "data": recipe["data"]})


def _pilot(unit: TrainingUnit) -> float:
    """Return the estimated seconds of a training from a few of its steps on random images."""
    recipe = unit.recipe
    full = recipe.optimiser.batch
    images = (recipe.data.images or training_size(recipe.data.dataset)) - recipe.data.hold_out
    batch = min(FIRST_BATCH[unit.engine], full)
    while (step := _step_seconds(unit, batch)) < LONG_STEP and batch < full:
        batch = min(4 * batch, full)
    return (1 + HOLD_OUT_SHARE) * recipe.optimiser.epochs * (images // full) * step * full / batch


def _step_seconds(unit: TrainingUnit, batch: int) -> float:
    """Return the processor time of one training step with batches of this size, on one thread."""
    fields = unit.recipe.to_dict()
    generator = np.random.default_rng(0)
    count = unit.recipe.data.hold_out + batch * (PILOT_STEPS + 1)
    pixels = generator.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
    labels = generator.integers(0, int(unit.recipe.architecture["classes"]), count)
    short = {"data": {**fields["data"], "images": None}, "optimiser": {**fields["optimiser"], "batch": batch, "learning_rate": PILOT_RATE}}
    times: list[float] = []

    def report(event: Step | EpochRecord) -> None:
        # Processor time of the one thread: other work on this machine is not part of the estimate.
        times.append(time.process_time())
        if len(times) == PILOT_STEPS:
            raise _EnoughError

    with unit_threads(), suppress(_EnoughError):
        train(Recipe.from_dict({**fields, **short}), pixels, labels, "cpu", report, engine=unit.engine)
    return median(np.diff(times[WARM_UP:]).tolist())

"""Training of one unit in a store: continues an interrupted training and keeps the model, its curve and its document."""

from __future__ import annotations

import time
from collections.abc import Callable

from torch import nn

from harness.datasets import load, load_training
from harness.evaluation.unit import unit_threads
from harness.runner.training_unit import TrainingUnit
from harness.runner.trainings import TrainingDocument, Trainings
from model_zoo.errors import UsageError
from model_zoo.packing.frozen import effective_weights
from model_zoo.training.curve import EpochRecord, curve_csv
from model_zoo.training.outcome import keep
from model_zoo.training.state import state_path
from model_zoo.training.trained import Step
from model_zoo.training.trainer import finished, train

EMPTY_LAYER, EMPTY_CLASS = "empty layer", "empty class"


def train_unit(
    unit: TrainingUnit, trainings: Trainings, on_progress: Callable[[float, str], None], environment: dict[str, object], device: str = "cpu"
) -> TrainingDocument:
    """Train the unit's model, on one thread if on the CPU, and store it; return its document.

    Raises
    ------
    UserError
        If the data is not on this machine or is not that of the identity, the recipe cannot be trained, or training diverges.
    """
    folder = trainings.work_folder(unit.id)
    state = state_path(folder, unit.recipe.id)
    started = time.perf_counter()

    def report(event: Step | EpochRecord) -> None:
        if isinstance(event, Step):
            on_progress(event.done / event.total, f"step {event.done} of {event.total}")

    with unit_threads():
        trained = finished(unit.recipe, state)
        if trained is None:
            images = load_training(unit.recipe.data.dataset, unit.data_dir)
            test = None if unit.test is None else load(unit.test, unit.data_dir)
            arrays = None if test is None else (test.images, test.labels)
            trained = train(unit.recipe, images.images, images.labels, device, report, state, engine=unit.engine, test=arrays)
        if trained.engine != unit.engine:
            raise UsageError(f"{state} was started with engine {trained.engine}, not {unit.engine}: delete it to start again")
        record = keep(trained, unit.recipe, folder)
    document = TrainingDocument(
        training=unit.id,
        identity=unit.identity,
        recipe=unit.recipe.id,
        record=record.model_dump(mode="json", exclude_none=True),
        curve=curve_csv(trained.curve),
        seconds=round(max(trained.curve[-1].seconds, time.perf_counter() - started), 1),
        marks=marks(trained.model),
        environment=dict(environment),
    )
    trainings.write(document)
    state.unlink(missing_ok=True)
    return document


def marks(model: nn.Module) -> tuple[str, ...]:
    """Return "empty layer" if a layer has no weight left, and "empty class" if a class of the last layer has none."""
    weights = effective_weights(model)
    is_empty = any(not array.any() for array in weights)
    last = weights[-1].reshape(len(weights[-1]), -1)
    has_empty_class = bool((~last.any(axis=1)).any())
    return (*([EMPTY_LAYER] if is_empty else []), *([EMPTY_CLASS] if has_empty_class else []))

"""Small recipes of all families, and functions that observe a model while it trains."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from model_zoo.classifier import Classifier
from model_zoo.layers.masked import masked_layers
from model_zoo.training import trainer
from model_zoo.training.controller import Controller
from model_zoo.training.curve import EpochRecord
from model_zoo.training.recipe import Recipe
from model_zoo.training.trained import Step, Trained
from model_zoo.training.trainer import train
from tests.model_zoo.training.tiny import SAMPLE, recipe

SGD = {"kind": "sgd", "learning_rate": 0.1, "momentum": 0.9, "weight_decay": 5e-4}
KEEP = {"keep_ratio": 0.2}
STAGES = {"pretrain_epochs": 1, "search_epochs": 1}
# Options with which every part of a method occurs within three epochs of ten steps.
OPTIONS: dict[str, dict[str, Any]] = {
    "atmc": {**KEEP, "pretrain_epochs": 1, "admm_epochs": 1, "bits": 3, "every": 3},
    "bcs": KEEP,
    "biprop": KEEP,
    "dense": {},
    "dense-binary": {},
    "flying-bird": {**KEEP, "every": 3},
    "flying-bird-plus": {**KEEP, "every": 3, "begin": 0.3},
    "harp": {**KEEP, **STAGES, "initial_keep_ratio": 0.4},
    "hydra": {**KEEP, **STAGES},
    "int8": {},
    "lwm": {**KEEP, "pretrain_epochs": 1},
    "pruned-binary": {**KEEP, "allocation_power": 0.1},
    "robust-bird": {**KEEP, "clean_epochs": 2, "every": 2, "tolerance": 0.2},
    "rst": KEEP,
}
# Families that train scores of frozen weights, or signs.
BY_ADAM = ("biprop", "dense-binary", "pruned-binary", "rst")


def tiny(family: str, epochs: int = 3, **options: Any) -> Recipe:
    """Return a recipe with epochs of ten steps of 25 images; `options` override those of `OPTIONS`."""
    kind = {"kind": "adam", "learning_rate": 0.01} if family in BY_ADAM else SGD
    data = {"dataset": "cifar10", "hold_out": 20, "images": 270}
    return recipe(family, top={"options": {**OPTIONS[family], **options}, "data": data}, epochs=epochs, batch=25, **kind)


def train_tiny(recipe: Recipe) -> Trained:
    """Train the recipe on a few real images and return the result."""
    return train(recipe, SAMPLE.images, SAMPLE.labels)


def train_with_callback(recipe: Recipe, on_step: Callable[[nn.Module, int], None], monkeypatch: pytest.MonkeyPatch) -> Trained:
    """Train, and call `on_step` after every step with the model and the number of the step, counted from 1."""
    return train_with_controller_callback(recipe, lambda model, controller, step: on_step(model, step), monkeypatch)


def train_with_controller_callback(
    recipe: Recipe, on_step: Callable[[nn.Module, Controller, int], None], monkeypatch: pytest.MonkeyPatch
) -> Trained:
    """Train as `train_with_callback` does; `on_step` gets the model, its controller and the number of the step."""
    build, built = trainer.build, []

    def build_and_record(recipe: Recipe) -> tuple[Classifier, Controller]:
        built.append(build(recipe))
        return built[-1]

    def report(event: Step | EpochRecord) -> None:
        if isinstance(event, Step):
            on_step(*built[-1], event.done)

    monkeypatch.setattr(trainer, "build", build_and_record)
    return train(recipe, SAMPLE.images, SAMPLE.labels, report=report)


def kept_counts(model: nn.Module) -> list[int]:
    """Return the number of kept weights per masked layer."""
    return [int(layer.mask.sum()) for layer in masked_layers(model)]


def sizes(model: nn.Module) -> list[int]:
    """Return the number of weights per masked layer."""
    return [layer.mask.numel() for layer in masked_layers(model)]


def masks(model: nn.Module) -> list[torch.Tensor]:
    """Return copies of the masks."""
    return [layer.mask.clone() for layer in masked_layers(model)]


def weights(model: nn.Module) -> list[torch.Tensor]:
    """Return copies of the weights of the masked layers."""
    return [layer.weight.detach().clone() for layer in masked_layers(model)]

"""Recipes, networks and gradients shared by the tests of engine sparse."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from model_zoo.classifier import Classifier
from model_zoo.families import families
from model_zoo.training.building import build
from model_zoo.training.engine import DenseEngine, Engine, make_engine
from model_zoo.training.recipe import Recipe
from model_zoo.training.sharing import Share
from tests.model_zoo.families.runs import BY_ADAM, OPTIONS, SGD
from tests.model_zoo.training.tiny import SAMPLE, recipe

IMAGES, LABELS = SAMPLE.tensors()
BATCH = 48
numba = pytest.mark.needs_numba
MASKED = sorted(name for name, family in families().items() if family.is_masked)
FAMILIES = ["pruned-binary", "rst", "biprop", "flying-bird", "bcs", "hydra"]
# For families that are not masked from the first epoch: index of the epoch, of three, from which the network is masked.
MASKED_EPOCH = {"hydra": 1}


def masked_recipe(family: str, attack: dict[str, Any] | None = None, options: dict[str, Any] | None = None, **changes: Any) -> Recipe:
    """Return a tiny recipe that engine sparse supports; `changes` apply to its architecture."""
    architecture = {"name": "cifar-resnet8", "classes": 10, "width": 8, "stem_stride": 2, "last_batch_norm": "plain"}
    kind = {"kind": "adam", "learning_rate": 0.01} if family in BY_ADAM else SGD
    top = {
        "options": {**OPTIONS[family], **(options or {})},
        "architecture": {**architecture, "normalisation": "cifar10", **changes},
        "data": {"dataset": "cifar10", "hold_out": 20, "images": 260},
    }
    return recipe(family, attack, top, batch=BATCH, epochs=3, **kind)


def engines(chosen: Recipe) -> tuple[Engine, DenseEngine]:
    """Return engine sparse and the float32 dense engine on networks with the same weights, in training mode and a masked stage."""
    pair = []
    for name in ("sparse", "dense"):
        model, controller = build(chosen)
        for epoch in (0, MASKED_EPOCH.get(chosen.family, 0)):
            controller.at_epoch(epoch, chosen.optimiser.epochs)
        engine = DenseEngine(model, Share(), BATCH, faithful=True) if name == "dense" else make_engine(name, model, chosen, Share())
        # Float16 cells are tested in test_short_cells.
        engine._attack_lanes = 16  # type: ignore[attr-defined]
        model.train()
        engine.refresh()
        pair.append(engine)
    assert pair[0]._is_sparse  # type: ignore[attr-defined]
    return pair[0], pair[1]  # type: ignore[return-value]


def batch(number: int) -> torch.Tensor:
    """Return the images of batch `number`, in the memory format that the trainer uses."""
    return IMAGES[number * BATCH : (number + 1) * BATCH].contiguous(memory_format=torch.channels_last)


def labels(number: int) -> torch.Tensor:
    return LABELS[number * BATCH : (number + 1) * BATCH]


def with_batch_statistics(model: Classifier, images: torch.Tensor) -> nn.Module:
    """Return a copy in evaluation mode with the statistics of one batch (biased variance) as running statistics."""
    model = copy.deepcopy(model).train()
    for norm in model.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.register_forward_hook(_set_running_statistics)
    with torch.no_grad():
        model(images)
    return model.eval()


def _set_running_statistics(norm: nn.Module, inputs: tuple[torch.Tensor], output: torch.Tensor) -> None:
    if norm.training:
        assert isinstance(norm, nn.BatchNorm2d) and norm.running_mean is not None and norm.running_var is not None
        norm.running_mean.copy_(inputs[0].mean((0, 2, 3)))
        norm.running_var.copy_(inputs[0].var((0, 2, 3), unbiased=False))


def logits_and_gradient(forward: Callable[[torch.Tensor], torch.Tensor], images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    point = images.clone().requires_grad_(True)
    logits = forward(point)
    (gradient,) = torch.autograd.grad(F.cross_entropy(logits, LABELS[: len(images)], reduction="sum"), point)
    return logits.detach(), gradient


def named_gradients(engine: Engine, number: int = 0) -> dict[str, torch.Tensor]:
    model = engine.model  # type: ignore[attr-defined]
    model.zero_grad()
    F.cross_entropy(engine.trained(batch(number)), labels(number)).backward()
    return {name: parameter.grad for name, parameter in model.named_parameters() if parameter.requires_grad}

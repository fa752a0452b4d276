"""A tiny recipe and a few real images for the training tests."""

from typing import Any

from harness import datasets
from model_zoo.training.recipe import Recipe

SAMPLE = datasets.load("cifar10-sample").first(600)


def recipe(
    family: str = "pruned-binary", attack: dict[str, Any] | None = None, top: dict[str, Any] | None = None, **optimiser: Any
) -> Recipe:
    """Return a recipe with two epochs of ten steps on 500 images outside the hold-out; the other parameters change its fields."""
    options = {"keep_ratio": 0.2, "allocation_power": 0.1} if family == "pruned-binary" else {}
    kind = {"kind": "adam", "learning_rate": 0.01} if family != "dense" else {"kind": "sgd", "learning_rate": 0.1, "momentum": 0.9}
    architecture = {"name": "cifar-resnet8", "classes": 10, "width": 8, "stem_stride": 2, "last_batch_norm": "plain"}
    fields = {
        "id": "tiny",
        "title": "tiny",
        "family": family,
        "seed": 3,
        "options": options,
        "architecture": {**architecture, "normalisation": "cifar10"},
        "data": {"dataset": "cifar10", "hold_out": 100},
        "attack": {"threat": "Linf 8/255", "step": "6/255", "steps": 2, **(attack or {})},
        "optimiser": {**kind, "epochs": 2, "batch": 50, **optimiser},
    }
    return Recipe.from_dict({**fields, **(top or {})})

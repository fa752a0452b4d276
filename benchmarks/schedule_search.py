"""Compare short schedules for learned scores on a small network: python -m benchmarks.schedule_search ARRAYS OUT [VARIANT ...].

ARRAYS is an .npz file with the CIFAR-10 training images (x uint8 [N, 32, 32, 3], y). Every variant differs from the base in the setting
that it is named after, and trains a pruned binary ResNet-18 of half the width on 20,000 images for 8 epochs of PGD-3, six to eight minutes
on one core. An interrupted run is resumed. Prints a Markdown table of the accuracy on 1,000 held-out images after the last epoch.
"""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Any

import torch

from model_zoo.arrays import read_arrays
from model_zoo.training.recipe import Recipe
from model_zoo.training.trainer import train

BASE: dict[str, Any] = {
    "id": "base",
    "title": "Pruned binary ResNet-18, width 32, keep 0.02",
    "family": "pruned-binary",
    "seed": 0,
    "architecture": {
        "name": "cifar-resnet18",
        "classes": 10,
        "width": 32,
        "stem_stride": 2,
        "last_batch_norm": "plain",
        "normalisation": "cifar10",
    },
    "options": {"keep_ratio": 0.02, "allocation_power": 0.1, "score_scale": 0.01},
    "data": {"dataset": "cifar10", "hold_out": 1000, "images": 21000},
    "attack": {"threat": "Linf 8/255", "step": "4/255", "steps": 3},
    "optimiser": {"kind": "adam", "learning_rate": 0.003, "epochs": 8, "batch": 128, "warmup": 0.25},
}
SGD = {"kind": "sgd", "momentum": 0.9}
VARIANTS: dict[str, dict[str, dict[str, Any]]] = {
    "base": {},
    "adam-0.001": {"optimiser": {"learning_rate": 0.001}},
    "adam-0.01": {"optimiser": {"learning_rate": 0.01}},
    "sgd-0.1": {"optimiser": {**SGD, "learning_rate": 0.1}},
    "sgd-1": {"optimiser": {**SGD, "learning_rate": 1.0}},
    "sgd-10": {"optimiser": {**SGD, "learning_rate": 10.0}},
    "scale-0.001": {"options": {"score_scale": 0.001}},
    "scale-0.1": {"options": {"score_scale": 0.1}},
    "batch-64": {"optimiser": {"batch": 64}},
    "batch-256": {"optimiser": {"batch": 256}},
}


def recipe_of(variant: str) -> Recipe:
    """Return the base recipe with the variant's changes."""
    fields = {name: dict(value) if isinstance(value, dict) else value for name, value in BASE.items()}
    for section, changes in VARIANTS[variant].items():
        fields[section] |= changes
    return dataclasses.replace(Recipe.from_dict(fields), id=variant)


def main() -> None:
    """Train the named variants, by default all, and print their final accuracies."""
    arrays, out, *names = sys.argv[1:]
    images, labels = read_arrays(Path(arrays))
    torch.set_num_threads(1)
    sys.stdout.write("| variant | clean | PGD-10 | loss | minutes |\n| --- | --- | --- | --- | --- |\n")
    for name in names or VARIANTS:
        last = train(recipe_of(name), images, labels, state=Path(out) / f"{name}.state.pt").curve[-1]
        clean, robust = 100 * last.hold_out_clean_accuracy, 100 * last.hold_out_pgd_accuracy
        sys.stdout.write(f"| {name} | {clean:.1f} | {robust:.1f} | {last.train_loss:.3f} | {last.seconds / 60:.1f} |\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()

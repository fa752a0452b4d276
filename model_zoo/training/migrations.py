"""Convert stored training runs of older versions to the current version, one version at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

VERSION = 3
# Version 1 stored the state of methods in the network, as buffers of these submodules.
CONTROLLERS = ("rewiring.", "early_bird.", "connectivity.", "compression.")
# In version 1, every masked layer had a buffer for the stage; only these families used it.
STAGED = ("lwm", "hydra", "harp")


def migrate(state: dict[str, Any]) -> dict[str, Any]:
    """Return a stored run of this or an older version, converted to version `VERSION`."""
    for version in range(state["version"], VERSION):
        state = STEPS[version](state)
    return state


def _from_version_1(state: dict[str, Any]) -> dict[str, Any]:
    """Separate the method's state from the network, and add fields that version 1 lacked: engine, average and starting weights."""
    model, controller = _without_controller(state["model"])
    if state["recipe"]["family"] in STAGED:
        controller["stage"] = next(tensor for name, tensor in state["model"].items() if name.endswith(".stage"))
    best = None if state["best"] is None else _without_controller(state["best"])[0]
    new_fields = {"controller": controller, "engine": "dense", "engine_state": {}, "average": None, "starting_weights": ""}
    return {**state, "version": 2, "model": model, "best": best, **new_fields}


def _from_version_2(state: dict[str, Any]) -> dict[str, Any]:
    """Add the shape of the images, which was always that of CIFAR."""
    return {**state, "version": 3, "shape": [3, 32, 32]}


def _without_controller(tensors: dict[str, torch.Tensor]) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Split the tensors of a version-1 network into those of the network and those of its method."""
    controller = {name: tensor for name, tensor in tensors.items() if name.startswith(CONTROLLERS)}
    network = {name: tensor for name, tensor in tensors.items() if name not in controller and not name.endswith(".stage")}
    return network, {name.partition(".")[2]: tensor for name, tensor in controller.items()}


# Per older version, the function that converts its state to the next version.
STEPS: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {1: _from_version_1, 2: _from_version_2}

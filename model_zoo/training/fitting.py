"""Recipes and images that belong together: fit a recipe to other images, and check that a recipe's network takes its images."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np
import torch
from torch import nn

from model_zoo.classifier import channels_of
from model_zoo.errors import UsageError
from model_zoo.training.recipe import Recipe

# Images per step of `pixel_statistics`.
_STEP = 1000


def fit(recipe: Recipe, images: np.ndarray, classes: int, dataset: str, flip: bool = True) -> Recipe:
    """Return a recipe that trains on other images.

    Classes and channels of the architecture become those of the images. A normalisation that is named after a data set is replaced by the
    means and standard deviations of these images; "none" and stated numbers are kept. Threat model and schedule are not changed.

    Parameters
    ----------
    recipe : Recipe
        The recipe.
    images : np.ndarray
        Training images, uint8 [N, H, W, C].
    classes : int
        Number of classes.
    dataset : str
        Name of the data set, which the record of the model states.
    flip : bool
        Whether mirror images have the same class; if False, the recipe does not flip images.
    """
    architecture = {**recipe.architecture, "classes": classes}
    architecture.pop("channels", None)
    if images.shape[3] != 3:
        architecture["channels"] = images.shape[3]
    if not isinstance(architecture.get("normalisation"), Mapping) and architecture.get("normalisation") != "none":
        architecture["normalisation"] = pixel_statistics(images)
    data = dataclasses.replace(recipe.data, dataset=dataset, flip=recipe.data.flip and flip)
    return dataclasses.replace(recipe, architecture=architecture, data=data)


def pixel_statistics(images: np.ndarray) -> dict[str, list[float]]:
    """Return the mean and the standard deviation per channel of images uint8 [N, H, W, C] in units of the [0, 1] range, with 4 decimals.

    The deviation of a constant channel is 1.
    """
    counts = np.zeros((images.shape[3], 256), np.int64)
    for start in range(0, len(images), _STEP):
        part = images[start : start + _STEP]
        for channel in range(images.shape[3]):
            counts[channel] += np.bincount(part[..., channel].reshape(-1), minlength=256)
    values, shares = np.arange(256) / 255.0, counts / counts.sum(1, keepdims=True)
    means = shares @ values
    deviations = np.sqrt(np.maximum((shares * (values - means[:, None]) ** 2).sum(1), 0.0)).round(4)
    return {"mean": means.round(4).tolist(), "std": np.where(deviations > 0, deviations, 1.0).tolist()}


def check_fits(recipe: Recipe, images: np.ndarray, labels: np.ndarray) -> None:
    """Raise a UsageError unless the images uint8 [N, H, W, C] and labels [N] have the channels and classes of a recipe."""
    channels, classes = channels_of(recipe.architecture), int(recipe.architecture["classes"])
    if images.ndim != 4 or images.shape[3] != channels:
        raise UsageError(f"recipe {recipe.id} trains on images of {channels} channel(s) (architecture, channels), not {list(images.shape)}")
    if len(labels) and int(labels.max()) >= classes:
        raise UsageError(f"recipe {recipe.id} trains {classes} classes, and there are labels up to {int(labels.max())}")


def check_runs(model: nn.Module, recipe: Recipe, images: np.ndarray) -> None:
    """Raise a UsageError if the recipe's network does not run on images of this size, uint8 [N, H, W, C]; leaves it in training mode."""
    height, width, channels = images.shape[1:]
    device = next(model.parameters()).device
    try:
        with torch.no_grad():
            model.eval()(torch.zeros(1, channels, height, width, device=device))
    except RuntimeError as error:
        name = recipe.architecture["name"]
        raise UsageError(
            f"architecture {name!r} does not run on images of {width} x {height} pixels: {str(error).splitlines()[0]}"
        ) from None
    model.train()

"""The classifier that is trained, stored and attacked: a network with its input normalisation inside."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import nn

from model_zoo.architectures import build_network
from model_zoo.errors import UnknownNameError, UsageError

# Channel means and standard deviations of the official code, in units of the [0, 1] pixel range. Its CIFAR-10 deviations are those of
# image means (0.2023, not 0.247); they are part of the models and therefore unchanged.
NORMALISATIONS: dict[str, tuple[tuple[float, float, float], tuple[float, float, float]]] = {
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
    "cifar100": ((0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761)),
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    # For models of other authors: HYDRA, HARP, BCS and TRADES do not normalise; Flying Bird's normalisation is a layer of the network;
    # edge-popup's is in its data loaders, the same for CIFAR-10 and CIFAR-100 (robust scratch tickets, biprop).
    "none": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
    "flying-bird-cifar10": ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    "flying-bird-cifar100": ((0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)),
    "edge-popup-loader": ((0.491, 0.482, 0.447), (0.247, 0.243, 0.262)),
}


# A key of `NORMALISATIONS`, or a mapping with the keys "mean" and "std", one number per channel each.
Normalisation = str | Mapping[str, Sequence[float]]


def channels_of(architecture: Mapping[str, Any]) -> int:
    """Return the number of channels of the images that an architecture takes; UsageError if it is not a whole number from 1 to 3."""
    channels = architecture.get("channels", 3)
    if type(channels) is not int or channels not in (1, 3):
        raise UsageError(f"images have 1 channel (grey) or 3 (RGB), not {channels!r}")
    return channels


def normalisation_values(normalisation: Normalisation, channels: int) -> tuple[list[float], list[float]]:
    """Return the means and the standard deviations of a normalisation, one per channel.

    Raises
    ------
    UnknownNameError
        If a name is not a key of `NORMALISATIONS`.
    UsageError
        If a mapping has other keys, values that are not numbers, or a deviation that is not positive, or the number of channels differs.
    """
    if isinstance(normalisation, str):
        if normalisation not in NORMALISATIONS:
            raise UnknownNameError("normalisation", normalisation, NORMALISATIONS, "harness show MODEL --json")
        mean, deviation = map(list, NORMALISATIONS[normalisation])
        if normalisation == "none":
            mean, deviation = mean[:channels], deviation[:channels]
    else:
        if set(normalisation) != {"mean", "std"}:
            raise UsageError("a normalisation is a name, or a table with mean and std")
        try:
            mean, deviation = ([float(value) for value in normalisation[key]] for key in ("mean", "std"))
        except (TypeError, ValueError):
            raise UsageError("mean and std of a normalisation are lists of numbers, one per channel") from None
        if not all(value > 0 for value in deviation):
            raise UsageError("the standard deviations of a normalisation are positive")
    if len(mean) != channels or len(deviation) != channels:
        raise UsageError(f"a normalisation of {len(mean)} channels does not fit images of {channels}")
    return mean, deviation


class Classifier(nn.Module):
    """Network that maps images float32 [N, C, H, W] in [0, 1] to logits [N, classes], with the normalisation inside.

    Parameters
    ----------
    network : nn.Module
        The network, which takes normalised images.
    normalisation : str or mapping
        What `normalisation_values` takes; its errors are raised.
    channels : int
        Number of channels C, 3 or 1.

    Attributes
    ----------
    architecture, affine : mapping or None, bool
        The arguments of `build_classifier`; `architecture` is None if the classifier was constructed directly.
    """

    def __init__(self, network: nn.Module, normalisation: Normalisation, channels: int = 3) -> None:
        super().__init__()
        mean, deviation = normalisation_values(normalisation, channels)
        # Not persistent, because they belong to the architecture and not to the weights.
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("deviation", torch.tensor(deviation).view(1, -1, 1, 1), persistent=False)
        self.network = network

    mean: torch.Tensor
    deviation: torch.Tensor
    architecture: Mapping[str, Any] | None = None
    affine: bool = True

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return logits [N, classes] of images [N, C, H, W]."""
        return self.network((images - self.mean) / self.deviation)


def build_classifier(
    architecture: Mapping[str, Any], convolution: Callable[..., nn.Module] | None = None, affine: bool = True
) -> Classifier:
    """Build a classifier from an architecture with a field `normalisation` and, unless images have three channels, a field `channels`.

    `convolution` makes the layers (default: dense convolutions without bias); `affine` gives batch norms scales and shifts.
    """
    fields = dict(architecture)
    normalisation = fields.pop("normalisation", "")
    if not isinstance(normalisation, Mapping):
        normalisation = str(normalisation)
    channels = channels_of(fields)
    classifier = Classifier(build_network(fields, convolution or partial(nn.Conv2d, bias=False), affine), normalisation, channels)
    classifier.architecture, classifier.affine = dict(architecture), affine
    return classifier

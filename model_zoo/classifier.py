"""A network with its input normalisation inside: what is trained, stored, attacked."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import nn

from model_zoo.architectures import build_network
from model_zoo.errors import UnknownNameError

# Channel means and standard deviations of the official code, in units of the [0, 1] pixel range. Its CIFAR-10 deviations are those of
# image means (0.2023, not 0.247): part of the models, therefore kept.
NORMALISATIONS: dict[str, tuple[tuple[float, float, float], tuple[float, float, float]]] = {
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
    "cifar100": ((0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761)),
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    # Those of other people's models, by where they come from: HYDRA, HARP, BCS and TRADES take images as they are; Flying Bird's are inside
    # the network; those of edge-popup's data loaders, for both CIFARs, are outside it (robust scratch tickets, biprop).
    "none": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
    "flying-bird-cifar10": ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    "flying-bird-cifar100": ((0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)),
    "edge-popup-loader": ((0.491, 0.482, 0.447), (0.247, 0.243, 0.262)),
}


class Classifier(nn.Module):
    """Images in [0, 1], float32 [N, 3, H, W], to logits [N, classes]; the normalisation is part of the model.

    Parameters
    ----------
    network : nn.Module
        Takes normalised images.
    normalisation : str
        A key of `NORMALISATIONS`.

    Attributes
    ----------
    architecture, affine : mapping or None, bool
        What `build_classifier` built it from; None where it was put together otherwise.
    """

    def __init__(self, network: nn.Module, normalisation: str) -> None:
        super().__init__()
        if normalisation not in NORMALISATIONS:
            raise UnknownNameError("normalisation", normalisation, NORMALISATIONS, "harness show MODEL --json")
        mean, deviation = NORMALISATIONS[normalisation]
        # Not persistent: they belong to the architecture, not to the weights.
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("deviation", torch.tensor(deviation).view(1, 3, 1, 1), persistent=False)
        self.network = network

    mean: torch.Tensor
    deviation: torch.Tensor
    architecture: Mapping[str, Any] | None = None
    affine: bool = True

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits of `images`."""
        return self.network((images - self.mean) / self.deviation)


def build_classifier(
    architecture: Mapping[str, Any], convolution: Callable[..., nn.Module] | None = None, affine: bool = True
) -> Classifier:
    """Build the architecture, whose `normalisation` field names its input statistics, with the given convolution (default: dense)."""
    fields = dict(architecture)
    normalisation = str(fields.pop("normalisation"))
    classifier = Classifier(build_network(fields, convolution or partial(nn.Conv2d, bias=False), affine), normalisation)
    classifier.architecture, classifier.affine = dict(architecture), affine
    return classifier

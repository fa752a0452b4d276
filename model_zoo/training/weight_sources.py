"""Sources from which engine sparse takes a layer's weights and to which it passes their gradients."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from model_zoo.kernels.live_taps import Entries
from model_zoo.kernels.selection import Selection, by_scores
from model_zoo.layers.pruned_binary import PrunedBinaryConv2d


class Weights:
    """The weight that a layer computes with, as autograd derives it from the parameters."""

    def __init__(self, layer: nn.Module) -> None:
        self.layer: Any = layer

    def parameter(self) -> torch.Tensor:
        """Return the tensor [out, in, k, k] with respect to which the training pass is differentiated."""
        weight: torch.Tensor = self.layer.effective_weight() if hasattr(self.layer, "effective_weight") else self.layer.weight
        return weight

    def gradient(self, by_weight: torch.Tensor) -> torch.Tensor:
        """Return the gradient with respect to `parameter`, from that with respect to the weight."""
        return by_weight

    def entries(self) -> Entries:
        """Return the nonzero weights."""
        with torch.no_grad():
            return Entries.of(self.parameter().detach().contiguous().numpy())


class Scores:
    """The scores of a layer with frozen weights; the mask and the scores' gradient are computed in one pass over memory each."""

    def __init__(self, layer: PrunedBinaryConv2d) -> None:
        self.layer, self._selection = layer, Selection()

    def parameter(self) -> torch.Tensor:
        """Return the scores [out, in, k, k]; see `Weights.parameter`."""
        return self.layer.scores

    def gradient(self, by_weight: torch.Tensor) -> torch.Tensor:
        """Return the gradient with respect to the scores; see `Weights.gradient`. Overwrites its argument."""
        slope, scores = self.layer.slope.detach().contiguous(), self.layer.scores.detach()
        by_scores(by_weight.numpy().reshape(-1), slope.numpy().reshape(-1), scores.numpy().reshape(-1))
        return by_weight

    def entries(self) -> Entries:
        """Return the weights that the scores keep, and set the layer's mask to them."""
        scores = self.layer.scores.detach().numpy()
        places = self._selection.largest(scores.reshape(-1), self.layer.kept)
        self.layer.keep(torch.from_numpy(places))
        outputs, inputs, rows, columns = scores.shape
        return Entries(places, self.layer.weights.numpy().reshape(-1)[places], (outputs, inputs, rows, columns))


def weight_source(layer: nn.Module) -> Weights | Scores:
    """Return the source of a convolution's weights."""
    return Scores(layer) if isinstance(layer, PrunedBinaryConv2d) else Weights(layer)

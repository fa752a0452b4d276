"""Least-weight-magnitude pruning: train adversarially, keep each layer's largest weights, train those (Han et al. 2015).

This is the control in HYDRA's paper (Sehwag et al. 2020): the same stages without the search.
"""

from __future__ import annotations

from model_zoo.families import Family
from model_zoo.layers.masked import MaskedConv2d, with_weights
from model_zoo.pruning.stages import FINETUNE, Stages, stage_of, uniform_count


class MagnitudePruning(Stages):
    """Controller that trains all weights, then the largest ones of every layer."""

    def at_epoch(self, epoch: int, epochs: int) -> None:
        """Prune when the last stage begins."""
        if stage_of(self.options, epoch, epochs) == FINETUNE:
            self.enter(FINETUNE, lambda layer: layer.keep_top(layer.weight, uniform_count(layer, self.options["keep_ratio"])))


FAMILY = Family(
    name="lwm",
    kind="sparse",
    method="han2015",
    taxonomy={"when": "after", "scored": "magnitude", "structured": False, "scope": "local"},
    is_masked=True,
    convolution=lambda options: with_weights(MaskedConv2d, options["weights"]),
    affine=True,
    defaults={"keep_ratio": float, "pretrain_epochs": int, "weights": "real"},
    controller=MagnitudePruning,
)

"""Least-weight-magnitude pruning after adversarial training: train, keep the largest weights of every layer, train those (Han et al. 2015).

The control of HYDRA's paper (Sehwag et al. 2020): the same stages without the search.
"""

from __future__ import annotations

from model_zoo.families import Family
from model_zoo.layers.masked import MaskedConv2d, with_weights
from model_zoo.pruning.stages import FINETUNE, Stages, stage_of, uniform_count


class MagnitudePruning(Stages):
    """Train all weights, then the largest of every layer."""

    def at_epoch(self, epoch: int, epochs: int) -> None:
        """Prune if the last stage begins."""
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
    defaults={"keep_ratio": None, "pretrain_epochs": None, "weights": "real"},
    controller=MagnitudePruning,
)

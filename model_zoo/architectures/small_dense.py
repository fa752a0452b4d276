"""The paper's small dense networks: dense, with the parameter layout of a pruned network.

Stage widths are round(sqrt(m / 9)), where m is the number of weights kept in one of the stage's square 3x3 layers of the ResNet-34 pruned
to keep ratio 0.01 at allocation power p. They are listed, not computed, because the official p = 0.5 network deviates from the rule in one
stage and ResNet-18 re-uses the ResNet-34 widths.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from model_zoo.architectures.resnet import BasicBlock, Bottleneck, build_resnet

_DEPTHS: dict[int, tuple[int, ...]] = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3)}
_WIDTHS: dict[str, tuple[int, ...]] = {"p1": (6, 13, 26, 51), "p05": (14, 20, 29, 40), "p01": (23, 25, 27, 29), "p0": (26, 26, 26, 26)}
_BOTTLENECK_WIDTHS: dict[str, tuple[int, ...]] = {"p1": (7, 13, 26, 51), "p01": (23, 25, 27, 31)}


def _architectures() -> dict[str, Callable[..., Any]]:
    by_name: dict[str, Callable[..., Any]] = {}
    for stem in ("cifar", "imagenet"):
        for depth in (18, 34):
            for power, widths in _WIDTHS.items():
                by_name[f"{stem}-small-resnet{depth}-{power}"] = partial(build_resnet, BasicBlock, _DEPTHS[depth], stem, widths=widths)
        for power, widths in _BOTTLENECK_WIDTHS.items():
            by_name[f"{stem}-small-resnet50-{power}"] = partial(build_resnet, Bottleneck, _DEPTHS[50], stem, widths=widths)
    return by_name


ARCHITECTURES = _architectures()

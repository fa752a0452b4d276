"""Dense networks with binary weights, trained with BinaryConnect in every layer, including the first and the last."""

from __future__ import annotations

from model_zoo.families import Family
from model_zoo.layers.binary_connect import BinaryConnectConv2d

FAMILY = Family(
    name="dense-binary",
    kind="dense-binary",
    method="courbariaux2015",
    weight_bits=1,
    convolution=lambda options: BinaryConnectConv2d,
    affine=True,
)

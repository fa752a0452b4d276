"""Dense full-precision networks with all weights trained."""

from __future__ import annotations

from functools import partial

from torch import nn

from model_zoo.families import Family

FAMILY = Family(name="dense", kind="dense", method=None, convolution=lambda options: partial(nn.Conv2d, bias=False), affine=True)

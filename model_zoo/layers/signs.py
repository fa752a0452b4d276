"""The sign convention of the project: sign(0) = +1."""

from __future__ import annotations

import torch


def sign(tensor: torch.Tensor) -> torch.Tensor:
    """Return the sign with sign(0) = +1, as float of the same shape and dtype: values are -1 or +1, never 0.

    `torch.sign` maps an exact zero to zero, and a float32 uniform draw is zero about once in 2^24 weights, which would make a "binary"
    tensor ternary (reference: the official code's networks contain 0 to 4 such weights).
    """
    return torch.where(tensor < 0, -1.0, 1.0).to(tensor.dtype)

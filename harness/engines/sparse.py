"""Engine sparse: the frozen network as sums over its kept weights, in numba, wrapped in one autograd function."""

from __future__ import annotations

import torch
from torch import nn

from model_zoo.kernels.convolve import HALF, LANES
from model_zoo.kernels.graph import lower
from model_zoo.kernels.runner import FrozenNetwork, Runner
from model_zoo.kernels.schedule import make_schedule


class SparseModel(nn.Module):
    """Replacement of a classifier with the same logits, up to float32 rounding, and gradients with respect to the images only.

    An image's results do not depend on its batch, not even in the last bit. `torch.get_num_threads()` threads share a batch, sixteen images
    at a time; a batch of eight or fewer uses cells of half the size.

    Raises
    ------
    UnsuitedError
        If the engine cannot express the model.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.graph = lower(model)
        self._runners: dict[tuple[int, int, int], Runner] = {}
        self.eval()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return the logits, float32 [N, classes], of images float32 [N, 3, H, W] on the CPU."""
        lanes = HALF if len(images) <= HALF else LANES
        logits: torch.Tensor = FrozenNetwork.apply(images, self.runner(images.shape[2], images.shape[3], lanes))  # type: ignore[no-untyped-call]
        return logits

    def runner(self, rows: int, columns: int, lanes: int = LANES) -> Runner:
        """Return the runner for images of `rows` x `columns` pixels, `lanes` at a time; it is made once."""
        key = (rows, columns, lanes)
        if key not in self._runners:
            self._runners[key] = Runner(self.graph, make_schedule(self.graph, *key), lanes)
        return self._runners[key]

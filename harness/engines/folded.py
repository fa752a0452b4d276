"""Engine folded: the frozen network in PyTorch with batch norms folded in and channels without kept weights removed, channels last."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from model_zoo.kernels.graph import Convolution, Graph, Pool, Step, lower


class FoldedModel(nn.Module):
    """Replacement of a classifier with the same logits, up to the rounding of `precision`.

    The first and the last layer are always float32: the first reads perturbations far smaller than the pixels they are added to, and the
    last computes the logits.

    Raises
    ------
    UnsuitedError
        If the engine cannot express the model.
    """

    def __init__(self, model: nn.Module, precision: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.precision = precision
        graph = lower(model)
        self.steps = narrowed(graph)
        for position, step in enumerate(self.steps):
            if isinstance(step, Convolution):
                dtype = torch.float32 if position in (0, len(self.steps) - 1) else precision
                self._register_tensor(f"weight_{position}", step.weight, dtype)
                self._register_tensor(f"bias_{position}", step.bias, dtype)
                if step.ones is not None:
                    self._register_tensor(f"ones_{position}", step.ones[:, None], dtype)
        self.register_buffer("mean", torch.from_numpy(graph.mean).view(1, -1, 1, 1))
        self.register_buffer("deviation", torch.from_numpy(graph.deviation).view(1, -1, 1, 1))
        device = next(model.parameters()).device
        self.to(device).eval()

    mean: torch.Tensor
    deviation: torch.Tensor

    def _register_tensor(self, name: str, array: np.ndarray, dtype: torch.dtype) -> None:
        tensor = torch.from_numpy(array.astype(np.float32)).to(dtype)
        self.register_buffer(name, tensor.contiguous(memory_format=torch.channels_last) if tensor.ndim == 4 else tensor)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return the logits, float32 [N, classes], of images float32 [N, 3, H, W]."""
        values = {0: ((images - self.mean) / self.deviation).contiguous(memory_format=torch.channels_last)}
        for position, step in enumerate(self.steps):
            source = values[step.source]
            if isinstance(step, Pool):
                values[step.target] = F.max_pool2d(source, 3, 2, 1) if step.window else F.adaptive_avg_pool2d(source.float(), 1)
                continue
            weight, bias = self.get_buffer(f"weight_{position}"), self.get_buffer(f"bias_{position}")
            source = source.to(weight.dtype)
            out = F.conv2d(source, weight, bias, step.stride, step.padding)
            if step.ones is not None:
                ones = torch.ones_like(source[:1, :1])
                out = out + F.conv2d(ones, self.get_buffer(f"ones_{position}"), None, step.stride, step.padding)
            if step.residual is not None:
                out = out + values[step.residual]
            out = F.relu(out) if step.relu else out
            values[step.target] = out if step is self.steps[-1] else out.to(self.precision)
        return values[self.steps[-1].target].flatten(1).contiguous()


def narrowed(graph: Graph) -> tuple[Step, ...]:
    """Return the steps without channels that are constant or never read; image, pooled values, residuals and logits keep all channels."""
    fixed = {0, graph.steps[-1].target}
    for step in graph.steps:
        if isinstance(step, Pool):
            fixed |= {step.source, step.target}
        elif step.residual is not None:
            fixed |= {step.residual, step.target}
    channels: dict[int, np.ndarray] = {}
    steps: list[Step] = []
    for step in graph.steps:
        if isinstance(step, Pool):
            steps.append(step)
            continue
        weight = step.weight if step.source not in channels else step.weight[:, channels[step.source]]
        rows = np.arange(len(weight))
        if step.target not in fixed and step.live is not None and step.varying is not None and (step.live & step.varying).any():
            rows = channels[step.target] = np.flatnonzero(step.live & step.varying)
        ones = None if step.ones is None or not step.ones[rows].any() else step.ones[rows]
        steps.append(replace(step, weight=weight[rows], bias=step.bias[rows], ones=ones))
    return tuple(steps)

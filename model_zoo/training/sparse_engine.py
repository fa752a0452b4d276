"""Sparse engine: training passes on the CPU whose cost follows the number of weights that the network keeps.

The inner attack differentiates the network with the batch norms of the previous training pass folded in; the training pass computes batch
statistics and the dense gradient with respect to the weights. Both use the kernels of `model_zoo.kernels`, so numba is needed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.autograd.function import once_differentiable

from model_zoo.classifier import Classifier
from model_zoo.kernels.batch_pass import BatchPass, Tape
from model_zoo.kernels.convolve import LANES, SHORT, computes_float16
from model_zoo.kernels.frozen_network import LiveNetwork
from model_zoo.kernels.graph import Convolution, Graph, Layer, Pool, normalisation, trace
from model_zoo.kernels.live_taps import Entries
from model_zoo.kernels.runner import FrozenNetwork, flush_denormals
from model_zoo.kernels.schedule import value_shapes
from model_zoo.kernels.statistics import Norm, Statistics
from model_zoo.kernels.taps import Shape
from model_zoo.kernels.weight_gradient import half_type
from model_zoo.training.engine import SPARSE_BELOW, DenseEngine, Engine
from model_zoo.training.weight_sources import Scores, weight_source

# Largest number of products per image at which the kernels still compute the attack of a network that is not sparse.
ATTACKED_BELOW = 1e8


class SparseEngine(Engine):
    """Engine that computes a residual network from the weights that it keeps.

    The statistics that the attack folds in are those of the previous batch, not of the attacked batch. While the network keeps half of its
    weights or more, the dense engine computes the training pass, and also the attack unless the network is small.

    Parameters
    ----------
    model : Classifier
        The network, on the CPU.
    dense : DenseEngine
        Computes the stages in which the network keeps half of its weights or more.
    attacked_below : float
        Number of products per batch up to which the kernels compute the attack in these stages.

    Raises
    ------
    UnsuitedError
        If the network is not one of the residual networks in `model_zoo`.
    """

    name = "sparse"

    def __init__(self, model: Classifier, dense: DenseEngine, attacked_below: float = ATTACKED_BELOW) -> None:
        self.model, self.dense, self.attacked_below = model, dense, attacked_below
        gradients = "bfloat16" if half_type() == torch.bfloat16 else "float32"
        self._attack_lanes = SHORT if computes_float16() else LANES
        self.precision = f"attack {'float16' if computes_float16() else 'float32'}, training pass float32, weight gradients {gradients}"
        self.layers = trace(model)
        self.convolutions = [layer for layer in self.layers if isinstance(layer, Layer)]
        # The kernels read weights and scores in contiguous order.
        model.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
        self._sources = {layer.target: weight_source(layer.convolution) for layer in self.convolutions}
        self.graph = _placeholder_graph(model, self.layers)
        self._sizes: dict[tuple[int, int, int], LiveNetwork] = {}
        self._passes: dict[tuple[int, int, int], BatchPass] = {}
        self._value_shapes: dict[tuple[int, int, int], dict[int, Shape]] = {}
        self._statistics: dict[int, Statistics] = {}
        self._entries: dict[int, Entries] = {}
        self._is_sparse = False
        self._update()

    def attacked(self, images: torch.Tensor) -> torch.Tensor:
        """Return logits for the inner attack, in training mode with the statistics of the previous training pass; see `Engine.attacked`."""
        if not self._computes_attack(images) or (self.model.training and not self._statistics and not self._is_sparse):
            return self.dense.attacked(images)
        if not self.model.training:
            return self._frozen(images, self._running_statistics(), self._attack_lanes)
        if not self._statistics:
            batch_pass, pixels = self._batch_pass(images), images.detach().contiguous().numpy()
            tape = batch_pass.forward(pixels, self._norms())[1]
            self._statistics = dict(tape.statistics)
            batch_pass.release(tape)
        return self._frozen(images, self._statistics, self._attack_lanes)

    def trained(self, images: torch.Tensor) -> torch.Tensor:
        """Return logits for the training pass; see `Engine.trained`."""
        if not self._is_sparse:
            return self._train_densely(images)
        if not torch.is_grad_enabled():
            output, batch_pass, tape = self._training_pass(images)
            batch_pass.release(tape)
            return torch.from_numpy(output)
        parameters: list[torch.Tensor | None] = []
        for layer in self.convolutions:
            parameters += [self._sources[layer.target].parameter(), getattr(layer.norm, "weight", None), getattr(layer.norm, "bias", None)]
        logits: torch.Tensor = _BatchLogits.apply(images, self, *parameters)  # type: ignore[no-untyped-call]
        return logits

    def evaluated(self, images: torch.Tensor) -> torch.Tensor:
        """Return logits of the frozen network; see `Engine.evaluated`."""
        return self._frozen(images, self._running_statistics(), LANES) if self._computes_attack(images) else self.dense.evaluated(images)

    def refresh(self) -> None:
        """Refresh the layers, except those whose mask the kernels select, and update the kernels; see `Engine.refresh`."""
        scored_ids = {id(source.layer) for source in self._sources.values() if isinstance(source, Scores)}
        for module in self.model.modules():
            update = getattr(module, "refresh", None)
            if update is not None and id(module) not in scored_ids:
                update()
        self._update()

    def arithmetic(self) -> AbstractContextManager[object]:
        """Return a context manager in which numbers below 1.2e-38 count as zero."""
        return flush_denormals()

    def state(self) -> dict[str, torch.Tensor]:
        """Return the statistics of the previous training pass."""
        return {
            f"{target}.{name}": torch.from_numpy(getattr(statistics, name))
            for target, statistics in self._statistics.items()
            for name in ("mean", "variance")
        }

    def restore(self, state: Mapping[str, torch.Tensor]) -> None:
        """Restore the statistics that `state` returned."""
        targets = {int(name.split(".")[0]) for name in state}
        self._statistics = {
            target: Statistics(state[f"{target}.mean"].numpy().copy(), state[f"{target}.variance"].numpy().copy(), 0) for target in targets
        }

    def _update(self) -> None:
        """Read which weights are kept, and pass them to the kernels."""
        self._entries = {target: source.entries() for target, source in self._sources.items()}
        kept = sum(len(entries.places) for entries in self._entries.values())
        self._is_sparse = kept < SPARSE_BELOW * sum(math.prod(entries.shape) for entries in self._entries.values())
        for network in self._sizes.values():
            network.entries = None
        for batch_pass in self._passes.values():
            if self._is_sparse:
                batch_pass.fill(self._entries)

    def _computes_attack(self, images: torch.Tensor) -> bool:
        """Return whether the kernels compute the attack and the frozen network."""
        if self._is_sparse:
            return True
        shapes = self._shapes(images)
        products = sum(len(entries.places) * shapes[target].rows * shapes[target].columns for target, entries in self._entries.items())
        return products <= self.attacked_below

    def _train_densely(self, images: torch.Tensor) -> torch.Tensor:
        """Run the dense engine's training pass, and recover the batch statistics from the change of the running statistics."""
        before = self._running_statistics()
        logits = self.dense.trained(images)
        if self._computes_attack(images):
            shapes = self._shapes(images)
            counts = {target: len(images) * shapes[target].rows * shapes[target].columns for target in before}
            after, shares = self._running_statistics(), {layer.target: _newest_share(layer.norm) for layer in self.convolutions}
            if all(shares.values()):
                self._statistics = {
                    target: _recover_statistics(before[target], after[target], shares[target], counts[target]) for target in before
                }
        return logits

    def _shapes(self, images: torch.Tensor) -> dict[int, Shape]:
        """Return the shapes of all values of the graph, for images of this size."""
        channels, rows, columns = images.shape[1:]
        key = (channels, rows, columns)
        if key not in self._value_shapes:
            self._value_shapes[key] = value_shapes(self.graph, Shape(channels, rows, columns))
        return self._value_shapes[key]

    def _norms(self) -> dict[int, Norm]:
        return {layer.target: Norm.of(layer.norm) for layer in self.convolutions}

    def _running_statistics(self) -> dict[int, Statistics]:
        statistics = {}
        for layer in self.convolutions:
            if isinstance(layer.norm, nn.BatchNorm2d):
                mean, variance = layer.norm.running_mean, layer.norm.running_var
                assert mean is not None and variance is not None
                # `double` copies; a copy is needed because the running statistics change in place.
                statistics[layer.target] = Statistics(mean.double().numpy(), variance.double().numpy(), 0)
            else:
                zeros = np.zeros(self._entries[layer.target].shape[0])
                statistics[layer.target] = Statistics(zeros, zeros, 0)
        return statistics

    def _frozen(self, images: torch.Tensor, statistics: Mapping[int, Statistics], lanes: int) -> torch.Tensor:
        size = (images.shape[2], images.shape[3], lanes)
        if size not in self._sizes:
            self._sizes[size] = LiveNetwork(self.graph, *size)
        norms = self._norms()
        folds = {target: statistics[target].fold(norms[target]) for target in statistics}
        logits: torch.Tensor = FrozenNetwork.apply(images, self._sizes[size].filled(self._entries, folds))  # type: ignore[no-untyped-call]
        return logits

    def _training_pass(self, images: torch.Tensor) -> tuple[np.ndarray, BatchPass, Tape]:
        """Return logits in training mode and update running statistics; the tape must go through `backward` or `release` of the pass."""
        batch_pass = self._batch_pass(images)
        logits, tape = batch_pass.forward(images.detach().contiguous().numpy(), self._norms())
        self._statistics = dict(tape.statistics)
        for layer in self.convolutions:
            if isinstance(layer.norm, nn.BatchNorm2d):
                _update_running(layer.norm, tape.statistics[layer.target])
        return logits, batch_pass, tape

    def _batch_pass(self, images: torch.Tensor) -> BatchPass:
        key = (len(images), images.shape[2], images.shape[3])
        if key not in self._passes:
            self._passes[key] = BatchPass(self.layers, self._shapes(images), self.graph.mean, self.graph.deviation, len(images))
            self._passes[key].fill(self._entries)
        return self._passes[key]


class _BatchLogits(torch.autograd.Function):
    """Logits in training mode, with gradients of the weights and of the batch norms' parameters."""

    @staticmethod
    def forward(ctx: Any, images: torch.Tensor, engine: SparseEngine, *parameters: torch.Tensor | None) -> torch.Tensor:
        logits, ctx.batch, ctx.tape = engine._training_pass(images)
        ctx.engine = engine
        return torch.from_numpy(logits)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        if ctx.tape is None:
            raise RuntimeError("engine sparse cannot go backward through one training pass a second time")
        tape, ctx.tape = ctx.tape, None
        gradients = ctx.batch.backward(gradient.contiguous().numpy(), tape)
        by_input: list[torch.Tensor | None] = [None, None]
        for layer in ctx.engine.convolutions:
            layer_gradients = gradients[layer.target]
            by_input += [
                ctx.engine._sources[layer.target].gradient(layer_gradients.weight),
                layer_gradients.norm_weight,
                layer_gradients.norm_bias,
            ]
        return tuple(by_input)


def _newest_share(norm: nn.Module) -> float:
    """Return the weight of the newest batch in a batch norm's running statistics; 1 for other layers."""
    if not isinstance(norm, nn.BatchNorm2d):
        return 1.0
    return 1.0 / float(norm.num_batches_tracked or 1) if norm.momentum is None else float(norm.momentum)


def _recover_statistics(before: Statistics, after: Statistics, share: float, count: int) -> Statistics:
    """Return the statistics of a batch of `count` numbers that moved running statistics by `share` of the way from `before` to `after`."""
    mean, variance = (old + (new - old) / share for old, new in ((before.mean, after.mean), (before.variance, after.variance)))
    return Statistics(mean, np.maximum(variance, 0.0) * ((count - 1) / count), count)


def _update_running(norm: nn.BatchNorm2d, statistics: Statistics) -> None:
    """Update the running statistics as PyTorch does: unbiased variance, cumulative average if the momentum is None."""
    assert norm.running_mean is not None and norm.running_var is not None and norm.num_batches_tracked is not None
    with torch.no_grad():
        norm.num_batches_tracked += 1
        share = 1.0 / float(norm.num_batches_tracked) if norm.momentum is None else norm.momentum
        unbiased = statistics.variance * (statistics.count / max(statistics.count - 1, 1))
        norm.running_mean.lerp_(torch.from_numpy(statistics.mean).to(norm.running_mean), share)
        norm.running_var.lerp_(torch.from_numpy(unbiased).to(norm.running_var), share)


def _placeholder_graph(model: Classifier, layers: tuple[Layer | Pool, ...]) -> Graph:
    """Return a graph with the network's shapes and with placeholder weights, because weights change with every step."""
    steps: list[Convolution | Pool] = []
    for layer in layers:
        if isinstance(layer, Pool):
            steps.append(layer)
            continue
        shape = tuple(weight_source(layer.convolution).parameter().shape)
        placeholder = np.broadcast_to(np.float32(0.0), shape)
        steps.append(
            Convolution(
                layer.source, layer.target, placeholder, np.zeros(shape[0]), layer.stride, layer.padding, layer.relu, layer.residual
            )
        )
    return Graph(tuple(steps), *normalisation(model))

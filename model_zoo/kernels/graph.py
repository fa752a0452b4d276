"""Stored classifiers as lists of convolutions, with batch norms folded in and channels without kept weights removed.

A channel without kept weights still outputs a constant through its batch norm and ReLU. The next layer reads that constant inside the image
but zero padding beyond the border, so the contribution of such channels is kept as a convolution of an image of ones.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import torch
from torch import nn

from model_zoo.architectures.resnet import BasicBlock, Bottleneck, ResNet
from model_zoo.classifier import Classifier
from model_zoo.errors import UserError


class UnsuitedError(UserError):
    """The model is not one that the engine can express."""


@dataclass(frozen=True, eq=False)
class Convolution:
    """The step target = weight * source + ones * 1 + bias + residual, followed by a ReLU if `relu`.

    Attributes
    ----------
    source, target : int
        Value numbers; 0 is the normalised image.
    weight : np.ndarray
        float64 [out, in, k, k], multiplied by the batch norm's scale.
    bias : np.ndarray
        float64 [out].
    ones : np.ndarray or None
        float64 [out, k, k]: kernel on an image of ones under the same zero padding, which replaces the constant channels.
    residual : int or None
        Number of a value of the target's shape.
    live, varying : np.ndarray
        bool [out]: channels that later steps depend on; channels that are not the same for every image.
    """

    source: int
    target: int
    weight: np.ndarray
    bias: np.ndarray
    stride: int
    padding: int
    relu: bool
    residual: int | None = None
    ones: np.ndarray | None = None
    live: np.ndarray | None = None
    varying: np.ndarray | None = None


@dataclass(frozen=True)
class Pool:
    """The step target [C, 1, 1] = mean of source over the image, or, if `window`, 3x3 max pooling of stride 2."""

    source: int
    target: int
    window: bool = False


Step = Convolution | Pool


@dataclass(frozen=True, eq=False)
class Graph:
    """A network as steps in order; the target of the last step holds the logits, [classes, 1, 1].

    `mean` and `deviation`, float32 [3], normalise the image.
    """

    steps: tuple[Step, ...]
    mean: np.ndarray
    deviation: np.ndarray


@dataclass(frozen=True, eq=False)
class Layer:
    """A convolution module with the batch norm after it: target = norm(convolution(source)) + residual, followed by a ReLU if `relu`.

    Attributes
    ----------
    convolution, norm : nn.Module
        The convolution may be any layer with a weight [out, in, k, k]; `norm` is an `nn.BatchNorm2d` or an `nn.Identity`.
    stride, padding : int
        Stride and padding of the convolution.
    """

    source: int
    target: int
    convolution: nn.Module
    norm: nn.Module
    stride: int
    padding: int
    relu: bool
    residual: int | None = None


def trace(model: nn.Module) -> tuple[Layer | Pool, ...]:
    """Return the layers of a residual network of the zoo in order of computation, with the values that they read and write.

    Value 0 is the normalised image.

    Raises
    ------
    UnsuitedError
        If the model is not a `Classifier` with a `ResNet`, or if the network has unknown blocks, layers without a stride, another
        activation than ReLU or a classifier with a bias.
    """
    if not (isinstance(model, Classifier) and isinstance(model.network, ResNet)):
        raise UnsuitedError(f"a {type(model).__name__} is not a residual network of model_zoo: only engine dense supports it")
    network = model.network
    layers: list[Layer | Pool] = []

    def add(source: int, convolution: nn.Module, norm: nn.Module, activation: nn.Module | None, residual: int | None = None) -> int:
        if not hasattr(convolution, "stride"):
            raise UnsuitedError(f"only engine dense supports a {type(convolution).__name__}")
        if activation is not None and type(activation) is not nn.ReLU:
            raise UnsuitedError(f"only engine dense supports the activation {type(activation).__name__}")
        # Stride and padding are pairs of numbers in `nn.Conv2d` and single numbers in the zoo's layers.
        stride, padding = (int(np.ravel(cast(Any, value))[0]) for value in (convolution.stride, convolution.padding))
        target = 1 + max((layer.target for layer in layers), default=0)
        layers.append(Layer(source, target, convolution, norm, stride, padding, activation is not None, residual))
        return target

    value = add(0, network.conv1, network.bn1, network.activation)
    if not isinstance(network.pool, nn.Identity):
        layers.append(Pool(value, value + 1, window=True))
        value += 1
    for number in range(1, network.stages + 1):
        for block in getattr(network, f"layer{number}"):
            if not isinstance(block, (BasicBlock, Bottleneck)):
                raise UnsuitedError(f"only engine dense supports a {type(block).__name__}")
            shortcut = getattr(block, block.shortcut_name)
            skipped = value if isinstance(shortcut, nn.Identity) else add(value, shortcut[0], shortcut[1], None)
            names = ("1", "2", "3") if isinstance(block, Bottleneck) else ("1", "2")
            for name in names:
                residual = skipped if name == names[-1] else None
                value = add(value, getattr(block, f"conv{name}"), getattr(block, f"bn{name}"), block.activation, residual)
    layers.append(Pool(value, value + 1))
    if not isinstance(network.fc_bias, nn.Identity):
        raise UnsuitedError("only engine dense supports a classifier with a bias")
    add(value + 1, network.fc, network.last_bn, None)
    return tuple(layers)


def lower(model: nn.Module) -> Graph:
    """Return the graph of a frozen classifier of the zoo.

    Raises
    ------
    UnsuitedError
        If the model is not a residual network of the zoo with plain convolutions, in eval mode.
    """
    layers = trace(model)
    if model.training:
        raise UnsuitedError("a network in training mode is not frozen: only engine dense supports it")
    assert isinstance(model, Classifier)
    steps = [layer if isinstance(layer, Pool) else _fold(layer) for layer in layers]
    return Graph(tuple(_simplify(steps)), *normalisation(model))


def normalisation(model: Classifier) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and deviation of the images' channels, float32 [3] each."""
    return model.mean.cpu().numpy().reshape(-1), model.deviation.cpu().numpy().reshape(-1)


def _fold(layer: Layer) -> Convolution:
    if type(layer.convolution).forward is not nn.Conv2d.forward:
        raise UnsuitedError(f"only engine dense supports a {type(layer.convolution).__name__}")
    weight = cast(nn.Conv2d, layer.convolution).weight.detach().cpu().double().numpy()
    scale, bias = _scale_and_shift(layer.norm, len(weight))
    folded = weight * scale[:, None, None, None]
    return Convolution(layer.source, layer.target, folded, bias, layer.stride, layer.padding, layer.relu, layer.residual)


def _scale_and_shift(norm: nn.Module, channels: int) -> tuple[np.ndarray, np.ndarray]:
    if isinstance(norm, nn.Identity):
        return np.ones(channels), np.zeros(channels)
    if not isinstance(norm, nn.BatchNorm2d) or norm.running_mean is None or norm.running_var is None:
        raise UnsuitedError(f"only engine dense supports a {type(norm).__name__} after a convolution")

    def numbers(tensor: torch.Tensor | None, default: float) -> np.ndarray:
        return np.full(channels, default) if tensor is None else tensor.detach().cpu().double().numpy()

    scale = numbers(norm.weight, 1.0) / np.sqrt(numbers(norm.running_var, 1.0) + norm.eps)
    return scale, numbers(norm.bias, 0.0) - numbers(norm.running_mean, 0.0) * scale


def _simplify(steps: list[Step]) -> list[Step]:
    """Replace reads of constant channels by biases and `ones` kernels, then drop everything that no later step reads."""
    constants: dict[int, np.ndarray] = {0: np.full(3, np.nan)}  # NaN marks a channel that is not constant.
    simplified: list[Step] = []
    for step in steps:
        if isinstance(step, Pool):
            constants[step.target] = constants[step.source]
            simplified.append(step)
            continue
        source_constants = constants[step.source]
        constant = ~np.isnan(source_constants)
        ones = np.einsum("oiyx,i->oyx", step.weight[:, constant], source_constants[constant]) if constant.any() else None
        weight = np.where(constant[None, :, None, None], 0.0, step.weight)
        output, is_constant = step.bias.copy(), ~weight.any(axis=(1, 2, 3))
        if ones is not None:
            # A 1x1 kernel on ones gives the same everywhere; a larger one differs next to the border.
            is_constant &= ~ones.any(axis=(1, 2)) if ones.shape[1] > 1 else True
            output += ones[:, 0, 0] if ones.shape[1] == 1 else 0.0
        if step.residual is not None:
            output += constants[step.residual]
        value = np.maximum(output, 0.0) if step.relu else output
        constants[step.target] = np.where(is_constant, value, np.nan)
        varying = np.isnan(constants[step.target])
        simplified.append(replace(step, weight=weight, ones=ones if ones is not None and ones.any() else None, varying=varying))
    live: dict[int, np.ndarray] = {simplified[-1].target: np.ones(len(constants[simplified[-1].target]), dtype=bool)}
    for index in reversed(range(len(simplified))):
        step = simplified[index]
        step_live = live.get(step.target, np.zeros(len(constants[step.target]), dtype=bool))
        if isinstance(step, Pool):
            _mark_read(live, step.source, step_live)
            continue
        weight = np.where(step_live[:, None, None, None], step.weight, 0.0)
        ones = None if step.ones is None else np.where(step_live[:, None, None], step.ones, 0.0)
        simplified[index] = replace(step, weight=weight, ones=ones, live=step_live)
        _mark_read(live, step.source, np.asarray(weight.any(axis=(0, 2, 3))))
        if step.residual is not None:
            _mark_read(live, step.residual, step_live)
    return simplified


def _mark_read(live: dict[int, np.ndarray], value: int, channels: np.ndarray) -> None:
    live[value] = live[value] | channels if value in live else channels

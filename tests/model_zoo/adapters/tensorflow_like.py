"""Imitation, without TensorFlow, of the code of Bayesian connectivity sampling: variables, layers, order, names and pickles.

Images are [N, H, W, C] and kernels [k, k, in, out]. Convolutions are sums over patches, so they do not use PyTorch's convolution.
"""

import functools
import io
import pickle
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import numpy as np
import torch

RESOURCES, DTYPES = "tensorflow.python.ops.resource_variable_ops", "tensorflow.python.framework.dtypes"


def as_dtype(name: str) -> "DType":
    return DType(name)


class DType:
    def __init__(self, name: str) -> None:
        self.name = name

    def __reduce__(self) -> tuple[Any, ...]:
        return as_dtype, (self.name,)


class ResourceVariable:
    """A variable that pickles like that of TensorFlow 2."""

    def __init__(self, initial_value: np.ndarray, name: str, **_: object) -> None:
        self.value, self.name = initial_value, name

    def __reduce__(self) -> tuple[Any, ...]:
        call = functools.partial(
            ResourceVariable,
            initial_value=self.value,
            trainable=True,
            name=self.name,
            dtype=DType("float32"),
            constraint=None,
            distribute_strategy=None,
        )
        return call, ()


@contextmanager
def installed() -> Iterator[None]:
    """Install the classes above under TensorFlow's names until the block ends; TensorFlow must not be imported."""
    names = {module.rsplit(".", depth)[0] for module in (RESOURCES, DTYPES) for depth in range(5)}
    assert not names & sys.modules.keys()
    for name in names:
        sys.modules[name] = ModuleType(name)
    for module, member in ((RESOURCES, ResourceVariable), (DTYPES, as_dtype)):
        setattr(sys.modules[module], member.__name__, member)
        member.__module__ = module
    try:
        yield
    finally:
        for name in names:
            del sys.modules[name]


def pickled(content: object, protocol: int = 4) -> bytes:
    buffer = io.BytesIO()
    with installed():
        pickle.Pickler(buffer, protocol).dump(content)
    return buffer.getvalue()


class Network:
    """Builder of layers that records their variables in the order of creation."""

    def __init__(self, name: str, seed: int = 3) -> None:
        self.name, self.generator = name, np.random.default_rng(seed)
        self.variables: list[ResourceVariable] = []

    def variable(self, scope: str, kind: str, value: np.ndarray) -> torch.Tensor:
        array = np.ascontiguousarray(value, np.float32)
        self.variables.append(ResourceVariable(array, f"{self.name}/{scope}/{kind}"))
        return torch.from_numpy(array)

    def weights(self, scope: str, *shape: int) -> torch.Tensor:
        """Return magnitudes times signs; 28 % of the magnitudes are 0 or below and give a zero weight (not connected)."""
        fan = int(np.prod(shape[:-1]))
        theta = np.abs(self.generator.standard_normal(shape)) * (3 / fan) ** 0.5
        theta[self.generator.random(shape) < 0.2] = 0.0
        theta[self.generator.random(shape) < 0.1] *= -1
        magnitude = self.variable(scope, "T", theta)
        sign = self.variable(scope, "S", np.sign(self.generator.standard_normal(shape)))
        return torch.where(magnitude > 0, magnitude * sign, torch.zeros(()))

    def conv(self, inputs: int, outputs: int, size: int, stride: int, scope: str = "conv") -> Any:
        kernel = self.weights(scope, size, size, inputs, outputs)

        def call(x: torch.Tensor) -> torch.Tensor:
            x = x.permute(0, 3, 1, 2)
            height = x.shape[2]
            total = max((-(-height // stride) - 1) * stride + size - height, 0)
            norm1, last_norm = total // 2, total - total // 2
            x = torch.nn.functional.pad(x, (norm1, last_norm, norm1, last_norm))
            return torch.einsum("nchwij,ijco->nhwo", x.unfold(2, size, stride).unfold(3, size, stride), kernel)

        return call

    def norm(self, channels: int, scope: str = "bn") -> Any:
        gamma = self.variable(scope, "gamma", self.generator.uniform(0.5, 1.5, channels))
        beta = self.variable(scope, "beta", self.generator.uniform(-0.3, 0.3, channels))
        mean = self.variable(scope, "running_mean", self.generator.uniform(-0.1, 0.1, channels))
        variance = self.variable(scope, "running_var", self.generator.uniform(0.2, 0.6, channels))
        return lambda x: (x - mean) / torch.sqrt(variance + 1e-5) * gamma + beta

    def dense(self, inputs: int, outputs: int, scope: str = "dense_out") -> Any:
        kernel = self.weights(scope, inputs, outputs)
        bias = self.variable(scope, "b", self.generator.uniform(-0.3, 0.3, outputs))
        return lambda x: x @ kernel + bias

    def content(self) -> dict[str, list[ResourceVariable]]:
        return {"param_list": self.variables}


def resnet(name: str, depths: Sequence[int], width: int = 4, expansion: int = 1) -> tuple[Network, Any]:
    network = Network(name)
    stem, stem_norm = network.conv(3, width, 3, 1, "conv1"), network.norm(width, "bn1")
    blocks, inputs = [], width
    for stage, depth in enumerate(depths):
        inner = width * 2**stage
        for index in range(depth):
            stride, out = (2 if stage and not index else 1), inner * expansion
            sizes = [(inputs, inner, 3, stride), (inner, inner, 3, 1)]
            if expansion > 1:
                sizes = [(inputs, inner, 1, 1), (inner, inner, 3, stride), (inner, out, 1, 1)]
            parts = [(network.conv(*size, f"block/conv{number}"), network.norm(size[1], "block/bn")) for number, size in enumerate(sizes)]
            shortcut = None
            if stride != 1 or inputs != out:
                shortcut = (network.conv(inputs, out, 1, stride, "block/conv3"), network.norm(out, "block/bn3"))
            blocks.append((parts, shortcut))
            inputs = out
    head = network.dense(inputs, 10)

    def call(x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(stem_norm(stem(x)))
        for parts, shortcut in blocks:
            out = x
            for number, (conv, norm) in enumerate(parts):
                out = norm(conv(out))
                out = torch.relu(out) if number < len(parts) - 1 else out
            x = torch.relu(out + (x if shortcut is None else shortcut[1](shortcut[0](x))))
        return head(x.mean((1, 2)))

    return network, call


def wide_resnet(widths: Sequence[int] = (4, 8, 12, 16), count: int = 1) -> tuple[Network, Any]:
    network = Network(f"wideresnet-{6 * count + 4}-2")
    stem, blocks, inputs = network.conv(3, widths[0], 3, 1), [], widths[0]
    for stage, width in enumerate(widths[1:]):
        for index in range(count):
            norm1, conv1 = network.norm(inputs), network.conv(inputs, width, 3, 2 if stage and not index else 1)
            norm2, conv2 = network.norm(width), network.conv(width, width, 3, 1)
            blocks.append((norm1, conv1, norm2, conv2, network.conv(inputs, width, 1, 2 if stage else 1) if inputs != width else None))
            inputs = width
    last_norm, head = network.norm(inputs), network.dense(inputs, 10)

    def call(x: torch.Tensor) -> torch.Tensor:
        x = stem(x)
        for norm1, conv1, norm2, conv2, shortcut in blocks:
            out = torch.relu(norm1(x))
            x = conv2(torch.relu(norm2(conv1(out)))) + (x if shortcut is None else shortcut(out))
        return head(torch.relu(last_norm(x)).mean((1, 2)))

    return network, call


def vgg16(plan: Sequence[int | str]) -> tuple[Network, Any]:
    network = Network("vgg16")
    steps: list[Any] = []
    inputs = 3
    for width in plan:
        if isinstance(width, int):
            steps.append((network.conv(inputs, width, 3, 1), network.norm(width)))
            inputs = width
        else:
            steps.append(None)
    heads = [network.dense(4 * inputs, 6, "dense14"), network.dense(6, 5, "dense15"), network.dense(5, 10, "dense16")]

    def call(x: torch.Tensor) -> torch.Tensor:
        for step in steps:
            if step is None:
                count, height, width, channels = x.shape
                x = x.reshape(count, height // 2, 2, width // 2, 2, channels).amax((2, 4))
            else:
                x = torch.relu(step[1](step[0](x)))
        x = x.reshape(len(x), -1)
        for number, head in enumerate(heads):
            x = head(x) if number == len(heads) - 1 else torch.relu(head(x))
        return x

    return network, call

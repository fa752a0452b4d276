"""Models that must not produce any number: each must be refused by name before anything is attacked."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import load as read_tensors
from safetensors.numpy import save as write_tensors
from torch import nn

from harness.evaluation.gates import check_alphabet, check_clean_accuracy, check_images, check_model
from harness.selftest import Case, Finding, refused
from harness.selftest.toys import Toy, images, toy
from model_zoo.classifier import build_classifier
from model_zoo.layers.binary_connect import BinaryConnectConv2d
from model_zoo.packing.packed import load_packed
from model_zoo.registry import checkpoint_path, get_record

MODEL = "cifar10-rn8w32-pruned-binary-k05-p01"


def gated(make: Callable[[], nn.Module]) -> Callable[[], Finding]:
    """Return a case whose model the gates must refuse."""
    return lambda: refused(lambda: check_model(make(), images()[0], 10))


class _Stochastic(Toy):
    """Toy network whose hidden units are binarised at random, as in BinaryConnect's stochastic mode."""

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        self.activation = lambda inputs: torch.where(torch.rand_like(inputs) < torch.sigmoid(inputs), 1.0, -1.0)
        return super().forward(batch)


class _Noise(Toy):
    """Toy network with a defence that adds noise to its input."""

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        return super().forward(batch + 0.05 * torch.randn_like(batch))


class _LatentWeights(BinaryConnectConv2d):
    """Convolution that computes with its latent weights although their signs are what is stored."""

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return nn.functional.conv2d(inputs, self.latent, None, self.stride, self.padding)


def _with_trained_weights(model: Toy) -> nn.Module:
    model.load_state_dict(toy("relu").state_dict())
    return model.eval().requires_grad_(False)


def _latent_model() -> nn.Module:
    record = get_record("cifar10-rn8w32-dense-binary")
    model = build_classifier(record.architecture, _LatentWeights, record.affine)
    return model.eval().requires_grad_(False)


def _ternary_weights() -> Finding:
    latent = torch.linspace(-1.0, 1.0, 9).reshape(1, 1, 3, 3)
    return refused(lambda: check_alphabet([np.asarray(torch.sign(latent))], weight_bits=1, pruned=False))


def _ignored_keys() -> Finding:
    """Load a checkpoint without the statistics of its last batch norm, which a loader that ignores keys would leave as initialised."""
    content = checkpoint_path(MODEL).read_bytes()
    length = int.from_bytes(content[:8], "little")
    metadata = json.loads(content[8 : 8 + length])["__metadata__"]
    tensors = dict(read_tensors(content))
    tensors["batch_norm"] = tensors["batch_norm"][:-20]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.safetensors"
        path.write_bytes(write_tensors(tensors, metadata=metadata))
        finding = refused(lambda: load_packed(path))
        return Finding(finding.caught, finding.by.removeprefix(f"{folder}/"))


def _random_layer() -> Finding:
    """Check the same fault at a later point: the accuracy of a network with one layer as initialised, against that of its record."""
    record = get_record(MODEL)
    model = load_packed(checkpoint_path(MODEL)).model
    nn.init.kaiming_normal_(model.network.fc.weight)  # type: ignore[union-attr,arg-type]
    x, y = images()
    with torch.no_grad():
        correct = int((model(x).argmax(1) == y).sum())
    assert record.training is not None
    expected = record.training.hold_out_clean_accuracy
    return refused(lambda: check_clean_accuracy(expected, correct, len(x)))


def _batch_mates() -> nn.Module:
    """Return a model with a batch norm that, in eval mode, has no statistics and uses those of the batch."""
    model = load_packed(checkpoint_path(MODEL)).model
    norm = model.network.bn1
    norm.track_running_stats, norm.running_mean, norm.running_var = False, None, None  # type: ignore[union-attr]
    return model


def _normalised_outside() -> Finding:
    x, y = images()
    return refused(lambda: check_images((x - 0.5) / 0.25, y, 10))


CASES = (
    Case(6, "activations binarised by the toss of a coin", "model", gated(lambda: _with_trained_weights(_Stochastic(torch.relu)))),
    Case(6, "random noise on the input as a defence", "model", gated(lambda: _with_trained_weights(_Noise(torch.relu)))),
    Case(7, "latent weights attacked, signs stored", "model", gated(_latent_model)),
    Case(8, "sign(0) = 0: weights of three values called binary", "model", _ternary_weights),
    Case(9, "a checkpoint that lacks statistics", "model", _ignored_keys),
    Case(9, "a layer left as it was drawn", "model", _random_layer),
    Case(10, "batch norms in training mode", "model", gated(lambda: load_packed(checkpoint_path(MODEL)).model.train())),
    Case(10, "a batch norm that takes the batch's statistics in eval mode", "model", gated(_batch_mates)),
    Case(12, "images normalised outside the model", "model", _normalised_outside),
    Case(18, "softmax outputs", "model", gated(lambda: nn.Sequential(toy("relu"), nn.Softmax(1)).eval())),
)

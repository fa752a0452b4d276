"""Fixtures for the engine tests: a small frozen network in which some channels have no weights, and images."""

from __future__ import annotations

import pytest
import torch

from harness import datasets
from harness.randomness import isolated
from model_zoo.packing.frozen import empty


def network(name="cifar-resnet18", width=6, keep_ratio=0.3, affine=True, **fields):
    """Return a network with random signs; every third channel is pruned to a constant, and every fourth is never read."""
    architecture = {"name": name, "classes": 10, "width": width, "normalisation": "cifar10", **fields}
    model = empty(architecture, affine)
    with isolated(0), torch.no_grad():
        for module in model.modules():
            if isinstance(module, torch.nn.Conv2d):
                weight = module.weight
                signs = torch.where(torch.rand(weight.shape) < 0.5, -1.0, 1.0)
                weight.copy_(signs * (torch.rand(weight.shape) < (1.0 if len(weight) == 10 else keep_ratio)))
                if len(weight) != 10:
                    weight[::3] = 0.0
                if weight.shape[1] > 3:
                    weight[:, 1::4] = 0.0
            elif isinstance(module, torch.nn.BatchNorm2d):
                module.running_mean.normal_(0.0, 0.5)
                module.running_var.uniform_(0.5, 20.0)
                if module.affine:
                    module.weight.uniform_(0.5, 2.0)
                    module.bias.normal_(0.3, 0.5)
    return model


@pytest.fixture
def images():
    return datasets.load("cifar10-sample").first(37).tensors()[0]

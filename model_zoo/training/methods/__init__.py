"""Training methods: ways to compute a training loss from a batch.

Each module in this package defines one `METHOD`; the method's name is the module's name with hyphens instead of underscores.
"""

from __future__ import annotations

import importlib
import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import nn

from model_zoo.errors import UnknownNameError
from model_zoo.training.inner_attack import Forward
from model_zoo.training.sampler import Batch, Crop
from model_zoo.training.sharing import Draws


@dataclass(frozen=True)
class Setting:
    """Inputs of a training method.

    Attributes
    ----------
    model : nn.Module
        The network.
    attacked, trained : callable
        Logits of the network for the inner attack, and for the pass whose gradient reaches the parameters; see
        `model_zoo.training.engine.Engine`.
    epsilon, step : float
        Linf radius and step size, in units of the [0, 1] range.
    faithful : bool
        Follow the official code in every detail that changes the weights.
    beta : float
        Weight of the robust term, in methods that have one.
    images : torch.Tensor
        All training images, uint8 [N, 3, H, W].
    nuclear_weight, nuclear_ramp, noise : float
        As in section [attack] of a recipe.
    progress : float
        Fraction of all epochs that had ended when the current one began.
    """

    model: nn.Module
    attacked: Forward
    trained: Forward
    epsilon: float
    step: float
    steps: int
    faithful: bool
    beta: float
    images: torch.Tensor
    draws: Draws
    nuclear_weight: float = 4.5
    nuclear_ramp: float = 0.9
    noise: float = 0.5
    progress: float = 0.0


@dataclass
class Method(ABC):
    """Base class of training methods.

    `loss` computes the loss of a batch; `memory` contains the tensors that are kept from batch to batch and stored with the run.
    """

    setting: Setting
    memory: dict[str, torch.Tensor] = field(default_factory=dict)

    @staticmethod
    def crop(faithful: bool) -> Crop:
        """Return the augmentation that this method uses."""
        return Crop()

    @abstractmethod
    def loss(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the loss to minimise, and the logits float32 [N, classes] on the adversarial images."""

    def at_epoch(self, steps: int, step: float, progress: float) -> None:
        """Set what the recipe says for the epoch that begins: attack steps, their size, and the fraction of epochs that have ended."""
        self.setting = replace(self.setting, steps=steps, step=step, progress=progress)

    def restore(self, memory: Mapping[str, torch.Tensor]) -> None:
        """Restore the memory of an interrupted run."""
        for name, tensor in memory.items():
            self.memory[name].copy_(tensor)


def method_names() -> list[str]:
    """Return the names of all methods, sorted."""
    return sorted(module.name.replace("_", "-") for module in pkgutil.iter_modules(__path__))


def get_method(name: str) -> type[Method]:
    """Return the method class called `name`; raises UnknownNameError if there is none."""
    if name not in method_names():
        raise UnknownNameError("training method", name, method_names(), "harness train --help")
    method: type[Method] = importlib.import_module(f"{__name__}.{name.replace('-', '_')}").METHOD
    return method

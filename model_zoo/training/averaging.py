"""Exponential moving average of the trained parameters, and batch-norm statistics for the averaged network."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from typing import Any

import torch
from torch import nn

from model_zoo.training.engine import Engine
from model_zoo.training.inner_attack import input_gradients_only, pgd
from model_zoo.training.sampler import Sampler
from model_zoo.training.sharing import Draws

# Number of training batches from which the running statistics of an averaged network are computed.
BATCHES = 16


class ParameterAverage:
    """Exponential moving average of a network's parameters, with min(decay, (1 + t) / (10 + t)) as the decay of update t = 0, 1, ...

    A parameter is averaged only while it is trained. Otherwise its average equals its value, and t restarts at 0 when it is trained again.

    Parameters
    ----------
    model : nn.Module
        The network that is trained; the average starts at its current parameters.
    decay : float
        Weight of the old average in every update, in (0, 1).
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.model, self.decay = model, decay
        self.values = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
        self.updates = dict.fromkeys(self.values, 0)

    @torch.no_grad()
    def at_epoch(self) -> None:
        """Copy the parameters that are not being averaged into the average; call it after the method has prepared an epoch."""
        for name, parameter in self.model.named_parameters():
            if not self.updates[name]:
                self.values[name].copy_(parameter)

    @torch.no_grad()
    def update(self) -> None:
        """Update the average after an optimiser step."""
        for name, parameter in self.model.named_parameters():
            if parameter.requires_grad:
                count = self.updates[name]
                self.values[name].lerp_(parameter, 1.0 - min(self.decay, (1.0 + count) / (10.0 + count)))
                self.updates[name] = count + 1
            else:
                self.values[name].copy_(parameter)
                self.updates[name] = 0

    @contextmanager
    def in_place(self, engine: Engine) -> Iterator[None]:
        """Put the averaged parameters into the network for the block; restore the network and the engine's state on exit."""
        model_state = {name: tensor.clone() for name, tensor in self.model.state_dict().items()}
        engine_state = engine.state()
        try:
            with torch.no_grad():
                for name, parameter in self.model.named_parameters():
                    parameter.copy_(self.values[name])
            engine.refresh()
            yield
        finally:
            self.model.load_state_dict(model_state)
            engine.restore(engine_state)
            engine.refresh()

    def state(self) -> dict[str, Any]:
        """Return CPU copies of the averages and their update counts, which decide how the average continues."""
        return {"values": {name: value.cpu().clone() for name, value in self.values.items()}, "updates": dict(self.updates)}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Restore what `state` returned."""
        for name, value in self.values.items():
            value.copy_(state["values"][name])
            self.updates[name] = int(state["updates"][name])


def recompute_statistics(engine: Engine, model: nn.Module, sampler: Sampler, epsilon: float) -> None:
    """Set the running statistics of all batch norms to their mean over `BATCHES` batches of attacked training images.

    Every batch is attacked by one FGSM-RS step in training mode: a uniform start in the ball, then one projected step of 5/4 of the radius.
    A radius of 0 means no attack. All batches have equal weight, as with `momentum=None`, which is not used because it would count the
    passes of the attack as well.

    Parameters
    ----------
    sampler : Sampler
        Source of images, augmentation and random starts; must be at the beginning of an epoch.
    epsilon : float
        Linf radius in units of the [0, 1] range.
    """
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d) and module.track_running_stats]
    buffers = [buffer for norm in norms for buffer in (norm.running_mean, norm.running_var) if buffer is not None]
    momenta = [norm.momentum for norm in norms]
    sums, count = [torch.zeros_like(buffer) for buffer in buffers], 0
    model.train()
    try:
        for norm in norms:
            # With momentum 1, the running statistics become those of the last batch.
            norm.momentum = 1.0
        for batch in islice(sampler.epoch(), BATCHES):
            images = batch.images
            if epsilon > 0:
                with input_gradients_only(model):
                    uniform = sampler.draws.uniform(images)
                    images = pgd(engine.attacked, images, batch.labels, epsilon, 1.25 * epsilon, 1, uniform)
            with torch.no_grad():
                engine.trained(images)
            count += 1
            for total, buffer in zip(sums, buffers, strict=True):
                total += buffer
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
    for total, buffer in zip(sums, buffers, strict=True):
        buffer.copy_(total / count)


def epoch_sampler(sampler: Sampler, seed: int, epoch: int) -> Sampler:
    """Return a sampler of the same images with a separate generator, which depends only on `seed` and `epoch`."""
    digest = hashlib.sha256(f"running statistics {seed} {epoch}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))
    return Sampler(sampler.images, sampler.labels, sampler.size, sampler.crop, Draws(generator, sampler.draws.share))

"""Adversarial training: arrays and a recipe in, a trained classifier and its curve out."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from model_zoo.classifier import Classifier, build_classifier
from model_zoo.errors import UsageError
from model_zoo.families import get_family
from model_zoo.threat import ThreatModel
from model_zoo.training.batches import batches
from model_zoo.training.inner_attack import input_gradients_only, pgd
from model_zoo.training.recipe import Optimiser, Recipe

HOLD_OUT_STEPS = 10


@dataclass(frozen=True)
class EpochRecord:
    """One line of the curve. Accuracies are fractions; `seconds` is wall time since the start."""

    epoch: int
    learning_rate: float
    train_loss: float
    train_robust_accuracy: float
    hold_out_clean_accuracy: float
    hold_out_pgd_accuracy: float
    seconds: float


@dataclass
class Trained:
    """What training leaves: the classifier in eval mode, its curve, and how it was run."""

    model: Classifier
    curve: list[EpochRecord] = field(default_factory=list)
    precision: str = "float32"
    threads: int = 1


@dataclass(frozen=True)
class Step:
    """Where training is: `done` of `total` optimiser steps, and images a second since the start."""

    done: int
    total: int
    images_per_second: float


def build_model(recipe: Recipe) -> Classifier:
    """The recipe's untrained classifier, drawn from its seed; the global random state is left as it was."""
    family = get_family(recipe.family)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        model = build_classifier(recipe.architecture, family.convolution(recipe.options), family.affine)
        family.prepare(model, recipe.options)
    return model


def refresh(model: nn.Module) -> None:
    """Bring masks or latent weights up to date after an optimiser step; once a step, not once a forward pass."""
    for module in model.modules():
        update = getattr(module, "refresh", None)
        if update is not None:
            update()


def train(
    recipe: Recipe,
    images: np.ndarray,
    labels: np.ndarray,
    device: str = "cpu",
    report: Callable[[Step | EpochRecord], None] = lambda step: None,
) -> Trained:
    """Train the recipe's model adversarially and return it in eval mode.

    Parameters
    ----------
    recipe : Recipe
        What to train and how.
    images, labels : np.ndarray
        uint8 [N, H, W, 3] and integers [N]: the training split. The hold-out is taken from it.
    device : str
        "cpu" or "cuda".
    report : callable, optional
        Called after every optimiser step, and with its record after every epoch.

    Raises
    ------
    UsageError
        If there are too few images for the recipe's hold-out and batch.
    """
    model = build_model(recipe).to(device=torch.device(device), memory_format=torch.channels_last)  # type: ignore[call-overload]
    generator = torch.Generator().manual_seed(recipe.seed)
    order = torch.randperm(len(images), generator=generator).numpy()[: recipe.data.images]
    if len(order) < recipe.data.hold_out + recipe.optimiser.batch:
        raise UsageError(f"{len(order)} training images are too few for a hold-out of {recipe.data.hold_out} and one batch")
    pixels = torch.from_numpy(images[order]).permute(0, 3, 1, 2).contiguous().to(device)
    targets = torch.from_numpy(labels[order].astype(np.int64)).to(device)
    held, held_targets = pixels[: recipe.data.hold_out], targets[: recipe.data.hold_out]
    pixels, targets = pixels[recipe.data.hold_out :], targets[recipe.data.hold_out :]

    autocast, precision = _precision(device)
    epsilon = ThreatModel.parse(recipe.attack.threat).epsilon
    attack = (epsilon, float(Fraction(recipe.attack.step)), recipe.attack.steps)
    optimiser = _optimiser(recipe.optimiser, model.parameters())
    per_epoch = len(pixels) // recipe.optimiser.batch
    total = per_epoch * recipe.optimiser.epochs
    trained = Trained(model, precision=precision, threads=torch.get_num_threads())
    begun, done = time.perf_counter(), 0

    def forward(inputs: torch.Tensor) -> torch.Tensor:
        with autocast():
            return model(inputs)

    for epoch in range(1, recipe.optimiser.epochs + 1):
        model.train()
        loss_sum = correct = 0.0
        rate = 0.0
        for inputs, expected in batches(pixels, targets, recipe.optimiser.batch, generator):
            rate = learning_rate(recipe.optimiser, done / per_epoch)
            for group in optimiser.param_groups:
                group["lr"] = rate
            with input_gradients_only(model):
                adversarial = pgd(forward, inputs, expected, *attack, generator)
            logits = forward(adversarial).float()
            loss = F.cross_entropy(logits, expected)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
            refresh(model)
            loss_sum += loss.item()
            correct += (logits.argmax(1) == expected).float().mean().item()
            done += 1
            report(Step(done, total, done * recipe.optimiser.batch / (time.perf_counter() - begun)))
        clean, robust = hold_out_accuracy(model, held, held_targets, epsilon, recipe.seed)
        seconds = time.perf_counter() - begun
        trained.curve.append(EpochRecord(epoch, rate, loss_sum / per_epoch, correct / per_epoch, clean, robust, seconds))
        report(trained.curve[-1])
    model.eval()
    return trained


def hold_out_accuracy(model: nn.Module, pixels: torch.Tensor, labels: torch.Tensor, epsilon: float, seed: int) -> tuple[float, float]:
    """Clean accuracy and accuracy under PGD-10 (step eps/4, eval mode, float32) on uint8 images [N, 3, H, W]; NaN where there are none."""
    if not len(pixels):
        return math.nan, math.nan
    model.eval()
    generator = torch.Generator().manual_seed(seed)
    clean = robust = 0
    with input_gradients_only(model):
        for part, expected in zip(pixels.split(250), labels.split(250), strict=True):
            images = part.float().div(255.0).contiguous(memory_format=torch.channels_last)
            adversarial = pgd(model, images, expected, epsilon, epsilon / 4.0, HOLD_OUT_STEPS, generator)
            with torch.no_grad():
                correct = model(images).argmax(1) == expected
                clean += int(correct.sum())
                robust += int((correct & (model(adversarial).argmax(1) == expected)).sum())
    model.train()
    return clean / len(pixels), robust / len(pixels)


def learning_rate(optimiser: Optimiser, epoch: float) -> float:
    """Learning rate at a fractional epoch: linear warm-up, then half a cosine to zero at the last."""
    if epoch < optimiser.warmup:
        return optimiser.learning_rate * (epoch + 1e-3) / optimiser.warmup
    progress = (epoch - optimiser.warmup) / (optimiser.epochs - optimiser.warmup)
    return optimiser.learning_rate * 0.5 * (1.0 + math.cos(math.pi * progress))


def _optimiser(options: Optimiser, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    if options.kind == "adam":
        return torch.optim.Adam(parameters, options.learning_rate, weight_decay=options.weight_decay)
    return torch.optim.SGD(
        parameters, options.learning_rate, momentum=options.momentum, weight_decay=options.weight_decay, nesterov=options.nesterov
    )


def _precision(device: str) -> tuple[Callable[[], AbstractContextManager[object]], str]:
    """bfloat16 autocast where the device computes in it, float32 elsewhere (emulated bfloat16 would be slower)."""
    if device == "cpu":
        fast = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    else:
        fast = torch.cuda.is_bf16_supported()
    if not fast:
        return nullcontext, "float32"
    return lambda: torch.autocast(device, torch.bfloat16), "bfloat16 autocast"

"""Clean and robust accuracy of the network on images that it is not trained on."""

from __future__ import annotations

import math

import torch

from model_zoo.training.engine import Engine
from model_zoo.training.inner_attack import pgd

STEPS = 10
BATCH = 250


def hold_out_accuracy(engine: Engine, pixels: torch.Tensor, labels: torch.Tensor, epsilon: float, seed: int) -> tuple[float, float]:
    """Return clean accuracy and accuracy under PGD-10 (step epsilon / 4, float32, running statistics), as fractions in [0, 1].

    Parameters
    ----------
    engine : Engine
        Computes the logits of the frozen network.
    pixels, labels : torch.Tensor
        uint8 [N, 3, H, W] and int64 [N], on the engine's device. Both accuracies are NaN if N is 0.
    epsilon : float
        Linf radius in units of the [0, 1] range; at 0 both accuracies are the clean one.
    seed : int
        Seed of the random starts; the same images and seed give the same starts in every epoch.
    """
    if not len(pixels):
        return math.nan, math.nan
    generator = torch.Generator().manual_seed(seed)
    clean = robust = 0
    for batch, expected in zip(pixels.split(BATCH), labels.split(BATCH), strict=True):
        images = batch.float().div(255.0).contiguous(memory_format=torch.channels_last)
        start = torch.rand(images.shape, generator=generator).to(images)
        adversarial = pgd(engine.evaluated, images, expected, epsilon, epsilon / 4.0, STEPS, start) if epsilon else images
        with torch.no_grad():
            correct = engine.evaluated(images).argmax(1) == expected
            clean += int(correct.sum())
            robust += int((correct & (engine.evaluated(adversarial).argmax(1) == expected)).sum())
    return clean / len(pixels), robust / len(pixels)

"""The learning rate at every moment of training."""

from __future__ import annotations

import math

from model_zoo.training.sections import Optimiser


def learning_rate(optimiser: Optimiser, epoch: float) -> float:
    """Learning rate at a fractional epoch, counted from 0: linear warm-up, then half a cosine to zero, or steps; or one cycle.

    The cosine reaches zero at the last epoch, or at every restart. One cycle is a triangle: zero at both ends, its peak after the warm-up.

    With `per_epoch`, that of the epoch's beginning: the official code's lr (1 + cos(pi t / T)) / 2 at whole t.
    """
    if optimiser.per_epoch:
        epoch = math.floor(epoch)
    if optimiser.schedule == "one-cycle":
        rising = epoch < optimiser.warmup
        share = epoch / optimiser.warmup if rising else (optimiser.epochs - epoch) / (optimiser.epochs - optimiser.warmup)
        return optimiser.learning_rate * share
    if epoch < optimiser.warmup:
        return optimiser.learning_rate * (epoch + 1e-3) / optimiser.warmup
    if optimiser.milestones:
        return optimiser.learning_rate * optimiser.decay ** sum(epoch >= milestone for milestone in optimiser.milestones)
    begun = [(optimiser.warmup, optimiser.learning_rate), *zip(optimiser.restarts, optimiser.restart_rates, strict=True)]
    stage = max(number for number, (when, _) in enumerate(begun) if epoch >= when)
    begin, rate = begun[stage]
    end = optimiser.restarts[stage] if stage < len(optimiser.restarts) else optimiser.epochs
    return rate * 0.5 * (1.0 + math.cos(math.pi * (epoch - begin) / (end - begin)))

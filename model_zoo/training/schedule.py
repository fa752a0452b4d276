"""Learning rate as a function of the epoch."""

from __future__ import annotations

import math

from model_zoo.training.sections import Optimiser


def learning_rate(optimiser: Optimiser, epoch: float) -> float:
    """Return the learning rate at a fractional epoch, counted from 0.

    The rate rises linearly during the warm-up and then follows half a cosine to zero, or steps at milestones. The cosine reaches zero at
    the end of training and at every restart. The one-cycle schedule is a triangle: zero at both ends, with its peak after the warm-up.

    With `per_epoch`, the rate is that at the beginning of the epoch: the official code's lr (1 + cos(pi t / T)) / 2 at whole t.
    """
    if optimiser.per_epoch:
        epoch = math.floor(epoch)
    if optimiser.schedule == "one-cycle":
        is_rising = epoch < optimiser.warmup
        fraction = epoch / optimiser.warmup if is_rising else (optimiser.epochs - epoch) / (optimiser.epochs - optimiser.warmup)
        return optimiser.learning_rate * fraction
    if epoch < optimiser.warmup:
        return optimiser.learning_rate * (epoch + 1e-3) / optimiser.warmup
    if optimiser.milestones:
        return optimiser.learning_rate * optimiser.decay ** sum(epoch >= milestone for milestone in optimiser.milestones)
    starts = [(optimiser.warmup, optimiser.learning_rate), *zip(optimiser.restarts, optimiser.restart_rates, strict=True)]
    stage = max(number for number, (start, _) in enumerate(starts) if epoch >= start)
    begin, rate = starts[stage]
    end = optimiser.restarts[stage] if stage < len(optimiser.restarts) else optimiser.epochs
    return rate * 0.5 * (1.0 + math.cos(math.pi * (epoch - begin) / (end - begin)))

"""Checks that a network's logits depend on the image alone, not on gradient mode, batch, pixel grid or earlier queries."""

from __future__ import annotations

import torch
from torch import nn

from harness.evaluation.referee import classify, device_of, logits_of
from model_zoo.errors import RefusedError
from model_zoo.fence import TOLERANCE, Fenced, disagree

# Number of images that a check uses.
PROBE = 16
# Largest allowed ratio of the change of logits when pixels move by up to half a step of the 1/255 grid to that when they move by whole
# steps. The largest of 111 ratios measured on shipped models is 0.62.
JUMP = 2.0
# Share of images for which a rebuilt network may give other logits, because rounding occasionally flips a step function.
SHARE = 0.05
# A seed that nobody draws weights with; otherwise the noise could equal the weights.
SEED = 0x5EED_0F_9A7E
# A batch size that is used nowhere else.
BATCH = 7


def check_consistent(model: nn.Module, images: torch.Tensor) -> None:
    """Check that a network's logits depend neither on whether a gradient is wanted nor on whether pixels are multiples of 1/255.

    Parameters
    ----------
    model : nn.Module
        Network that maps images to logits [N, classes].
    images : torch.Tensor
        float32 [N, 3, H, W] in [0, 1], on the model's device; the first `PROBE` are used.

    Raises
    ------
    RefusedError
        If the logits depend on one of the two; the message says on which.
    """
    generator = torch.Generator().manual_seed(SEED)
    levels = (images[:PROBE].cpu() * 255).round()
    offsets = torch.empty(levels.shape).uniform_(-0.499, 0.499, generator=generator)
    steps = torch.randint(-1, 2, levels.shape, generator=generator)
    on_grid, off_grid, stepped = (((levels + shift) / 255).clamp(0.0, 1.0).to(images.device) for shift in (torch.zeros(()), offsets, steps))
    with torch.no_grad():
        on_logits, off_logits, stepped_logits = model(on_grid), model(off_grid), model(stepped)
    for points, without_gradient in ((on_grid, on_logits), (off_grid, off_logits)):
        with torch.enable_grad():
            with_gradient = model(points.clone().requires_grad_(True)).detach()
        if 4 * int(disagree(with_gradient, without_gradient, on_logits).sum()) > len(points):
            raise RefusedError("model refused: its logits depend on whether gradients are computed")
    off_change, stepped_change = (_finite_change(changed, on_logits) for changed in (off_logits, stepped_logits))
    spread = float((on_logits.amax(1) - on_logits.amin(1)).nan_to_num(0.0, 0.0, 0.0).amax())
    if off_change > JUMP * stepped_change + TOLERANCE * spread:
        raise RefusedError(
            "model refused: its logits jump if pixels are not multiples of 1/255, as those of adversarial images are "
            f"(by {off_change:.3g}; {stepped_change:.3g} between multiples)"
        )


def _finite_change(a: torch.Tensor, b: torch.Tensor) -> float:
    """Return the median over images of the largest change of a logit, leaving out images with non-finite logits (the meter finds those)."""
    change = (a - b).abs().amax(1)
    change = change[torch.isfinite(change)]
    return float(change.median()) if len(change) else 0.0


def classify_again(model: Fenced, images: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
    """Classify images in reverse order with two rebuilt networks, one by one and in batches of `BATCH`, and compare with `logits`.

    Each rebuilt network sees only the images of this call, so it cannot answer from memory. Variants of the same image (the clean image
    and its adversarial example) must therefore be passed in separate calls.

    Parameters
    ----------
    model : Fenced
        The network, in its fence.
    images, logits : torch.Tensor
        float32 [N, 3, H, W], and the network's logits for them, [N, classes].

    Returns
    -------
    torch.Tensor
        int64 [2, N], the classes predicted one by one and in batches; see `referee.classify`.

    Raises
    ------
    RefusedError
        If the logits of more than a share `SHARE` of the images, and of more than one, differ by more than rounding.
    """
    reversed_images = images.flip(0)
    answers = [logits_of(model.fresh().to(device_of(model)), reversed_images, batch).flip(0) for batch in (1, BATCH)]
    is_different = torch.stack([disagree(answer, logits, logits) for answer in answers]).any(0)
    if int(is_different.sum()) > max(1, SHARE * len(images)):
        raise RefusedError(
            f"model at fault: rebuilt and queried one by one or in another order, it returns other logits for {int(is_different.sum())} of "
            f"{len(images)} images (does it keep state between calls?)"
        )
    return torch.stack([classify(answer) for answer in answers])

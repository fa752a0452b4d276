"""Whether a network's logits depend on anything but the image: gradients being wanted, batch, pixel grid, what it was asked before."""

from __future__ import annotations

import torch
from torch import nn

from harness.evaluation.referee import classify, device_of, logits_of
from model_zoo.errors import RefusedError
from model_zoo.fence import TOLERANCE, Fenced, disagree

# Images that a check looks at.
PROBE = 16
# Moving every pixel by up to half a step of the grid of 1/255 may change logits by at most so much more than moving by whole steps.
# The largest such ratio of 111 looks at shipped models is 0.62.
JUMP = 2.0
# Share of images whose logits may differ when a network made again is asked: rounding flips a step now and then.
SHARE = 0.05
# Not a seed that anybody draws weights with: the noise would be those weights.
SEED = 0x5EED_0F_9A7E
# A batch size that nothing else uses.
BATCH = 7


def check_consistent(model: nn.Module, images: torch.Tensor) -> None:
    """Refuse a network whose logits depend on a gradient being wanted, or on whether pixels are multiples of 1/255.

    Parameters
    ----------
    images : torch.Tensor
        Float32 [N, 3, H, W] in [0, 1], where the model is; the first `PROBE` are looked at.

    Raises
    ------
    RefusedError
        Naming what the logits depend on.
    """
    generator = torch.Generator().manual_seed(SEED)
    grid = (images[:PROBE].cpu() * 255).round()
    between = torch.empty(grid.shape).uniform_(-0.499, 0.499, generator=generator)
    steps = torch.randint(-1, 2, grid.shape, generator=generator)
    on, off, stepped = (((grid + move) / 255).clamp(0.0, 1.0).to(images.device) for move in (torch.zeros(()), between, steps))
    with torch.no_grad():
        base, moved, moved_whole = model(on), model(off), model(stepped)
    for points, plain in ((on, base), (off, moved)):
        with torch.enable_grad():
            wanted = model(points.clone().requires_grad_(True)).detach()
        if 4 * int(disagree(wanted, plain, base).sum()) > len(points):
            raise RefusedError("model refused: its logits depend on whether a gradient is wanted")
    change, change_whole = (_finite_change(other, base) for other in (moved, moved_whole))
    spread = float((base.amax(1) - base.amin(1)).nan_to_num(0.0, 0.0, 0.0).amax())
    if change > JUMP * change_whole + TOLERANCE * spread:
        raise RefusedError(
            "model refused: its logits jump where pixels are no multiples of 1/255, as those of adversarial images are "
            f"(by {change:.3g}; {change_whole:.3g} between multiples)"
        )


def _finite_change(one: torch.Tensor, other: torch.Tensor) -> float:
    """Median over images of the largest change of a logit; images with logits that are not finite are left to the meter."""
    change = (one - other).abs().amax(1)
    change = change[torch.isfinite(change)]
    return float(change.median()) if len(change) else 0.0


def ask_again(model: Fenced, images: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
    """Ask networks made again, image by image in reverse order and in batches of another size, and compare their answers with `logits`.

    Each network sees these images and nothing else, so that it cannot answer with what it saw before: neighbours of one image (the image
    itself, its adversarial example) belong into calls of their own.

    Parameters
    ----------
    images, logits : torch.Tensor
        Float32 [N, 3, H, W], and what the network said of them, [N, classes].

    Returns
    -------
    torch.Tensor
        int64 [2, N], the classes predicted alone and in batches.

    Raises
    ------
    RefusedError
        If logits differ by more than rounding for more than a share `SHARE` of the images.
    """
    backwards = images.flip(0)
    answers = [logits_of(model.fresh().to(device_of(model)), backwards, batch).flip(0) for batch in (1, BATCH)]
    wrong = torch.stack([disagree(answer, logits, logits) for answer in answers]).any(0)
    if int(wrong.sum()) > max(1, SHARE * len(images)):
        raise RefusedError(
            f"model at fault: made again and asked alone, or in another order, it gives other logits for {int(wrong.sum())} of "
            f"{len(images)} images (does it remember what it was asked?)"
        )
    return torch.stack([classify(answer) for answer in answers])

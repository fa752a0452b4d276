"""Pre-flight checks ("gates"): refuse invalid images and models before any attack runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from harness.evaluation.consistency import check_consistent
from model_zoo.errors import RefusedError, UserCodeError
from model_zoo.fence import Fenced, inspecting, unfenced
from model_zoo.image_shapes import runs_on, shape_for, shape_text

# Two forward passes of a deterministic model agree exactly, except that a library may choose another kernel for the second one.
DETERMINISM_TOLERANCE = 1e-6
# Logits of an image alone and in a batch may differ by this share of the logits' range, because the kernels differ.
BATCH_TOLERANCE = 1e-4
# A model is refused if its clean accuracy has a p-value below this under the accuracy in its record.
CLEAN_SIGNIFICANCE = 1e-6
# Number of images on which gates run the model.
PROBE = 16


def check_images(images: torch.Tensor, labels: torch.Tensor, classes: int) -> None:
    """Check that images are finite float32 [N, C, H, W] in [0, 1], C = 1 or 3, and labels integers [N] from 0 to classes - 1.

    Raises
    ------
    RefusedError
        If they are not; the message says what is wrong.
    """
    if images.ndim != 4 or images.shape[1] not in (1, 3) or images.dtype != torch.float32:
        raise RefusedError(f"images refused: float32 [N, 3, H, W] or [N, 1, H, W] expected, found {images.dtype} {list(images.shape)}")
    if not torch.isfinite(images).all():
        raise RefusedError("images refused: they contain NaN or infinite values")
    low, high = float(images.min()), float(images.max())
    if low < 0.0 or high > 1.0:
        raise RefusedError(f"images refused: values in [0, 1] expected, found [{low:g}, {high:g}] (is a normalisation outside the model?)")
    if labels.shape != images.shape[:1]:
        raise RefusedError(f"labels refused: {len(images)} expected, found {list(labels.shape)}")
    if int(labels.min()) < 0 or int(labels.max()) >= classes:
        raise RefusedError(f"labels refused: values in [0, {classes - 1}] expected, found [{int(labels.min())}, {int(labels.max())}]")


def check_model(model: nn.Module, images: torch.Tensor, classes: int, *, alone: bool = True) -> None:
    """Check that a model is frozen, deterministic and in eval mode, and that it returns finite logits [N, classes].

    Runs the model on the first `PROBE` images of float32 [N, 3, H, W]. With `alone=False`, the logits of an image may depend on its
    position in the batch, as those of a model declared stochastic do, whose draws are consumed in order.

    Raises
    ------
    RefusedError
        If a check fails; the message names it: training mode, trainable parameters, shape, NaN, probabilities, randomness, dependence
        on batch mates, weights other than the stored ones; for a user's network also the checks of `consistency.check_consistent`.
    """
    network = unfenced(model)
    with inspecting(model):
        training = [name or type(module).__name__ for name, module in network.named_modules() if module.training]
        trainable = [name for name, parameter in network.named_parameters() if parameter.requires_grad]
    if training:
        raise RefusedError(f"model refused: in training mode ({training[0]}); call eval() first")
    if trainable:
        raise RefusedError(f"model refused: not frozen ({trainable[0]} requires gradients); call requires_grad_(False) first")
    probe = images[:PROBE]
    with torch.no_grad():
        try:
            first, second = model(probe), model(probe)
            singles = [model(image[None]) for image in probe[:4]]
        except (RuntimeError, ValueError, UserCodeError) as error:
            reason = str(error).splitlines()[0]
            _refuse_shape(network.cpu(), probe)
            if isinstance(error, UserCodeError):
                raise
            raise RefusedError(f"model refused: it does not run on images {list(probe.shape)}, or on a single image: {reason}") from None
    if not isinstance(first, torch.Tensor) or first.shape != (len(probe), classes):
        shape = list(first.shape) if isinstance(first, torch.Tensor) else type(first).__name__
        raise RefusedError(f"model refused: logits [{len(probe)}, {classes}] expected, found {shape}")
    if not torch.isfinite(first).all():
        raise RefusedError("model refused: its logits contain NaN or infinite values")
    if float(first.min()) >= 0.0 and bool((first.sum(1) - 1.0).abs().max() < 1e-4):
        raise RefusedError("model refused: it returns probabilities; attacks need logits")
    if float((first - second).abs().max()) > DETERMINISM_TOLERANCE * max(1.0, float(first.abs().max())):
        raise RefusedError("model refused: two forward passes on the same images differ; a stochastic model must be declared as stochastic")
    if not alone:
        return
    with torch.no_grad():
        difference = float((torch.cat(singles) - first[:4]).abs().max())
        if difference > BATCH_TOLERANCE * max(1.0, float(first.max() - first.min())):
            raise RefusedError(f"model refused: the logits of an image depend on its batch mates (by {difference:.3g})")
        _check_stored_form(model, probe, first)
    if isinstance(model, Fenced):
        check_consistent(model, probe)


def _refuse_shape(network: nn.Module, images: torch.Tensor) -> None:
    """Raise a RefusedError with both shapes if a network runs on images of another shape but not on these [N, C, H, W]."""
    channels, height, width = images.shape[1:]
    shape = None if runs_on(network, 2, channels, height, width) else shape_for(network)
    if shape is not None:
        actual = shape_text(channels, height, width)
        raise RefusedError(f"model refused: it does not run on images of {actual}; it takes {shape} (--resize, --channels)")


def _check_stored_form(model: nn.Module, probe: torch.Tensor, logits: torch.Tensor) -> None:
    """Check that layers with a method `effective_weight` compute with the weights that it returns, which are the stored ones."""
    layers = [module for module in model.modules() if hasattr(module, "effective_weight")]
    if not layers:
        return

    def stored(layer: nn.Module, inputs: tuple[torch.Tensor], _: torch.Tensor) -> torch.Tensor:
        settings: Any = layer
        return F.conv2d(inputs[0], settings.effective_weight(), None, settings.stride, settings.padding)

    hooks = [layer.register_forward_hook(stored) for layer in layers]
    try:
        difference = float((model(probe) - logits).abs().max())
    finally:
        for hook in hooks:
            hook.remove()
    if difference > BATCH_TOLERANCE * max(1.0, float(logits.max() - logits.min())):
        raise RefusedError(f"model refused: it does not compute with the weights that are stored (logits differ by {difference:.3g})")


def check_alphabet(weights: Sequence[np.ndarray], weight_bits: int, pruned: bool) -> None:
    """Check that each layer of a model with one-bit weights has a single nonzero magnitude, and zeros only if the model is pruned.

    Parameters
    ----------
    weights : sequence of np.ndarray
        The weights that each layer computes with.
    weight_bits : int
        Bits per weight according to the record; nothing is checked unless it is 1.
    pruned : bool
        Whether zeros are weights that were removed.

    Raises
    ------
    RefusedError
        If a layer has other values.
    """
    for position, weight in enumerate(weights):
        magnitudes = np.unique(np.abs(weight))
        zeros = int((weight == 0).sum())
        if weight_bits == 1 and len(magnitudes[magnitudes > 0]) > 1:
            raise RefusedError(f"model refused: layer {position} has {len(magnitudes)} magnitudes, but the record says one-bit weights")
        if weight_bits == 1 and zeros and not pruned:
            raise RefusedError(f"model refused: layer {position} has {zeros} zeros, but the record says -1 and +1 (is its sign(0) 0?)")


def check_clean_accuracy(expected: float, correct: int, n: int) -> None:
    """Check that `correct` of `n` clean images agrees with the clean accuracy `expected` (a fraction) in a model's record.

    The two-sided exact binomial test tolerates a few images; ignored keys and wrong normalisations cost tens of points.

    Raises
    ------
    RefusedError
        If the p-value is below `CLEAN_SIGNIFICANCE`.
    """
    from scipy.stats import binomtest

    if binomtest(correct, n, expected).pvalue < CLEAN_SIGNIFICANCE:
        raise RefusedError(f"model refused: {correct} of {n} clean images classified correctly, but its record says {100 * expected:.1f} %")

"""Gates before any attack: images and models that no number may come from are refused by name."""

from __future__ import annotations

import torch
from torch import nn

from model_zoo.errors import RefusedError

# Two forwards of a deterministic model agree exactly; this allows for libraries that pick another kernel on a second call.
DETERMINISM_TOLERANCE = 1e-6
# Probe batch for gates that run the model.
PROBE = 16


def check_images(images: torch.Tensor, labels: torch.Tensor, classes: int) -> None:
    """Refuse images that are not float32 [N, 3, H, W] in [0, 1] and finite, or labels that do not fit them.

    Raises
    ------
    RefusedError
        Naming what is wrong.
    """
    if images.ndim != 4 or images.shape[1] != 3 or images.dtype != torch.float32:
        raise RefusedError(f"images refused: float32 [N, 3, H, W] expected, found {images.dtype} {list(images.shape)}")
    if not torch.isfinite(images).all():
        raise RefusedError("images refused: they hold NaN or infinite values")
    low, high = float(images.min()), float(images.max())
    if low < 0.0 or high > 1.0:
        raise RefusedError(f"images refused: values in [0, 1] expected, found [{low:g}, {high:g}] (is a normalisation outside the model?)")
    if labels.shape != images.shape[:1]:
        raise RefusedError(f"labels refused: {len(images)} expected, found {list(labels.shape)}")
    if int(labels.min()) < 0 or int(labels.max()) >= classes:
        raise RefusedError(f"labels refused: values in [0, {classes - 1}] expected, found [{int(labels.min())}, {int(labels.max())}]")


def check_model(model: nn.Module, images: torch.Tensor, classes: int) -> None:
    """Refuse a model that is not frozen, deterministic and in eval mode, or does not return finite logits [N, classes].

    Runs the model on at most `PROBE` of `images`.

    Raises
    ------
    RefusedError
        Naming the gate: training mode, trainable parameters, shape, NaN, probabilities, randomness.
    """
    training = [name or type(module).__name__ for name, module in model.named_modules() if module.training]
    if training:
        raise RefusedError(f"model refused: in training mode ({training[0]}); call eval() first")
    trainable = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    if trainable:
        raise RefusedError(f"model refused: not frozen ({trainable[0]} requires gradients); call requires_grad_(False) first")
    probe = images[:PROBE]
    with torch.no_grad():
        try:
            first, second = model(probe), model(probe)
        except RuntimeError as error:
            raise RefusedError(f"model refused: it does not run on images {list(probe.shape)}: {str(error).splitlines()[0]}") from None
    if not isinstance(first, torch.Tensor) or first.shape != (len(probe), classes):
        shape = list(first.shape) if isinstance(first, torch.Tensor) else type(first).__name__
        raise RefusedError(f"model refused: logits [{len(probe)}, {classes}] expected, found {shape}")
    if not torch.isfinite(first).all():
        raise RefusedError("model refused: its logits hold NaN or infinite values")
    if float(first.min()) >= 0.0 and bool((first.sum(1) - 1.0).abs().max() < 1e-4):
        raise RefusedError("model refused: it returns probabilities; attacks need logits")
    if float((first - second).abs().max()) > DETERMINISM_TOLERANCE * max(1.0, float(first.abs().max())):
        raise RefusedError("model refused: two forward passes on the same images differ; a stochastic model has to be declared as one")
